package router

import (
	"context"
	"slices"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
)

// shardsBut lists the shards of a cluster without some.
func shardsBut(shards int, not ...allocator.ShardID) (rest []allocator.ShardID) {
	for s := range allocator.ShardID(shards) {
		if !slices.Contains(not, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// TestPauseSaysWhenItHolds: the answer to a change of policy or state comes when
// every shard goes by it, also those that never had the SKU.
func TestPauseSaysWhenItHolds(t *testing.T) {
	c := newFakeCluster(t, 8)
	r := c.router(t)
	put(t, r, "a", 10)
	ctx := t.Context()
	for _, paused := range []bool{true, true, false, false} {
		before := time.Now()
		got, err := r.SetPaused(ctx, "a", paused)
		if err != nil || got.Effect.At.Before(before) || len(got.Effect.Pending) != 0 {
			t.Errorf("paused %v: %+v (%v)", paused, got, err)
		}
		for shard, s := range c.states {
			if b := s.Bucket("a"); !b.Known || b.Policy.Paused != paused {
				t.Errorf("paused %v: shard %d is not told", paused, shard)
			}
		}
	}
	got, err := r.PutSKU(ctx, PutSKURequest{SKU: "a"})
	if err != nil || got.Effect.At.IsZero() || got.Version != 4 {
		t.Errorf("a new policy: %+v (%v)", got, err)
	}
	// Of a first version nobody has to be told: there is none before it.
	put(t, r, "fresh", 10)
	reads := c.reads
	if got, err := r.SetPaused(ctx, "fresh", false); err != nil || got.Version != 1 || got.Effect.At.IsZero() {
		t.Errorf("was never paused: %+v (%v)", got, err)
	}
	if c.reads == reads {
		t.Error("no shard was asked")
	}
}

// TestPauseWaitsForItsMessages: it is not in effect before it has arrived, and
// then at once.
func TestPauseWaitsForItsMessages(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 4)
		r := c.router(t)
		put(t, r, "a", 10)
		c.undelivered = true
		began := time.Now()
		done := make(chan StockResult, 1)
		go func() {
			got, _ := r.SetPaused(t.Context(), "a", true)
			done <- got
		}()
		<-time.After(300 * time.Millisecond) // virtual
		if len(done) != 0 {
			t.Fatal("answered before anybody was told")
		}
		c.mu.Lock()
		c.deliver()
		c.mu.Unlock()
		if got := <-done; got.Effect.At.Sub(began) < 300*time.Millisecond || got.Effect.At.Sub(began) > 350*time.Millisecond {
			t.Errorf("in effect after %v", got.Effect.At.Sub(began))
		}
	})
}

// TestPauseNamesWhoIsNotTold: shards that can't be asked, and shards that were not
// reached by the message, before the request's time is over.
func TestPauseNamesWhoIsNotTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 6)
		r := c.router(t)
		put(t, r, "a", 10)
		anchor := allocator.Anchor("a", 6)
		c.setDown(c.leader(anchor+1), true) // leads two of the six
		down := []allocator.ShardID{(anchor + 1) % 6, (anchor + 4) % 6}
		slices.Sort(down)
		for _, timeout := range []time.Duration{0, 800 * time.Millisecond} {
			ctx, limit := t.Context(), 2*time.Second
			if timeout != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
				limit = timeout
			}
			began := time.Now()
			got, err := r.SetPaused(ctx, "a", true)
			took := time.Since(began)
			if err != nil || !got.Effect.At.IsZero() || !slices.Equal(got.Effect.Pending, down) || took >= limit {
				t.Errorf("down: %+v (%v) after %v, want %v pending", got.Effect, err, took, down)
			}
		}
		c.setDown(c.leader(anchor+1), false)
		c.undelivered = true
		got, err := r.SetPaused(t.Context(), "a", false)
		if want := shardsBut(6, anchor); err != nil || !slices.Equal(got.Effect.Pending, want) {
			t.Errorf("not delivered: %+v (%v), want %v pending", got.Effect, err, want)
		}
	})
}

// TestOldPolicyOnItsWay: a transfer that a shard sent before it knew of a pause
// opens a bucket that is not paused, at a shard that the pause has not reached.
// So a shard without a bucket does not count as paused.
func TestOldPolicyOnItsWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 3)
		r := c.router(t)
		put(t, r, "a", 10)
		anchor := allocator.Anchor("a", 3)
		giver, taker := (anchor+1)%3, (anchor+2)%3
		c.mu.Lock()
		out := allocator.TransferOut{SKU: "a", To: giver, Quantity: 5}
		c.must(anchor, out.AppendTo(nil))
		c.carry(anchor, giver)
		out = allocator.TransferOut{SKU: "a", To: taker, Quantity: 3}
		c.must(giver, out.AppendTo(nil))
		messages, first := c.states[giver].Outbox(taker, 0, allocator.MaxMessages) // with the policy of now
		c.undelivered = true
		c.mu.Unlock()

		done := make(chan StockResult, 1)
		go func() {
			got, _ := r.SetPaused(t.Context(), "a", true)
			done <- got
		}()
		<-time.After(100 * time.Millisecond) // virtual
		c.mu.Lock()
		c.carry(anchor, giver)
		c.mu.Unlock()
		<-time.After(100 * time.Millisecond)
		if len(done) != 0 {
			t.Fatal("a shard that may be opened with the old policy counts as paused")
		}
		c.mu.Lock()
		in := allocator.TransferIn{From: giver, First: first, Messages: messages}
		c.must(taker, in.AppendTo(nil))
		opened := c.states[taker].Bucket("a")
		c.mu.Unlock()
		if !opened.Known || opened.Policy.Paused || opened.Available != 3 {
			t.Fatalf("this is not the case that was meant: %+v", opened)
		}
		<-time.After(100 * time.Millisecond)
		if len(done) != 0 {
			t.Fatal("a shard sells, and counts as paused")
		}
		c.mu.Lock()
		c.carry(anchor, taker)
		paused := c.states[taker].Bucket("a").Policy.Paused
		c.mu.Unlock()
		if got := <-done; got.Effect.At.IsZero() || !paused {
			t.Errorf("%+v, the last shard paused: %v", got, paused)
		}
	})
}
