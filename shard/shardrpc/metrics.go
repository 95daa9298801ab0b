package shardrpc

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the package's metrics. One Metrics serves a whole node.
type Metrics struct {
	frames     *prometheus.CounterVec   // by direction
	items      *prometheus.HistogramVec // by direction
	connects   *prometheus.CounterVec   // by result
	attempts   *prometheus.CounterVec   // by outcome, reason
	proposals  *prometheus.CounterVec   // by outcome, reason
	underWay   prometheus.Gauge
	refreshes  prometheus.Counter
	readRounds prometheus.Counter
	late       prometheus.Counter

	levelPolls   *prometheus.CounterVec // by result
	levelsAge    prometheus.Histogram
	levelsWanted prometheus.Gauge
}

// Results of asking a node for levels.
const (
	pollAnswered = "answered"
	pollFailed   = "failed"
)

// NewMetrics makes the metrics and registers them with r. With a nil r they
// count for nobody. It panics when r has them already.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_rpc_frames_total",
			Help: "Frames of proposals or answers exchanged with other nodes.",
		}, []string{"direction"}),
		items: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "stockade_rpc_frame_items",
			Help:    "Proposals or answers in one frame.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7), // 1 … 4,096
		}, []string{"direction"}),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_rpc_connects_total",
			Help: "Streams to other nodes that were opened, failed to open, or broke.",
		}, []string{"result"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_dispatch_attempts_total",
			Help: "Attempts to have a command applied, by how they ended.",
		}, []string{"outcome", "reason"}),
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_dispatch_proposals_total",
			Help: "Commands dispatched to shards, by how they ended after all attempts.",
		}, []string{"outcome", "reason"}),
		underWay: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stockade_dispatch_under_way",
			Help: "Commands being dispatched now.",
		}),
		refreshes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_directory_refreshes_total",
			Help: "Times that all nodes were asked who leads which shard.",
		}),
		readRounds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_dispatch_read_rounds_total",
			Help: "Rounds of asking shards about a SKU or a reservation, repetitions included.",
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_rpc_late_proposals_total",
			Help: "Proposals from other nodes that arrived after their deadline, as when a link was mended, and were not made.",
		}),
	}
	m.addLevels()
	if r != nil {
		r.MustRegister(m.levelPolls, m.levelsAge, m.levelsWanted)
		r.MustRegister(m.frames, m.items, m.connects, m.attempts, m.proposals, m.underWay, m.refreshes, m.readRounds, m.late)
	}
	return m
}

// addLevels makes the metrics of Levels.
func (m *Metrics) addLevels() {
	m.levelPolls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stockade_levels_polls_total",
		Help: "Times that a node was asked for levels and terms, by how that ended.",
	}, []string{"result"})
	m.levelsAge = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:                        "stockade_levels_age_seconds",
		Help:                        "Age of the oldest shard's levels, observed every 10 ms while any SKU is wanted.",
		Buckets:                     []float64{.005, .01, .015, .02, .03, .04, .05, .075, .1, .25, 1, 10},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	})
	m.levelsWanted = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "stockade_levels_wanted_skus",
		Help: "SKUs whose levels are kept fresh.",
	})
}

// orNone makes the zero configuration usable.
func (m *Metrics) orNone() *Metrics {
	if m == nil {
		return NewMetrics(nil)
	}
	return m
}

// frameMetrics are the two series of one direction, looked up once.
type frameMetrics struct {
	frames prometheus.Counter
	items  prometheus.Observer
}

func (m *Metrics) direction(name string) frameMetrics {
	return frameMetrics{m.frames.WithLabelValues(name), m.items.WithLabelValues(name)}
}

func (f frameMetrics) count(items int) {
	f.frames.Inc()
	f.items.Observe(float64(items))
}

// ended counts by outcome and reason, without a look-up by text each time.
type ended [Unknown + 1][reasonEnd]prometheus.Counter

func newEnded(v *prometheus.CounterVec) *ended {
	e := new(ended)
	for o := Applied; o <= Unknown; o++ {
		for _, r := range Reasons() {
			if o == Applied && r != ReasonNone {
				continue
			}
			e[o][r] = v.WithLabelValues(o.String(), r.String())
		}
	}
	return e
}

func (e *ended) count(r Response) {
	switch {
	case !r.Outcome.valid() || r.Reason >= reasonEnd:
		e[Unknown][ReasonInvalid].Inc()
	case r.Outcome == Applied:
		e[Applied][ReasonNone].Inc()
	default:
		e[r.Outcome][r.Reason].Inc()
	}
}
