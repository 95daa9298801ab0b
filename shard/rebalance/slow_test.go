//go:build !race

package rebalance

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"stockade/allocator"
)

var update = flag.Bool("update", false, "write the tables into docs/rebalancing.md")

// document is where the tables are for people to read.
const document = "../../docs/rebalancing.md"

// tableSeeds are the seeds of each row; a row of ten million units has the first.
var tableSeeds = []uint64{1, 2, 3, 4, 5}

// tableRows are the sales of the table.
func tableRows() (rows []scenario) {
	for _, name := range []string{"even", "Zipf"} {
		rows = append(rows,
			sale(name, 16, 10, 100),
			sale(name, 16, 128, 1000),
			sale(name, 16, 1000, 1000),
			sale(name, 16, 1000, 100_000),
			sale(name, 16, 100_000, 10_000),
			sale(name, 4, 1_000_000, 100_000),
			sale(name, 16, 1_000_000, 100_000),
			sale(name, 64, 1_000_000, 100_000),
			sale(name, 256, 1_000_000, 100_000),
			sale(name, 16, 10_000_000, 100_000),
		)
	}
	for _, name := range everyDemand[2:] {
		rows = append(rows,
			sale(name, 16, 1000, 1000),
			sale(name, 16, 100_000, 10_000),
			sale(name, 4, 1_000_000, 100_000),
			sale(name, 16, 1_000_000, 100_000),
			sale(name, 256, 1_000_000, 100_000),
		)
	}
	return rows
}

