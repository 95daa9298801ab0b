package shard

import (
	"context"
	"log/slog"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

const (
	// deliveryDeadline bounds one attempt to hand messages to their destination.
	// Together with the longest pause it is below the second in which units must
	// stop being in transit after a fault has gone: an attempt may be waiting for a
	// node that stands still.
	deliveryDeadline = 500 * time.Millisecond

	// A destination that did not take its messages is tried again after a pause
	// that doubles between these bounds.
	minRedelivery = 5 * time.Millisecond
	maxRedelivery = 100 * time.Millisecond
)

// outboxShard is what a courier needs of the shard whose outbox it delivers.
// It reads applied state only: what is not committed must never be sent.
type outboxShard interface {
	submit(p *shardrpc.Proposal)
	// destinations are the shards with messages that are not acknowledged.
	destinations() []allocator.ShardID
	// outbox is the head of the queue towards one of them.
	outbox(to allocator.ShardID, limit int) allocator.TransferIn
	applied() <-chan struct{}
}

// A courier delivers the outbox of a shard while this node leads it: steps 2
// and 4 of a transfer. For each destination at most one delivery is under way;
// it is repeated until it is acknowledged, which is safe because the
// destination takes each sequence number once.
//
// run is one goroutine; it owns all fields.
type courier struct {
	source  allocator.ShardID
	shard   outboxShard
	cluster stockFinder
	log     *slog.Logger

	routes map[allocator.ShardID]*route
	events chan delivered
}

// route is the state of one destination.
type route struct {
	busy    bool
	pause   time.Duration
	retryAt time.Time
	failing time.Time // since when deliveries fail; zero: they don't
}

// delivered is the end of one step towards a destination.
type delivered struct {
	to       allocator.ShardID
	response shardrpc.Response
	acked    bool // the TransferAck ended, not the TransferIn
}

func newCourier(source allocator.ShardID, s outboxShard, c stockFinder, log *slog.Logger) *courier {
	return &courier{
		source: source, shard: s, cluster: c, log: log,
		routes: make(map[allocator.ShardID]*route),
		// One step per destination is under way at most, so a Done never blocks,
		// not even when nobody reads any more.
		events: make(chan delivered, allocator.MaxShards),
	}
}

// run delivers until ctx ends.
func (c *courier) run(ctx context.Context) {
	for {
		applied := c.shard.applied()
		next := c.dispatch(time.Now())
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case e := <-c.events:
			c.handle(e)
		case <-applied:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// dispatch starts a delivery to each destination that is due, and tells how
// long nothing else will be.
func (c *courier) dispatch(now time.Time) (next time.Duration) {
	next = time.Hour // until something is applied
	for _, to := range c.shard.destinations() {
		r := c.routes[to]
		if r == nil {
			r = &route{pause: minRedelivery}
			c.routes[to] = r
		}
		if r.busy {
			continue
		}
		if wait := r.retryAt.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		in := c.shard.outbox(to, allocator.MaxMessages)
		if len(in.Messages) == 0 {
			continue
		}
		r.busy = true
		c.propose(to, to, in.AppendTo(nil), false)
	}
	return next
}

// propose sends one step of the transfers towards to.
func (c *courier) propose(to, at allocator.ShardID, command []byte, ack bool) {
	p := &shardrpc.Proposal{
		Shard:    at,
		Command:  command,
		Deadline: time.Now().Add(deliveryDeadline),
		Final:    true,
		Done:     func(r shardrpc.Response) { c.events <- delivered{to: to, response: r, acked: ack} },
	}
	if ack {
		c.shard.submit(p)
		return
	}
	c.cluster.Propose(p)
}

// handle takes the next step after one has ended.
func (c *courier) handle(e delivered) {
	r := c.routes[e.to]
	var res allocator.Result
	if e.response.Outcome != shardrpc.Applied || allocator.DecodeResult(e.response.Result, &res) != nil {
		c.failed(e, r, e.response.Reason.String())
		return
	}
	if res.Code != allocator.CodeOK {
		// A gap: the destination lacks messages that it once acknowledged.
		c.failed(e, r, res.Code.String())
		return
	}
	if e.acked {
		*r = route{pause: minRedelivery}
		return
	}
	ack := allocator.TransferAck{To: e.to, Through: res.Through}
	c.propose(e.to, c.source, ack.AppendTo(nil), true)
}

// failed plans the next attempt.
func (c *courier) failed(e delivered, r *route, why string) {
	now := time.Now()
	if r.failing.IsZero() {
		r.failing = now
	}
	r.busy = false
	r.retryAt = now.Add(r.pause)
	if r.pause == maxRedelivery {
		c.log.Warn("transfers are not taken; the units stay in transit until they are",
			"from", c.source, "to", e.to, "why", why, "since", r.failing)
	}
	r.pause = min(2*r.pause, maxRedelivery)
}
