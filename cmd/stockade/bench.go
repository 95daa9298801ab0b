package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"stockade/bench"
	"stockade/bench/report"
)

// benchCommand is the command that makes load.
type benchCommand struct {
	cfg      bench.Config
	arrivals string
	json     bool
	quiet    bool
	files    []resultFile
}

// resultFile is a file that the result is written to.
type resultFile struct {
	flag  string
	path  string
	write func(io.Writer, *bench.Result) error
	file  *os.File
}

func newBenchCommand() *cobra.Command {
	b := &benchCommand{cfg: bench.Default(), files: []resultFile{
		{flag: "html", write: report.HTML}, {flag: "csv", write: report.CSV}, {flag: "result", write: writeResult},
	}}
	cmd := &cobra.Command{
		Use:     "bench [WORKLOAD]",
		Short:   "Put a cluster under load, and see if the units add up",
		GroupID: "use",
		Long: `Put a running cluster under load, and say how many reservations a second it
made, how long they took, and whether the units add up in the end. It makes SKUs
of its own, which stay. The workloads, which "stockade bench list" explains:
` + workloadNames() + `.

Latency counts from when a request was due. With --rate requests are due at
times of their own (an open loop), whatever became of those before; without it
each connection sends its next request when the last was answered.

The exit code is 1 when the units do not add up, or the run was interrupted.`,
		Example: `  stockade dev &
  stockade bench
  stockade bench sellout --rate 5000 --duration 30s --html sellout.html
  stockade bench --rate 2000 --json | stockade bench check --slo slo.yaml`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return strings.Split(workloadNames(), ", "), cobra.ShellCompDirectiveNoFileComp
		},
	}
	b.attach(cmd)
	cmd.RunE = b.run
	cmd.AddCommand(newBenchListCommand(), newBenchCheckCommand())
	return cmd
}

func workloadNames() string {
	var names []string
	for _, w := range bench.Workloads() {
		names = append(names, w.Name)
	}
	return strings.Join(names, ", ")
}

func (b *benchCommand) attach(cmd *cobra.Command) {
	addSettingFlags(cmd.Flags(), forSKU)
	completeSettings(cmd, forSKU)
	f, c := cmd.Flags(), &b.cfg
	f.StringSliceVar(&c.Nodes, "target", nil, "send requests to this data port, `HOST:PORT`; may be repeated (default: all nodes that the cluster names)")
	f.Float64Var(&c.Rate, "rate", 0, "reservations a second, in an open loop; the peak where the workload changes it")
	f.StringVar(&b.arrivals, "arrivals", string(bench.Poisson), "how they come with --rate: `poisson|constant`")
	f.IntVar(&c.Connections, "connections", c.Connections, "connections, and so how many requests are under way at most")
	f.DurationVar(&c.Duration, "duration", c.Duration, "how long to measure")
	f.DurationVar(&c.Warmup, "warmup", c.Warmup, "how long to run before that")
	f.DurationVar(&c.Timeout, "timeout", c.Timeout, "deadline of a request, from when it is due")
	f.DurationVar(&c.Patience, "patience", 0, "how long a request waits for a connection (default: --timeout)")
	f.Int64Var(&c.Stock, "stock", 0, "units of each SKU (default: what the workload says)")
	f.IntVar(&c.SKUs, "skus", 0, "SKUs (default: what the workload says)")
	f.IntVar(&c.Batch, "batch", 0, "reservations a request (default: what the workload says)")
	f.BoolVar(&c.Client, "client", false, "use the Go client, which makes batches by itself; --connections is the number of callers")
	f.BoolVar(&c.Keyed, "keyed", c.Keyed, "give each request an idempotency key")
	f.Float64Var(&c.Repeat, "repeat", c.Repeat, "the part of reservations to ask for once more with the same key, 0 to 1")
	f.Uint64Var(&c.Seed, "seed", 0, "of what is drawn at random (default: one at random)")
	f.BoolVar(&b.json, "json", false, "print the result as JSON")
	f.BoolVar(&b.quiet, "quiet", false, "show nothing while it runs")
	for i, what := range []string{"write a report with charts to `FILE`", "write a line for each second to `FILE`", "write the result as JSON to `FILE`"} {
		f.StringVar(&b.files[i].path, b.files[i].flag, "", what)
	}
}

