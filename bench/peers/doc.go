// Package peers has the ways in which shops reserve stock today, each in its best-known
// form, on real servers: what they cost, and what they do when a client dies in the
// middle and its request is sent again.
//
// It is a module of its own so that nobody else carries its drivers.
package peers
