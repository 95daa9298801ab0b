package shardrpc

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"stockade/shard/bubble"
)

// TestEveryAttemptMayWaitInLine: whichever node is asked in the end knows how long
// the proposal is willing to wait.
func TestEveryAttemptMayWaitInLine(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		until := time.Now().Add(300 * time.Millisecond)
		var seen []time.Time
		answer := func(answers ...Response) func(*Proposal) {
			s := &script{answers: answers}
			return func(p *Proposal) {
				seen = append(seen, p.WaitUntil)
				s.propose(p)
			}
		}
		d := cluster(t, map[NodeID]*fakeNode{
			"n1": {status: leads("n1", 1, 0), propose: answer(no(ReasonNotReady), lost, toN2)},
			"n2": {status: leads("n2", 0), propose: answer(applied)},
		})
		got := newCollected(t)
		p := got.proposal("x", time.Second)
		p.WaitUntil = until
		d.Propose(p)
		got.next()
		if len(seen) != 4 {
			t.Fatalf("%d attempts: %v", len(seen), seen)
		}
		for i, at := range seen {
			if !at.Equal(until) {
				t.Errorf("attempt %d may wait until %v, not %v", i, at, until)
			}
		}
	})
}

// TestWhoWaitsIsToldOverTheWire: a span travels, and arrives as a moment.
func TestWhoWaitsIsToldOverTheWire(t *testing.T) {
	got := make(chan time.Time, 1)
	node := &fakeNode{status: leads("n1", 1, 0), propose: func(p *Proposal) {
		got <- p.WaitUntil
		p.Done(Response{Outcome: Applied})
	}}
	c := connected(t, serve(t, node).client(t, "n1"))
	p := newCollected(t).proposal("x", time.Minute)
	p.WaitUntil = time.Now().Add(10 * time.Second)
	c.Propose(p)
	if at := <-got; at.Sub(p.WaitUntil).Abs() > 5*time.Second {
		t.Errorf("waits until %v, not %v", at, p.WaitUntil)
	}
	again := newCollected(t).proposal("y", time.Minute)
	again.WaitUntil = time.Now().Add(-time.Second) // over, for instance at a second attempt
	c.Propose(again)
	if at := <-got; !at.IsZero() {
		t.Errorf("the wait is over, and the node was told to wait until %v", at)
	}
}

// TestBeginTravels: whichever node is asked in the end knows when the request came in, or a
// moment before that, but not when there was nothing to know.
func TestBeginTravels(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		got := make(chan time.Time, 1)
		w := &wire{}
		w.start(&fakeNode{status: leads("n1", 1, 0), propose: func(p *Proposal) {
			got <- p.Begun
			p.Done(Response{Outcome: Applied})
		}})
		defer w.stop()
		c := connected(t, w.client(t, "n1"))
		synctest.Wait()
		<-time.After(time.Second)
		begun := time.Now().Add(-700*time.Millisecond - 300*time.Microsecond)
		p := newCollected(t).proposal("x", time.Minute)
		p.Begun = begun
		c.Propose(p)
		if at := <-got; at.After(begun) || begun.Sub(at) > 10*time.Microsecond {
			t.Errorf("it began at %v, the node was told %v", begun, at)
		}
		c.Propose(newCollected(t).proposal("y", time.Minute))
		if at := <-got; !at.IsZero() {
			t.Errorf("the node was told that it began at %v", at)
		}
		_ = c.Close()
	})
}

