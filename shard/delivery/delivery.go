// Package delivery decides what a shard sends of its outbox to which other shards,
// and when it sends it again: steps 2 and 4 of a transfer.
//
// It is a step machine: events go in, what to send comes out as data. It reads no
// clock, starts no goroutine and does no I/O, so it can be simulated.
package delivery

import (
	"time"

	"stockade/allocator"
)

const (
	// A destination that did not take its messages is tried again after a pause
	// that doubles between these bounds.
	minPause = 5 * time.Millisecond
	maxPause = 100 * time.Millisecond
)

// Outbox is what the shard has applied and not delivered. What is not committed
// must never be seen here.
type Outbox interface {
	// Destinations are the shards with messages that are not acknowledged.
	Destinations() []allocator.ShardID
	// Head is the head of the queue towards one of them.
	Head(to allocator.ShardID, limit int) allocator.TransferIn
}

// Send is one step towards a destination, to be proposed: TransferIn there, or the
// TransferAck of it at the source. It ends with Taken, Acked or Failed.
type Send struct {
	To      allocator.ShardID
	Ack     bool // Command is for the source, not for To
	Command []byte
}

// A Courier delivers the outbox of a shard while it is led here. For each
// destination at most one step is under way; it is repeated until it is
// acknowledged, which is safe because the destination takes each sequence number
// once. It is not safe for concurrent use.
type Courier struct {
	outbox Outbox
	routes map[allocator.ShardID]*route
	acks   []Send // to be sent with the next step
}

// route is the state of one destination.
type route struct {
	busy    bool
	pause   time.Duration
	retryAt time.Time
	failing time.Time // since when deliveries fail; zero: they don't
}

// NewCourier makes the courier of a new leader.
func NewCourier(outbox Outbox) *Courier {
	return &Courier{outbox: outbox, routes: make(map[allocator.ShardID]*route)}
}

// Step gives what is to be sent now, and when to step again if nothing happens
// before; zero: not until something is applied.
func (c *Courier) Step(now time.Time) (sends []Send, next time.Time) {
	sends, c.acks = c.acks, nil
	for _, to := range c.outbox.Destinations() {
		r := c.routes[to]
		if r == nil {
			r = &route{pause: minPause}
			c.routes[to] = r
		}
		if r.busy {
			continue
		}
		if r.retryAt.After(now) {
			if next.IsZero() || r.retryAt.Before(next) {
				next = r.retryAt
			}
			continue
		}
		in := c.outbox.Head(to, allocator.MaxMessages)
		if len(in.Messages) == 0 {
			continue
		}
		r.busy = true
		sends = append(sends, Send{To: to, Command: in.AppendTo(nil)})
	}
	return sends, next
}

// Taken says that a destination has everything through a sequence number.
func (c *Courier) Taken(to allocator.ShardID, through uint64) {
	ack := allocator.TransferAck{To: to, Through: through}
	c.acks = append(c.acks, Send{To: to, Ack: true, Command: ack.AppendTo(nil)})
}

// Acked says that the source has forgotten what was taken.
func (c *Courier) Acked(to allocator.ShardID) { *c.routes[to] = route{pause: minPause} }

// Failed says that nobody knows whether a step was done. It tells since when steps
// towards the destination fail, and whether that is for long by now.
func (c *Courier) Failed(now time.Time, to allocator.ShardID) (since time.Time, long bool) {
	r := c.routes[to]
	if r.failing.IsZero() {
		r.failing = now
	}
	r.busy = false
	r.retryAt = now.Add(r.pause)
	long = r.pause == maxPause
	r.pause = min(2*r.pause, maxPause)
	return r.failing, long
}
