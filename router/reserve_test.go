package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// refusedWith tells whether err is a refusal with a code.
func refusedWith(err error, code allocator.Code) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Code == code
}

func TestReserve(t *testing.T) {
	c := newFakeCluster(t, 8)
	r := c.router(t)
	put(t, r, "a", 100)
	put(t, r, "b", 100)
	got := reserve(t, r, ReserveRequest{
		IdempotencyKey: "k", BuyerID: "buyer", Reference: "ref", TTL: time.Minute,
		Lines: []Line{{"b", 2}, {"a", 1}, {"b", 3}},
	})
	res := got.Reservation
	if got.Replayed || res.Status != allocator.StatusReserved || res.BuyerID != "buyer" || res.Reference != "ref" ||
		res.Expires-res.Created != 60_000 || fmt.Sprint(res.Lines) != "[{a 1} {b 5}]" {
		t.Errorf("got %+v", got)
	}
	again, err := r.Reservation(t.Context(), res.ID)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(res) {
		t.Errorf("looked up: %+v (%v)", again, err)
	}
	if c.reserved("a") != 1 || c.reserved("b") != 5 {
		t.Errorf("%d and %d units are reserved", c.reserved("a"), c.reserved("b"))
	}
}

func TestSameKeyThroughTwoRouters(t *testing.T) {
	c := newFakeCluster(t, 8)
	r1, r2 := c.router(t), c.router(t)
	put(t, r1, "a", 100)
	first := reserve(t, r1, one("a", 1, "k"))
	second := reserve(t, r2, one("a", 1, "k"))
	if first.Replayed || !second.Replayed || first.Reservation.ID != second.Reservation.ID || c.reserved("a") != 1 {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if _, err := r2.Reserve(t.Context(), one("a", 2, "k")); !refusedWith(err, allocator.CodeKeyReused) {
		t.Errorf("another body under the same key: %v", err)
	}
	other := one("a", 1, "k")
	other.BuyerID = "somebody"
	if got := reserve(t, r2, other); got.Replayed {
		t.Error("the key of nobody answered for a buyer")
	}
	if a, b := reserve(t, r1, one("a", 1, "")), reserve(t, r1, one("a", 1, "")); a.Reservation.ID == b.Reservation.ID {
		t.Error("two requests without keys became one")
	}
}

func TestPurchasesOfABuyerMeet(t *testing.T) {
	c := newFakeCluster(t, 16)
	r := c.router(t)
	put(t, r, "a", 100, func(p *allocator.Policy) { p.MaxPerBuyer = 3 })
	var taken int
	for i := range 10 {
		req := one("a", 1, fmt.Sprint("k", i))
		req.BuyerID = "greedy"
		_, err := r.Reserve(t.Context(), req)
		switch {
		case err == nil:
			taken++
		case !refusedWith(err, allocator.CodeBuyerLimitExceeded):
			t.Fatal(err)
		}
	}
	if taken != 3 {
		t.Errorf("the buyer got %d, the limit is 3", taken)
	}
}

func TestOldKeysAreRefused(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	put(t, r, "a", 100)
	old := fmt.Sprintf("%012x", int64(c.now)-3600_000)
	_, err := r.Reserve(t.Context(), one("a", 1, old[:8]+"-"+old[8:]+"-7abc-8def-0123456789ab"))
	if !refusedWith(err, allocator.CodeKeyExpired) {
		t.Errorf("got %v", err)
	}
}

func TestRefusalsExplainThemselves(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	put(t, r, "a", 3)
	_, err := r.Reserve(t.Context(), one("a", 5, "k"))
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != allocator.CodeInsufficientStock || refusal.SKU != "a" ||
		refusal.Requested != 5 || refusal.Available != 3 {
		t.Errorf("got %+v", err)
	}
	if _, err := r.Reserve(t.Context(), one("nothing", 1, "k")); !refusedWith(err, allocator.CodeSKUNotFound) {
		t.Errorf("no such SKU: %v", err)
	}
}

func TestRequestsThatCanNotBeEncoded(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	for pointer, req := range map[string]ReserveRequest{
		"/lines":            {},
		"/lines/0/quantity": one("a", 0, "k"),
		"/ttl_seconds":      {Lines: []Line{{"a", 1}}, TTL: -1},
		"/buyer_id":         {Lines: []Line{{"a", 1}}, BuyerID: strings.Repeat("b", allocator.MaxBuyerLen+1)},
		"/reference":        {Lines: []Line{{"a", 1}}, Reference: strings.Repeat("r", allocator.MaxReferenceLen+1)},
	} {
		_, err := r.Reserve(t.Context(), req)
		var invalid *Invalid
		if !errors.As(err, &invalid) || invalid.Pointer != pointer {
			t.Errorf("%s: got %v", pointer, err)
		}
	}
	if n := c.commands(); n != 0 {
		t.Errorf("%d commands were sent", n)
	}
}

// TestUnknownOutcomesAreAskedAgain: with the same command, so that units are
// taken once, whether or not the first attempt was applied.
func TestUnknownOutcomesAreAskedAgain(t *testing.T) {
	for name, faults := range map[string][]fault{
		"answer lost":   {lostAnswer},
		"request lost":  {lostRequest},
		"several times": {lostAnswer, lostRequest, lostAnswer},
	} {
		c := newFakeCluster(t, 4)
		r := c.router(t)
		put(t, r, "a", 10)
		c.misbehave(sequence(faults...))
		for _, key := range []string{"k", ""} {
			reserve(t, r, one("a", 1, key))
		}
		if got := c.reserved("a"); got != 2 {
			t.Errorf("%s: %d units are reserved for two requests", name, got)
		}
	}
}

func TestAdministrationActsOnceWithoutAKey(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	c.misbehave(sequence(lostAnswer))
	put(t, r, "a", 10)
	c.misbehave(sequence(lostAnswer))
	if _, err := r.Restock(t.Context(), "a", 5, "", ""); err != nil {
		t.Fatal(err)
	}
	c.misbehave(sequence(lostAnswer))
	if _, err := r.Adjust(t.Context(), "a", -2, "broken", ""); err != nil {
		t.Fatal(err)
	}
	if v, err := r.SKU(t.Context(), "a", true); err != nil || v.OnHand != 13 {
		t.Errorf("%d units on hand (%v), want 13", v.OnHand, err)
	}
}

func TestUnknownIsSaid(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 4)
		r := c.router(t)
		put(t, r, "a", 10)
		c.misbehave(always(lostRequest))
		began := time.Now()
		_, err := r.Reserve(t.Context(), one("a", 1, "k"))
		var unknown *UnknownOutcome
		if !errors.As(err, &unknown) || unknown.Shard != r.hash.home("k", 4) || unknown.Reason != shardrpc.ReasonLeadershipLost {
			t.Errorf("got %v", err)
		}
		if d := time.Since(began); d < shardrpc.DefaultTimeout || d > shardrpc.DefaultTimeout+50*time.Millisecond {
			t.Errorf("took %v without a deadline of its own, want the default", d)
		}
	})
}

