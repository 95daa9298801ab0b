package router

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// waits is a request for a unit that waits in line.
func waits(wait time.Duration, key string) ReserveRequest {
	req := one("a", 1, key)
	req.Wait = wait
	return req
}

// TestWaitAndDeadline: a request's own deadline bounds its waiting, with time left
// to say that it was for nothing; without one there is the usual time on top.
func TestWaitAndDeadline(t *testing.T) {
	for _, row := range []struct {
		timeout, wait   time.Duration // timeout 0: none
		deadline, until time.Duration
	}{
		{0, 0, 2 * time.Second, 0},
		{0, time.Second, 3 * time.Second, time.Second},
		{0, MaxWait, 32 * time.Second, MaxWait},
		{0, time.Millisecond, 2001 * time.Millisecond, time.Millisecond},
		{10 * time.Second, time.Second, 10 * time.Second, time.Second},
		{10 * time.Second, MaxWait, 10 * time.Second, 9500 * time.Millisecond},
		{time.Second, time.Second, time.Second, 750 * time.Millisecond},
		{10 * time.Second, 0, 10 * time.Second, 0},
	} {
		for _, batch := range []bool{false, true} {
			bubble.Test(t, func(t *testing.T) {
				c := newFakeCluster(t, 1)
				r := c.router(t)
				put(t, r, "a", 10)
				synctest.Wait()
				began := time.Now()
				var got *shardrpc.Proposal
				c.misbehave(func(p *shardrpc.Proposal) fault { got = p; return fine })
				ctx := t.Context()
				if row.timeout != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, row.timeout)
					defer cancel()
				}
				var err error
				if batch {
					// Another item's wait is not this one's.
					err = r.ReserveBatch(ctx, []ReserveRequest{waits(MaxWait, "other"), waits(row.wait, "k")})[1].Err
				} else {
					_, err = r.Reserve(ctx, waits(row.wait, "k"))
				}
				if err != nil {
					t.Fatal(err)
				}
				// The dispatcher tells the node a little less than the whole.
				if d := got.Deadline.Sub(began); d > row.deadline || d < row.deadline-60*time.Millisecond {
					t.Errorf("%+v: the deadline is in %v", row, d)
				}
				until := time.Duration(0)
				if !got.WaitUntil.IsZero() {
					until = got.WaitUntil.Sub(began)
				}
				if until != row.until {
					t.Errorf("%+v: waits for %v", row, until)
				}
			})
		}
	}
}

func TestWaitThatCanNotBe(t *testing.T) {
	r := newFakeCluster(t, 1).router(t)
	for _, wait := range []time.Duration{-1, MaxWait + 1} {
		var invalid *Invalid
		if _, err := r.Reserve(t.Context(), waits(wait, "k")); !errors.As(err, &invalid) || invalid.Pointer != "/wait_ms" {
			t.Errorf("%v: %v", wait, err)
		}
	}
}

// TestWaitIsNoPartOfTheRequest: who comes again with the same key may wait for
// another time.
func TestWaitIsNoPartOfTheRequest(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	put(t, r, "a", 5)
	first := reserve(t, r, waits(MaxWait, "k"))
	again := reserve(t, r, waits(0, "k"))
	if !again.Replayed || again.Reservation.ID != first.Reservation.ID {
		t.Errorf("first %+v, again %+v", first, again)
	}
}

// inLine starts requests that wait until the cluster releases them, and tells when
// all have arrived.
func inLine(ctx context.Context, t *testing.T, c *fakeCluster, r *Router, keys ...string) chan error {
	t.Helper()
	c.misbehave(func(p *shardrpc.Proposal) fault {
		if p.WaitUntil.IsZero() {
			return fine
		}
		return hold
	})
	ended := make(chan error, len(keys))
	for _, key := range keys {
		go func() {
			_, err := r.Reserve(ctx, waits(MaxWait, key))
			ended <- err
		}()
	}
	settle()
	return ended
}

// settle lets everything that was sent arrive, in virtual time. synctest.Wait is not
// enough: the node that is asked first may not lead, and the next may be asked after a
// pause.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

// TestWhoWaitsTakesNobodysPlace: those that wait have a bound of their own. At the
// bound the next is refused at once, and who does not wait is served.
func TestWhoWaitsTakesNobodysPlace(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2)
		r := c.router(t, func(cfg *Config) { cfg.MaxInFlight, cfg.MaxWaiting = 1, 3 })
		put(t, r, "a", 10)
		ended := inLine(t.Context(), t, c, r, "1", "2", "3")
		var u *Unavailable
		if _, err := r.Reserve(t.Context(), waits(time.Second, "4")); !errors.As(err, &u) || !u.Waiting || !u.Local || u.RetryAfter <= 0 {
			t.Errorf("one too many in line: %v", err)
		}
		for _, out := range r.ReserveBatch(t.Context(), []ReserveRequest{waits(time.Second, "5"), one("a", 1, "6")}) {
			if u = nil; !errors.As(out.Err, &u) || !u.Waiting {
				t.Errorf("a batch with one too many in line: %v", out.Err)
			}
		}
		reserve(t, r, one("a", 1, "7"))
		if got := metricValue(r.metrics.waiting); got != 3 {
			t.Errorf("%v wait, by the metrics", got)
		}
		c.release()
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		c.misbehave(nil)
		reserve(t, r, waits(time.Second, "8"))
		if living, open := r.waiting.living.Load(), r.waiting.open.Load(); living != 0 || open != 0 || metricValue(r.metrics.waiting) != 0 {
			t.Errorf("%d requests and %d proposals wait in the end", living, open)
		}
	})
}

