package router

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// A cut that does not fit together is taken again after a pause between these
// bounds: what was on its way is acknowledged within milliseconds.
const (
	minCutPause = time.Millisecond
	maxCutPause = 20 * time.Millisecond
)

// exactCut asks all shards for a SKU until their reports fit together exactly,
// as if taken at one moment. The error is an *Unavailable that names a shard.
func (r *Router) exactCut(ctx context.Context, sku allocator.SKU, strong bool) (allocator.Cut, error) {
	for pause := minCutPause; ; pause = min(2*pause, maxCutPause) {
		cut, err := r.cut(ctx, sku, strong)
		if err != nil {
			return nil, err
		}
		if cut.Exact() {
			return cut, nil
		}
		if !sleep(ctx, pause/2+rand.N(pause/2)) {
			return nil, unavailable(allocator.Anchor(sku, r.shards), shardrpc.ReasonDeadline, time.Time{})
		}
	}
}

// cut asks all shards for a SKU once.
func (r *Router) cut(ctx context.Context, sku allocator.SKU, strong bool) (allocator.Cut, error) {
	r.metrics.rounds.Inc()
	cut, missing := r.dispatch.Buckets(ctx, sku, strong)
	if len(missing) == 0 {
		return cut, nil
	}
	reason, since := r.dispatch.Directory().Trouble(missing[0])
	if reason == shardrpc.ReasonNone {
		reason = shardrpc.ReasonDeadline
	}
	return nil, unavailable(missing[0], reason, since)
}

// asUnavailable translates the error of a read.
func asUnavailable(err error) error {
	var u *shardrpc.UnavailableError
	if errors.As(err, &u) {
		return unavailable(u.Shard, u.Reason, u.Since)
	}
	return err
}

// sleep waits for d; false when ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
