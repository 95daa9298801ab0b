package shard

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pullMetrics count what it takes to make buckets behave as one stock, for all
// shards that this node leads.
type pullMetrics struct {
	parked        prometheus.Gauge
	waited        prometheus.Histogram
	pulls         prometheus.Histogram
	refused       prometheus.Counter
	falseRefusals prometheus.Counter
	levelled      prometheus.Counter
}

// newPullMetrics makes the metrics and registers them with reg, which may be nil.
func newPullMetrics(reg prometheus.Registerer) *pullMetrics {
	// From one commit round to a pull's deadline, and to more than the longest wait in line.
	pulled := prometheus.ExponentialBuckets(0.001, 2, 10)
	parked := prometheus.ExponentialBuckets(0.001, 2, 16)
	m := &pullMetrics{
		parked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stockade_shard_parked_requests",
			Help: "Requests that stand in line for stock, at the shards that this node leads.",
		}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stockade_shard_parked_duration_seconds", Buckets: parked,
			Help:                        "How long requests stood in line for stock, however it ended.",
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}),
		pulls: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stockade_shard_pull_duration_seconds", Buckets: pulled,
			Help:                        "From asking another shard for units, or for a bucket, to its answer.",
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_shard_refusals_total",
			Help: "Requests refused for lack of units in all shards together, without a log entry.",
		}),
		falseRefusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_shard_false_refusals_total",
			Help: "Pictures of all shards that would have justified a refusal although units were missing in them. They were not used. Must be 0.",
		}),
		levelled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_shard_level_moves_total",
			Help: "Moves of units ahead of need that a SKU's anchor asked for.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.parked, m.waited, m.pulls, m.refused, m.falseRefusals, m.levelled)
	}
	return m
}