// TestAwaitTellsWhoHasLeft: when the asker goes away the outcome is unknown, and
// goes to whoever cares when it comes; else he gets it and nobody else does.
func TestAwaitTellsWhoHasLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		held := make(chan *Proposal, 1)
		d := cluster(t, map[NodeID]*fakeNode{"n1": {status: leads("n1", 1, 0), propose: func(p *Proposal) { held <- p }}})
		late := make(chan Response, 1)
		await := func(ctx context.Context) chan Response {
			got := make(chan Response, 1)
			go func() {
				p := &Proposal{Deadline: time.Now().Add(time.Second)}
				got <- d.Await(ctx, p, func(r Response, left bool) {
					if left {
						late <- r
					}
				})
			}()
			return got
		}
		got := await(t.Context())
		(<-held).Done(applied)
		if r := <-got; r.Outcome != Applied || len(late) != 0 {
			t.Errorf("waited: %+v, %d late", r, len(late))
		}
		ctx, leave := context.WithCancel(t.Context())
		got = await(ctx)
		p := <-held
		leave()
		if r := <-got; r.Outcome != Unknown {
			t.Errorf("left: %+v", r)
		}
		p.Done(applied)
		if r := <-late; r.Outcome != Applied {
			t.Errorf("late: %+v", r)
		}
		// At its deadline the proposal says more than the context.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got = await(ctx)
		<-held
		if r := <-got; r.Outcome != Unknown || r.Reason != ReasonDeadline || len(late) != 0 {
			t.Errorf("deadline: %+v, %d late", r, len(late))
		}
	})
}

// TestNoAttemptAfterWhoAskedHasLeft: the attempt under way is the last one. Who left may
// have been told by another way what became of the request, or that nothing did.
func TestNoAttemptAfterWhoAskedHasLeft(t *testing.T) {
	for _, c := range []struct {
		first    Response
		alone    bool // there can be no other attempt
		attempts int
	}{
		{first: no(ReasonNotReady), attempts: 1},
		{first: no(ReasonNotReady), alone: true, attempts: 1},
		{first: lost, attempts: 1},
		{first: lost, alone: true, attempts: 2}, // what was made is found, to be given back
	} {
		t.Run(fmt.Sprintf("%v alone %v", c.first.Outcome, c.alone), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				held := make(chan *Proposal, 2)
				d := cluster(t, map[NodeID]*fakeNode{"n1": {status: leads("n1", 1, 0), propose: func(p *Proposal) { held <- p }}})
				ctx, leave := context.WithCancel(t.Context())
				late := make(chan Response, 1)
				asked := &Proposal{Deadline: time.Now().Add(time.Minute)}
				if !c.alone {
					asked.Begun = time.Now()
				}
				go d.Await(ctx, asked, func(r Response, _ bool) { late <- r })
				p := <-held
				leave()
				synctest.Wait()
				p.Done(c.first)
				attempts := 1
				for range 2 {
					select {
					case p := <-held:
						attempts++
						p.Done(applied)
					case r := <-late:
						if c.attempts == 1 && r.Outcome != c.first.Outcome {
							t.Errorf("ended as %v", r.Outcome)
						}
					case <-time.After(2 * time.Minute):
					}
				}
				if attempts != c.attempts {
					t.Errorf("%d attempts, want %d", attempts, c.attempts)
				}
			})
		})
	}
}

// TestFinalProposalsAreNotHeldUp: what brings units is taken when everything else
// waits for units.
func TestFinalProposalsAreNotHeldUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		node := &fakeNode{status: leads("n1", 1, 0), propose: func(p *Proposal) {
			if p.Final {
				p.Done(applied)
			}
		}}
		dir := NewDirectory(DirectoryConfig{Shards: 1})
		defer dir.Close()
		dir.SetMember("n1", node)
		dir.Learn(0, "n1")
		d := NewDispatcher(DispatcherConfig{Directory: dir, MaxUnderWay: 2})
		got := newCollected(t)
		d.Propose(got.proposal("waits 1", time.Minute))
		d.Propose(got.proposal("waits 2", time.Minute))
		d.Propose(got.proposal("one too many", time.Minute))
		if r := got.next(); r.Reason != ReasonOverloaded {
			t.Errorf("over the bound: %+v", r)
		}
		p := got.proposal("units", time.Minute)
		p.Final = true
		d.Propose(p)
		if r := got.next(); r.Outcome != Applied {
			t.Errorf("final: %+v", r)
		}
		d.Close()
	})
}
