// Package report writes down what a run of package bench came to: as text for a terminal,
// as CSV and as a page that needs nothing but a browser; and it holds a result against
// objectives.
package report
