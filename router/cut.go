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

// reading is what all shards said of a SKU.
type reading struct {
	allocator.Cut
	waiting []int // beside each report: how many stood in line there
}

// soldOut tells whether there is provably nothing to be had: no unit in any bucket
// or on its way, and nobody in line, who would be served before a new request.
func (r reading) soldOut() bool {
	if !r.Consistent() || r.Units() != 0 {
		return false
	}
	for _, n := range r.waiting {
		if n > 0 {
			return false
		}
	}
	return true
}

// exactCut asks all shards for a SKU until their reports fit together exactly,
// as if taken at one moment. The error is an *Unavailable that names a shard.
func (r *Router) exactCut(ctx context.Context, sku allocator.SKU, strong bool) (reading, error) {
	for pause := minCutPause; ; pause = min(2*pause, maxCutPause) {
		all, err := r.cut(ctx, sku, strong)
		if err != nil {
			return reading{}, err
		}
		if all.Exact() {
			return all, nil
		}
		if !sleep(ctx, pause/2+rand.N(pause/2)) {
			return reading{}, unavailable(allocator.Anchor(sku, r.shards), shardrpc.ReasonDeadline, time.Time{})
		}
	}
}

// cut asks all shards for a SKU once.
func (r *Router) cut(ctx context.Context, sku allocator.SKU, strong bool) (reading, error) {
	r.metrics.rounds.Inc()
	g := r.dispatch.Buckets(ctx, sku, strong)
	if len(g.Missing) == 0 {
		return reading{g.Cut, g.Waiting}, nil
	}
	reason, since := r.dispatch.Directory().Trouble(g.Missing[0])
	if reason == shardrpc.ReasonNone {
		reason = shardrpc.ReasonDeadline
	}
	return reading{}, unavailable(g.Missing[0], reason, since)
}

// asUnavailable translates the error of a read.
func asUnavailable(err error) error {
	var u *shardrpc.UnavailableError
	if errors.As(err, &u) {
		return unavailable(u.Shard, u.Reason, u.Since)
	}
	return err
}

// before is a moment ahead of a deadline: by a margin, or by a quarter of the time
// from a beginning if that is less.
func before(deadline, began time.Time, margin time.Duration) time.Time {
	return deadline.Add(-min(margin, deadline.Sub(began)/4))
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
