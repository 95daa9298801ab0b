package shard

import (
	"context"
	"log/slog"
	"time"

	"stockade/allocator"
	"stockade/shard/delivery"
	"stockade/shard/shardrpc"
)

// deliveryDeadline bounds one attempt to hand messages to their destination.
// Together with the longest pause between two it is below the second in which
// units must stop being in transit after a fault has gone: an attempt may be
// waiting for a node that stands still.
const deliveryDeadline = 500 * time.Millisecond

// outboxShard is what a courier needs of the shard whose outbox it delivers.
type outboxShard interface {
	delivery.Outbox
	submit(p *shardrpc.Proposal)
	applied() <-chan struct{}
}

// A courier delivers the outbox of a shard while this node leads it. What to send
// is decided by a delivery.Courier; the courier sends it.
//
// run is one goroutine; it owns all fields.
type courier struct {
	source  allocator.ShardID
	shard   outboxShard
	cluster stockFinder
	log     *slog.Logger

	plan   *delivery.Courier
	events chan delivered
}

// delivered is the end of one step towards a destination.
type delivered struct {
	send     delivery.Send
	response shardrpc.Response
}

func newCourier(source allocator.ShardID, s outboxShard, c stockFinder, log *slog.Logger) *courier {
	return &courier{
		source: source, shard: s, cluster: c, log: log,
		plan: delivery.NewCourier(s),
		// One step per destination is under way at most, so a Done never blocks,
		// not even when nobody reads any more.
		events: make(chan delivered, allocator.MaxShards),
	}
}

// run delivers until ctx ends.
func (c *courier) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		applied := c.shard.applied()
		sends, next := c.plan.Step(time.Now())
		for _, s := range sends {
			c.send(s)
		}
		timer.Reset(untilNext(next))
		select {
		case <-ctx.Done():
			return
		case e := <-c.events:
			c.handle(e)
		case <-applied:
		case <-timer.C:
		}
	}
}

// send proposes one step.
func (c *courier) send(s delivery.Send) {
	p := &shardrpc.Proposal{
		Shard:    s.To,
		Command:  s.Command,
		Deadline: time.Now().Add(deliveryDeadline),
		Final:    true,
		Done:     func(r shardrpc.Response) { c.events <- delivered{send: s, response: r} },
	}
	if s.Ack {
		p.Shard = c.source
		c.shard.submit(p)
		return
	}
	c.cluster.Propose(p)
}

// handle notes the end of a step.
func (c *courier) handle(e delivered) {
	var res allocator.Result
	switch to := e.send.To; {
	case e.response.Outcome != shardrpc.Applied || allocator.DecodeResult(e.response.Result, &res) != nil:
		c.failed(to, e.response.Reason.String())
	case res.Code != allocator.CodeOK:
		c.failed(to, res.Code.String()) // a gap: the destination lacks messages that it once acknowledged
	case e.send.Ack:
		c.plan.Acked(to)
	default:
		c.plan.Taken(to, res.Through)
	}
}

// failed notes a step that will be repeated.
func (c *courier) failed(to allocator.ShardID, why string) {
	if since, long := c.plan.Failed(time.Now(), to); long {
		c.log.Warn("transfers are not taken; the units stay in transit until they are",
			"from", c.source, "to", to, "why", why, "since", since)
	}
}
