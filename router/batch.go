package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"stockade/shard/shardrpc"
)

// ReserveBatch makes many reservations that have nothing to do with each other,
// at most MaxBatch. There is one outcome for each request, in order. It ends when
// the last has ended, which may be one that waits in line.
func (r *Router) ReserveBatch(ctx context.Context, reqs []ReserveRequest) []ReserveOutcome {
	var l load
	for i := range reqs {
		l.add(max(reqs[i].Wait, 0))
	}
	return r.batch(ctx, opBatch, l, func(i int) (command, error) { return r.reserve(&reqs[i]) })
}

// Actions does many actions that have nothing to do with each other, at most
// MaxBatch. There is one outcome for each, in order. Actions on the same
// reservation in one batch take effect in any order.
func (r *Router) Actions(ctx context.Context, actions []Action) []ReserveOutcome {
	return r.batch(ctx, opActions, load{work: len(actions)}, func(i int) (command, error) { return r.action(&actions[i]) })
}

// batch sends commands at once and waits for all of them.
func (r *Router) batch(ctx context.Context, op operation, l load, item func(int) (command, error)) []ReserveOutcome {
	n := l.work + l.waiting
	out := make([]ReserveOutcome, n)
	if n > MaxBatch {
		return r.refuseBatch(op, out, &Invalid{Detail: fmt.Sprintf("must have at most %d items", MaxBatch)})
	}
	q, err := r.begin(ctx, op, l)
	if err != nil {
		return fill(out, err)
	}
	defer q.leave()
	ctx = q.bounded(ctx)
	b := &batch{r: r, q: q, out: out, items: make([]batchItem, n), open: 1, done: make(chan struct{})}
	for i := range n {
		c, err := item(i)
		if err != nil {
			b.end(i, ReserveOutcome{Err: err})
			continue
		}
		b.send(&b.items[i], c)
	}
	b.mu.Lock()
	b.close() // nothing more is sent
	b.mu.Unlock()
	b.wait(ctx)
	return out
}

// refuseBatch refuses all items of a batch that was not admitted.
func (r *Router) refuseBatch(op operation, out []ReserveOutcome, err error) []ReserveOutcome {
	r.metrics.operation(op).count(err, len(out))
	return fill(out, err)
}

func fill(out []ReserveOutcome, err error) []ReserveOutcome {
	for i := range out {
		out[i].Err = err
	}
	return out
}

// batch is one call of Router.batch. Its answers come in any order and on any
// goroutine, and wake the caller once, when all are there. The caller owns out, and
// what was answered once it has stopped waiting.
type batch struct {
	r     *Router
	q     *request
	out   []ReserveOutcome
	items []batchItem
	room  []byte // where the next commands are encoded

	mu   sync.Mutex
	open int           // sent and not answered, and one while more may be sent
	done chan struct{} // closed when none is open

	// left: the caller has gone, and what is answered now nobody reads. It is set under mu,
	// and read by the dispatcher without.
	left atomic.Bool
}

// batchItem is one item: what was sent, and what came back.
type batchItem struct {
	c        command
	p        shardrpc.Proposal
	sent     bool
	answered bool              // guarded by batch.mu, with the response
	response shardrpc.Response // to it
}

// roomFor is how many commands are encoded into one piece of memory.
const roomFor = 64

func (b *batch) send(it *batchItem, c command) {
	it.c, it.sent = c, true
	if cap(b.room)-len(b.room) < commandRoom {
		b.room = make([]byte, 0, commandRoom*min(roomFor, len(b.items)))
	}
	start := len(b.room)
	b.room = c.cmd.AppendTo(b.room)
	b.q.prepare(&it.p, &it.c, b.room[start:len(b.room):len(b.room)])
	it.p.Left = &b.left
	it.p.Done = func(r shardrpc.Response) { b.q.ended(&it.c, r, b.answer(it, r)) }
	b.mu.Lock()
	b.open++
	b.mu.Unlock()
	b.r.dispatch.Propose(&it.p)
}

// answer notes an answer; it tells whether the caller has left.
func (b *batch) answer(it *batchItem, r shardrpc.Response) (left bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left = b.left.Load(); !left {
		it.answered, it.response = true, r
	}
	b.close()
	return left
}

// close counts one open item less. b.mu is held.
func (b *batch) close() {
	if b.open--; b.open == 0 {
		close(b.done)
	}
}

// wait waits for the answers and takes them. Each comes by the deadline; when the
// caller goes away before, what is still open stays unknown.
func (b *batch) wait(ctx context.Context) {
	select {
	case <-b.done:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			<-b.done // the answers are due now
		}
	}
	b.mu.Lock()
	b.left.Store(true)
	b.mu.Unlock()
	for i := range b.items {
		switch it := &b.items[i]; {
		case it.answered:
			b.take(i, it)
		case it.sent:
			b.end(i, ReserveOutcome{Err: &UnknownOutcome{Shard: it.c.shard, Reason: shardrpc.ReasonDeadline}})
		}
	}
}

func (b *batch) take(i int, it *batchItem) {
	res, err := decided(it.response)
	if it.c.free {
		b.r.wantAfter(it.c.cmd, res.Code)
	}
	if err != nil {
		b.end(i, ReserveOutcome{Err: err})
		return
	}
	b.end(i, ReserveOutcome{Reserved: Reserved{Reservation: res.Reservation, Replayed: res.Replayed}})
}

// end notes an item's outcome and counts it.
func (b *batch) end(i int, o ReserveOutcome) {
	b.out[i] = o
	b.q.op.count(o.Err, 1)
}
