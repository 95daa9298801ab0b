package bench

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ResultFormat is the version of Result as JSON. It grows when a field changes its
// meaning.
const ResultFormat = 1

// Result is what a run came to.
type Result struct {
	Format      int       `json:"format"`
	Started     time.Time `json:"started"`
	Seconds     float64   `json:"seconds"`     // measured
	Interrupted bool      `json:"interrupted"` // it ended before its time

	Settings Settings `json:"settings"`
	Machine  Machine  `json:"machine"`
	Cluster  Cluster  `json:"cluster"`

	Rates      Rates       `json:"rates"`
	Operations []Operation `json:"operations"`
	Windows    []Window    `json:"windows"`
	Driver     Driver      `json:"driver"`
	Proof      Proof       `json:"proof"`
}

// Settings are those of the run, with what was chosen where the configuration said
// nothing.
type Settings struct {
	Workload    string   `json:"workload"`
	Arrivals    Arrivals `json:"arrivals"`
	Rate        float64  `json:"rate,omitempty"`
	Connections int      `json:"connections"`
	Duration    float64  `json:"duration_seconds"`
	Warmup      float64  `json:"warmup_seconds"`
	Timeout     float64  `json:"timeout_seconds"`
	Patience    float64  `json:"patience_seconds"`
	Stock       int64    `json:"stock"`
	SKUs        int      `json:"skus"`
	Batch       int      `json:"batch"`
	Keyed       bool     `json:"keyed"`
	Client      bool     `json:"client"`
	Repeat      float64  `json:"repeat"`
	Seed        uint64   `json:"seed"`
}

// Rates are a second, over the whole measured time, which ends with the last answer.
type Rates struct {
	Offered  float64 `json:"offered"`  // reservations that were due; in a closed loop those that were asked for
	Answered float64 `json:"answered"` // reservations that were answered in whatever way
	Accepted float64 `json:"accepted"`
}

// Operation is one kind of request, with its outcomes.
type Operation struct {
	Name     string           `json:"name"`
	Outcomes []OutcomeLatency `json:"outcomes"`
}

// OutcomeLatency is how long requests took that ended in one way.
type OutcomeLatency struct {
	Outcome string  `json:"outcome"`
	Count   int64   `json:"count"`
	Mean    float64 `json:"mean_ms"`
	Min     float64 `json:"min_ms"`
	P50     float64 `json:"p50_ms"`
	P90     float64 `json:"p90_ms"`
	P99     float64 `json:"p99_ms"`
	P999    float64 `json:"p999_ms"`
	Max     float64 `json:"max_ms"`
	Curve   []Point `json:"curve,omitempty"`
}

// Point is one of a distribution: so many in a hundred took no longer.
type Point struct {
	Percentile float64 `json:"percentile"`
	Ms         float64 `json:"ms"`
}

// Window is one second of a run. Latencies are those of reservations that were accepted;
// 0 when there were none.
type Window struct {
	At       float64          `json:"at_seconds"` // when it began
	Seconds  float64          `json:"seconds"`
	Outcomes map[string]int64 `json:"outcomes"` // of reservations
	P50      float64          `json:"p50_ms"`
	P99      float64          `json:"p99_ms"`
	P999     float64          `json:"p999_ms"`
	Max      float64          `json:"max_ms"`
}

// Driver is how the load was made. When Limit is not empty, the figures say more about
// the driver than about the cluster.
type Driver struct {
	CPU     float64 `json:"cpu"`         // processors in use, on average
	CPUs    int     `json:"cpus"`        // there are
	WakeP99 float64 `json:"wake_p99_ms"` // how late a worker woke up that had nothing else to do
	Crowded float64 `json:"crowded"`     // the part of requests that were due while all connections were busy
	Limit   string  `json:"limit,omitempty"`
}

// Marks of a driver that is the limit itself.
const (
	wakeLimit = 5.0 // milliseconds
	cpuLimit  = 0.85
)

// judge says whether the driver was the limit.
func (d *Driver) judge() {
	switch {
	case d.CPU > cpuLimit*float64(d.CPUs):
		d.Limit = "the driver used nearly all processors: give it a machine of its own, or fewer connections"
	case d.WakeP99 > wakeLimit:
		d.Limit = "the driver woke up late for its requests: the machine is busy with something else"
	}
}

func ms(micros int64) float64 { return float64(micros) / 1000 }

// latencyOf describes a histogram.
func latencyOf(o Outcome, h *hdrhistogram.Histogram, curve bool) OutcomeLatency {
	l := OutcomeLatency{
		Outcome: o.String(), Count: h.TotalCount(), Mean: math.Round(h.Mean()) / 1000, Min: ms(h.Min()),
		P50: ms(h.ValueAtPercentile(50)), P90: ms(h.ValueAtPercentile(90)), P99: ms(h.ValueAtPercentile(99)),
		P999: ms(h.ValueAtPercentile(99.9)), Max: ms(h.Max()),
	}
	if !curve {
		return l
	}
	// Ever smaller steps towards 100, down to where a single request is.
	for rest := 100.0; rest*float64(l.Count) >= 50; rest /= math.Sqrt2 {
		p := 100 - rest
		l.Curve = append(l.Curve, Point{p, ms(h.ValueAtPercentile(p))})
	}
	l.Curve = append(l.Curve, Point{100, l.Max})
	return l
}

// operationsOf describes all histograms.
func operationsOf(s *histogramSet) (all []Operation) {
	for op := range s {
		var o Operation
		for i, h := range s[op] {
			if h != nil && h.TotalCount() > 0 {
				o.Outcomes = append(o.Outcomes, latencyOf(Outcome(i), h, operation(op) == reserving))
			}
		}
		if o.Outcomes != nil {
			o.Name = operationNames[op]
			all = append(all, o)
		}
	}
	return all
}

// windowOf describes a second.
func windowOf(s *histogramSet, at, lasted time.Duration) Window {
	w := Window{At: at.Seconds(), Seconds: lasted.Seconds(), Outcomes: make(map[string]int64)}
	for o := range outcomes {
		if n := s.reserved(o); n > 0 {
			w.Outcomes[o.String()] = n
		}
	}
	if h := s[reserving][Accepted]; h != nil && h.TotalCount() > 0 {
		w.P50, w.P99 = ms(h.ValueAtPercentile(50)), ms(h.ValueAtPercentile(99))
		w.P999, w.Max = ms(h.ValueAtPercentile(99.9)), ms(h.Max())
	}
	return w
}
