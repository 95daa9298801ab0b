package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"stockade/bench"
)

// number writes a figure with as many digits as say something.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e15:
		return thousands(int64(v))
	case a >= 1000:
		return thousands(int64(math.Round(v)))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// thousands writes a number with commas.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}

// Text writes a result for a terminal.
func Text(w io.Writer, r *bench.Result) error {
	s := &r.Settings
	fmt.Fprintf(w, "%s on %d nodes and %d shards (%s), %s\n", s.Workload, r.Cluster.Nodes, r.Cluster.Shards, r.Cluster.Version, how(s))
	fmt.Fprintf(w, "%.1f s, %s\n\n", r.Seconds, machine(&r.Machine))
	fmt.Fprintf(w, "reservations a second: %s accepted, %s answered, %s offered\n\n",
		number(r.Rates.Accepted), number(r.Rates.Answered), number(r.Rates.Offered))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "operation\toutcome\tcount\tp50 ms\tp90 ms\tp99 ms\tp99.9 ms\tmax ms\t\n")
	for _, op := range r.Operations {
		for _, l := range op.Outcomes {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", op.Name, words(l.Outcome), thousands(l.Count),
				number(l.P50), number(l.P90), number(l.P99), number(l.P999), number(l.Max))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Driver.Limit != "" {
		fmt.Fprintf(w, "\nThese figures are of the driver: %s.\n", r.Driver.Limit)
	}
	if r.Interrupted {
		fmt.Fprintf(w, "\nThe run was interrupted: these are the results so far.\n")
	}
	_, err := fmt.Fprintf(w, "\n%s\n", ProofLine(&r.Proof))
	return err
}

// ProofLine says in one line whether the units add up.
func ProofLine(p *bench.Proof) string {
	if p.Failed != "" {
		return "PROOF MISSING: " + p.Failed
	}
	word := "proof: "
	if !p.Holds() {
		word = "PROOF FAILED: "
	}
	line := fmt.Sprintf("%s%s units sold of %s, %d over, %d lost, %d duplicates, %d stranded", word,
		thousands(p.Sold), thousands(p.OnHand), p.Over, p.Lost, p.Duplicates, p.Stranded)
	if p.Unknown > 0 {
		line += fmt.Sprintf(" (%d with an unknown outcome)", p.Unknown)
	}
	if len(p.Unbalanced) > 0 {
		line += "; these do not balance: " + strings.Join(p.Unbalanced, ", ")
	}
	return line
}

func how(s *bench.Settings) string {
	load := fmt.Sprintf("%d connections, each as fast as it is answered", s.Connections)
	if s.Arrivals != bench.Closed {
		load = fmt.Sprintf("%s requests a second (%s) over up to %d connections", number(s.Rate), s.Arrivals, s.Connections)
	}
	if s.Batch > 1 {
		load += fmt.Sprintf(", batches of %d", s.Batch)
	}
	if s.Client {
		load += ", through the Go client"
	}
	return load
}

func machine(m *bench.Machine) string {
	return fmt.Sprintf("driver on %d × %s, %s, %s", m.CPUs, m.CPU, m.Kernel, m.Go)
}

func words(name string) string { return strings.ReplaceAll(name, "_", " ") }

// CSV writes the windows of a result, one line a second.
func CSV(w io.Writer, r *bench.Result) error {
	c := csv.NewWriter(w)
	header := append([]string{"at_seconds", "seconds"}, outcomeNames...)
	rows := [][]string{append(header, "p50_ms", "p99_ms", "p999_ms", "max_ms")}
	plainNumber := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	for i := range r.Windows {
		win := &r.Windows[i]
		row := []string{plainNumber(win.At), plainNumber(win.Seconds)}
		for _, o := range outcomeNames {
			row = append(row, strconv.FormatInt(win.Outcomes[o], 10))
		}
		rows = append(rows, append(row, plainNumber(win.P50), plainNumber(win.P99), plainNumber(win.P999), plainNumber(win.Max)))
	}
	return c.WriteAll(rows)
}
