package shard

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// Who asks for a SKU that has no bucket here is answered without a log entry: the
// SKU's anchor knows whether it exists, and is asked for many at a time. So a
// flood of made-up SKUs costs a look-up each.

const (
	// maxKnown bounds the SKUs that are remembered to have a bucket here: 10 MB with
	// the longest names. Beyond it the memory starts anew, at the price of a look
	// at the state for each.
	maxKnown = 65_536
	// maxAbsent bounds the SKUs that are remembered not to exist, in the same way.
	maxAbsent = 65_536
	// absentFor is for how long: a SKU that was just created is at worst unknown
	// here for that long, unless a transfer opens its bucket before.
	absentFor = time.Second
	// maxAsking bounds the proposals that wait for an anchor's word.
	maxAsking = 16_384
	// askEvery is the least time between two questions to an anchor. Who asks for one
	// SKU now and then does not notice. In a flood of made-up SKUs a question is for
	// many, and who sends one request after the other is slowed down.
	askEvery = 50 * time.Millisecond
	// absentRate is how many SKUs that do not exist a shard asks about in a second,
	// after a first absentBurst. Beyond it those who ask wait, so that a flood of
	// made-up SKUs takes a bounded part of the machine. SKUs that exist don't count.
	absentRate  = 1000
	absentBurst = shardrpc.MaxSKUsPerRequest
	// anchorTimeout bounds one question to an anchor.
	anchorTimeout = 250 * time.Millisecond
)

// anchors is what an existence needs of the rest of the cluster.
type anchors interface {
	// Exist tells which SKUs of an anchor exist.
	Exist(ctx context.Context, r shardrpc.ExistRequest) ([]bool, error)
}

// An existence tells proposals for SKUs that nobody has from those for SKUs that
// have no bucket here yet, for the leader of one shard.
//
// One goroutine per anchor asks while somebody waits for its word; it ends soon
// after ctx. All methods are safe for concurrent use and do not block.
type existence struct {
	ctx     context.Context
	shards  int
	anchors anchors
	flood   *rate.Limiter // of SKUs that do not exist

	mu     sync.RWMutex // guards what follows
	known  map[allocator.SKU]*demand
	absent map[allocator.SKU]time.Time // until when it is believed
	asking map[allocator.ShardID]map[allocator.SKU][]func(exists bool)
	next   map[allocator.ShardID]time.Time // no question before that
	count  int                             // of those who wait
}

func newExistence(ctx context.Context, shards int, a anchors) *existence {
	return &existence{
		ctx: ctx, shards: shards, anchors: a, flood: rate.NewLimiter(absentRate, absentBurst),
		known:  make(map[allocator.SKU]*demand),
		absent: make(map[allocator.SKU]time.Time),
		asking: make(map[allocator.ShardID]map[allocator.SKU][]func(bool)),
		next:   make(map[allocator.ShardID]time.Time),
	}
}

// here is the demand for a SKU that is remembered to have a bucket here; nil: it is
// not remembered.
func (x *existence) here(sku []byte) *demand {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.known[allocator.SKU(sku)]
}

// learn remembers that a SKU has a bucket here. Buckets never go.
func (x *existence) learn(sku allocator.SKU) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.known) >= maxKnown {
		clear(x.known)
	}
	if x.known[sku] == nil {
		x.known[sku] = new(demand)
	}
}

// hot lists the SKUs of an anchor that are asked for here at a rate or more.
func (x *existence) hot(anchor allocator.ShardID, rate float64, now time.Duration) (all []allocator.SKU) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for sku, d := range x.known {
		if d.asked.Load() > 0 && allocator.Anchor(sku, x.shards) == anchor && d.rate(now) >= rate {
			all = append(all, sku)
		}
	}
	return all
}

// ask finds out whether a SKU exists and calls done, at once if that is
// remembered. It is false when too many wait already; then done is not called.
func (x *existence) ask(sku allocator.SKU, done func(exists bool)) bool {
	x.mu.Lock()
	if time.Now().Before(x.absent[sku]) {
		x.mu.Unlock()
		done(false)
		return true
	}
	defer x.mu.Unlock()
	if x.count >= maxAsking {
		return false
	}
	x.count++
	anchor := allocator.Anchor(sku, x.shards)
	waiting, asked := x.asking[anchor]
	if !asked {
		waiting = make(map[allocator.SKU][]func(bool))
		x.asking[anchor] = waiting
		go x.serve(anchor)
	}
	waiting[sku] = append(waiting[sku], done)
	return true
}

// serve asks one anchor until nobody waits for it any more. When the anchor can't
// be asked, its SKUs count as existing: the pull that follows tells what is wrong.
func (x *existence) serve(anchor allocator.ShardID) {
	for {
		x.pause(anchor)
		batch := x.take(anchor)
		if len(batch) == 0 {
			return
		}
		skus := slices.Collect(maps.Keys(batch))
		ctx, cancel := context.WithTimeout(x.ctx, anchorTimeout)
		exist, err := x.anchors.Exist(ctx, shardrpc.ExistRequest{Shard: anchor, SKUs: skus})
		cancel()
		absent := 0
		for i, sku := range skus {
			there := err != nil || exist[i]
			if !there {
				absent++
				x.forget(sku)
			}
			for _, done := range batch[sku] {
				done(there)
			}
		}
		x.slowDown(anchor, absent)
	}
}

// slowDown puts the next question to an anchor off for what was absent.
func (x *existence) slowDown(anchor allocator.ShardID, absent int) {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if wait := x.flood.ReserveN(now, absent).DelayFrom(now); now.Add(wait).After(x.next[anchor]) {
		x.next[anchor] = now.Add(wait)
	}
}

// pause lets more SKUs come in when the last question was just asked, or found
// many absent.
func (x *existence) pause(anchor allocator.ShardID) {
	x.mu.RLock()
	wait := time.Until(x.next[anchor])
	x.mu.RUnlock()
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.ctx.Done():
	}
}

// take hands out who waits for an anchor's word, as many as one question takes,
// and ends its service when nobody does.
func (x *existence) take(anchor allocator.ShardID) map[allocator.SKU][]func(bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	waiting := x.asking[anchor]
	if len(waiting) == 0 {
		delete(x.asking, anchor)
		return nil
	}
	x.next[anchor] = time.Now().Add(askEvery)
	batch := make(map[allocator.SKU][]func(bool), min(len(waiting), shardrpc.MaxSKUsPerRequest))
	for sku, all := range waiting {
		if len(batch) == shardrpc.MaxSKUsPerRequest {
			break
		}
		batch[sku] = all
		x.count -= len(all)
		delete(waiting, sku)
	}
	return batch
}

// forget remembers that a SKU does not exist.
func (x *existence) forget(sku allocator.SKU) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.absent) >= maxAbsent {
		clear(x.absent)
	}
	x.absent[sku] = time.Now().Add(absentFor)
}
