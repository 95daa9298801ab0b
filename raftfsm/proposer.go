package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
)

// Item is one command on its way into the log.
type Item struct {
	// Command is encoded, and must not change until Done was called.
	Command []byte
	// Deadline is when the answer is of no use any more. An item that was not
	// proposed by then never will be. It should carry a monotonic reading, else a
	// jump of the wall clock moves it. Zero: none.
	Deadline time.Time
	// Done is called exactly once, from any goroutine, also from within Submit.
	// It is needed.
	// It must not block: thousands may follow in the same loop.
	Done func(Completion)
	// After is called when Done has said Unknown while the entry went on, because the
	// deadline passed, say, and the entry has ended since: with what Done would have got.
	// It may be nil, and must not block.
	After func(*Item, Completion)

	flow int // set by Submit
}

// Completion ends an item.
type Completion struct {
	Outcome Outcome
	Cause   Cause
	// Result is the encoded allocator.Result, with Applied. It must not be
	// changed, and shares memory with the results of the same entry: copy it to
	// keep it.
	Result []byte
}

// Applier is what a Proposer needs of Raft; *raft.Raft has it. Apply hands an
// entry over within the timeout, and the future ends when the entry is applied
// here or has failed.
type Applier interface {
	Apply(cmd []byte, timeout time.Duration) raft.ApplyFuture
}

// Limits bound a proposer.
type Limits struct {
	MaxBatchCommands int // commands in one entry
	MaxBatchBytes    int // bytes of the commands in one entry, at least allocator.MaxCommandLen
	MaxInFlight      int // entries handed to Raft that have not ended
	MaxQueueCommands int // commands waiting for an entry
	MaxQueueBytes    int // their bytes
	// MaxQueueWait is how long a reservation may have to wait for an entry, by the pace
	// at which they are committed. One that would wait longer, or that would be applied
	// only when three quarters of its time are over, is refused at once: by this,
	// nothing else is.
	MaxQueueWait time.Duration
	// EnqueueTimeout bounds how long Raft's main loop may take to accept an
	// entry. It is busy for one write to disk at most.
	EnqueueTimeout time.Duration
}

// DefaultLimits are right for replicas on one machine and on many.
func DefaultLimits() Limits {
	return Limits{
		MaxBatchCommands: 4096,     // about a millisecond of apply
		MaxBatchBytes:    1 << 20,  // one fsync and one network write of a size that disks and links like
		MaxInFlight:      2,        // one is replicated while the next is written; more only makes batches smaller
		MaxQueueCommands: 65_536,   // a tenth of a second at full speed: longer waits help nobody
		MaxQueueBytes:    64 << 20, // the same for large commands
		// A burst of half a second is absorbed; a longer queue would make everybody wait
		// and serve nobody more.
		MaxQueueWait:   500 * time.Millisecond,
		EnqueueTimeout: time.Second,
	}
}

// Validate says what is wrong with the limits.
func (l Limits) Validate() error {
	if l.MaxBatchCommands < 1 || l.MaxInFlight < 1 || l.MaxQueueCommands < 1 || l.MaxQueueWait <= 0 || l.EnqueueTimeout <= 0 {
		return fmt.Errorf("proposer limits: all must be positive: %+v", l)
	}
	if l.MaxBatchBytes < allocator.MaxCommandLen || l.MaxQueueBytes < allocator.MaxCommandLen {
		return fmt.Errorf("proposer limits: bytes must allow for a command of %d bytes: %+v", allocator.MaxCommandLen, l)
	}
	return nil
}

const (
	// smallPart of an entry is taken by the next one whatever the last ones took: that one
	// of them took long, on a disk that paused, says nothing of so few.
	smallPart = 4
	// sweepInterval is the least time between two sweeps for deadlines, each of
	// which looks at every item. A deadline is answered that much late at most.
	sweepInterval = 5 * time.Millisecond
	// tickRetry is how long a tick that failed waits before the next, so that an
	// idle leader that Raft refuses does not spin.
	tickRetry = 50 * time.Millisecond
)

