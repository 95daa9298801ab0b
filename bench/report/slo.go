package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"stockade/bench"
)

// Objectives are what a result is held against.
type Objectives struct {
	Objectives []Objective `yaml:"objectives"`
}

// Objective bounds one measure, below or above or both.
type Objective struct {
	Name    string   `yaml:"name"`    // for people; "": the measure
	Measure string   `yaml:"measure"` // see Measures
	AtMost  *float64 `yaml:"at_most"`
	AtLeast *float64 `yaml:"at_least"`
}

// maxObjectives bounds a file; a mistake makes more.
const maxObjectives = 1000

// ReadObjectives reads a YAML document. The error says what is wrong in it and where.
func ReadObjectives(text []byte) (o Objectives, err error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&o); err != nil {
		if errors.Is(err, io.EOF) {
			return o, errors.New("it is empty: list what must hold under objectives")
		}
		return o, fmt.Errorf("it can't be read: %w", err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return o, errors.New("there is more than one document in it")
	}
	if len(o.Objectives) == 0 || len(o.Objectives) > maxObjectives {
		return o, fmt.Errorf("it lists %d objectives: it must have 1 to %d", len(o.Objectives), maxObjectives)
	}
	for i := range o.Objectives {
		if err := o.Objectives[i].validate(); err != nil {
			return o, fmt.Errorf("objective %d: %w", i+1, err)
		}
	}
	return o, nil
}

func (o *Objective) validate() error {
	if o.Measure == "" {
		return errors.New("it names no measure")
	}
	if o.AtMost == nil && o.AtLeast == nil {
		return fmt.Errorf("%s has neither at_most nor at_least", o.Measure)
	}
	if _, _, err := measure(&bench.Result{}, o.Measure); err != nil {
		return err
	}
	if o.Name == "" {
		o.Name = o.Measure
	}
	return nil
}

// Verdict is how a result stands to one objective.
type Verdict struct {
	Name    string   `json:"name"`
	Measure string   `json:"measure"`
	Value   *float64 `json:"value"` // nil: the run has none
	AtMost  *float64 `json:"at_most,omitempty"`
	AtLeast *float64 `json:"at_least,omitempty"`
	Pass    bool     `json:"pass"`
}

