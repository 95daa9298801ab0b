package router

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

const (
	// effectLook bounds one look at the shards' versions, so that a shard that
	// does not answer hides nothing of the others.
	effectLook = 200 * time.Millisecond

	// effectMargin is what is left of the request's time after the wait for the
	// shards, if a quarter of it is not less: to say which ones did not answer.
	effectMargin = 500 * time.Millisecond
)

// Effect says whether all shards go by a version of a SKU's policy.
type Effect struct {
	// At is when all of them surely did, on this router's wall clock: what they
	// decided after it, they decided by this version or a later one. Zero: not all
	// were seen to.
	At time.Time
	// Pending are those that were not seen to. They will: the change is on disk at
	// the anchor and on its way, and is delivered when they can be reached.
	Pending []allocator.ShardID
}

// takeEffect waits until all shards go by a version of a SKU's policy, as far as
// ctx allows.
func (r *Router) takeEffect(ctx context.Context, sku allocator.SKU, version uint64) (e Effect) {
	now := time.Now()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = now.Add(shardrpc.DefaultTimeout)
	}
	ctx, cancel := context.WithDeadline(ctx, before(deadline, now, effectMargin))
	defer cancel()
	for pause := minCutPause; ; pause = min(2*pause, maxCutPause) {
		e.Pending = r.behind(ctx, sku, version)
		if len(e.Pending) == 0 {
			e.At = r.now()
			return e
		}
		if !sleep(ctx, pause/2+rand.N(pause/2)) {
			return e
		}
	}
}

// behind lists the shards that were not seen to have a version or a later one. A
// version never goes back, so no barrier is needed.
//
// A shard without a bucket can't sell now, but counts as behind: a transfer that
// left another shard before it knew of the version may be on its way, and opens
// the bucket with the policy that it carries, which is older. Nobody has to wait
// long for it, because the anchor sends every version to every shard, bucket or
// not. Only of the first version nobody was told; but it has none before it.
func (r *Router) behind(ctx context.Context, sku allocator.SKU, version uint64) (behind []allocator.ShardID) {
	r.metrics.rounds.Inc()
	ctx, cancel := context.WithTimeout(ctx, effectLook)
	defer cancel()
	g := r.dispatch.Buckets(ctx, sku, false)
	for i := range g.Cut {
		b := &g.Cut[i]
		if b.Known && b.Policy.Version < version || !b.Known && version > 1 {
			behind = append(behind, b.Shard)
		}
	}
	behind = append(behind, g.Missing...)
	slices.Sort(behind)
	return behind
}
