package shardrpc

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"stockade/allocator"
)

// sentMemory is how many probes of a stream are remembered with the time when
// they were sent. A claim to an older one, from more than half a second ago, is
// of no use to anybody.
const sentMemory = 64

// board is what is known of all shards. Each shard's levels are those of one
// stream, complete as of a moment: levels of different leaders are not mixed,
// because a leader tells what has changed since it last told, and not since
// somebody else did. When two streams have levels of a shard, those that are
// complete as of the later moment count.
type board struct {
	asOf  atomic.Int64  // instant; all shards are complete as of it; it never goes back
	epoch atomic.Uint64 // grows, under mu, when another stream's levels of a shard count

	mu     sync.Mutex
	shards []*shardBoard // what counts, by shard; nil: nothing yet
}

// shardBoard is what one stream told of one shard. Guarded by board.mu. When the
// stream ends, or its node leads the shard no more, it stays as it is.
type shardBoard struct {
	asOf    instant // complete as of; 0: not known
	reports map[allocator.SKU]*allocator.BucketReport
}

// source is one stream with all that it told. Guarded by board.mu, but for sent
// and subscription, which its poller alone uses.
type source struct {
	shards       map[allocator.ShardID]*shardBoard // those that its node leads
	sent         [sentMemory]instant               // by probe, modulo
	probe        uint64                            // the last one
	subscription subscription
}

func newSource() *source {
	return &source{
		shards:       make(map[allocator.ShardID]*shardBoard),
		subscription: subscription{skus: make(map[allocator.SKU]bool)},
	}
}

// next numbers a probe that is sent now.
func (s *source) next(now instant) uint64 {
	s.probe++
	s.sent[s.probe%sentMemory] = now
	return s.probe
}

// sentAt is when a probe was sent; 0: not known.
func (s *source) sentAt(probe uint64) instant {
	if probe == 0 || probe > s.probe || s.probe-probe >= sentMemory {
		return 0
	}
	return s.sent[probe%sentMemory]
}

// forget drops SKUs that the stream no longer tells of.
func (b *board) forget(s *source, skus []allocator.SKU) {
	if len(skus) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, told := range s.shards {
		for _, sku := range skus {
			delete(told.reports, sku)
		}
	}
	b.epoch.Add(1)
}

// take puts up what a stream told. It gives the SKUs whose levels changed by it;
// all: any may have. What is new is in place before asOf says so.
func (b *board) take(s *source, reply LevelsReply, find func(allocator.SKU) *wanted) (changed []allocator.SKU, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := make(map[allocator.ShardID]*shardBoard, len(reply.Shards))
	for i := range reply.Shards {
		levels := &reply.Shards[i]
		if int(levels.Shard) >= len(b.shards) {
			continue
		}
		sb := s.shards[levels.Shard]
		if sb == nil {
			sb = &shardBoard{reports: make(map[allocator.SKU]*allocator.BucketReport)}
		}
		told[levels.Shard] = sb
		sb.put(levels.Changed, s.subscription.skus)
		sb.asOf = max(sb.asOf, s.sentAt(levels.AsOf))
		switch now := b.shards[levels.Shard]; {
		case now == sb:
			changed = b.bump(changed, levels.Changed, find)
		case sb.asOf > 0 && (now == nil || sb.asOf > now.asOf):
			b.shards[levels.Shard], all = sb, true
		}
	}
	s.shards = told
	if all {
		b.epoch.Add(1)
	}
	b.advance()
	return changed, all
}

// put notes reports. Each is copied: in the reply they are one piece of memory.
func (sb *shardBoard) put(reports []allocator.BucketReport, subscribed map[allocator.SKU]bool) {
	for i := range reports {
		if r := reports[i]; subscribed[r.SKU] {
			sb.reports[r.SKU] = &r
		}
	}
}

// bump makes views of changed SKUs outdated. b.mu is held.
func (b *board) bump(changed []allocator.SKU, reports []allocator.BucketReport, find func(allocator.SKU) *wanted) []allocator.SKU {
	for i := range reports {
		if w := find(reports[i].SKU); w != nil {
			w.version.Add(1)
			changed = append(changed, w.sku)
		}
	}
	return changed
}

// advance notes as of when all shards are complete. b.mu is held.
func (b *board) advance() {
	var least instant
	for i, sb := range b.shards {
		if sb == nil {
			return
		}
		if i == 0 || sb.asOf < least {
			least = sb.asOf
		}
	}
	b.asOf.Store(int64(least))
}

// levelView is what follows from the levels of one SKU, worked out when somebody
// first asks after they changed. It is never changed.
type levelView struct {
	version, epoch uint64
	cut            allocator.Cut // nil: not all shards have told
	final          bool          // units is all there is, and nothing else is in the way
	units          allocator.Quantity
	stocked        []ShardStock // the richest first
}

// view gives the view of a SKU, up to date.
func (b *board) view(w *wanted) *levelView {
	if v := w.view.Load(); v != nil && v.version == w.version.Load() && v.epoch == b.epoch.Load() {
		return v
	}
	v := b.cut(w)
	v.conclude()
	w.view.Store(v)
	return v
}

// cut gathers the reports of a SKU.
func (b *board) cut(w *wanted) *levelView {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := &levelView{version: w.version.Load(), epoch: b.epoch.Load()}
	cut := make(allocator.Cut, 0, len(b.shards))
	for _, sb := range b.shards {
		if sb == nil || sb.reports[w.sku] == nil {
			return v
		}
		cut = append(cut, *sb.reports[w.sku])
	}
	if cut.Complete(len(b.shards)) {
		v.cut = cut
	}
	return v
}

func (v *levelView) conclude() {
	for i := range v.cut {
		if r := &v.cut[i]; r.Available > 0 {
			v.stocked = append(v.stocked, ShardStock{Shard: r.Shard, Available: r.Available})
		}
	}
	slices.SortFunc(v.stocked, func(a, b ShardStock) int {
		return cmp.Or(cmp.Compare(b.Available, a.Available), cmp.Compare(a.Shard, b.Shard))
	})
	v.final = v.cut != nil && v.cut.Final()
	v.units = v.cut.Units()
}
