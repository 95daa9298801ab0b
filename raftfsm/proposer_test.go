package raftfsm

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/shard/bubble"
)

func TestProposerAnswersWithTheRightResults(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		tickets := []*ticket{r.submit(reserve(1), 0), r.submit(reserve(2), 0), r.submit(reserve(1), 0)}
		r.commitAll()
		first := decodeResult(t, tickets[0].wait().Result)
		second := decodeResult(t, tickets[1].wait().Result)
		again := decodeResult(t, tickets[2].wait().Result)
		if first.Reservation.ID == second.Reservation.ID || again.Reservation.ID != first.Reservation.ID || !again.Replayed {
			t.Errorf("reservations %v, %v and again %v (replayed %v)", first.Reservation.ID,
				second.Reservation.ID, again.Reservation.ID, again.Replayed)
		}
	})
}

// What arrives while entries are being committed is the next entry; an idle
// proposer sends at once. No time passes in this test.
func TestProposerBatchesWithoutATimer(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		start := time.Now()
		first := r.submit(reserve(0), 0)
		r.want(1)
		second := r.submit(reserve(1), 0)
		r.want(1, 1)
		rest := r.submitAll(2, 12)
		r.want(1, 1) // both slots are taken
		r.commit(1)
		first.got(Applied, CauseNone)
		second.open()
		r.want(1, 1, 10)
		more := r.submitAll(12, 17)
		r.commit(2)
		second.got(Applied, CauseNone)
		r.want(1, 1, 10, 5)
		r.commit(1)
		for _, tk := range append(rest, more...) {
			tk.got(Applied, CauseNone)
		}
		if passed := time.Since(start); passed != 0 {
			t.Errorf("%v passed", passed)
		}
	})
}

func TestProposerKeepsEntriesWithinTheirLimits(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight, l.MaxBatchCommands = 1, 10 }, func(r *rig) {
		r.submitAll(0, 1) // takes the slot
		synctest.Wait()
		r.submitAll(1, 26)
		for range 4 {
			r.commit(1)
		}
		r.want(1, 10, 10, 5)
	})
	big := bigCommand()
	inRig(t, func(l *Limits) { l.MaxInFlight, l.MaxBatchBytes = 1, allocator.MaxCommandLen }, func(r *rig) {
		r.submitAll(0, 1)
		synctest.Wait()
		fit := allocator.MaxCommandLen / (len(big) + entryPrefixLen)
		for range 2*fit + 1 {
			r.submit(big, 0)
		}
		for range 4 {
			r.commit(1)
		}
		r.want(1, fit, fit, 1)
	})
}

// bigCommand is a command of some ten thousand bytes.
func bigCommand() []byte {
	messages := make([]allocator.Message, allocator.MaxMessages)
	for i := range messages {
		messages[i] = allocator.Message{Kind: allocator.MessagePolicy, SKU: testSKU}
	}
	return (&allocator.TransferIn{From: 0, First: 1, Messages: messages}).AppendTo(nil)
}

func TestProposerRefusesBeyondItsQueue(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight, l.MaxQueueCommands = 1, 20 }, func(r *rig) {
		r.submitAll(0, 1)
		synctest.Wait()
		waiting := r.submitAll(1, 21)
		r.submit(reserve(21), 0).got(NotApplied, CauseOverloaded)
		r.commit(1) // the queue empties into an entry
		r.submit(reserve(22), 0).open()
		r.commit(1)
		for _, tk := range waiting {
			tk.got(Applied, CauseNone)
		}
	})
	big := bigCommand()
	inRig(t, func(l *Limits) { l.MaxInFlight, l.MaxQueueBytes = 1, allocator.MaxCommandLen }, func(r *rig) {
		r.submitAll(0, 1)
		synctest.Wait()
		for range allocator.MaxCommandLen / len(big) {
			r.submit(big, 0).open()
		}
		r.submit(big, 0).got(NotApplied, CauseOverloaded)
		r.submit(reserve(5), 0).open() // there is room for a small one
	})
}

