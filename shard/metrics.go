package shard

import (
	"strconv"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
)

// metrics are a node's series; those of a shard have the label shard.
type metrics struct {
	port      *portMetrics
	write     *prometheus.HistogramVec // by shard
	syncs     prometheus.Histogram
	written   *prometheus.CounterVec // by shard
	bytes     *prometheus.GaugeVec   // by shard
	sent      *prometheus.CounterVec // by shard, peer
	alarms    *prometheus.CounterVec // by shard, peer, why
	elections *prometheus.CounterVec // by shard
	taken     *prometheus.GaugeVec   // by shard
	roundTrip *prometheus.GaugeVec   // by peer
	offset    *prometheus.GaugeVec   // by peer
	levels    prometheus.Counter
}

// portMetrics are those of the peer port.
type portMetrics struct {
	refused *prometheus.CounterVec // by why
}

// snapshotMetrics are those of one replica's snapshots.
type snapshotMetrics struct {
	written prometheus.Counter
	bytes   prometheus.Gauge
	taken   prometheus.Gauge
}

// newMetrics makes the series and registers them with r, which may be nil.
func newMetrics(r prometheus.Registerer) *metrics {
	byShard := []string{"shard"}
	m := &metrics{
		port: newPortMetrics(),
		write: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "stockade_log_write_seconds",
			Help:                        "Time to write to a shard's log or vote and sync it.",
			Buckets:                     []float64{.0005, .001, .002, .01, .1, 1},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, byShard),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "stockade_log_sync_seconds",
			Help:                        "Time of a sync alone, of the logs of all shards; nothing with the log store bolt.",
			Buckets:                     []float64{.0005, .001, .002, .01, .1, 1},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}),
		written: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_snapshots_written_total",
			Help: "Snapshots written by this node, own and received.",
		}, byShard),
		bytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "stockade_snapshot_size_bytes",
			Help: "Size of the last snapshot written, own or received.",
		}, byShard),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_snapshots_sent_total",
			Help: "Snapshots that a follower took because it was too far behind for the log, or already had.",
		}, []string{"shard", "peer"}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_shard_follower_alarms_total",
			Help: "Alarms of a leader about a follower, at most one a minute: it answers and takes no entries (stuck), or needs one snapshot after the other (snapshots).",
		}, []string{"shard", "peer", "why"}),
		elections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_shard_elections_won_total",
			Help: "Times that this node began to lead the shard.",
		}, byShard),
		taken: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "stockade_snapshot_timestamp_seconds",
			Help: "When the last snapshot was written, own or received, in seconds since 1970; 0: none since the start.",
		}, byShard),
		roundTrip: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "stockade_peer_round_trip_seconds",
			Help: "Time from the last question to another node for its status to the answer, asked every 5 s.",
		}, []string{"peer"}),
		offset: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "stockade_peer_clock_offset_seconds",
			Help: "How far another node's wall clock is ahead of this one's, to half a round trip. It decides no sale.",
		}, []string{"peer"}),
		levels: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_levels_sent_total",
			Help: "Levels of one SKU in one shard told to those who want them.",
		}),
	}
	if r != nil {
		r.MustRegister(m.port.refused, m.write, m.syncs, m.written, m.bytes, m.sent, m.alarms, m.elections, m.taken, m.roundTrip, m.offset, m.levels)
	}
	return m
}

func newPortMetrics() *portMetrics {
	return &portMetrics{refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stockade_peer_refused_total",
		Help: "Connections to the peer port that were closed in the handshake.",
	}, []string{"why"})}
}

// alarm counts an alarm about a follower.
func (m *metrics) alarm(shard allocator.ShardID, follower raft.ServerID, why string) {
	m.alarms.WithLabelValues(shardLabel(shard), string(nodeOf(follower)), why).Inc()
}

func (m *metrics) snapshots(shard allocator.ShardID) *snapshotMetrics {
	l := shardLabel(shard)
	return &snapshotMetrics{written: m.written.WithLabelValues(l), bytes: m.bytes.WithLabelValues(l), taken: m.taken.WithLabelValues(l)}
}

func shardLabel(s allocator.ShardID) string { return strconv.Itoa(int(s)) }

// stateCollector reports where each replica stands when it is asked, so that
// nothing needs to be kept up to date.
type stateCollector struct {
	replicas func() []*replica // by shard; nil where there is none

	leader, ready, term, commit, applied, lag *prometheus.Desc
}

func newStateCollector(replicas func() []*replica) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("stockade_shard_"+name, help, append([]string{"shard"}, labels...), nil)
	}
	return &stateCollector{
		replicas: replicas,
		leader:   desc("leader", "1 if this node leads the shard, else 0."),
		ready:    desc("ready", "1 if this node leads the shard and serves, else 0."),
		term:     desc("term", "Raft's term."),
		commit:   desc("commit_index", "Last entry known to be committed."),
		applied:  desc("applied_index", "Last entry handed to the state machine."),
		lag:      desc("follower_lag_entries", "Entries of the leader's log that the follower has not acknowledged.", "peer"),
	}
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.leader, c.ready, c.term, c.commit, c.applied, c.lag} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	for _, r := range c.replicas() {
		if r != nil {
			c.collect(ch, r)
		}
	}
}

func (c *stateCollector) collect(ch chan<- prometheus.Metric, r *replica) {
	shard := shardLabel(r.shard)
	gauge := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), append([]string{shard}, labels...)...)
	}
	leading := r.leading()
	gauge(c.leader, oneIf(leading))
	gauge(c.ready, oneIf(r.ready()))
	gauge(c.term, r.raft.CurrentTerm())
	gauge(c.commit, r.raft.CommitIndex())
	gauge(c.applied, r.raft.AppliedIndex())
	if leading {
		for id, lag := range r.lags() {
			gauge(c.lag, lag, string(nodeOf(id)))
		}
	}
}

func oneIf(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