func TestNoLeaderIsSaidWithinTheDeadline(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 3)
		r := c.router(t)
		put(t, r, "a", 10)
		home := r.hash.home("k", 3)
		c.setDown(c.leader(home), true)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := r.Reserve(ctx, one("a", 1, "k"))
		var u *Unavailable
		if !errors.As(err, &u) || u.Shard != home || !u.Since.Equal(began) || u.RetryAfter <= 0 || u.Local {
			t.Errorf("got %+v", err)
		}
		if d := time.Since(began); d > 320*time.Millisecond {
			t.Errorf("took %v", d)
		}
		c.setDown(c.leader(home), false)
		if got := reserve(t, r, one("a", 1, "k")); got.Replayed || c.reserved("a") != 1 {
			t.Errorf("afterwards: %+v", got)
		}
	})
}

func TestShardOverloadIsPassedOnAtOnce(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	put(t, r, "a", 10)
	c.misbehave(always(overload))
	_, err := r.Reserve(t.Context(), one("a", 1, "k"))
	var u *Unavailable
	if !errors.As(err, &u) || u.Reason != shardrpc.ReasonOverloaded || u.Local || u.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
}

func TestRouterBoundsWhatIsInFlight(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 4)
		r := c.router(t, func(cfg *Config) { cfg.MaxInFlight = 2 })
		put(t, r, "a", 10)
		c.misbehave(always(hold))
		var wait sync.WaitGroup
		for i := range 2 {
			wait.Go(func() { reserve(t, r, one("a", 1, fmt.Sprint(i))) })
		}
		synctest.Wait()
		_, err := r.Reserve(t.Context(), one("a", 1, "too many"))
		var u *Unavailable
		if !errors.As(err, &u) || u.Reason != shardrpc.ReasonOverloaded || !u.Local || u.RetryAfter <= 0 {
			t.Errorf("got %v", err)
		}
		c.misbehave(nil)
		c.release()
		wait.Wait()
		reserve(t, r, one("a", 1, "too many"))
		// A batch beyond the bound is taken when nothing else is under way.
		for i, o := range r.ReserveBatch(t.Context(), []ReserveRequest{one("a", 1, "x"), one("a", 1, "y"), one("a", 1, "z")}) {
			if o.Err != nil {
				t.Errorf("item %d: %v", i, o.Err)
			}
		}
	})
}