// ErrClockNotSet is returned by Start when the log clock has nothing to start
// from: call LogClock.ColdStart first.
var ErrClockNotSet = errors.New("log clock is not set")

// ProposerConfig is what a Proposer is made from. All fields are needed.
type ProposerConfig struct {
	Raft   Applier
	FSM    *FSM // of the same replica; its clock and metrics are used as well
	Limits Limits
}

// Proposer is the group commit of one replica: it gathers commands into log
// entries while earlier entries are being committed. There is no timer that
// waits for a batch to fill: an entry leaves when a slot is free, and carries
// what has arrived until then. So an idle shard answers at once, and a busy one
// makes larger entries.
//
// It proposes between Start and Stop, which follow the leadership. All methods
// are safe for concurrent use.
//
// Goroutines: run forms batches, from NewProposer to Close; one await for each
// entry in flight lives until Raft ends its future. The functions of the two
// timers run on goroutines of their own and end at once.
type Proposer struct {
	raft    Applier
	fsm     *FSM
	clock   *LogClock
	metrics *Metrics
	limits  Limits
	wake    chan struct{} // run has something to look at; capacity 1
	closing chan struct{} // closed by Close
	ended   chan struct{} // closed when run has returned
	encoder EntryEncoder  // used by run only

	// mu guards what follows. Nothing blocks under it, and no Done is called.
	// Whoever takes an item out of queue, or claims it in a flight, completes it:
	// that is why each is completed once.
	mu       sync.Mutex
	leading  bool
	draining bool  // Drain or Close was called: never accept again
	closed   bool  // Close was called
	refuse   error // why Submit refuses; nil: it does not
	term     uint64
	queue    queue
	pace     pace
	flights  []*flight
	open     int           // items admitted whose Done has not returned
	idle     chan struct{} // closed when nothing is open or in flight; nil: nobody waits

	sweeper   *time.Timer // runs sweep at sweepAt
	sweepAt   time.Time   // zero: not armed
	lastSweep time.Time
	ticker    *time.Timer // wakes run when the state has something due
	tickAfter time.Time   // no tick before this
	opening   bool        // the term's first entry is still to be proposed
	audited   uint64      // the last checkpoint that was put into the log
}

// NewProposer returns a proposer that refuses everything until Start.
func NewProposer(cfg ProposerConfig) (*Proposer, error) {
	if cfg.Raft == nil || cfg.FSM == nil {
		return nil, errors.New("new proposer: Raft and FSM are needed")
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, err
	}
	p := &Proposer{
		raft:    cfg.Raft,
		fsm:     cfg.FSM,
		clock:   cfg.FSM.cfg.Clock,
		metrics: cfg.FSM.cfg.Metrics,
		limits:  cfg.Limits,
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
		refuse:  raft.ErrNotLeader,
	}
	p.sweeper = stoppedTimer(p.sweep)
	p.ticker = stoppedTimer(p.kick)
	go p.run()
	return p, nil
}

// stoppedTimer returns a timer that runs f when it is armed by Reset.
func stoppedTimer(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// Submit takes an item. It does not block: what can't be queued is completed
// before Submit returns.
func (p *Proposer) Submit(it *Item) {
	if err := p.admit(it); err != nil {
		p.tell([]*Item{it}, classify(err, false))
	}
}

// admit queues an item or says why not.
func (p *Proposer) admit(it *Item) error {
	// Outside the lock, on the submitter's time.
	flow, ok := inspect(it.Command)
	if !ok {
		return errInvalid
	}
	it.flow = flow
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return p.refuse
	}
	if p.full(it) {
		return errOverloaded
	}
	p.open++
	p.queue.push(it)
	if p.queue.len() == 1 {
		p.kick() // else run knows of the queue, and waits for a slot
	}
	if !it.Deadline.IsZero() && (p.sweepAt.IsZero() || it.Deadline.Before(p.sweepAt)) {
		p.armSweep(it.Deadline, time.Now())
	}
	p.gauge()
	return nil
}

