package shardrpc

import (
	"context"
	"errors"
	"testing"
	"time"

	"stockade/shard/bubble"
)

// script is a node that answers attempts with the responses listed, the last of
// them again and again.
type script struct {
	answers []Response
	asked   int
}

func (s *script) propose(p *Proposal) {
	r := s.answers[min(s.asked, len(s.answers)-1)]
	s.asked++
	p.Done(r)
}

// cluster is a dispatcher over fake nodes; n1 leads shard 0 at first.
func cluster(t *testing.T, nodes map[NodeID]*fakeNode) *Dispatcher {
	dir := NewDirectory(DirectoryConfig{Shards: 1})
	for id, n := range nodes {
		dir.SetMember(id, n)
	}
	dir.Learn(0, "n1")
	d := NewDispatcher(DispatcherConfig{Directory: dir})
	t.Cleanup(dir.Close)
	return d
}

var (
	applied    = Response{Outcome: Applied, Result: []byte("r")}
	notLeader  = Response{Outcome: NotApplied, Reason: ReasonNotLeader}
	toN2       = Response{Outcome: NotApplied, Reason: ReasonNotLeader, Leader: "n2"}
	toN1       = Response{Outcome: NotApplied, Reason: ReasonNotLeader, Leader: "n1"}
	lost       = Response{Outcome: Unknown, Reason: ReasonLeadershipLost}
	overloaded = Response{Outcome: NotApplied, Reason: ReasonOverloaded}
)

func no(r Reason) Response { return Response{Outcome: NotApplied, Reason: r} }

// TestEndOfProposals lists what one node answers to one attempt after the other,
// and how the proposal must end.
func TestEndOfProposals(t *testing.T) {
	for name, c := range map[string]struct {
		answers  []Response
		once     bool
		outcome  Outcome
		reason   Reason
		attempts int // 0: several
	}{
		"applied":                       {[]Response{applied}, false, Applied, ReasonNone, 1},
		"overloaded":                    {[]Response{overloaded}, false, NotApplied, ReasonOverloaded, 1},
		"invalid":                       {[]Response{no(ReasonInvalid)}, false, NotApplied, ReasonInvalid, 1},
		"stock unreachable":             {[]Response{no(ReasonStockUnreachable)}, false, NotApplied, ReasonStockUnreachable, 1},
		"deadline there":                {[]Response{no(ReasonDeadline)}, false, NotApplied, ReasonDeadline, 1},
		"not ready, then applied":       {[]Response{no(ReasonNotReady), applied}, false, Applied, ReasonNone, 2},
		"never ready":                   {[]Response{no(ReasonNotReady)}, false, NotApplied, ReasonNotReady, 0},
		"unknown, then applied":         {[]Response{lost, applied}, false, Applied, ReasonNone, 2},
		"always unknown":                {[]Response{lost}, false, Unknown, ReasonLeadershipLost, 0},
		"unknown, then never ready":     {[]Response{lost, no(ReasonNotReady)}, false, Unknown, ReasonLeadershipLost, 0},
		"unknown, then overloaded":      {[]Response{lost, overloaded}, false, Unknown, ReasonLeadershipLost, 2},
		"unknown, then invalid":         {[]Response{lost, no(ReasonInvalid)}, false, Unknown, ReasonLeadershipLost, 2},
		"once: unknown":                 {[]Response{lost, applied}, true, Unknown, ReasonLeadershipLost, 1},
		"once: not ready, then applied": {[]Response{no(ReasonNotReady), applied}, true, Applied, ReasonNone, 2},
		"no outcome at all":             {[]Response{{}, overloaded}, false, Unknown, ReasonNone, 2},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := &script{answers: c.answers}
				d := cluster(t, map[NodeID]*fakeNode{"n1": {status: leads("n1", 1, 0), propose: s.propose}})
				got := newCollected(t)
				p := got.proposal("x", time.Second)
				p.Once = c.once
				d.Propose(p)
				r := got.next()
				if r.Outcome != c.outcome || r.Reason != c.reason {
					t.Errorf("ended as %v %v, want %v %v", r.Outcome, r.Reason, c.outcome, c.reason)
				}
				if c.attempts != 0 && s.asked != c.attempts || c.attempts == 0 && s.asked < 5 {
					t.Errorf("%d attempts, want %d", s.asked, c.attempts)
				}
				d.Directory().Close()
			})
		})
	}
}