// TestReadsAreRefusedFirst when much is under way, then reservations, and what ends work
// last.
func TestReadsAreRefusedFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 4)
		r := c.router(t, func(cfg *Config) { cfg.MaxInFlight = 16 })
		put(t, r, "a", 100)
		id := reserve(t, r, one("a", 1, "first")).Reservation.ID
		c.misbehave(always(hold))
		var wait sync.WaitGroup
		occupy := func(n int, keys string) {
			for i := range n {
				wait.Go(func() { reserve(t, r, one("a", 1, fmt.Sprint(keys, i))) })
			}
			synctest.Wait()
		}
		refused := func(err error) bool {
			var u *Unavailable
			return errors.As(err, &u) && u.Local && u.Reason == shardrpc.ReasonOverloaded
		}
		read := func() bool { _, err := r.Availability(t.Context(), "a", false); return refused(err) }
		occupy(7, "x")
		if read() {
			t.Error("a read is refused although less than half of the places are taken")
		}
		occupy(1, "y")
		if !read() {
			t.Error("a read takes a place that reservations may need")
		}
		occupy(6, "z")
		if _, err := r.Reserve(t.Context(), one("a", 1, "too many")); !refused(err) {
			t.Errorf("a reservation takes a place that confirmations may need: %v", err)
		}
		wait.Go(func() {
			if _, err := r.Confirm(t.Context(), id, nil); err != nil {
				t.Errorf("a confirmation: %v", err)
			}
		})
		synctest.Wait()
		c.misbehave(nil)
		c.release()
		wait.Wait()
	})
}

func TestLateWorkIsNotSent(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	_, err := r.Reserve(ctx, one("a", 1, "k"))
	var u *Unavailable
	if !errors.As(err, &u) || u.Reason != shardrpc.ReasonDeadline || !u.Local {
		t.Errorf("got %v", err)
	}
	for _, o := range r.ReserveBatch(ctx, []ReserveRequest{one("a", 1, "k")}) {
		if !errors.As(o.Err, &u) {
			t.Errorf("in a batch: %v", o.Err)
		}
	}
	if n := c.commands(); n != 0 {
		t.Errorf("%d commands were sent", n)
	}
}

func TestAResultThatCanNotBeReadIsAFault(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	put(t, r, "a", 10)
	c.misbehave(always(damagedReply))
	_, err := r.Reserve(t.Context(), one("a", 1, "k"))
	if err == nil || outcomeOf(err) != outcomeFault {
		t.Errorf("got %v", err)
	}
}

// TestNothingIsTakenTwice is a small history check: many clients retry through
// two routers while outcomes get lost, until each has a definite answer. What
// was answered must be what is in the state machines.
func TestNothingIsTakenTwice(t *testing.T) {
	c := newFakeCluster(t, 8)
	routers := []*Router{c.router(t), c.router(t)}
	put(t, routers[0], "a", 100)
	rng := rand.New(rand.NewPCG(1, 2))
	c.misbehave(func(*shardrpc.Proposal) fault { // called under the cluster's lock
		return []fault{fine, fine, lostAnswer, lostRequest, overload}[rng.IntN(5)]
	})
	var mu sync.Mutex
	ids := make(map[allocator.ReservationID]string)
	refused := 0
	var wait sync.WaitGroup
	for i := range 150 {
		wait.Go(func() {
			key := fmt.Sprint("key-", i)
			for try := 0; ; try++ {
				got, err := routers[(i+try)%2].Reserve(t.Context(), one("a", 1, key))
				mu.Lock()
				if err == nil {
					if other, ok := ids[got.Reservation.ID]; ok {
						t.Errorf("%s and %s got the same reservation", key, other)
					}
					ids[got.Reservation.ID] = key
				} else if refusedWith(err, allocator.CodeInsufficientStock) {
					refused++
				}
				mu.Unlock()
				if err == nil || refusedWith(err, allocator.CodeInsufficientStock) {
					return
				}
			}
		})
	}
	wait.Wait()
	if len(ids) != 100 || refused != 50 || c.reserved("a") != 100 {
		t.Errorf("%d reservations, %d refusals, %d units reserved", len(ids), refused, c.reserved("a"))
	}
	c.misbehave(nil)
	if a, err := routers[0].Audit(t.Context(), "a"); err != nil || !a.Balanced || a.View.Reserved != 100 {
		t.Errorf("audit: %+v (%v)", a, err)
	}
}
