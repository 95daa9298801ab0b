package report

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"stockade/bench"
	"stockade/bench/fuzzing"
)

// sample is a result with something in every part.
func sample() *bench.Result {
	r := &bench.Result{
		Format: bench.ResultFormat, Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 3.2,
		Settings: bench.Settings{Workload: "sellout", Arrivals: bench.Poisson, Rate: 5000, Connections: 64, SKUs: 1, Stock: 100, Batch: 1},
		Machine:  bench.Machine{CPUs: 2, CPU: "a <processor>", Kernel: "6.1", Go: "go1"},
		Cluster:  bench.Cluster{Nodes: 3, Shards: 2, Version: "1.0"},
		Rates:    bench.Rates{Offered: 5000, Answered: 4990, Accepted: 1234.5},
		Operations: []bench.Operation{{Name: "reserve", Outcomes: []bench.OutcomeLatency{
			{Outcome: "accepted", Count: 100, Mean: 3, Min: 0.5, P50: 2, P90: 4, P99: 12, P999: 30, Max: 31,
				Curve: []bench.Point{{Percentile: 0, Ms: 0.5}, {Percentile: 50, Ms: 2}, {Percentile: 99, Ms: 12}, {Percentile: 100, Ms: 31}}},
			{Outcome: "sold_out", Count: 300, P50: 1},
		}}},
		Proof: bench.Proof{OnHand: 100, Sold: 100, Repeats: 4},
	}
	for i := range 4 {
		w := bench.Window{At: float64(i), Seconds: 1, Outcomes: map[string]int64{"accepted": 100 - int64(i), "sold_out": int64(10 * i)}, P50: 2, P99: float64(10 + i), P999: 20, Max: 30}
		if i == 3 {
			w.Seconds = 0.2
		}
		r.Windows = append(r.Windows, w)
	}
	return r
}