func TestProposerRefusesWhatMustNotEnterTheLog(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.submit(nil, 0).got(NotApplied, CauseInvalid)
		r.submit([]byte{0xff, 1, 2}, 0).got(NotApplied, CauseInvalid)
		r.submit(append(reserve(1), 0), 0).got(NotApplied, CauseInvalid)
		r.submit((&allocator.Audit{Applied: 1, Hash: 1}).AppendTo(nil), 0).got(NotApplied, CauseInvalid)
		r.want()
	})
}

func TestProposerDropsWhatIsLateInTheQueue(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		r.submit(reserve(0), 0)
		synctest.Wait()
		long, short := r.submit(reserve(1), time.Minute), r.submit(reserve(2), time.Second)
		forever := r.submit(reserve(3), 0)
		time.Sleep(time.Second - 1)
		short.open()
		time.Sleep(time.Nanosecond)
		short.got(NotApplied, CauseDeadline)
		long.open()
		r.commit(1)
		r.want(1, 2)
		r.commit(1)
		long.got(Applied, CauseNone)
		forever.got(Applied, CauseNone)
		r.submit(reserve(4), -time.Second).got(NotApplied, CauseDeadline)
		r.want(1, 2)
	})
}

func TestProposerAnswersUnknownWhenTheDeadlinePassesInFlight(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		short := r.submit(reserve(0), time.Second)
		synctest.Wait()
		waits := r.submit(reserve(1), time.Hour)
		time.Sleep(time.Second)
		short.got(Unknown, CauseDeadline)
		r.want(1)
		waits.open() // the slot is still taken
		r.commit(1)
		short.open() // completed once
		r.want(1, 1)
		r.commit(1)
		waits.got(Applied, CauseNone)
		// The unknown one was applied: the same key again says so.
		again := r.submit(reserve(0), 0)
		r.commit(1)
		if res := decodeResult(t, again.wait().Result); !res.Replayed {
			t.Error("the unknown reservation was not applied")
		}
	})
}

// stuckClock stops its readers while it is stuck.
type stuckClock struct {
	Clock
	gate atomic.Pointer[chan struct{}]
}

func (c *stuckClock) Monotonic() time.Duration {
	if gate := c.gate.Load(); gate != nil {
		<-*gate
	}
	return c.Clock.Monotonic()
}

// A completed command belongs to its submitter again. So it must not be
// completed, deadline or not, before it is copied into the entry.
func TestProposerCompletesNothingThatIsNotEncoded(t *testing.T) {
	clock := &stuckClock{}
	own := func(c *FSMConfig) { clock.Clock = SystemClock(); c.Clock = NewLogClock(clock) }
	inRigOf(t, own, nil, func(r *rig) {
		gate := make(chan struct{})
		clock.gate.Store(&gate) // holds the proposer when it asks for a stamp
		tk := r.submit(reserve(1), time.Second)
		time.Sleep(time.Minute)
		tk.open()
		r.want()
		clock.gate.Store(nil)
		close(gate)
		time.Sleep(sweepInterval)
		tk.got(Unknown, CauseDeadline)
		r.want(1)
	})
}

func TestProposerSweepsSeldom(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		r.submit(reserve(0), 0)
		synctest.Wait()
		start := time.Now()
		late := make(chan time.Duration, 100)
		for i := range 100 { // deadlines 100 µs apart
			deadline := start.Add(time.Second + time.Duration(i)*100*time.Microsecond)
			r.Submit(&Item{Command: reserve(i), Deadline: deadline, Done: func(Completion) { late <- time.Since(deadline) }})
		}
		time.Sleep(time.Second + 10*time.Millisecond + sweepInterval)
		moments := map[time.Time]bool{}
		for i := range 100 {
			by := <-late
			if by < 0 || by > sweepInterval {
				t.Errorf("item %d was completed %v after its deadline", i, by)
			}
			moments[start.Add(time.Duration(i)*100*time.Microsecond+by)] = true
		}
		if len(moments) > 4 {
			t.Errorf("the deadlines of 10 ms took %d sweeps", len(moments))
		}
	})
}

