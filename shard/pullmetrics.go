package shard

import "github.com/prometheus/client_golang/prometheus"

// pullMetrics count what it takes to make buckets behave as one stock.
type pullMetrics struct {
	parked prometheus.Gauge
	waited prometheus.Histogram
	pulls  prometheus.Histogram
}

func newPullMetrics(reg prometheus.Registerer) *pullMetrics {
	// 1 ms to 4 s: from one commit round to a request's default deadline.
	buckets := prometheus.ExponentialBuckets(0.001, 2, 13)
	m := &pullMetrics{
		parked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stockade_shard_parked_requests",
			Help: "Requests that wait for stock from other shards.",
		}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stockade_shard_parked_duration_seconds", Buckets: buckets,
			Help: "How long requests waited for stock from other shards, however it ended.",
		}),
		pulls: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stockade_shard_pull_duration_seconds", Buckets: buckets,
			Help: "From asking other shards for units to their arrival.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.parked, m.waited, m.pulls)
	}
	return m
}