// TestEveryReasonIsRepeatedOrNot: a reason that nobody decided about would end
// proposals that could be done.
func TestEveryReasonIsRepeatedOrNot(t *testing.T) {
	want := map[Reason]step{
		ReasonNone: stepEnd, ReasonNotLeader: stepPause, ReasonNotReady: stepPause, ReasonNoReplica: stepPause,
		ReasonOverloaded: stepEnd, ReasonDeadline: stepEnd, ReasonStopping: stepPause, ReasonLeadershipLost: stepPause,
		ReasonStore: stepPause, ReasonUnreachable: stepPause, ReasonInvalid: stepEnd, ReasonStockUnreachable: stepEnd,
		ReasonLate: stepPause,
	}
	for _, r := range Reasons() {
		next, listed := want[r]
		if got := nextStep(no(r), false); !listed || got != next {
			t.Errorf("%v: step %d, want %d (listed: %v)", r, got, next, listed)
		}
		if got := nextStep(Response{Outcome: Unknown, Reason: r}, true); got != stepEnd {
			t.Errorf("%v: an unknown outcome of a command marked Once was not final", r)
		}
	}
}

func TestHintsAreFollowedAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n1, n2 := &script{answers: []Response{toN2}}, &script{answers: []Response{applied}}
		d := cluster(t, map[NodeID]*fakeNode{"n1": {propose: n1.propose}, "n2": {propose: n2.propose}})
		began := time.Now()
		r := d.Do(t.Context(), 0, []byte("x"))
		if r.Outcome != Applied || time.Since(began) != 0 {
			t.Errorf("got %+v after %v", r, time.Since(began))
		}
		d.Do(t.Context(), 0, []byte("y"))
		if n1.asked != 1 || n2.asked != 2 {
			t.Errorf("n1 was asked %d times, n2 %d: the hint was not kept", n1.asked, n2.asked)
		}
		d.Directory().Close()
	})
}

// TestMissingStockNamesItsShard: the shard that can't be asked, not the home.
func TestMissingStockNamesItsShard(t *testing.T) {
	missing := Response{Outcome: NotApplied, Reason: ReasonStockUnreachable, Shard: 5}
	for want, r := range map[int]Response{5: missing, 0: {Outcome: NotApplied, Reason: ReasonOverloaded, Shard: 7}} {
		d := cluster(t, map[NodeID]*fakeNode{"n1": {propose: (&script{answers: []Response{r}}).propose}})
		if got := d.Do(t.Context(), 0, []byte("x")); int(got.Shard) != want {
			t.Errorf("%v: names shard %d, want %d", r.Reason, got.Shard, want)
		}
	}
}

// TestNodesThatNameEachOther must not keep a processor busy.
func TestNodesThatNameEachOther(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n1, n2 := &script{answers: []Response{toN2}}, &script{answers: []Response{toN1}}
		d := cluster(t, map[NodeID]*fakeNode{"n1": {propose: n1.propose}, "n2": {propose: n2.propose}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := d.Do(ctx, 0, []byte("x"))
		if r.Outcome != NotApplied || r.Reason != ReasonNotLeader {
			t.Errorf("got %+v", r)
		}
		if n := n1.asked + n2.asked; n < 10 || n > 120 {
			t.Errorf("%d attempts in a second", n)
		}
		d.Directory().Close()
	})
}

func TestUnavailableSaysSinceWhen(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := cluster(t, map[NodeID]*fakeNode{"n1": {propose: (&script{answers: []Response{notLeader}}).propose}})
		began := time.Now()
		first := d.Do(t.Context(), 0, []byte("x"))
		second := d.Do(t.Context(), 0, []byte("y"))
		for _, r := range []Response{first, second} {
			if r.Outcome != NotApplied || r.Reason != ReasonNotLeader || !r.Since.Equal(began) {
				t.Errorf("got %v %v since %v, want since %v", r.Outcome, r.Reason, r.Since, began)
			}
		}
		if d := time.Since(began); d < 2*DefaultTimeout || d > 2*DefaultTimeout+100*time.Millisecond {
			t.Errorf("took %v", d)
		}
		d.Directory().Close()
	})
}

