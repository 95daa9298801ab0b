package shardrpc

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
)

const (
	// DefaultTimeout is the time given to work that comes without a deadline.
	DefaultTimeout = 2 * time.Second

	// A shard without a usable leader is tried again after a pause that doubles
	// between these bounds, with jitter. The first is a round trip on a local
	// network; the last makes 20 attempts a second while an election goes on.
	minBackoff = time.Millisecond
	maxBackoff = 50 * time.Millisecond
)

// DispatcherConfig configures a Dispatcher.
type DispatcherConfig struct {
	Directory *Directory
	Metrics   *Metrics // may be nil
	// MaxUnderWay bounds the proposals under way; 0: the constant MaxUnderWay.
	MaxUnderWay int
}

// Dispatcher gets commands applied, wherever the shard's leader is. It follows
// hints, waits elections out and repeats what may not have been applied, until
// the proposal's deadline.
//
// How a proposal ends:
//
//   - applied: with the result.
//   - overloaded, invalid, stock unreachable: at once, as the node said.
//   - unknown: the same command is sent again, because all commands but those
//     marked Once may be repeated. Once a single attempt was unknown the proposal
//     can't end as NotApplied any more, whatever later attempts say.
//   - else, at the deadline: with the last reason, and since when it lasts.
//
// There is no goroutine per proposal: it moves on in the callbacks of nodes and
// of timers. All methods are safe for concurrent use.
type Dispatcher struct {
	dir       *Directory
	limit     int
	metrics   *Metrics
	attempts  *ended
	proposals *ended
	underWay  prometheus.Gauge
	askers    sync.Pool

	mu     sync.Mutex
	flying *pending[*flight]
	nextID uint64
	closed bool
}

// NewDispatcher makes a dispatcher.
func NewDispatcher(cfg DispatcherConfig) *Dispatcher {
	m := cfg.Metrics.orNone()
	d := &Dispatcher{
		dir: cfg.Directory, limit: cfg.MaxUnderWay, metrics: m,
		attempts: newEnded(m.attempts), proposals: newEnded(m.proposals), underWay: m.underWay,
	}
	if d.limit <= 0 {
		d.limit = MaxUnderWay
	}
	d.flying = newPending[*flight](d.expire)
	return d
}

// Directory is where the dispatcher looks leaders up.
func (d *Dispatcher) Directory() *Directory { return d.dir }

// Close ends all proposals under way and refuses new ones, with ReasonStopping.
func (d *Dispatcher) Close() {
	d.mu.Lock()
	d.closed = true
	left := d.flying.clear()
	d.mu.Unlock()
	for _, f := range left {
		f.giveUp(ReasonStopping)
	}
}

// Propose has a command applied by the leader of its shard. It does not block;
// p.Done is called exactly once, at the deadline at the latest (a few
// milliseconds later on a busy machine). A zero deadline means DefaultTimeout.
// p must not be changed afterwards.
func (d *Dispatcher) Propose(p *Proposal) {
	now := time.Now()
	f := &flight{d: d, p: p, deadline: p.Deadline}
	if f.deadline.IsZero() {
		f.deadline = now.Add(DefaultTimeout)
	}
	if reason := d.admit(f, now); reason != ReasonNone {
		d.finish(p, Response{Outcome: NotApplied, Reason: reason, Shard: p.Shard})
		return
	}
	d.underWay.Inc()
	f.try()
}

// admit takes f among those under way, or says why not.
func (d *Dispatcher) admit(f *flight, now time.Time) Reason {
	switch {
	case int(f.p.Shard) >= d.dir.Shards():
		return ReasonInvalid
	case !f.deadline.After(now):
		return ReasonDeadline
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return ReasonStopping
	case len(d.flying.entries) >= d.limit && !f.p.Final:
		return ReasonOverloaded // Final ones move the units that others wait for
	}
	d.nextID++
	f.id = d.nextID
	d.flying.add(f.id, f.deadline, f)
	return ReasonNone
}

// take removes f from those under way; false when somebody else ended it.
func (d *Dispatcher) take(f *flight) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.flying.take(f.id)
	return ok
}

// expire ends the proposals that are past their deadline.
func (d *Dispatcher) expire() {
	d.mu.Lock()
	over := d.flying.due(time.Now())
	d.mu.Unlock()
	for _, f := range over {
		f.giveUp(ReasonDeadline)
	}
}

// finish counts and calls Done. A failure says since when the shard has trouble,
// if anybody knows: the directory, to which all failures are told, but for the
// stock of another shard, about which the home shard knows best.
func (d *Dispatcher) finish(p *Proposal, r Response) {
	d.proposals.count(r)
	if r.Outcome != Applied && (r.Since.IsZero() || r.Reason != ReasonStockUnreachable) {
		if _, since := d.dir.Trouble(r.Shard); !since.IsZero() {
			r.Since = since
		}
	}
	p.Done(r)
}