// TestSlowTable runs the sales of the table in docs/rebalancing.md and holds them to
// what is promised. With -update it runs the comparison too, and writes both.
func TestSlowTable(t *testing.T) {
	var table, comparison bytes.Buffer
	writeTable(t, &table)
	if !*update {
		return
	}
	writeComparison(t, &comparison)
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	text = replaceBetween(t, text, "table", table.Bytes())
	text = replaceBetween(t, text, "comparison", comparison.Bytes())
	if err := os.WriteFile(document, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSlowTransfersAreFew is TestTransfersAreFew over more shards.
func TestSlowTransfersAreFew(t *testing.T) {
	for _, per := range []allocator.Quantity{1, 2, 4, 8, 16, 64} {
		transfersAreFew(t, 64, per)
		transfersAreFew(t, 256, per)
	}
}

// replaceBetween replaces what stands between the two marks of a name.
func replaceBetween(t *testing.T, text []byte, name string, with []byte) []byte {
	t.Helper()
	before, rest, found := bytes.Cut(text, []byte("<!-- "+name+" -->\n"))
	_, after, ended := bytes.Cut(rest, []byte("<!-- end of "+name+" -->\n"))
	if !found || !ended {
		t.Fatalf("%s has no marks for %q", document, name)
	}
	return slices.Concat(before, []byte("<!-- "+name+" -->\n"), with, []byte("<!-- end of "+name+" -->\n"), after)
}

func writeTable(t *testing.T, w *bytes.Buffer) {
	fmt.Fprintln(w, "| demand | shards | units | requests/s | transfers | at most | spread + levelled + pulled | moved | asks | waited | p50 / p99 | p99 of the last 1 % | refused after | zero after | back |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, sc := range tableRows() {
		seeds := tableSeeds
		if sc.units >= 10_000_000 {
			seeds = seeds[:1]
		}
		runs := runAll(t, sc, planner(), seeds)
		most := "–"
		if sc.skew != shift && sc.burst == 0 && sc.restocks == 0 && sc.units >= boundFrom*allocator.Quantity(sc.shards) {
			most = count(bound(sc.units, sc.shards))
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s (%s) | %s | %s + %s + %s | %.2f | %s | %s | %.0f / %.0f ms | %.0f ms | %.0f ms | %.0f ms | %s |\n",
			sc.name, sc.shards, count(float64(sc.units)), count(sc.rate),
			count(runs.median(func(o *outcome) float64 { return float64(o.transfers) })),
			count(runs.worst(func(o *outcome) float64 { return float64(o.transfers) })), most,
			count(runs.median(func(o *outcome) float64 { return float64(o.spreads) })),
			count(runs.median(func(o *outcome) float64 { return float64(o.levels) })),
			count(runs.median(func(o *outcome) float64 { return float64(o.pulls) })),
			runs.median(func(o *outcome) float64 { return float64(o.moved) / float64(o.deposited) }),
			count(runs.median(func(o *outcome) float64 { return float64(o.asked) })),
			count(runs.median(func(o *outcome) float64 { return float64(len(o.waits)) })),
			runs.median(func(o *outcome) float64 { return quantile(o.waits, 0.5) }),
			runs.median(func(o *outcome) float64 { return quantile(o.waits, 0.99) }),
			runs.median(func(o *outcome) float64 { return quantile(o.lastWaits, 0.99) }),
			runs.median(func(o *outcome) float64 { return quantile(o.refusals, 0.99) }),
			runs.median(late),
			count(runs.median(func(o *outcome) float64 { return float64(o.back) })))
	}
}

// late is how much later than from one bucket the last unit was sold, in ms.
func late(o *outcome) float64 { return float64(o.zero-o.ideal) / float64(ms) }

// outcomes is the runs of one sale with several seeds.
type outcomes []outcome

func runAll(t *testing.T, sc scenario, r rules, seeds []uint64) (runs outcomes) {
	t.Helper()
	for _, seed := range seeds {
		o := checkRun(t, sc, r, seed)
		if r.name == planner().name && (sc.skew == even || sc.skew == zipf) && sc.burst == 0 && sc.restocks == 0 {
			checkBound(t, sc, o, seed)
		}
		runs = append(runs, o)
	}
	return runs
}

func (r outcomes) values(of func(*outcome) float64) []float64 {
	values := make([]float64, len(r))
	for i := range r {
		values[i] = of(&r[i])
	}
	slices.SortFunc(values, cmp.Compare)
	return values
}

func (r outcomes) median(of func(*outcome) float64) float64 { return r.values(of)[len(r)/2] }
func (r outcomes) worst(of func(*outcome) float64) float64  { return r.values(of)[len(r)-1] }

// count writes a whole number with commas.
func count(v float64) string {
	digits := fmt.Sprintf("%.0f", math.Round(v))
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// contenders are the rules that were tried, the planner first.
func contenders() []rules {
	return []rules{
		planner(),
		with("halving: even spread, half of the rest with each pull, richest first, no levelling", func(t *tuning, r *rules) {
			t.leastPart = 1
			r.grant, r.asks, r.level = halve, richestFirst, nil
		}),
		with("no levelling", func(_ *tuning, r *rules) { r.level = nil }),
		with("levelling every 100 ms", func(_ *tuning, r *rules) { r.levelEvery = 100 * ms }),
		with("levelling looks 1 s ahead", func(t *tuning, _ *rules) { t.soonDry = 1 }),
		with("levelling from half the due", func(t *tuning, _ *rules) { t.poor = 0.5 }),
		with("levelling of slow shards too", func(t *tuning, _ *rules) { t.busy = 0 }),
		with("richest first", func(_ *tuning, r *rules) { r.asks = richestFirst }),
		with("a grant takes half of the rest", func(t *tuning, _ *rules) { t.shareFloor = 0.5 }),
		with("a grant takes a quarter to three quarters", func(t *tuning, _ *rules) { t.shareFloor = 0.25 }),
		with("up to 8 left over stay together with the giver", func(_ *tuning, r *rules) { r.grant = keepRest }),
		with("up to 8 left over go along", func(_ *tuning, r *rules) { r.grant = sendRest }),
		with("pull for the first in line only", func(_ *tuning, r *rules) { r.headOnly = true }),
		with("deposits in parts of 4", func(t *tuning, _ *rules) { t.leastPart = 4 }),
		with("pauses up to 50 ms", func(_ *tuning, r *rules) { r.pause = 50 * ms }),
	}
}

func halve(c Asked) allocator.Quantity {
	if rest := c.Left - c.Need; rest > 0 {
		return c.Need + rest/2
	}
	return max(0, min(c.Need, c.Left))
}

func keepRest(c Asked) allocator.Quantity {
	if c.Left-c.Need <= 8 {
		return max(0, min(c.Need, c.Left))
	}
	return Grant(c)
}

func sendRest(c Asked) allocator.Quantity {
	if c.Left-c.Need <= 8 {
		return max(0, c.Left)
	}
	return Grant(c)
}

// richestFirst asks in the order of levels, as they are.
func richestFirst(home allocator.ShardID, need allocator.Quantity, buckets []Bucket, _ int) (asks []Ask) {
	sorted := slices.SortedFunc(slices.Values(buckets), func(a, b Bucket) int {
		return cmp.Or(cmp.Compare(b.Available, a.Available), cmp.Compare(a.Shard, b.Shard))
	})
	for _, b := range sorted {
		if n := min(need, b.Available); b.Shard != home && n > 0 {
			asks = append(asks, Ask{b.Shard, n})
			need -= n
		}
	}
	return asks
}

func writeComparison(t *testing.T, w *bytes.Buffer) {
	sales := []scenario{
		sale("even", 16, 1_000_000, 100_000),
		sale("Zipf", 16, 1_000_000, 100_000),
		sale("even", 256, 2048, 1000),
		sale("Zipf", 256, 2048, 1000),
		sale("Zipf", 256, 100_000, 100_000),
		sale("1 to 5", 256, 100_000, 100_000),
		sale("shifting", 16, 1_000_000, 100_000),
	}
	fmt.Fprint(w, "| rules |")
	for _, sc := range sales {
		fmt.Fprintf(w, " %s, %d shards, %s at %s/s |", sc.name, sc.shards, count(float64(sc.units)), count(sc.rate))
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(sales)))
	for _, r := range contenders() {
		fmt.Fprintf(w, "| %s |", r.name)
		for _, sc := range sales {
			runs := runAll(t, sc, r, tableSeeds)
			fmt.Fprintf(w, " %s / %s / %.0f / %.0f |",
				count(runs.median(func(o *outcome) float64 { return float64(o.transfers) })),
				count(runs.median(func(o *outcome) float64 { return float64(len(o.waits)) })),
				runs.median(func(o *outcome) float64 { return quantile(o.waits, 0.99) }), runs.median(late))
		}
		fmt.Fprintln(w)
	}
}