// run makes the load and prints the result.
func (b *benchCommand) run(cmd *cobra.Command, args []string) error {
	loaded, err := loadSettings(cmd.Flags(), forSKU)
	if err != nil {
		return err
	}
	b.cfg.Ops = strings.TrimRight(loaded.text("ops-url"), "/")
	if len(args) > 0 {
		b.cfg.Workload = args[0]
	}
	if b.cfg.Rate != 0 || cmd.Flags().Changed("arrivals") {
		b.cfg.Arrivals = bench.Arrivals(b.arrivals)
	}
	if !b.cfg.Keyed && !cmd.Flags().Changed("repeat") {
		b.cfg.Repeat = 0
	}
	if err := b.cfg.Validate(); err != nil {
		return usagef(cmd, "%v", err)
	}
	if err := b.openFiles(); err != nil {
		return err
	}
	view := &liveView{out: cmd.ErrOrStderr(), off: b.quiet}
	result, err := bench.Run(cmd.Context(), b.cfg, buildVersion(), view.show)
	view.end()
	if err != nil {
		return errors.Join(benchFailed(cmd.Context(), err), b.removeFiles())
	}
	return b.report(cmd.OutOrStdout(), result)
}

// benchFailed says that a run that could not begin was interrupted, if it was.
func benchFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted before there was anything to measure")
	}
	return err
}

// openFiles makes the files of the result before the run: it would be a pity to find
// out afterwards that one can't be written.
func (b *benchCommand) openFiles() error {
	for i := range b.files {
		f := &b.files[i]
		if f.path == "" {
			continue
		}
		file, err := os.Create(f.path)
		if err != nil {
			return errors.Join(fmt.Errorf("--%s: %w", f.flag, err), b.removeFiles())
		}
		f.file = file
	}
	return nil
}

// removeFiles takes back what openFiles made.
func (b *benchCommand) removeFiles() error {
	var errs []error
	for i := range b.files {
		if f := &b.files[i]; f.file != nil {
			errs = append(errs, f.file.Close(), os.Remove(f.path))
		}
	}
	return errors.Join(errs...)
}

// report prints the result and writes its files.
func (b *benchCommand) report(out io.Writer, r *bench.Result) error {
	write := report.Text
	if b.json {
		write = writeResult
	}
	errs := []error{write(out, r)}
	for i := range b.files {
		if f := &b.files[i]; f.file != nil {
			errs = append(errs, f.write(f.file, r), f.file.Close())
		}
	}
	switch {
	case !r.Proof.Holds():
		errs = append(errs, errors.New(report.ProofLine(&r.Proof)))
	case r.Interrupted:
		errs = append(errs, errors.New("the run was interrupted; what there is so far was reported"))
	}
	return errors.Join(errs...)
}

