package router

import (
	"context"
	"errors"
	"fmt"
	"sync"

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

// batch sends commands at once and waits for all of them. Their results come
// in any order, through one channel that can take them all, so that nobody ever
// waits for this reader.
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
	b := &batch{r: r, q: q, out: out, open: make([]bool, n), done: make(chan answered, n)}
	for i := range n {
		c, err := item(i)
		if err != nil {
			b.end(i, ReserveOutcome{Err: err})
			continue
		}
		b.send(i, c)
	}
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

// batch is one call of Router.batch; one goroutine owns all but done, left and
// its mutex.
type batch struct {
	r    *Router
	q    *request
	out  []ReserveOutcome
	open []bool // sent and not answered
	sent int

	mu   sync.Mutex
	left bool          // the caller has gone: nobody reads done any more
	done chan answered // has room for all answers
}

// answered is the response to one item.
type answered struct {
	item int
	c    command
	r    shardrpc.Response
}

func (b *batch) send(i int, c command) {
	b.open[i] = true
	b.out[i].Err = &UnknownOutcome{Shard: c.shard, Reason: shardrpc.ReasonDeadline} // until something better is known
	b.sent++
	p, ended := b.q.proposal(&c)
	p.Done = func(r shardrpc.Response) { ended(r, b.answer(answered{i, c, r})) }
	b.r.dispatch.Propose(p)
}

// answer hands an answer to the caller; it tells whether he has left.
func (b *batch) answer(a answered) (left bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.left {
		b.done <- a
	}
	return b.left
}

// wait collects the answers. Each comes by the deadline; when the caller goes
// away before, what is still open stays unknown.
func (b *batch) wait(ctx context.Context) {
	gone := ctx.Done()
	for b.sent > 0 {
		select {
		case a := <-b.done:
			b.take(a)
			continue
		case <-gone:
		}
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			b.leave()
			break
		}
		gone = nil // the answers are due now
	}
	for i, open := range b.open {
		if open {
			b.end(i, b.out[i])
		}
	}
}

// leave takes the answers that are there and waits for no more.
func (b *batch) leave() {
	b.mu.Lock()
	b.left = true
	b.mu.Unlock()
	for len(b.done) > 0 {
		b.take(<-b.done)
	}
}

func (b *batch) take(a answered) {
	b.sent--
	b.open[a.item] = false
	res, err := decided(a.r)
	if a.c.free {
		b.r.wantAfter(a.c.cmd, res.Code)
	}
	if err != nil {
		b.end(a.item, ReserveOutcome{Err: err})
		return
	}
	b.end(a.item, ReserveOutcome{Reserved: Reserved{Reservation: res.Reservation, Replayed: res.Replayed}})
}

// end notes an item's outcome and counts it.
func (b *batch) end(i int, o ReserveOutcome) {
	b.out[i] = o
	b.q.op.count(o.Err, 1)
}
