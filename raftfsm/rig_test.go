package raftfsm

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"stockade/shard/bubble"
)

// rig is a proposer over a fakeRaft and a machine, in a synctest bubble.
type rig struct {
	*Proposer
	t       *testing.T
	raft    *fakeRaft
	machine *machine
}

// inRig runs a test in a bubble, with a proposer that leads in term 1 and whose
// first two entries (the term's opening, and the SKU to sell) are applied.
// change may be nil.
func inRig(t *testing.T, change func(*Limits), test func(*rig)) {
	t.Helper()
	inRigOf(t, nil, change, test)
}

// inRigOf is inRig with changes to the machine too.
func inRigOf(t *testing.T, changeFSM func(*FSMConfig), change func(*Limits), test func(*rig)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, changeFSM, change)
		r.raft.set(func(f *fakeRaft) { f.auto = true })
		r.start(1)
		if c := r.submit(putSKU(), 0).wait(); c.Outcome != Applied {
			t.Fatalf("the SKU was not created: %+v", c)
		}
		r.raft.set(func(f *fakeRaft) { f.auto, f.entries = false, nil })
		test(r)
		r.stop()
	})
}

func newRig(t *testing.T, changeFSM func(*FSMConfig), change func(*Limits)) *rig {
	t.Helper()
	m := newMachine(t, changeFSM)
	limits := DefaultLimits()
	if change != nil {
		change(&limits)
	}
	r := &rig{t: t, machine: m, raft: &fakeRaft{fsm: m.FSM, term: 1}}
	p, err := NewProposer(ProposerConfig{Raft: r.raft, FSM: m.FSM, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	r.Proposer = p
	m.clock.ColdStart(testEpoch)
	return r
}

// start makes the rig lead in a term.
func (r *rig) start(term uint64) {
	r.t.Helper()
	r.raft.term = term
	if err := r.Start(term); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// stop ends everything, so that the bubble can end.
func (r *rig) stop() {
	r.t.Helper()
	r.Close()
	r.raft.lose(r.raft.inFlight(), raft.ErrRaftShutdown)
	synctest.Wait()
	r.machine.healthy(r.t)
	r.machine.invariants(r.t)
}

// commit commits the first n entries in flight and lets everything settle.
func (r *rig) commit(n int) {
	r.t.Helper()
	synctest.Wait()
	r.raft.commit(n)
	synctest.Wait()
}

// commitAll commits until nothing is in flight or queued.
func (r *rig) commitAll() {
	r.t.Helper()
	for synctest.Wait(); r.raft.inFlight() > 0; {
		r.commit(1)
	}
}

// lose ends the first n entries in flight with an error.
func (r *rig) lose(n int, err error) {
	r.t.Helper()
	synctest.Wait()
	r.raft.lose(n, err)
	synctest.Wait()
}

// sent is the number of commands in each entry since the rig was made.
func (r *rig) sent() []int {
	r.t.Helper()
	synctest.Wait()
	return r.raft.commands(r.t)
}

// want checks what sent says.
func (r *rig) want(counts ...int) {
	r.t.Helper()
	if got := r.sent(); !slices.Equal(got, counts) {
		r.t.Errorf("entries of %v commands were proposed, want %v", got, counts)
	}
}

// ticket is a submitted item.
type ticket struct {
	t     *testing.T
	done  chan Completion
	after atomic.Pointer[Completion]
}

// submit submits a command, with a deadline if wait is not 0.
func (r *rig) submit(command []byte, wait time.Duration) *ticket {
	tk := &ticket{t: r.t, done: make(chan Completion, 8)}
	it := &Item{Command: command, Done: func(c Completion) { tk.done <- c }, After: func(_ *Item, c Completion) { tk.after.Store(&c) }}
	if wait != 0 {
		it.Deadline = time.Now().Add(wait)
	}
	r.Submit(it)
	return tk
}

// submitAll submits reservations number from up to but not including to.
func (r *rig) submitAll(from, to int) (all []*ticket) {
	for n := from; n < to; n++ {
		all = append(all, r.submit(reserve(n), 0))
	}
	return all
}

// wait waits for the completion.
func (tk *ticket) wait() Completion { return <-tk.done }

// got checks that the item is completed, with this outcome and only once.
func (tk *ticket) got(outcome Outcome, cause Cause) {
	tk.t.Helper()
	synctest.Wait()
	select {
	case c := <-tk.done:
		if c.Outcome != outcome || c.Cause != cause {
			tk.t.Errorf("completed as %v for %v, want %v for %v", c.Outcome, c.Cause, outcome, cause)
		}
		if (c.Result != nil) != (outcome == Applied) {
			tk.t.Errorf("completed as %v with result %x", c.Outcome, c.Result)
		}
	default:
		tk.t.Errorf("not completed, want %v for %v", outcome, cause)
	}
	tk.open()
}

// open checks that the item is not completed (again).
func (tk *ticket) open() {
	tk.t.Helper()
	synctest.Wait()
	select {
	case c := <-tk.done:
		tk.t.Errorf("unexpectedly completed: %+v", c)
	default:
	}
}
