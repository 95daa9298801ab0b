package raftfsm

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
)

// flight is one entry on its way through Raft.
type flight struct {
	items   []*Item // never changes
	claimed []bool  // by item; nil: none. Guarded by the proposer's lock until the flight has landed
	audit   []byte  // an encoded audit that precedes the items, or nil
	opening bool    // the term's first entry
	sealed  bool    // the commands were copied into an entry. Guarded like claimed
	start   time.Time
}

// claim appends the items that are not yet completed and for which which is
// true, and marks them: the caller completes them. Guarded by the proposer's
// lock. Only a sealed flight may be claimed from: a completed command is its
// owner's again, who may write over it.
func (f *flight) claim(to []*Item, which func(*Item) bool) []*Item {
	for i, it := range f.items {
		if f.claimed != nil && f.claimed[i] || !which(it) {
			continue
		}
		if f.claimed == nil {
			f.claimed = make([]bool, len(f.items)) // rare, so not made with the flight
		}
		f.claimed[i] = true
		to = append(to, it)
	}
	return to
}

// earliest is the first deadline among items that are not completed.
func (f *flight) earliest() (first time.Time) {
	for i, it := range f.items {
		if f.claimed == nil || !f.claimed[i] {
			first = sooner(first, it.Deadline)
		}
	}
	return first
}

// results finds the results of the flight's items in Raft's response. There are
// none when the state machine has failed.
func (f *flight) results(response any) (*AppliedEntry, error) {
	want := len(f.items)
	if f.audit != nil {
		want++
	}
	applied, ok := response.(*AppliedEntry)
	if !ok || applied.Len() != want {
		return nil, errNoResult
	}
	return applied, nil
}

// run forms batches until Close. It sleeps while there is nothing to propose or
// no slot for it.
func (p *Proposer) run() {
	defer close(p.ended)
	for {
		select {
		case <-p.wake:
		case <-p.closing:
			return
		}
		for p.turn() {
		}
	}
}

// kick wakes run. It does not block.
func (p *Proposer) kick() {
	select {
	case p.wake <- struct{}{}:
	default: // a wake-up is under way, and run looks at everything
	}
}

// turn proposes one entry, or reports false when there is none to propose.
func (p *Proposer) turn() bool {
	// Read before the lock is taken: submitters wait for nothing but each other.
	progress := p.fsm.Progress()
	f, late := p.take(progress)
	p.finish(late, classify(errDeadline, false))
	if f == nil {
		return false
	}
	p.propose(f)
	return true
}

// take makes a flight of what is queued, if a slot is free. late are items that
// came too late.
func (p *Proposer) take(progress Progress) (f *flight, late []*Item) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leading || len(p.flights) >= p.limits.MaxInFlight {
		return nil, nil
	}
	items, late := p.queue.pop(&p.limits, now)
	if len(items) == 0 && !p.tickDue(progress, now) {
		p.armTick(progress, now)
		p.gauge()
		return nil, late
	}
	f = &flight{items: items, opening: p.opening, start: now, audit: p.auditCommand(progress)}
	p.opening = false
	p.flights = append(p.flights, f)
	p.gauge()
	return f, late
}

// auditCommand returns an audit of the last checkpoint, once for each, so that
// every replica compares itself with this one. The caller holds mu.
func (p *Proposer) auditCommand(progress Progress) []byte {
	if !progress.HasCheckpoint || progress.Checkpoint <= p.audited {
		return nil
	}
	p.audited = progress.Checkpoint
	audit := allocator.Audit{Applied: progress.Checkpoint, Hash: progress.CheckpointHash}
	return audit.AppendTo(nil)
}

// propose stamps, encodes, seals and hands over a flight. From the seal on the
// deadlines of its items are watched, also while Raft is slow to accept it.
func (p *Proposer) propose(f *flight) {
	p.encoder.Begin(p.clock.Stamp())
	if f.audit != nil {
		p.encoder.Add(f.audit) // first: the closest to the checkpoint it speaks of
	}
	for _, it := range f.items {
		p.encoder.Add(it.Command)
	}
	entry := p.encoder.Finish()
	p.mu.Lock()
	f.sealed = true
	p.mu.Unlock()
	p.metrics.batchCommands.Observe(float64(len(f.items)))
	p.metrics.batchBytes.Add(float64(len(entry)))

	p.fsm.await()
	future := p.raft.Apply(entry, p.limits.EnqueueTimeout)
	go p.await(f, future)
}

// await waits for the end of an entry, frees its slot and completes its items.
func (p *Proposer) await(f *flight, future raft.ApplyFuture) {
	var applied *AppliedEntry
	err := future.Error()
	p.fsm.release()
	p.metrics.commit.Observe(time.Since(f.start).Seconds())
	if err == nil {
		applied, err = f.results(future.Response())
	}
	p.land(f, err)
	p.kick() // before the items: the next entry need not wait for them
	p.deliver(f, applied, classify(err, true))
}