// TestText covers what a terminal shows.
func TestText(t *testing.T) {
	r := sample()
	text := func() string {
		var b bytes.Buffer
		if err := Text(&b, r); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	got := text()
	for _, want := range []string{"5,000 requests a second (poisson)", "1,235 accepted, 4,990 answered", "sold out    300", "proof: 100 units sold of 100, 0 over, 0 lost, 0 duplicates, 0 stranded"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	r.Driver.Limit, r.Interrupted, r.Proof.Stranded, r.Proof.Unbalanced, r.Proof.Unknown = "it slept", true, 2, []string{"s"}, 7
	got = text()
	for _, want := range []string{"it slept", "interrupted", "PROOF FAILED", "2 stranded", "7 with an unknown outcome", "do not balance: s"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestHTML: the page is well-formed, has the charts, needs nothing from elsewhere, and
// shows what came from outside as text.
func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := HTML(&b, sample()); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if n := strings.Count(page, "<svg"); n != 3 {
		t.Errorf("%d charts", n)
	}
	for _, bad := range []string{"<script", "src=", "href=", "@import", "<processor>", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	empty := &bench.Result{Windows: []bench.Window{{Seconds: 0.1}}}
	b.Reset()
	if err := HTML(&b, empty); err != nil || strings.Contains(b.String(), "NaN") {
		t.Errorf("a run without answers: %v", err)
	}
}

// TestCSV has a line for each window.
func TestCSV(t *testing.T) {
	var b bytes.Buffer
	if err := CSV(&b, sample()); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 5 || strings.Join(rows[2], " ") != "1 1 99 10 0 0 0 0 2 11 20 30" {
		t.Errorf("%v, %v", rows, err)
	}
}

// TestCheck holds the sample against objectives that are met and not met.
func TestCheck(t *testing.T) {
	o, err := ReadObjectives([]byte(`
objectives:
  - {name: fast, measure: reserve.accepted.p99_ms, at_most: 12}
  - {measure: reserve.accepted.p99_ms, at_most: 11.9}
  - {measure: rates.accepted, at_least: 1000, at_most: 1500}
  - {measure: rates.accepted, at_least: 2000}
  - {measure: reserve.sold_out.share, at_most: 0.75}
  - {measure: reserve.unknown.count, at_most: 0}
  - {measure: confirm.accepted.p50_ms, at_most: 1000}
  - {measure: windows.worst_p99_ms, at_most: 13}
  - {measure: windows.least_accepted, at_least: 98, at_most: 98}
  - {measure: proof.holds, at_least: 1}
`))
	if err != nil {
		t.Fatal(err)
	}
	var passed []bool
	verdicts := Check(sample(), o)
	for _, v := range verdicts {
		passed = append(passed, v.Pass)
	}
	want := []bool{true, false, true, false, true, true, false, true, true, true}
	for i := range want {
		if passed[i] != want[i] {
			t.Errorf("%+v", verdicts[i])
		}
	}
	var b bytes.Buffer
	if WriteVerdicts(&b, verdicts) || !strings.HasPrefix(b.String(), "PASS  fast: 12 (at most 12)\nFAIL  reserve.accepted.p99_ms: 12 (at most 11.9)\n") {
		t.Errorf("%s", b.String())
	}
	if !strings.Contains(b.String(), "confirm.accepted.p50_ms: there were no such requests") {
		t.Errorf("%s", b.String())
	}
	if !WriteVerdicts(io.Discard, verdicts[:1]) {
		t.Error("a verdict that passes fails")
	}
}

// TestBadObjectives: the error says what is wrong.
func TestBadObjectives(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "empty",
		"objectives: []":                      "0 objectives",
		"objectives: [{at_most: 1}]":          "names no measure",
		"objectives: [{measure: proof.over}]": "neither",
		"objectives: [{measure: proof.overr, at_most: 0}]":             "no measure \"proof.overr\"",
		"objectives: [{measure: reserve.accepted.p42_ms, at_most: 0}]": "no measure",
		"objectives: [{measure: proof.over, atmost: 0}]":               "atmost",
		"objectives: [{measure: proof.over, at_most: lots}]":           "lots",
		"objectives: {": "can't be read",
		"objectives: [{measure: proof.over, at_most: 0}]\n---\na: 1": "more than one",
	} {
		if _, err := ReadObjectives([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The most that reading objectives may take. Each [ of a deep list is an event and a node
// for the YAML parser: that took 760 bytes for each. What aliases repeat it gives up after
// some 250 KiB.
const yamlPerByte, yamlAlways = 1536, 512 << 10

// FuzzReadObjectives: whatever the file, there is an error or objectives that can be
// checked.
func FuzzReadObjectives(f *testing.F) {
	f.Add([]byte("objectives: [{measure: proof.over, at_most: 0}]"))
	f.Add([]byte("objectives:\n- measure: reserve.accepted.p99_ms\n  at_least: -1e300\n"))
	f.Add([]byte("objectives: [&a {measure: proof.over, at_most: 0}" + strings.Repeat(",*a", 1000) + "]\n"))
	f.Add([]byte("objectives: [{measure: proof.over, at_most: 0}]\n---\na: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c]\ne: [*d,*d,*d,*d]\n"))
	f.Add([]byte(strings.Repeat("[", 5000)))
	f.Fuzz(func(t *testing.T, text []byte) {
		var o Objectives
		var err error
		fuzzing.InProportion(t, text, yamlPerByte, yamlAlways, func() { o, err = ReadObjectives(text) })
		if err == nil && len(Check(sample(), o)) != len(o.Objectives) {
			t.Error("not a verdict for each")
		}
	})
}

// TestNumbers has how figures are written.
func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 1234567: "1,234,567", -1234: "-1,234", 1234.5: "1,235", 123.4: "123", 12.34: "12.3", 1.234: "1.23", 0.01234: "0.0123"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s", v, got)
		}
	}
}
