package shard

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// TestMadeUpSKUsCostNoLogEntry floods one shard with SKUs that nobody has.
func TestMadeUpSKUsCostNoLogEntry(t *testing.T) {
	inBubble(t, 4, 1, func(t *testing.T, c *simCluster) {
		c.create(t, "real", 40)
		<-time.After(time.Second) // until its units have arrived
		home := c.shards[1]
		before := home.state.Applied()
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() {
				sku := allocator.SKU(fmt.Sprintf("made-up-%d", i))
				res, r := home.do(t, reserve(i, sku, 1), time.Minute)
				if r.Outcome != shardrpc.Applied || res.Code != allocator.CodeSKUNotFound || res.SKU != sku {
					t.Errorf("%s: %v %v", sku, r, res)
				}
			})
		}
		wg.Wait()
		if after := home.state.Applied(); after != before {
			t.Errorf("%d log entries for SKUs that do not exist", after-before)
		}
		if res, _ := home.do(t, reserve(9999, "real", 1), time.Minute); res.Code != allocator.CodeOK {
			t.Errorf("the real one: %v", res.Code)
		}
	})
}

// TestAnchorThatCannotBeAskedIsNamed: whether the SKU exists can't be known, so
// the answer is neither a sale nor a refusal.
func TestAnchorThatCannotBeAskedIsNamed(t *testing.T) {
	inBubble(t, 2, 1, func(t *testing.T, c *simCluster) {
		anchor := allocator.Anchor("far", 2)
		c.shards[anchor].setDown(true)
		_, r := c.shards[1-anchor].do(t, reserve(1, "far", 1), 2*time.Second)
		if r.Outcome != shardrpc.NotApplied || r.Reason != shardrpc.ReasonStockUnreachable || r.Shard != anchor {
			t.Errorf("%+v", r)
		}
	})
}

// slowAnchors answers when it is let, and notes what it was asked.
type slowAnchors struct {
	let   chan struct{}
	mu    sync.Mutex
	asked [][]allocator.SKU
}

func (a *slowAnchors) Exist(_ context.Context, r shardrpc.ExistRequest) ([]bool, error) {
	a.mu.Lock()
	a.asked = append(a.asked, r.SKUs)
	a.mu.Unlock()
	<-a.let
	return make([]bool, len(r.SKUs)), nil
}

func (a *slowAnchors) questions() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

// TestAnchorIsAskedForManyAtATime: one question is under way, and who comes
// meanwhile shares the next; what is known to be absent is not asked for again
// for a second; and the number of those who wait is bounded.
func TestAnchorIsAskedForManyAtATime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := &slowAnchors{let: make(chan struct{})}
		x := newExistence(t.Context(), 1, a)
		answers := 0
		count := func(exists bool) {
			if exists {
				t.Error("it exists")
			}
			answers++
		}
		x.ask("first", count) // asked at once
		synctest.Wait()
		for i := range 999 {
			x.ask(allocator.SKU(fmt.Sprint("sku-", i)), count)
		}
		x.ask("sku-0", count) // twice the same
		a.let <- struct{}{}
		a.let <- struct{}{}
		synctest.Wait()
		if answers != 1001 || a.questions() != 2 || len(a.asked[1]) != 999 {
			t.Errorf("%d answers, %d questions", answers, a.questions())
		}
		x.ask("sku-7", count)
		if synctest.Wait(); answers != 1002 || a.questions() != 2 {
			t.Errorf("it was asked again: %d answers, %d questions", answers, a.questions())
		}
		<-time.After(absentFor)
		x.ask("sku-7", count)
		if <-time.After(2 * askEvery); a.questions() != 3 {
			t.Error("it was not asked again after a second")
		}
		taken := 0
		for i := range maxAsking + 10 {
			if x.ask(allocator.SKU(fmt.Sprint("more-", i)), count) {
				taken++
			}
		}
		if taken != maxAsking {
			t.Errorf("%d wait, not %d", taken, maxAsking)
		}
		close(a.let)
	})
}

