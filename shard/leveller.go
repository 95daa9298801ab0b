package shard

import (
	"sync"
	"time"

	"stockade/allocator"
	"stockade/shard/rebalance"
	"stockade/shard/shardrpc"
)

const (
	// moveTimeout bounds one move of a leveller. What is applied later does no
	// harm: it shows in the levels.
	moveTimeout = 250 * time.Millisecond

	// hotRate is from how many units a second on that a SKU is watched by its
	// anchor, so that units are moved ahead of need. Below it pulls are enough.
	hotRate = 10

	// hotEvery is how often the anchor looks which SKUs are hot.
	hotEvery = time.Second
)

// A leveller moves units of the SKUs that one shard anchors to where they sell,
// ahead of need, while this node leads that shard. What to move is decided by
// a rebalance.Leveller; nobody waits for it, and a move that fails is not repeated.
//
// All methods are safe for concurrent use and do not block.
type leveller struct {
	home    allocator.ShardID
	shards  int
	cluster stockFinder
	levels  levelTable
	metrics *pullMetrics

	mu      sync.Mutex
	planner rebalance.Leveller
}

func newLeveller(home allocator.ShardID, shards int, c stockFinder, levels levelTable, m *pullMetrics) *leveller {
	return &leveller{home: home, shards: shards, cluster: c, levels: levels, metrics: m}
}

// changed looks at SKUs whose levels have changed.
func (l *leveller) changed(skus []allocator.SKU) {
	for _, sku := range skus {
		if allocator.Anchor(sku, l.shards) == l.home {
			l.level(sku)
		}
	}
}

// level makes the moves that the newest levels ask for.
func (l *leveller) level(sku allocator.SKU) {
	cut, asOf, ok := l.levels.Cut(sku)
	if !ok || time.Since(asOf) > shardrpc.MaxLevelAge {
		return
	}
	for _, m := range l.plan(sku, cut, asOf) {
		l.metrics.levelled.Inc()
		l.cluster.Propose(&shardrpc.Proposal{
			Shard:    m.From,
			Command:  transferOf(sku, m),
			Deadline: time.Now().Add(moveTimeout),
			Final:    true,
			Once:     true,
			Done:     func(shardrpc.Response) { l.moved(sku) },
		})
	}
}

// plan decides on moves.
func (l *leveller) plan(sku allocator.SKU, cut allocator.Cut, asOf time.Time) []rebalance.Move {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.planner.Plan(sku, cut, asOf)
}

// moved notes that a move was answered.
func (l *leveller) moved(sku allocator.SKU) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.planner.Moved(sku, time.Now())
}
