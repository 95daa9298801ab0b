package shard

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
)

// stockCollector reports what the shards that this node leads hold. Only
// leaders report, so that a sum over all nodes counts every unit once.
type stockCollector struct {
	replicas func() []*replica

	units, live, records, bytes, outbox, lag *prometheus.Desc
	ended, retaken, transfers, sent, sku     *prometheus.Desc
}

func newStockCollector(replicas func() []*replica) *stockCollector {
	plain := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("stockade_"+name, help, append([]string{"shard"}, labels...), nil)
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return plain("shard_"+name, help, labels...)
	}
	return &stockCollector{
		replicas:  replicas,
		units:     desc("units", "Units of all SKUs, by state.", "state"),
		live:      desc("live_reservations", "Open reservations."),
		records:   desc("records", "Reservations and keyed operations in memory, finished ones until their retention ends."),
		bytes:     desc("state_bytes", "Memory of records, indexes and buckets, estimated."),
		outbox:    desc("outbox_messages", "Messages to other shards that are not acknowledged."),
		lag:       desc("expiry_lag_seconds", "For how long the longest overdue reservation has been due, in log time."),
		ended:     desc("reservations_ended_total", "Reservations ended, by how.", "how"),
		retaken:   desc("late_confirms_total", "Expired reservations that were confirmed after all."),
		transfers: plain("transfers_total", "Transfers that moved units from this shard to others."),
		sent:      plain("transfer_units_total", "Units moved from this shard to others."),
		sku: prometheus.NewDesc("stockade_watched_units",
			"Units by state of each SKU whose policy says watch, 50 of them at most, in the shards that this node leads.",
			[]string{"sku", "state"}, nil),
	}
}

// maxWatched bounds the SKUs that have series of their own; the first by name have them.
const maxWatched = 50

// maxLooked bounds the SKUs of a shard that are looked at for that, so that a scrape takes
// no time however many are marked.
const maxLooked = 1000

// watched sums up what the shards that this node leads have of the SKUs that are to be
// watched.
func (c *stockCollector) watched(ch chan<- prometheus.Metric, led []*replica) {
	sums := make(map[allocator.SKU]allocator.Watched)
	for _, r := range led {
		r.fsm.Read(func(s *allocator.State) {
			for _, w := range s.Watched(maxLooked) {
				sum := sums[w.SKU]
				sum.Available += w.Available
				sum.Reserved += w.Reserved
				sum.Committed += w.Committed
				sum.SafetyStock += w.SafetyStock
				sum.Transit += w.Transit
				sums[w.SKU] = sum
			}
		})
	}
	names := slices.Sorted(maps.Keys(sums))
	for _, sku := range names[:min(len(names), maxWatched)] {
		w := sums[sku]
		for state, units := range map[string]allocator.Quantity{
			"available": w.Available, "reserved": w.Reserved, "committed": w.Committed,
			"safety_stock": w.SafetyStock, "in_transit": w.Transit,
		} {
			ch <- prometheus.MustNewConstMetric(c.sku, prometheus.GaugeValue, float64(units), string(sku), state)
		}
	}
}

// Describe implements prometheus.Collector.
func (c *stockCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.units, c.live, c.records, c.bytes, c.outbox, c.lag, c.ended, c.retaken, c.transfers, c.sent, c.sku,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stockCollector) Collect(ch chan<- prometheus.Metric) {
	var led []*replica
	for _, r := range c.replicas() {
		if r == nil || !r.ready() {
			continue
		}
		led = append(led, r)
		var st allocator.Stats
		r.fsm.Read(func(s *allocator.State) { st = s.Stats() })
		c.collect(ch, shardLabel(r.shard), &st)
	}
	c.watched(ch, led)
}

func (c *stockCollector) collect(ch chan<- prometheus.Metric, shard string, st *allocator.Stats) {
	put := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{shard}, labels...)...)
	}
	for state, units := range map[string]allocator.Quantity{
		"available": st.Available, "reserved": st.Reserved, "committed": st.Committed,
		"safety_stock": st.Safety, "in_transit": st.InTransit,
	} {
		put(c.units, prometheus.GaugeValue, float64(units), state)
	}
	for how := allocator.StatusConfirmed; how <= allocator.StatusExpired; how++ {
		put(c.ended, prometheus.CounterValue, float64(st.EndedBy[how]), how.String())
	}
	put(c.live, prometheus.GaugeValue, float64(st.Live))
	put(c.records, prometheus.GaugeValue, float64(st.Records))
	put(c.bytes, prometheus.GaugeValue, float64(st.Bytes))
	put(c.outbox, prometheus.GaugeValue, float64(st.OutboxLen))
	put(c.lag, prometheus.GaugeValue, float64(st.ExpiryLag)/1000)
	put(c.retaken, prometheus.CounterValue, float64(st.Retaken))
	put(c.transfers, prometheus.CounterValue, float64(st.Transfers))
	put(c.sent, prometheus.CounterValue, float64(st.UnitsSent))
}
