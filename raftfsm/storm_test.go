package raftfsm

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/shard/bubble"
)

// storm is many goroutines that submit to one proposer, while its Raft commits,
// fails, hangs and loses leadership at random. It shows that each item is
// completed exactly once, in time, and with an outcome that is true.
type storm struct {
	*rig
	random  *rand.Rand
	term    uint64
	applied map[int]bool // keys in entries that were applied
	taken   map[int]bool // keys in entries that Raft accepted

	mu       sync.Mutex
	outcomes map[int]Outcome // by key
	doubled  int
	late     time.Duration // the latest completion after a deadline
}

const (
	stormSubmitters = 16
	stormItems      = 300 // each
)

func TestProposerInAStorm(t *testing.T) {
	for seed := range uint64(4) {
		bubble.Test(t, func(t *testing.T) {
			s := &storm{
				rig:      newRig(t, nil, func(l *Limits) { l.MaxQueueCommands, l.MaxBatchCommands = 200, 50 }),
				random:   rand.New(rand.NewPCG(seed, 9)),
				applied:  map[int]bool{},
				taken:    map[int]bool{},
				outcomes: map[int]Outcome{},
			}
			s.run(t)
		})
	}
}

func (s *storm) run(t *testing.T) {
	s.term = 1
	s.start(s.term)
	var submitters sync.WaitGroup
	var open atomic.Int64
	open.Store(stormSubmitters * stormItems)
	for g := range stormSubmitters {
		submitters.Go(func() { s.submitter(g, &open) })
	}
	for open.Load() > 0 {
		time.Sleep(time.Duration(s.random.IntN(3000)) * time.Microsecond)
		s.weather()
	}
	submitters.Wait()
	s.stop()
	s.verify(t)
}

// submitter submits its share of items, at random moments and with deadlines
// that are hard to meet. It never waits for an answer.
func (s *storm) submitter(g int, open *atomic.Int64) {
	random := rand.New(rand.NewPCG(uint64(g), 11))
	for i := range stormItems {
		n := g*stormItems + i
		deadline := time.Now().Add(time.Duration(1+random.IntN(20)) * time.Millisecond)
		command := reserve(n)
		s.Submit(&Item{Command: command, Deadline: deadline, Done: func(c Completion) {
			open.Add(-1)
			clear(command) // it is the submitter's again
			s.note(n, c, time.Since(deadline))
		}})
		if random.IntN(3) == 0 {
			time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
		}
	}
}

func (s *storm) note(n int, c Completion, late time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outcomes[n] != 0 {
		s.doubled++
	}
	s.outcomes[n] = c.Outcome
	s.late = max(s.late, late)
}

// weather does one thing to Raft.
func (s *storm) weather() {
	waiting := s.raft.inFlight()
	switch kind := s.random.IntN(30); {
	case kind == 0 && waiting > 0:
		s.raft.lose(1+s.random.IntN(waiting), raft.ErrLeadershipLost)
	case kind == 1:
		s.raft.set(func(f *fakeRaft) { f.refuse = raft.ErrLeadershipTransferInProgress })
	case kind == 2:
		s.raft.set(func(f *fakeRaft) { f.block = make(chan struct{}) })
	case kind == 3:
		s.Stop(CauseNotLeader)
	case kind < 10:
		s.calm()
	case waiting > 0:
		s.commitSome(1 + s.random.IntN(waiting))
	}
}

// calm ends what weather began.
func (s *storm) calm() {
	s.raft.set(func(f *fakeRaft) {
		f.refuse = nil
		if f.block != nil {
			close(f.block)
			f.block = nil
		}
	})
	s.term++
	if err := s.Start(s.term); err != nil {
		s.t.Error(err)
	}
}

// commitSome commits entries and remembers what was in them.
func (s *storm) commitSome(n int) {
	s.raft.set(func(f *fakeRaft) {
		f.term = s.term
		for _, w := range f.waiting[:n] {
			remember(s.t, w.data, s.applied)
		}
		f.commitLocked(n)
	})
}

// remember notes the keys in an entry.
func remember(t *testing.T, entry []byte, keys map[int]bool) {
	_, commands := decodeAll(t, entry)
	for _, b := range commands {
		c, err := allocator.DecodeCommand(b)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := c.(*allocator.Reserve); ok {
			keys[int(r.Key[0])|int(r.Key[1])<<8-1] = true
		}
	}
}

func (s *storm) verify(t *testing.T) {
	for _, data := range s.raft.entries {
		remember(t, data, s.taken)
	}
	counts := map[Outcome]int{}
	for n := range stormSubmitters * stormItems {
		o := s.outcomes[n]
		counts[o]++
		if o == Applied && !s.applied[n] {
			t.Errorf("item %d is called applied and is not", n)
		}
		if o == NotApplied && s.taken[n] {
			t.Errorf("item %d is called not applied, and Raft has it", n)
		}
	}
	if s.doubled > 0 || counts[0] > 0 {
		t.Errorf("%d items were completed twice, %d never", s.doubled, counts[0])
	}
	if s.late > sweepInterval+time.Millisecond {
		t.Errorf("an item was completed %v after its deadline", s.late)
	}
	for _, o := range []Outcome{Applied, NotApplied, Unknown} {
		if counts[o] < 50 {
			t.Errorf("only %d items ended %v: the storm does not show much", counts[o], o)
		}
	}
	t.Logf("applied %d, not applied %d, unknown %d, entries %d",
		counts[Applied], counts[NotApplied], counts[Unknown], len(s.raft.entries))
}
