package router

import (
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

const (
	// MaxWait bounds how long a request may wait in line. A buyer does not look at
	// a spinner for longer.
	MaxWait = 30 * time.Second

	// DefaultMaxWaiting bounds the requests that wait in line when the
	// configuration does not. They are counted apart, because they stay for up to
	// MaxWait and would soon hold every place of DefaultMaxInFlight. It is half of
	// what one shard lets into its lines for waiting (line.MaxPatient) and more
	// than can be served from returned units in time anyway; each holds a
	// connection and some 30 KB, 250 MB together.
	DefaultMaxWaiting = 8192

	// tellMargin is how long before its deadline a request stops waiting in line,
	// if a quarter of its time is not less: what a look at all shards and the way
	// back take. Then its end is a refusal, and not a deadline that says nothing.
	tellMargin = 500 * time.Millisecond
)

// waiting counts the requests that wait in line. When a client goes away its
// request no longer counts as one, but its proposal stays in the shard's line
// until it is served or its wait is over; these have a bound too, of the same
// size: clients that come and go must not fill the lines.
type waiting struct {
	limit  int64
	living atomic.Int64 // requests whose client is there
	open   atomic.Int64 // proposals that may wait, whether anybody is there or not
}

// enter takes places for n requests; false: there are none.
func (w *waiting) enter(n int64) bool {
	if n == 0 {
		return true
	}
	if w.living.Add(n) > w.limit || w.open.Load()+n > 2*w.limit {
		w.living.Add(-n)
		return false
	}
	return true
}

// times gives a command's deadline, and until when it waits in line; zero: not at
// all. A request that has no deadline gets the usual time on top of its wait.
func (q *request) times(wait time.Duration) (deadline, until time.Time) {
	deadline = q.deadline
	if deadline.IsZero() {
		deadline = q.began.Add(shardrpc.DefaultTimeout + wait)
	}
	if wait == 0 {
		return deadline, until
	}
	until = q.began.Add(wait)
	if last := before(deadline, q.began, tellMargin); until.After(last) {
		until = last
	}
	return deadline, until
}

// prepare makes the proposal of a command. Whoever sends it calls ended when it ends.
func (q *request) prepare(p *shardrpc.Proposal, c *command, encoded []byte) {
	p.Shard, p.Command = c.shard, encoded
	p.Deadline, p.WaitUntil = q.times(c.wait)
	if !c.alone {
		p.Begun = q.began
	}
	if c.wait > 0 {
		q.r.waiting.open.Add(1)
	}
}

// ended notes the end of a command's proposal, and whether the client had gone by then.
func (q *request) ended(c *command, resp shardrpc.Response, left bool) {
	if c.wait > 0 {
		q.r.waiting.open.Add(-1)
	}
	if left && c.alone {
		q.r.giveBack(resp)
	}
}

// giveBack cancels what a request got whose client had left before. It is for
// requests without a key: nobody else can know of the reservation, and nobody
// ever will. With a key the client may come again for it, or has come already by
// another way and been told that the units are his.
func (r *Router) giveBack(resp shardrpc.Response) {
	res, err := decided(resp)
	if err != nil || res.Reservation.ID == (allocator.ReservationID{}) {
		return
	}
	r.metrics.abandoned.Inc()
	cancel := allocator.Cancel{ID: res.Reservation.ID}
	r.dispatch.Propose(&shardrpc.Proposal{
		Shard: cancel.ID.Shard, Command: encode(&cancel), Deadline: time.Now().Add(shardrpc.DefaultTimeout),
		Done: func(shardrpc.Response) {}, // if it fails the reservation ends when its time runs out
	})
}