// Do has a command applied and waits for the outcome, at most until ctx ends. A
// ctx without a deadline gets DefaultTimeout. When ctx is canceled the outcome is
// Unknown, and the command may still be applied.
func (d *Dispatcher) Do(ctx context.Context, shard allocator.ShardID, command []byte) Response {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultTimeout)
	}
	return d.Await(ctx, &Proposal{Shard: shard, Command: command, Deadline: deadline}, nil)
}

// Await proposes p, which has no Done, and waits for the outcome, at most until
// ctx is canceled: then the outcome is Unknown, and the command may still be
// applied, but no further attempt is made: who waited for it may be told what became
// of it, or that nothing did, by another way. ended, if there is one, is called like a Done, and told whether Await
// has returned by then, or is about to. A deadline of ctx must not be before p's,
// which is waited for.
func (d *Dispatcher) Await(ctx context.Context, p *Proposal, ended func(r Response, left bool)) Response {
	a := d.asker()
	a.ended = ended
	p.Done, p.Left = a.done, &a.over
	d.Propose(p)
	select {
	case r := <-a.answer:
		d.release(a)
		return r
	case <-ctx.Done():
	}
	// At the deadline the proposal ends too, and knows more.
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || !a.over.CompareAndSwap(false, true) {
		r := <-a.answer
		d.release(a)
		return r
	}
	return Response{Outcome: Unknown, Reason: ReasonDeadline, Shard: p.Shard}
}

// asker waits for the outcome of one proposal.
type asker struct {
	answer chan Response // has room for it
	over   atomic.Bool   // the asker has gone, or the answer has come: who is first sets it
	ended  func(r Response, left bool)
	done   func(Response) // the method finish, made once
}

// asker gives one that is used again, or a new one.
func (d *Dispatcher) asker() *asker {
	if a, ok := d.askers.Get().(*asker); ok {
		return a
	}
	a := &asker{answer: make(chan Response, 1)}
	a.done = a.finish
	return a
}

// release takes an asker back whose proposal has ended.
func (d *Dispatcher) release(a *asker) {
	a.ended = nil
	a.over.Store(false)
	d.askers.Put(a)
}

// finish is the proposal's Done. It touches nothing after the answer is handed over.
func (a *asker) finish(r Response) {
	first := a.over.CompareAndSwap(false, true)
	if a.ended != nil {
		a.ended(r, !first)
	}
	if first {
		a.answer <- r
	}
}

// flight is a proposal under way.
type flight struct {
	d        *Dispatcher
	p        *Proposal
	deadline time.Time
	id       uint64
	first    Proposal // the first attempt; seldom is there another

	// mu guards what follows. It is never held while a Node or Done is called.
	mu      sync.Mutex
	over    bool     // Done was called, or is about to be
	attempt int      // number of the last attempt
	asked   NodeID   // whom the attempt under way asked; empty: none is under way
	maybe   bool     // an attempt may have been applied
	doubt   Reason   // why the last such attempt has no known outcome
	hinted  bool     // the last attempt followed a hint at once
	pauses  int      // pauses so far
	last    Response // how the last attempt ended
}

// try makes the next attempt, if there is a leader to ask.
func (f *flight) try() {
	if f.abandoned() {
		if f.d.take(f) {
			f.giveUp(ReasonDeadline)
		}
		return
	}
	id, node, ok := f.d.dir.Leader(f.p.Shard)
	if !ok {
		f.noLeader()
		return
	}
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return
	}
	f.attempt++
	f.asked = id
	attempt := f.attempt
	f.mu.Unlock()

	p := &f.first
	if attempt > 1 { // whoever was asked first may still hold it
		p = new(Proposal)
	}
	*p = *f.p
	p.Deadline = attemptDeadline(time.Now(), f.deadline)
	p.Done = func(r Response) { f.answered(attempt, r) }
	node.Propose(p)
}

// abandoned tells whether no further attempt is to be made, because nobody waits for it. What
// has no other attempt, and may have been done, is found out about: it can be given back.
func (f *flight) abandoned() bool {
	if f.p.Left == nil || !f.p.Left.Load() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.maybe || !f.p.Begun.IsZero()
}

// attemptDeadline is the deadline that is passed on: by a dispatcher to the node
// it asks, by a client over the wire. It is a little before the own one, so that
// whoever did nothing can still say so. At the same moment nobody would know any
// more, and the proposal would end as unknown.
func attemptDeadline(now, deadline time.Time) time.Time {
	const share = 8
	return deadline.Add(-min(deadline.Sub(now)/share, maxBackoff))
}