// Check holds a result against objectives: a verdict for each, in order.
func Check(r *bench.Result, o Objectives) []Verdict {
	verdicts := make([]Verdict, 0, len(o.Objectives))
	for _, one := range o.Objectives {
		v := Verdict{Name: one.Name, Measure: one.Measure, AtMost: one.AtMost, AtLeast: one.AtLeast}
		if value, ok, err := measure(r, one.Measure); err == nil && ok {
			v.Value = &value
			v.Pass = (one.AtMost == nil || value <= *one.AtMost) && (one.AtLeast == nil || value >= *one.AtLeast)
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// plain are the measures that every run has.
var plain = map[string]func(r *bench.Result) float64{
	"rates.offered":          func(r *bench.Result) float64 { return r.Rates.Offered },
	"rates.answered":         func(r *bench.Result) float64 { return r.Rates.Answered },
	"rates.accepted":         func(r *bench.Result) float64 { return r.Rates.Accepted },
	"proof.sold":             func(r *bench.Result) float64 { return float64(r.Proof.Sold) },
	"proof.over":             func(r *bench.Result) float64 { return float64(r.Proof.Over) },
	"proof.lost":             func(r *bench.Result) float64 { return float64(r.Proof.Lost) },
	"proof.duplicates":       func(r *bench.Result) float64 { return float64(r.Proof.Duplicates) },
	"proof.stranded":         func(r *bench.Result) float64 { return float64(r.Proof.Stranded) },
	"proof.unknown":          func(r *bench.Result) float64 { return float64(r.Proof.Unknown) },
	"proof.holds":            func(r *bench.Result) float64 { return flag(r.Proof.Holds()) },
	"driver.limited":         func(r *bench.Result) float64 { return flag(r.Driver.Limit != "") },
	"windows.worst_p99_ms":   worstP99,
	"windows.least_accepted": leastAccepted,
}

func flag(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func worstP99(r *bench.Result) (worst float64) {
	for i := range r.Windows {
		worst = max(worst, r.Windows[i].P99)
	}
	return worst
}

// fullWindow is how much of a second a window must have to count: the last is cut off.
const fullWindow = 0.9

func leastAccepted(r *bench.Result) float64 {
	least, any := 0.0, false
	for i := range r.Windows {
		w := &r.Windows[i]
		if rate := float64(w.Outcomes[bench.Accepted.String()]) / max(w.Seconds, fullWindow); w.Seconds >= fullWindow && (!any || rate < least) {
			least, any = rate, true
		}
	}
	return least
}

// latencies are the measures of the requests of one operation and outcome.
var latencies = map[string]func(l *bench.OutcomeLatency) float64{
	"mean_ms": func(l *bench.OutcomeLatency) float64 { return l.Mean },
	"p50_ms":  func(l *bench.OutcomeLatency) float64 { return l.P50 },
	"p90_ms":  func(l *bench.OutcomeLatency) float64 { return l.P90 },
	"p99_ms":  func(l *bench.OutcomeLatency) float64 { return l.P99 },
	"p999_ms": func(l *bench.OutcomeLatency) float64 { return l.P999 },
	"max_ms":  func(l *bench.OutcomeLatency) float64 { return l.Max },
}

var (
	operationNames = []string{"reserve", "confirm", "cancel", "repeat"}
	outcomeNames   = []string{"accepted", "sold_out", "rejected", "not_done", "unknown", "gave_up"}
)

// Measures lists what an objective can be about, in the lines of a help text.
func Measures() string {
	return "  " + strings.Join(slices.Sorted(maps.Keys(plain)), "\n  ") + `
  OPERATION.OUTCOME.FIGURE
    OPERATION: ` + strings.Join(operationNames, ", ") + `
    OUTCOME: ` + strings.Join(outcomeNames, ", ") + `
    FIGURE: count, share, ` + strings.Join(slices.Sorted(maps.Keys(latencies)), ", ")
}

// measure reads a measure of a result; false: the run has none, because there were no
// such requests.
func measure(r *bench.Result, name string) (value float64, ok bool, err error) {
	if f := plain[name]; f != nil {
		return f(r), true, nil
	}
	unknown := fmt.Errorf("there is no measure %q: \"stockade bench check --help\" lists them", name)
	parts := strings.Split(name, ".")
	if len(parts) != 3 || !slices.Contains(operationNames, parts[0]) || !slices.Contains(outcomeNames, parts[1]) {
		return 0, false, unknown
	}
	l, all := find(r, parts[0], parts[1])
	switch f := latencies[parts[2]]; {
	case parts[2] == "count":
		return float64(l.Count), true, nil
	case parts[2] == "share":
		return float64(l.Count) / float64(max(1, all)), true, nil
	case f == nil:
		return 0, false, unknown
	default:
		return f(&l), l.Count > 0, nil
	}
}

// find gives the requests of an operation and outcome, and how many there were of the
// operation.
func find(r *bench.Result, operation, outcome string) (found bench.OutcomeLatency, all int64) {
	for i := range r.Operations {
		if r.Operations[i].Name != operation {
			continue
		}
		for _, l := range r.Operations[i].Outcomes {
			all += l.Count
			if l.Outcome == outcome {
				found = l
			}
		}
	}
	return found, all
}

// WriteVerdicts prints a line for each verdict. It tells whether all pass.
func WriteVerdicts(w io.Writer, verdicts []Verdict) (pass bool) {
	pass = true
	for _, v := range verdicts {
		word := "PASS"
		if !v.Pass {
			word, pass = "FAIL", false
		}
		fmt.Fprintf(w, "%s  %s: %s%s\n", word, v.Name, valueOf(v), boundsOf(v))
	}
	return pass
}

func valueOf(v Verdict) string {
	if v.Value == nil {
		return "there were no such requests"
	}
	return number(*v.Value)
}

func boundsOf(v Verdict) string {
	var bounds []string
	if v.AtLeast != nil {
		bounds = append(bounds, "at least "+number(*v.AtLeast))
	}
	if v.AtMost != nil {
		bounds = append(bounds, "at most "+number(*v.AtMost))
	}
	return " (" + strings.Join(bounds, ", ") + ")"
}