func writeResult(w io.Writer, r *bench.Result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// liveView shows how a run goes on: in one line of a terminal, or now and then in a line
// of its own.
type liveView struct {
	out   io.Writer
	off   bool
	shown time.Duration
	drawn bool
}

// liveEvery is how often a run tells how it goes where it can't rewrite its line.
const liveEvery = 10 * time.Second

func (v *liveView) show(l bench.Live) {
	if v.off {
		return
	}
	var n int64
	for _, count := range l.Window.Outcomes {
		n += count
	}
	line := fmt.Sprintf("%-7s %4.0f s of %.0f: %6.0f/s, p50 %.2f ms, p99 %.2f, p99.9 %.2f%s", l.Phase, l.Elapsed.Seconds(), l.Length.Seconds(),
		float64(n)/max(l.Window.Seconds, 0.001), l.Window.P50, l.Window.P99, l.Window.P999, besides(&l.Window))
	if file, ok := v.out.(*os.File); ok && isatty.IsTerminal(file.Fd()) {
		fmt.Fprintf(v.out, "\r\x1b[K%s", line)
		v.drawn = true
		return
	}
	if l.Elapsed < v.shown { // another phase
		v.shown = 0
	}
	if l.Elapsed-v.shown >= liveEvery {
		v.shown = l.Elapsed
		fmt.Fprintln(v.out, line)
	}
}

// besides names the outcomes of a second that are not accepted.
func besides(w *bench.Window) (text string) {
	for _, o := range []bench.Outcome{bench.SoldOut, bench.Rejected, bench.NotDone, bench.Unknown, bench.GaveUp} {
		if n := w.Outcomes[o.String()]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, strings.ReplaceAll(o.String(), "_", " "))
		}
	}
	return text
}

// end leaves the line that is rewritten.
func (v *liveView) end() {
	if v.drawn {
		fmt.Fprintln(v.out)
	}
}

func newBenchListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the workloads",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, w := range bench.Workloads() {
				fmt.Fprintf(t, "%s\t%s\n", w.Name, w.About)
			}
			return t.Flush()
		},
	}
}

func newBenchCheckCommand() *cobra.Command {
	var slo string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check --slo FILE [RESULT]",
		Short: "Hold a result against objectives",
		Long: `Hold the result of a run (as --json prints it; without RESULT from standard input)
against a YAML file of objectives, and print PASS or FAIL for each:

  objectives:
    - name: buyers do not wait
      measure: reserve.accepted.p99_ms
      at_most: 50
    - measure: rates.accepted
      at_least: 5000
    - measure: proof.holds
      at_least: 1

The measures are
` + report.Measures() + `

The exit code is 1 when an objective is not met, and 2 when the file can't be used.`,
		Example: `  stockade bench check --slo slo.yaml result.json`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			objectives, err := readObjectives(slo)
			if err != nil {
				return usagef(cmd, "%v", err)
			}
			result, err := readResult(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			return checkResult(cmd.OutOrStdout(), result, objectives, asJSON)
		},
	}
	cmd.Flags().StringVar(&slo, "slo", "", "YAML `FILE` with the objectives")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the verdicts as JSON")
	return cmd
}

func readObjectives(path string) (o report.Objectives, err error) {
	if path == "" {
		return o, errors.New("--slo FILE is needed: the objectives to hold the result against")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return o, fmt.Errorf("--slo: %w", err)
	}
	o, err = report.ReadObjectives(text)
	if err != nil {
		return o, fmt.Errorf("--slo %s: %w", path, err)
	}
	return o, nil
}

func readResult(stdin io.Reader, args []string) (*bench.Result, error) {
	name, from := "standard input", stdin
	if len(args) > 0 && args[0] != "-" {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return nil, fmt.Errorf("read the result: %w", err)
		}
		name, from = args[0], bytes.NewReader(text)
	}
	var r bench.Result
	if err := json.NewDecoder(from).Decode(&r); err != nil {
		return nil, fmt.Errorf("%s is not a result of \"stockade bench --json\": %w", name, err)
	}
	if r.Format != bench.ResultFormat {
		return nil, fmt.Errorf("%s has format %d and this program reads %d: make it with the same version", name, r.Format, bench.ResultFormat)
	}
	return &r, nil
}

// errObjectives is the end of a check that failed; its lines say more.
var errObjectives = errors.New("not all objectives are met")

func checkResult(out io.Writer, r *bench.Result, o report.Objectives, asJSON bool) error {
	verdicts := report.Check(r, o)
	into := out
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(verdicts); err != nil {
			return err
		}
		into = io.Discard
	}
	if !report.WriteVerdicts(into, verdicts) {
		return errObjectives
	}
	return nil
}