func TestProposerTellsOutcomesApart(t *testing.T) {
	for _, test := range []struct {
		err     error
		outcome Outcome
		cause   Cause
	}{
		{raft.ErrLeadershipLost, Unknown, CauseLeadershipLost},
		{raft.ErrRaftShutdown, Unknown, CauseStopping},
		{errors.New("disk on fire"), Unknown, CauseStore},
		{raft.ErrNotLeader, NotApplied, CauseNotLeader},
		{raft.ErrLeadershipTransferInProgress, NotApplied, CauseNotLeader},
	} {
		inRig(t, nil, func(r *rig) {
			tk := r.submit(reserve(1), 0)
			r.lose(1, test.err)
			tk.got(test.outcome, test.cause)
		})
	}
}

// Raft's main loop hangs in a write: entries are not accepted.
func TestProposerWhenRaftDoesNotTakeEntries(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		r.submit(reserve(0), 0)
		synctest.Wait()
		short, long := r.submit(reserve(1), 100*time.Millisecond), r.submit(reserve(2), time.Minute)
		r.raft.set(func(f *fakeRaft) { f.block = make(chan struct{}) })
		r.commit(1)
		queued := r.submit(reserve(3), 200*time.Millisecond)
		time.Sleep(200 * time.Millisecond)
		short.got(Unknown, CauseDeadline) // Raft may still take it
		queued.got(NotApplied, CauseDeadline)
		long.open()
		time.Sleep(DefaultLimits().EnqueueTimeout)
		long.got(NotApplied, CauseOverloaded)
		r.raft.set(func(f *fakeRaft) { close(f.block); f.block = nil })
		r.want(1)
	})
}

func TestProposerFollowsLeadership(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		flying := r.submit(reserve(1), 0)
		synctest.Wait()
		queued := r.submit(reserve(2), 0)
		r.Stop(CauseNotLeader)
		queued.got(NotApplied, CauseNotLeader)
		flying.open() // its future decides
		r.submit(reserve(3), 0).got(NotApplied, CauseNotLeader)
		r.lose(1, raft.ErrLeadershipLost)
		flying.got(Unknown, CauseLeadershipLost)

		r.Stop(CauseNotReady) // elected again, before the barrier
		r.submit(reserve(4), 0).got(NotApplied, CauseNotReady)
		r.start(3)
		r.want(1, 0) // the new term's opening
		next := r.submit(reserve(5), 0)
		r.commit(1)
		r.commit(1)
		next.got(Applied, CauseNone)
	})
}

func TestProposerKeepsSlotsOfAnEarlierTerm(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		old := r.submit(reserve(1), 0)
		synctest.Wait()
		r.Stop(CauseNotLeader)
		r.start(2)
		fresh := r.submit(reserve(2), 0)
		r.want(1) // the bound is on what is uncommitted, whoever's it is
		r.lose(1, raft.ErrLeadershipLost)
		old.got(Unknown, CauseLeadershipLost)
		r.want(1, 1)
		r.commit(1)
		fresh.got(Applied, CauseNone)
	})
}

func TestProposerStartIsIdempotentWithinATerm(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.start(1)
		r.want()
		r.start(2)
		r.want(0)
		r.commit(1)
	})
}

func TestProposerNeedsAClock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newMachine(t, nil)
		p, err := NewProposer(ProposerConfig{Raft: &fakeRaft{fsm: m.FSM}, FSM: m.FSM, Limits: DefaultLimits()})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(1); !errors.Is(err, ErrClockNotSet) {
			t.Errorf("started without a clock: %v", err)
		}
		p.Close()
	})
}

