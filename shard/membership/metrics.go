package membership

import "github.com/prometheus/client_golang/prometheus"

// Why something that came in is not used.
const (
	refusedNetwork  = "network"  // from outside of the allowed networks
	refusedBusy     = "busy"     // too much at once
	refusedOversize = "oversize" // a packet that no member makes
	refusedSilent   = "silent"   // a connection that said nothing
	refusedGreeting = "greeting" // a greeting that can't be read
	refusedMember   = "member"   // one that does not belong to the cluster
	refusedClaims   = "claims"   // claims to lead that can't be read
	refusedLabel    = "label"    // of another cluster
	refusedSealed   = "sealed"   // no key opens it, or it is not encrypted
	refusedMessage  = "message"  // memberlist can't read it
)

var refusals = []string{
	refusedNetwork, refusedBusy, refusedOversize, refusedSilent, refusedGreeting, refusedMember, refusedClaims, refusedLabel, refusedSealed, refusedMessage,
}

// Results of an attempt to join.
const (
	joinOK     = "ok"
	joinFailed = "failed"
)

func joinResult(err error) string {
	if err != nil {
		return joinFailed
	}
	return joinOK
}

// metrics are the package's metrics.
type metrics struct {
	refused *prometheus.CounterVec // by reason
	joins   *prometheus.CounterVec // by result
}

// newMetrics makes the metrics and registers them with r, if there is one.
func newMetrics(r prometheus.Registerer, view func() *View) *metrics {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_gossip_refused_total",
			Help: "Packets, connections and members that were not taken in, by reason.",
		}, []string{"reason"}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_gossip_joins_total",
			Help: "Attempts to join a member that is missing, by result.",
		}, []string{"result"}),
	}
	for _, reason := range refusals {
		m.refused.WithLabelValues(reason)
	}
	m.joins.WithLabelValues(joinOK)
	m.joins.WithLabelValues(joinFailed)
	if r != nil {
		r.MustRegister(m.refused, m.joins, &memberCollector{view})
	}
	return m
}

var membersDesc = prometheus.NewDesc("stockade_gossip_members",
	"Members that the gossip knows, by role and state (alive, left: they said goodbye, dead: they do not answer).",
	[]string{"role", "state"}, nil)

// memberCollector counts the members of the view.
type memberCollector struct{ view func() *View }

// Describe implements prometheus.Collector.
func (c *memberCollector) Describe(ch chan<- *prometheus.Desc) { ch <- membersDesc }

// Collect implements prometheus.Collector.
func (c *memberCollector) Collect(ch chan<- prometheus.Metric) {
	type kind struct {
		role  Role
		state State
	}
	counts := make(map[kind]int)
	for _, m := range c.view().Members {
		counts[kind{m.Role, m.State}]++
	}
	for _, role := range []Role{Node, Router} {
		for _, state := range []State{Alive, Left, Dead} {
			ch <- prometheus.MustNewConstMetric(membersDesc, prometheus.GaugeValue, float64(counts[kind{role, state}]), string(role), string(state))
		}
	}
}