// TestClientThatLeavesTheLine: its place is free at once. What its request gets
// later is given back when nobody can come for it, and kept when it has a key.
func TestClientThatLeavesTheLine(t *testing.T) {
	for _, key := range []string{"", "key"} {
		for _, batch := range []bool{false, true} {
			t.Run(fmt.Sprintf("key %q, batch %v", key, batch), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) { clientLeaves(t, key, batch) })
			})
		}
	}
}

func clientLeaves(t *testing.T, key string, batch bool) {
	c := newFakeCluster(t, 1)
	r := c.router(t, func(cfg *Config) { cfg.MaxWaiting = 1 })
	put(t, r, "a", 10)
	ctx, leave := context.WithCancel(t.Context())
	var ended chan error
	if batch {
		inLine(ctx, t, c, r) // nobody yet
		ended = make(chan error, 1)
		go func() { ended <- r.ReserveBatch(ctx, []ReserveRequest{waits(MaxWait, key)})[0].Err }()
		settle()
	} else {
		ended = inLine(ctx, t, c, r, key)
	}
	leave()
	var unknown *UnknownOutcome
	if err := <-ended; !errors.As(err, &unknown) {
		t.Errorf("who left was told %v", err)
	}
	if living, open := r.waiting.living.Load(), r.waiting.open.Load(); living != 0 || open != 1 {
		t.Errorf("%d requests and %d proposals wait", living, open)
	}
	next := inLine(t.Context(), t, c, r, "next") // there is room
	c.release()
	if err := <-next; err != nil {
		t.Errorf("the next in line: %v", err)
	}
	synctest.Wait()
	want := allocator.Quantity(2) // the next's, and that which was left behind
	if key == "" {
		want = 1
	}
	if got := c.reserved("a"); got != want {
		t.Errorf("%d units are reserved, want %d", got, want)
	}
	if got := metricValue(r.metrics.abandoned); (got == 1) != (key == "") {
		t.Errorf("%v were given back", got)
	}
	if open := r.waiting.open.Load(); open != 0 {
		t.Errorf("%d proposals wait in the end", open)
	}
}

// TestClientsThatComeAndGoDoNotFillTheLines: what they leave behind is bounded.
func TestClientsThatComeAndGoDoNotFillTheLines(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const limit = 4
		c := newFakeCluster(t, 1)
		r := c.router(t, func(cfg *Config) { cfg.MaxWaiting = limit })
		put(t, r, "a", 100)
		admitted := 0
		for i := range 5 * limit {
			ctx, leave := context.WithCancel(t.Context())
			ended := inLine(ctx, t, c, r, fmt.Sprint(i))
			leave()
			var u *Unavailable
			if err := <-ended; !errors.As(err, &u) {
				admitted++
			}
		}
		if admitted != 2*limit {
			t.Errorf("%d proposals were left in the lines, the bound is %d", admitted, 2*limit)
		}
		c.release()
	})
}

// TestBatchKnowsWhatCameBeforeTheClientLeft: items that were answered have their
// answers, the others are unknown.
func TestBatchKnowsWhatCameBeforeTheClientLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2)
		r := c.router(t)
		put(t, r, "a", 10)
		inLine(t.Context(), t, c, r)
		ctx, leave := context.WithCancel(t.Context())
		got := make(chan []ReserveOutcome, 1)
		go func() { got <- r.ReserveBatch(ctx, []ReserveRequest{one("a", 1, "now"), waits(MaxWait, "later")}) }()
		settle()
		leave()
		out := <-got
		var unknown *UnknownOutcome
		if out[0].Err != nil || !errors.As(out[1].Err, &unknown) {
			t.Errorf("%v, %v", out[0].Err, out[1].Err)
		}
		c.release()
	})
}

// TestBatchIsNotTriedOnForWhoHasLeft: who left may be told by another router that nothing
// was done, and what is sent after that would be done all the same.
func TestBatchIsNotTriedOnForWhoHasLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 1)
		r := c.router(t)
		put(t, r, "a", 10)
		c.misbehave(always(lostRequest))
		ctx, leave := context.WithCancel(t.Context())
		got := make(chan []ReserveOutcome, 1)
		go func() { got <- r.ReserveBatch(ctx, []ReserveRequest{one("a", 1, "k")}) }()
		<-time.After(300 * time.Millisecond)
		leave()
		var unknown *UnknownOutcome
		if out := <-got; !errors.As(out[0].Err, &unknown) {
			t.Errorf("got %v", out[0].Err)
		}
		before := c.commands()
		c.misbehave(always(fine))
		<-time.After(5 * time.Second)
		if after := c.commands(); after != before {
			t.Error("it was done after its client had left")
		}
	})
}