// land takes a flight out of the air. Nobody else touches it from here on.
func (p *Proposer) land(f *flight, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flights = slices.DeleteFunc(p.flights, func(g *flight) bool { return g == f })
	now := time.Now()
	if err != nil {
		p.tickAfter = now.Add(tickRetry)
		p.opening = p.opening || f.opening
	} else {
		p.pace.landed(len(f.items), p.queue.len() > 0, now)
	}
	p.gauge()
	p.settle()
}

// deliver completes what is left of a landed flight. applied is nil unless v is
// Applied.
func (p *Proposer) deliver(f *flight, applied *AppliedEntry, v verdict) {
	first, count := 0, 0
	if f.audit != nil {
		first = 1 // its own result interests nobody
	}
	c := Completion{Outcome: v.outcome, Cause: v.cause}
	for i, it := range f.items {
		if applied != nil {
			c.Result = applied.Result(first + i)
		}
		if f.claimed != nil && f.claimed[i] {
			if it.After != nil {
				it.After(it, c)
			}
			continue
		}
		count++
		it.Done(c)
	}
	p.metrics.proposals[v.outcome].Add(float64(count))
	p.completed(count)
}

// finish completes admitted items without a result.
func (p *Proposer) finish(items []*Item, v verdict) {
	if len(items) > 0 {
		p.tell(items, v)
		p.completed(len(items))
	}
}

// tell calls the Done of items without a result.
func (p *Proposer) tell(items []*Item, v verdict) {
	for _, it := range items {
		it.Done(Completion{Outcome: v.outcome, Cause: v.cause})
	}
	p.metrics.proposals[v.outcome].Add(float64(len(items)))
}

// completed counts items whose Done has returned.
func (p *Proposer) completed(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open -= n
	p.settle()
}

// tickDue tells whether an entry without commands is to be proposed: the first
// of a term, or a tick because the state has something to do. While something
// is in flight there is no tick: its stamp may be late enough, and if not, run
// comes here again when it has landed. The caller holds mu.
func (p *Proposer) tickDue(progress Progress, now time.Time) bool {
	if p.draining || now.Before(p.tickAfter) {
		return false
	}
	if p.opening {
		return true
	}
	return progress.HasDue && len(p.flights) == 0 && p.clock.Until(tickAt(progress)) == 0
}

// tickAt is the stamp a tick must have. The state does a bounded part of what
// is due for each new stamp, so one that it has seen is no use.
func tickAt(progress Progress) allocator.Millis {
	return max(progress.Due, progress.Now+1)
}

// armTick sets the timer for the next tick, if there is to be one. The caller
// holds mu.
func (p *Proposer) armTick(progress Progress, now time.Time) {
	p.ticker.Stop()
	if p.draining || len(p.flights) > 0 || !progress.HasDue && !p.opening {
		return
	}
	wait := p.tickAfter.Sub(now)
	if !p.opening {
		wait = max(wait, p.clock.Until(tickAt(progress)))
	}
	p.ticker.Reset(max(0, wait))
}

// sweep completes items whose deadline has passed: NotApplied in the queue,
// Unknown in flight, where the entry goes on and keeps its slot.
func (p *Proposer) sweep() {
	now := time.Now()
	late := func(it *Item) bool { return it.late(now) }
	var unknown []*Item
	p.mu.Lock()
	refused, earliest := p.queue.expire(now)
	for _, f := range p.flights {
		if f.sealed {
			unknown = f.claim(unknown, late)
		}
		earliest = sooner(earliest, f.earliest())
	}
	p.sweepAt, p.lastSweep = time.Time{}, now
	if !earliest.IsZero() {
		p.armSweep(earliest, now)
	}
	p.gauge()
	p.mu.Unlock()
	p.finish(refused, classify(errDeadline, false))
	p.finish(unknown, classify(errDeadline, true))
}

// armSweep sets the timer for the next sweep. The caller holds mu.
func (p *Proposer) armSweep(at, now time.Time) {
	if soonest := p.lastSweep.Add(sweepInterval); at.Before(soonest) {
		at = soonest
	}
	p.sweepAt = at
	p.sweeper.Reset(at.Sub(now))
}

// settle tells Drain when nothing is left. The caller holds mu.
func (p *Proposer) settle() {
	if p.idle != nil && p.open == 0 && len(p.flights) == 0 {
		close(p.idle)
		p.idle = nil
	}
}

// gauge shows how much there is. The caller holds mu.
func (p *Proposer) gauge() {
	p.metrics.queueCommands.Set(float64(p.queue.len()))
	p.metrics.inFlight.Set(float64(len(p.flights)))
}