// TestAttemptUnderWayAtTheDeadline may still be applied.
func TestAttemptUnderWayAtTheDeadline(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var held *Proposal
		d := cluster(t, map[NodeID]*fakeNode{"n1": {propose: func(p *Proposal) { held = p }}})
		got := newCollected(t)
		d.Propose(got.proposal("x", 100*time.Millisecond))
		if r := got.next(); r.Outcome != Unknown || r.Reason != ReasonDeadline {
			t.Errorf("got %+v", r)
		}
		held.Done(applied) // nobody may hear of it any more
		d.Directory().Close()
	})
}

func TestSecondAnswerOfANodeIsIgnored(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		asked := 0
		d := cluster(t, map[NodeID]*fakeNode{"n1": {status: leads("n1", 1, 0), propose: func(p *Proposal) {
			asked++
			p.Done(no(ReasonNotReady))
			p.Done(no(ReasonNotReady))
		}}})
		got := newCollected(t)
		d.Propose(got.proposal("x", 100*time.Millisecond))
		got.next()
		if asked > 20 {
			t.Errorf("%d attempts: each answer started one", asked)
		}
		d.Directory().Close()
	})
}

func TestDispatcherBoundsWhatIsUnderWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir := NewDirectory(DirectoryConfig{Shards: 1})
		d := NewDispatcher(DispatcherConfig{Directory: dir, MaxUnderWay: 2})
		got := newCollected(t)
		for _, name := range []string{"a", "b", "c"} {
			d.Propose(got.proposal(name, time.Second))
		}
		if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonOverloaded {
			t.Errorf("got %+v", r)
		}
		got.next()
		got.next()
		d.Propose(got.proposal("d", time.Second))
		if r := got.next(); r.Reason == ReasonOverloaded {
			t.Error("the places of ended proposals were not given back")
		}
		dir.Close()
	})
}

func TestProposalsThatCanNotBegin(t *testing.T) {
	d := cluster(t, map[NodeID]*fakeNode{"n1": {}})
	got := newCollected(t)
	d.Propose(got.proposal("late", -time.Second))
	if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonDeadline {
		t.Errorf("late: %+v", r)
	}
	p := got.proposal("beyond", time.Second)
	p.Shard = 7
	d.Propose(p)
	if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonInvalid {
		t.Errorf("no such shard: %+v", r)
	}
	d.Close()
	d.Propose(got.proposal("closed", time.Second))
	if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonStopping {
		t.Errorf("after Close: %+v", r)
	}
}

func TestCloseEndsProposalsByWhatMayHaveHappened(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		waiting := cluster(t, map[NodeID]*fakeNode{"n1": {propose: (&script{answers: []Response{notLeader}}).propose}})
		asked := cluster(t, map[NodeID]*fakeNode{"n1": {propose: func(*Proposal) {}}})
		got := newCollected(t)
		waiting.Propose(got.proposal("waiting", time.Minute))
		waiting.Close()
		if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonStopping {
			t.Errorf("waiting: %+v", r)
		}
		asked.Propose(got.proposal("asked", time.Minute))
		asked.Close()
		if r := got.next(); r.Outcome != Unknown || r.Reason != ReasonStopping {
			t.Errorf("asked: %+v", r)
		}
		waiting.Directory().Close()
		asked.Directory().Close()
	})
}

func TestDoEndsWithItsCaller(t *testing.T) {
	d := cluster(t, map[NodeID]*fakeNode{"n1": {propose: func(*Proposal) {}}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := d.Do(ctx, 0, []byte("x")); r.Outcome != Unknown {
		t.Errorf("got %+v", r)
	}
	d.Close()
}

func TestUnavailableErrorIsASentence(t *testing.T) {
	err := error(&UnavailableError{Shard: 3, Reason: ReasonUnreachable, Since: epoch})
	want := "shard 3 can't be used: its node can't be reached, since 2026-11-27T18:00:00Z"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	var u *UnavailableError
	if !errors.As(err, &u) || u.Shard != 3 {
		t.Error("the error lost its type")
	}
}

// TestAttemptEndsBeforeItsProposal leaves a node that did nothing the time to
// say so: a refusal in the last moment must not become an unknown outcome.
func TestAttemptEndsBeforeItsProposal(t *testing.T) {
	now := time.Now()
	for _, left := range []time.Duration{8 * time.Millisecond, 80 * time.Millisecond, 2 * time.Second, 30 * time.Second} {
		got := now.Add(left).Sub(attemptDeadline(now, now.Add(left)))
		if got <= 0 || got > left/4 || got > maxBackoff {
			t.Errorf("of %v an attempt leaves %v", left, got)
		}
	}
}
