package router

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// fakeLevels are levels of a fakeCluster that are always up to date, for the SKUs
// that were wanted.
type fakeLevels struct {
	c   *fakeCluster
	age time.Duration // how old they claim to be

	mu     sync.Mutex
	wanted map[allocator.SKU]int
}

func newFakeLevels(c *fakeCluster) *fakeLevels {
	return &fakeLevels{c: c, wanted: make(map[allocator.SKU]int)}
}

// use is an option of fakeCluster.router.
func (l *fakeLevels) use(cfg *Config) { cfg.Levels = l }

func (l *fakeLevels) Want(sku allocator.SKU) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted[sku]++
}

func (l *fakeLevels) wants(sku allocator.SKU) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wanted[sku]
}

func (l *fakeLevels) Cut(sku allocator.SKU) (cut allocator.Cut, asOf time.Time, ok bool) {
	if l.wants(sku) == 0 {
		return nil, asOf, false
	}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	for _, s := range l.c.states {
		cut = append(cut, s.Level(sku))
	}
	return cut, time.Now().Add(-l.age), true
}

func (l *fakeLevels) Left(sku allocator.SKU) (allocator.Quantity, bool) {
	cut, _, ok := l.Cut(sku)
	return cut.Units(), ok
}

func (l *fakeLevels) SoldOut(sku allocator.SKU, units allocator.Quantity) bool {
	cut, _, ok := l.Cut(sku)
	return ok && cut.Known() && cut.Units() < units
}

func (l *fakeLevels) Stocked(sku allocator.SKU) (all []shardrpc.ShardStock) {
	cut, _, _ := l.Cut(sku)
	for i := range cut {
		if cut[i].Available > 0 {
			all = append(all, shardrpc.ShardStock{Shard: cut[i].Shard, Available: cut[i].Available})
		}
	}
	return all
}

// metricValue is what one counter or gauge says.
func metricValue(c prometheus.Collector) float64 {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		panic(fmt.Sprint(families, err))
	}
	m := families[0].GetMetric()[0]
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}
