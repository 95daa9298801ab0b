package shard

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// barrierTimeout bounds how long Raft's main loop may take to accept a
// barrier: one slow write.
const barrierTimeout = time.Second

// barrierQueue lets everyone who waits for a barrier share one.
type barrierQueue struct {
	mu      sync.Mutex
	next    *barrierRound // not yet begun; nil: nobody waits
	running chan struct{} // closed when the rounds under way have ended; nil: none are
	closed  bool
}

// barrierRound is one barrier with all who wait for it.
type barrierRound struct {
	done chan struct{}
	err  error // set before done is closed
}

// barrier returns nil when everything that was committed before the call has
// been applied here, and this replica led at some time during the call. One
// barrier is under way at a time, and who comes before it begins shares it.
func (r *replica) barrier(ctx context.Context) error {
	round := r.joinRound()
	if round == nil {
		return raft.ErrRaftShutdown
	}
	select {
	case <-round.done:
		return round.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// joinRound gives the round that begins next; nil when the replica is closed.
func (r *replica) joinRound() *barrierRound {
	q := &r.barriers
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	if q.next == nil {
		q.next = &barrierRound{done: make(chan struct{})}
	}
	if q.running == nil {
		q.running = make(chan struct{})
		go r.runBarriers()
	}
	return q.next
}

// runBarriers runs rounds until nobody waits.
func (r *replica) runBarriers() {
	for round := r.barriers.take(); round != nil; round = r.barriers.take() {
		round.err = r.raft.Barrier(barrierTimeout).Error()
		close(round.done)
	}
}

// take gives the round that begins now; without one the rounds are over.
func (q *barrierQueue) take() *barrierRound {
	q.mu.Lock()
	defer q.mu.Unlock()
	round := q.next
	q.next = nil
	if round == nil {
		close(q.running)
		q.running = nil
	}
	return round
}

// close refuses new rounds and waits for those under way until ctx ends. It must
// come before Raft's shutdown: a barrier that Raft leaves behind in a queue
// never ends, nor does whoever waits for it.
func (q *barrierQueue) close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	running := q.running
	q.mu.Unlock()
	if running == nil {
		return
	}
	select {
	case <-running:
	case <-ctx.Done():
	}
}

// broadcast wakes everyone who waits. The zero value is ready.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // nil: nobody waits
}

// next is closed by the next call of all.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// all wakes who waits. It does not block.
func (b *broadcast) all() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
