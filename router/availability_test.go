package router

import (
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// TestSoldOutIsProven: a strong availability and an audit say sold out only when
// every bucket, every outbox and every line is empty, and show it.
func TestSoldOutIsProven(t *testing.T) {
	const shards = 4
	c := newFakeCluster(t, shards)
	r := c.router(t)
	ctx := t.Context()
	put(t, r, "a", 3)
	anchor := allocator.Anchor("a", shards)
	other := (anchor + 1) % shards
	look := func(what string, available int64, soldOut bool) Availability {
		t.Helper()
		a, err := r.Availability(ctx, "a", true)
		if err != nil || a.Available != available || a.SoldOut != soldOut || len(a.Shards) != shards {
			t.Errorf("%s: %+v (%v)", what, a, err)
		}
		audit, err := r.Audit(ctx, "a")
		if err != nil || audit.SoldOut != soldOut || !audit.Balanced || len(audit.Waiting) != shards {
			t.Errorf("%s: audit: sold out %v, %v, %v (%v)", what, audit.SoldOut, audit.Problems, audit.Waiting, err)
		}
		return a
	}
	a := look("stocked", 3, false)
	for i, s := range a.Shards {
		if s.Shard != allocator.ShardID(i) || s.Applied != c.states[i].Bucket("a").Applied || (s.Available == 3) != (s.Shard == anchor) {
			t.Errorf("shard %d: %+v", i, s)
		}
	}
	reserve(t, r, one("a", 2, "k"))
	c.mu.Lock()
	home := allocator.ShardID(0)
	for i, s := range c.states {
		if s.Bucket("a").Available > 0 {
			home = allocator.ShardID(i)
		}
	}
	to := (home + 1) % shards
	out := allocator.TransferOut{SKU: "a", To: to, Quantity: 1}
	c.must(home, out.AppendTo(nil))
	c.mu.Unlock()
	if a = look("on its way", 0, false); a.Shards[home].InTransit != 1 || a.Shards[to].InTransit != 0 {
		t.Errorf("on its way: %+v", a.Shards)
	}
	c.mu.Lock()
	c.deliver()
	c.mu.Unlock()
	reserve(t, r, one("a", 1, "l"))
	c.waiting = map[allocator.ShardID]int{other: 2}
	if a = look("somebody waits", 0, false); a.Shards[other].Waiting != 2 || a.Shards[anchor].Waiting != 0 {
		t.Errorf("somebody waits: %+v", a.Shards)
	}
	c.waiting = nil
	look("sold out", 0, true)
	if a, err := r.Availability(ctx, "a", false); err != nil || !a.SoldOut || a.Shards != nil {
		t.Errorf("weak: %+v (%v)", a, err)
	}
}

// TestAvailabilityFromLevels: while levels are fresh nobody is asked, and the
// answer says how old it is.
func TestAvailabilityFromLevels(t *testing.T) {
	c := newFakeCluster(t, 4)
	levels := newFakeLevels(c)
	r := c.router(t, levels.use)
	put(t, r, "a", 3)
	ask := func(age time.Duration, asked bool) {
		t.Helper()
		levels.age = age
		before := c.reads
		r := c.router(t, levels.use) // a router shares a look for a while
		a, err := r.Availability(t.Context(), "a", false)
		if err != nil || a.SKU != "a" || a.Available != 3 || a.SoldOut {
			t.Errorf("%+v (%v)", a, err)
		}
		if (c.reads > before) != asked {
			t.Errorf("levels of %v: asked %v", age, c.reads > before)
		}
		if old := time.Since(a.AsOf); !asked && (old < age || old > age+10*time.Second) {
			t.Errorf("as of %v ago, by levels of %v", old, age)
		}
	}
	ask(0, true) // nobody wants them
	levels.Want("a")
	levels.Want("nowhere")
	ask(20*time.Millisecond, false)
	ask(shardrpc.MaxLevelAge+time.Second, true)
	if _, err := r.Availability(t.Context(), "nowhere", false); !refusedWith(err, allocator.CodeSKUNotFound) {
		t.Errorf("no such SKU: %v", err)
	}
}