// answered takes an attempt's outcome. Nodes answer once; a second answer, or
// one to an attempt that is not under way, would be a bug of theirs and must not
// become two answers here.
func (f *flight) answered(attempt int, r Response) {
	f.d.attempts.count(r)
	if r.Reason != ReasonStockUnreachable {
		r.Shard = f.p.Shard
	}
	f.mu.Lock()
	from := f.asked
	if attempt != f.attempt || from == "" {
		f.mu.Unlock()
		return
	}
	f.asked = ""
	if r.Outcome != Applied && r.Outcome != NotApplied {
		f.maybe, f.doubt = true, r.Reason
	}
	f.last = r
	f.mu.Unlock()

	f.d.note(f.p.Shard, from, r)
	switch next := nextStep(r, f.p.Once); next {
	case stepEnd:
		f.end(r)
	case stepFollow:
		f.follow(r)
	case stepPause:
		f.pauseFor(r)
	}
}

// follow tries the hinted node at once, but not twice in a row: two nodes that
// each name the other must not keep a processor busy.
func (f *flight) follow(r Response) {
	f.mu.Lock()
	again := f.hinted
	f.hinted = !again
	f.mu.Unlock()
	if again {
		f.pauseFor(r)
		return
	}
	f.try()
}

// noLeader tries again when somebody may be known. What an attempt said before
// explains more than that nobody is known now.
func (f *flight) noLeader() {
	f.mu.Lock()
	if f.last.Reason == ReasonNone {
		f.last.Reason = ReasonNotLeader
	}
	last := f.last
	f.mu.Unlock()
	f.pauseFor(last)
}

// pauseFor tries again later.
func (f *flight) pauseFor(r Response) {
	if r.Reason != ReasonLate { // which says nothing about the shard
		f.d.dir.Failed(f.p.Shard, r.Reason, r.Since)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	pause := min(minBackoff<<min(f.pauses, 10), maxBackoff)
	f.pauses++
	time.AfterFunc(pause/2+rand.N(pause/2), f.try)
}

// end answers the proposal with the last attempt's outcome.
func (f *flight) end(r Response) {
	if !f.d.take(f) {
		return
	}
	f.mu.Lock()
	f.over = true
	if f.maybe && r.Outcome != Applied {
		r.Outcome, r.Reason = Unknown, f.doubt
	}
	f.mu.Unlock()
	f.d.underWay.Dec()
	f.d.finish(f.p, r)
}

// giveUp answers a proposal that was taken from those under way because its
// time is over. The reason of the last failure says more than reason does.
func (f *flight) giveUp(reason Reason) {
	f.mu.Lock()
	f.over = true
	r := Response{Outcome: NotApplied, Reason: reason, Shard: f.p.Shard}
	switch {
	case f.asked != "":
		r.Outcome = Unknown
	case f.maybe:
		r.Outcome, r.Reason = Unknown, f.doubt
	case f.last.Reason != ReasonNone && reason == ReasonDeadline:
		r.Reason, r.Since = f.last.Reason, f.last.Since
	}
	f.mu.Unlock()
	f.d.underWay.Dec()
	f.d.finish(f.p, r)
}

// step is what follows from an attempt's outcome.
type step uint8

const (
	stepEnd    step = iota // answer it
	stepFollow             // ask the node that was hinted at, now
	stepPause              // ask again after a pause
)

// nextStep decides. It is the only place that says what may be repeated.
func nextStep(r Response, once bool) step {
	switch {
	case r.Outcome == Applied:
		return stepEnd
	case r.Outcome == NotApplied:
		return afterNotApplied(r)
	case once:
		return stepEnd
	}
	return stepPause
}

// afterNotApplied: what another moment or another node may mend is tried again.
func afterNotApplied(r Response) step {
	switch r.Reason {
	case ReasonNotLeader:
		if r.Leader != "" {
			return stepFollow
		}
		return stepPause
	case ReasonNotReady, ReasonNoReplica, ReasonStopping, ReasonLeadershipLost, ReasonStore, ReasonUnreachable, ReasonLate:
		return stepPause
	default: // none, overloaded, deadline, invalid, stock unreachable
		return stepEnd
	}
}

// note tells the directory what an answer teaches about a shard.
func (d *Dispatcher) note(shard allocator.ShardID, from NodeID, r Response) {
	if r.Outcome == Applied {
		d.dir.Succeeded(shard)
		return
	}
	switch r.Reason {
	case ReasonNotLeader:
		d.dir.Forget(shard, from)
		if r.Leader != from {
			d.dir.Learn(shard, r.Leader)
		}
	case ReasonNoReplica, ReasonStopping, ReasonLeadershipLost, ReasonStore, ReasonUnreachable:
		d.dir.Forget(shard, from)
	case ReasonDeadline:
		d.dir.Failed(shard, r.Reason, r.Since)
	default: // says nothing about who leads
	}
}
