package raftfsm

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
)

// Metrics are the series of one replica, each with the label shard.
type Metrics struct {
	batchCommands prometheus.Histogram
	batchBytes    prometheus.Histogram
	commit        prometheus.Histogram
	apply         prometheus.Histogram
	proposals     [outcomeEnd][causeEnd]prometheus.Counter
	queueCommands prometheus.Gauge
	queueBytes    prometheus.Gauge
	inFlight      prometheus.Gauge
	freeze        prometheus.Histogram
	snapshot      prometheus.Histogram
	snapshotBytes prometheus.Gauge
	violations    prometheus.Counter
}

// NewMetrics makes the metrics of a shard's replica and registers them. r may be
// nil: then nothing is registered. It panics when the shard's metrics are
// registered already, as prometheus does.
func NewMetrics(r prometheus.Registerer, shard allocator.ShardID) *Metrics {
	b := metricsBuilder{labels: prometheus.Labels{"shard": strconv.Itoa(int(shard))}}
	m := &Metrics{
		batchCommands: b.histogram("stockade_raft_batch_commands",
			"Commands in a proposed log entry.", prometheus.ExponentialBuckets(1, 2, 13)),
		batchBytes: b.histogram("stockade_raft_batch_bytes",
			"Size of a proposed log entry.", prometheus.ExponentialBuckets(64, 4, 9)),
		commit: b.histogram("stockade_raft_commit_seconds",
			"From handing an entry to Raft until it is applied here or has failed.", secondsBuckets()),
		apply: b.histogram("stockade_raft_apply_seconds",
			"Time to apply what Raft hands over at once.", secondsBuckets()),
		queueCommands: b.gauge("stockade_raft_queue_commands", "Commands that wait for an entry."),
		queueBytes:    b.gauge("stockade_raft_queue_bytes", "Bytes of the commands that wait for an entry."),
		inFlight:      b.gauge("stockade_raft_inflight_entries", "Entries that are handed to Raft and have not ended."),
		freeze: b.histogram("stockade_raft_snapshot_freeze_seconds",
			"How long taking a snapshot keeps commands from being applied.", prometheus.ExponentialBuckets(1e-6, 4, 10)),
		snapshot: b.histogram("stockade_raft_snapshot_seconds",
			"Time to write a snapshot.", prometheus.ExponentialBuckets(1e-3, 4, 10)),
		snapshotBytes: b.gauge("stockade_raft_snapshot_bytes", "Size of the last snapshot written."),
		violations: b.counter("stockade_invariant_violations_total",
			"Errors that stopped the replica: a broken invariant, an audit that differs, or damage in the log."),
	}
	b.proposals(m)
	if r != nil {
		r.MustRegister(b.made...)
	}
	return m
}

// secondsBuckets reach from a fast commit in memory to a disk that hangs.
func secondsBuckets() []float64 {
	return prometheus.ExponentialBuckets(50e-6, 2, 18)
}

// metricsBuilder remembers what it made, so that it can be registered at once.
type metricsBuilder struct {
	labels prometheus.Labels
	made   []prometheus.Collector
}

// histogram makes a histogram.
func (b *metricsBuilder) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets, ConstLabels: b.labels})
	b.made = append(b.made, h)
	return h
}

// gauge makes a gauge.
func (b *metricsBuilder) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: b.labels})
	b.made = append(b.made, g)
	return g
}

// counter makes a counter.
func (b *metricsBuilder) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: b.labels})
	b.made = append(b.made, c)
	return c
}

// proposals makes the counters for the pairs that classify can answer, and
// looks each up once: they are counted per command.
func (b *metricsBuilder) proposals(m *Metrics) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name:        "stockade_raft_proposals_total",
		Help:        "Commands that were submitted, by what became of them.",
		ConstLabels: b.labels,
	}, []string{"outcome", "cause"})
	b.made = append(b.made, vec)
	for _, a := range answers {
		for _, enqueued := range []bool{false, true} {
			if a.err == nil && !enqueued {
				continue // no error and no attempt: nothing to count
			}
			v := classify(a.err, enqueued)
			m.proposals[v.outcome][v.cause] = vec.WithLabelValues(v.outcome.String(), v.cause.String())
		}
	}
}