// silentAnchors never answer.
type silentAnchors struct{ stockFinder }

func (silentAnchors) Exist(ctx context.Context, r shardrpc.ExistRequest) ([]bool, error) {
	<-ctx.Done()
	return nil, &shardrpc.UnavailableError{Shard: r.Shard}
}

// TestSilentAnchorIsNamedInTime: an anchor does not answer, and many wait for it.
// Each is told in its own time, and that nothing was done.
func TestSilentAnchorIsNamedInTime(t *testing.T) {
	inBubble(t, 2, 1, func(t *testing.T, c *simCluster) {
		anchor := allocator.Anchor("far", 2)
		home := c.shards[1-anchor]
		c.shards[anchor].setDown(true)
		home.pulls.existence.anchors = silentAnchors{c}
		began := time.Now()
		var wg sync.WaitGroup
		ask := func(n int, sku allocator.SKU, timeout time.Duration) {
			wg.Go(func() {
				_, r := home.do(t, reserve(n, sku, 1), timeout)
				if r.Outcome != shardrpc.NotApplied || r.Reason != shardrpc.ReasonStockUnreachable || r.Shard != anchor {
					t.Errorf("%s: %+v", sku, r)
				}
				if took := time.Since(began); took > timeout {
					t.Errorf("%s: after %v of %v", sku, took, timeout)
				}
			})
		}
		for n := range 12_000 {
			if sku := allocator.SKU(fmt.Sprint("far-", n)); allocator.Anchor(sku, 2) == anchor {
				ask(n, sku, time.Second)
			}
		}
		ask(20_000, "far", 100*time.Millisecond)
		wg.Wait()
	})
}

// TestDeposedAnchorDeniesNothing cuts the leader of an anchor off. Until it knows
// that another has taken over it must not say that a SKU does not exist: the other
// may have made it, and sold of it.
func TestDeposedAnchorDeniesNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		old := c.leader(0)
		ask := func(n *Node) shardrpc.ExistAnswer {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			a, err := n.Exist(ctx, shardrpc.ExistRequest{SKUs: []allocator.SKU{"a", "b"}})
			check(t, err)
			return a
		}
		c.put(old, 0, "a")
		if a := ask(old); a.Reason != shardrpc.ReasonNone || !a.Exist[0] || a.Exist[1] {
			t.Fatalf("%+v", a)
		}
		c.net.Isolate(string(old.ID()), true)
		if !old.replica(0).ready() {
			t.Fatal("it knows already that it is cut off")
		}
		if a := ask(old); a.Reason == shardrpc.ReasonNone {
			t.Errorf("who is cut off says %v", a.Exist)
		}
		c.net.Isolate(string(old.ID()), false)
	})
}

// everyAnchor says the same of every SKU.
type everyAnchor bool

func (a everyAnchor) Exist(_ context.Context, r shardrpc.ExistRequest) ([]bool, error) {
	exist := make([]bool, len(r.SKUs))
	for i := range exist {
		exist[i] = bool(a)
	}
	return exist, nil
}

// TestFloodIsSlowedDown asks for 6,000 SKUs at once. Those that don't exist are
// answered at a bounded rate, those that do as fast as questions go.
func TestFloodIsSlowedDown(t *testing.T) {
	for exist, most := range map[bool]int{false: absentBurst + 2*absentRate, true: 6000} {
		bubble.Test(t, func(t *testing.T) {
			x := newExistence(t.Context(), 1, everyAnchor(exist))
			var answers atomic.Int64
			for i := range 6000 {
				x.ask(allocator.SKU(fmt.Sprint("sku-", i)), func(bool) { answers.Add(1) })
			}
			<-time.After(time.Second)
			if n := int(answers.Load()); n > most || exist && n != 6000 || n < absentBurst {
				t.Errorf("exist %v: %d answers in a second", exist, n)
			}
			<-time.After(6 * time.Second)
			if n := answers.Load(); n != 6000 {
				t.Errorf("exist %v: %d answers in the end", exist, n)
			}
		})
	}
}