// full tells whether there is no room for an item, or no sense in its waiting: what is
// refused now can go elsewhere or come again, what is refused at its deadline can't. The
// caller holds mu.
func (p *Proposer) full(it *Item) bool {
	l := &p.limits
	if p.queue.len() >= l.MaxQueueCommands || p.queue.bytes+len(it.Command) > l.MaxQueueBytes {
		return true
	}
	if it.flow == urgent || p.queue.len() == 0 {
		return false
	}
	ahead := p.queue.ahead(it.flow)
	if ahead < l.MaxBatchCommands/smallPart {
		return false
	}
	if p.pace.wait(ahead) > l.MaxQueueWait {
		return true
	}
	if it.Deadline.IsZero() {
		return false
	}
	// Until it is applied: after the entries under way, and with all of its own entry.
	for _, f := range p.flights {
		ahead += len(f.items)
	}
	ahead += min(p.queue.len(), l.MaxBatchCommands)
	wait := p.pace.wait(ahead)
	return wait > 0 && wait > time.Until(it.Deadline)*3/4
}

// Start begins to propose. The caller leads in term, and a barrier of that term
// has been applied. A second Start of the same term changes nothing. The term
// is opened with an entry that carries a stamp, empty if need be, so that every
// replica learns this leader's log time while it is in office. After Drain or
// Close it does nothing.
func (p *Proposer) Start(term uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining || p.leading && p.term == term {
		return nil
	}
	if !p.clock.Lead() {
		return ErrClockNotSet
	}
	p.leading, p.refuse, p.term = true, nil, term
	p.opening, p.tickAfter, p.audited, p.pace = true, time.Time{}, 0, pace{}
	p.kick()
	return nil
}

// Stop ends what Start began. Items that wait are completed as NotApplied with
// the cause, and so is what is submitted until the next Start: CauseNotLeader,
// CauseNotReady (the replica leads again and waits for its barrier) or
// CauseStopping. Entries in flight are left to their futures. Stop may be called
// in any state.
func (p *Proposer) Stop(cause Cause) {
	err := refusal(cause)
	p.mu.Lock()
	p.leading = false
	if !p.draining {
		p.refuse = err
	}
	waiting := p.queue.drain()
	p.ticker.Stop()
	p.clock.Follow()
	p.mu.Unlock()
	p.finish(waiting, classify(err, false))
}

// Drain refuses new items for ever as NotApplied with CauseStopping, and waits
// until those it has are completed, their Done included. When ctx ends first, the items that still
// wait for an entry are refused in the same way; its error says so.
func (p *Proposer) Drain(ctx context.Context) error {
	idle := make(chan struct{})
	p.mu.Lock()
	p.draining, p.refuse = true, errStopping
	if p.idle == nil {
		p.idle = idle
	} else {
		idle = p.idle
	}
	p.settle()
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		p.Stop(CauseStopping)
		return fmt.Errorf("drain proposer: %w", context.Cause(ctx))
	}
}

// Close ends the proposer. What waits is NotApplied, what is in flight Unknown,
// both with CauseStopping. It waits for run, which may be handing an entry to
// Raft: EnqueueTimeout at most. It does not wait for Raft's futures: one that
// was handed to the state machine when Raft shut down may never end, and its
// await stays behind.
func (p *Proposer) Close() {
	p.Stop(CauseStopping)
	p.mu.Lock()
	first := !p.closed
	p.closed, p.draining, p.refuse = true, true, errStopping
	p.mu.Unlock()
	if first {
		close(p.closing)
	}
	<-p.ended // so that every flight is sealed

	p.mu.Lock()
	var lost []*Item
	for _, f := range p.flights {
		lost = f.claim(lost, func(*Item) bool { return true })
	}
	p.flights = nil
	p.sweeper.Stop()
	p.settle()
	p.mu.Unlock()
	p.finish(lost, classify(errStopping, true))
}