func TestProposerWithoutAResult(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		r.start(1)
		tk := r.submit(putSKU(), 0)
		synctest.Wait()
		r.machine.fail(errors.New("a bug"))
		r.commit(1)
		r.commit(1)
		tk.got(Unknown, CauseStopping)
		r.Close()
	})
}

func TestProposerDrains(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		flying := r.submit(reserve(1), 0)
		synctest.Wait()
		queued := r.submit(reserve(2), 0)
		ended := make(chan error, 1)
		go func() { ended <- r.Drain(r.t.Context()) }()
		synctest.Wait()
		r.submit(reserve(3), 0).got(NotApplied, CauseStopping)
		r.commit(1)
		flying.got(Applied, CauseNone)
		if len(ended) != 0 {
			t.Fatal("drained before the queue was empty")
		}
		r.commit(1)
		queued.got(Applied, CauseNone)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := r.Drain(r.t.Context()); err != nil {
			t.Fatalf("drained again: %v", err)
		}
		if err := r.Start(9); err != nil {
			t.Fatal(err)
		}
		r.submit(reserve(4), 0).got(NotApplied, CauseStopping)
	})
}

// Whoever stops the node closes what Done needs after Drain has returned.
func TestProposerDrainWaitsForDone(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		release := make(chan struct{})
		r.Submit(&Item{Command: reserve(1), Done: func(Completion) { <-release }})
		ended := make(chan error, 1)
		go func() { ended <- r.Drain(r.t.Context()) }()
		r.commit(1)
		if len(ended) != 0 {
			t.Error("drained while a Done was running")
		}
		close(release)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestProposerDrainGivesUp(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		flying := r.submit(reserve(1), 0)
		synctest.Wait()
		queued := r.submit(reserve(2), 0)
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		defer cancel()
		if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("drained: %v", err)
		}
		queued.got(NotApplied, CauseStopping)
		flying.open()
		r.commit(1)
		flying.got(Applied, CauseNone)
	})
}

func TestProposerCloses(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		r.submit(reserve(0), 0)
		synctest.Wait()
		late, flying := r.submit(reserve(1), time.Second), r.submit(reserve(1), time.Hour)
		r.commit(1) // the two leave in one entry
		queued := r.submit(reserve(2), 0)
		time.Sleep(time.Second)
		late.got(Unknown, CauseDeadline)
		r.Close()
		flying.got(Unknown, CauseStopping)
		queued.got(NotApplied, CauseStopping)
		r.submit(reserve(3), 0).got(NotApplied, CauseStopping)
		r.commit(1) // the future ends after all
		late.open()
		if after := late.after.Load(); after == nil || after.Outcome != Applied || len(after.Result) == 0 {
			t.Errorf("what was late became %+v", after)
		}
		if flying.after.Load() == nil || queued.after.Load() != nil {
			t.Error("told of what was not in the log")
		}
		flying.open()
		if err := r.Drain(r.t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Close()
	})
}

func TestNewProposerChecksItsConfiguration(t *testing.T) {
	m := newMachine(t, nil)
	good := ProposerConfig{Raft: &fakeRaft{}, FSM: m.FSM, Limits: DefaultLimits()}
	for name, change := range map[string]func(*ProposerConfig){
		"no raft":         func(c *ProposerConfig) { c.Raft = nil },
		"no fsm":          func(c *ProposerConfig) { c.FSM = nil },
		"no limits":       func(c *ProposerConfig) { c.Limits = Limits{} },
		"small entries":   func(c *ProposerConfig) { c.Limits.MaxBatchBytes = 1000 },
		"nothing flies":   func(c *ProposerConfig) { c.Limits.MaxInFlight = 0 },
		"a small queue":   func(c *ProposerConfig) { c.Limits.MaxQueueBytes = 1000 },
		"no enqueue time": func(c *ProposerConfig) { c.Limits.EnqueueTimeout = 0 },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewProposer(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
