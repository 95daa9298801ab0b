package raftfsm

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
)

// Metrics are the series of one replica, each with the label shard.
type Metrics struct {
	batchCommands prometheus.Histogram
	batchBytes    prometheus.Counter
	commit        prometheus.Histogram
	apply         prometheus.Histogram
	proposals     [outcomeEnd]prometheus.Counter
	queueCommands prometheus.Gauge
	inFlight      prometheus.Gauge
	freeze        prometheus.Histogram
	snapshot      prometheus.Histogram
	violations    prometheus.Counter
}

// NewMetrics makes the metrics of a shard's replica and registers them. r may be
// nil: then nothing is registered. It panics when the shard's metrics are
// registered already, as prometheus does.
func NewMetrics(r prometheus.Registerer, shard allocator.ShardID) *Metrics {
	b := metricsBuilder{labels: prometheus.Labels{"shard": strconv.Itoa(int(shard))}}
	m := &Metrics{
		batchCommands: b.histogram("stockade_raft_batch_commands",
			"Commands in a proposed log entry.", []float64{8, 64}),
		batchBytes: b.counter("stockade_raft_proposed_bytes_total", "Bytes of the log entries that were proposed."),
		commit: b.histogram("stockade_raft_commit_seconds",
			"From handing an entry to Raft until it is applied here or has failed.", []float64{.001, .002, .005, .02, .1, 1}),
		apply: b.histogram("stockade_raft_apply_seconds",
			"Time to apply what Raft hands over at once.", nil),
		queueCommands: b.gauge("stockade_raft_queue_commands", "Commands that wait for an entry."),
		inFlight:      b.gauge("stockade_raft_inflight_entries", "Entries that are handed to Raft and have not ended."),
		freeze: b.histogram("stockade_raft_snapshot_freeze_seconds",
			"How long taking a snapshot keeps commands from being applied.", nil),
		snapshot: b.histogram("stockade_raft_snapshot_seconds",
			"Time to write a snapshot.", nil),
		violations: b.counter("stockade_invariant_violations_total",
			"Errors that stopped the replica: a broken invariant, an audit that differs, or damage in the log."),
	}
	b.proposals(m)
	if r != nil {
		r.MustRegister(b.made...)
	}
	return m
}

// metricsBuilder remembers what it made, so that it can be registered at once.
type metricsBuilder struct {
	labels prometheus.Labels
	made   []prometheus.Collector
}

// histogram makes a native histogram, with some classic buckets for what alerts look at:
// few, because each is a series for each shard.
func (b *metricsBuilder) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets, ConstLabels: b.labels,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	})
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

// proposals makes the counters of the outcomes. Why something was not applied is told by
// those who asked, for the whole node: for each shard it would be too many series.
func (b *metricsBuilder) proposals(m *Metrics) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name:        "stockade_raft_proposals_total",
		Help:        "Commands that were submitted, by outcome; stockade_dispatch_attempts_total has the reasons.",
		ConstLabels: b.labels,
	}, []string{"outcome"})
	b.made = append(b.made, vec)
	for o := Applied; o < outcomeEnd; o++ {
		m.proposals[o] = vec.WithLabelValues(o.String())
	}
}
