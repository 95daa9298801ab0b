package shard

import (
	"context"
	"sync"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// How a Node answers what shardrpc.Node asks. Everything here is called from
// many goroutines at once: by the router in this process directly, by other
// nodes through gRPC.

var _ shardrpc.Node = (*Node)(nil)

// Propose implements shardrpc.Node.
func (n *Node) Propose(p *shardrpc.Proposal) {
	r := n.replica(p.Shard)
	if r == nil {
		p.Done(notApplied(p.Shard, shardrpc.ReasonNoReplica))
		return
	}
	r.stock.propose(p)
}

// Buckets implements shardrpc.Node. Shards are asked side by side, because each
// barrier takes a commit.
func (n *Node) Buckets(ctx context.Context, req shardrpc.BucketsRequest) ([]shardrpc.BucketAnswer, error) {
	answers := make([]shardrpc.BucketAnswer, len(req.Shards))
	var wg sync.WaitGroup
	for i, shard := range req.Shards {
		if !req.Strong {
			answers[i] = n.bucket(ctx, shard, req)
			continue
		}
		wg.Go(func() { answers[i] = n.bucket(ctx, shard, req) })
	}
	wg.Wait()
	return answers, nil
}

// bucket reports from one shard.
func (n *Node) bucket(ctx context.Context, shard allocator.ShardID, req shardrpc.BucketsRequest) shardrpc.BucketAnswer {
	a := shardrpc.BucketAnswer{Shard: shard}
	var r *replica
	if r, a.Reason, a.Leader = n.leading(ctx, shard, req.Strong); r == nil {
		return a
	}
	report, waiting := r.stock.report(req.SKU)
	a.Report, a.Waiting = &report, waiting
	return a
}

// Reservation implements shardrpc.Node.
func (n *Node) Reservation(ctx context.Context, req shardrpc.ReservationRequest) (a shardrpc.ReservationAnswer, err error) {
	var r *replica
	if r, a.Reason, a.Leader = n.leading(ctx, req.ID.Shard, true); r == nil {
		return a, nil
	}
	r.fsm.Read(func(st *allocator.State) { a.Reservation, a.Found = st.Reservation(req.ID) })
	return a, nil
}

// SKUs implements shardrpc.Node. It reads a frozen view, so that a long listing
// keeps no batch waiting.
func (n *Node) SKUs(ctx context.Context, req shardrpc.SKUsRequest) (a shardrpc.SKUsAnswer, err error) {
	var r *replica
	if r, a.Reason, a.Leader = n.leading(ctx, req.Shard, false); r == nil {
		return a, nil
	}
	a.SKUs = r.fsm.Freeze().SKUs(req.Prefix, req.After, req.Limit)
	return a, nil
}

// Exist implements shardrpc.Node.
func (n *Node) Exist(ctx context.Context, req shardrpc.ExistRequest) (a shardrpc.ExistAnswer, err error) {
	var r *replica
	// After a barrier: that there is no such SKU is a final answer. Who was the
	// leader of the anchor until a moment ago must not give it.
	if r, a.Reason, a.Leader = n.leading(ctx, req.Shard, true); r == nil {
		return a, nil
	}
	a.Exist = make([]bool, len(req.SKUs))
	r.fsm.Read(func(st *allocator.State) {
		for i, sku := range req.SKUs {
			a.Exist[i] = st.Knows([]byte(sku))
		}
	})
	return a, nil
}

// Levels implements shardrpc.Node.
func (n *Node) Levels(context.Context) (shardrpc.LevelStream, error) { return newLevelSession(n), nil }

// Status implements shardrpc.Node.
func (n *Node) Status(context.Context) (shardrpc.Status, error) { return n.status(), nil }

// leading finds the replica that may answer for a shard, after a barrier when
// the answer must include everything that was answered before. When it is nil,
// reason and leader say why and who else to ask.
func (n *Node) leading(ctx context.Context, shard allocator.ShardID, strong bool) (r *replica, reason shardrpc.Reason, leader shardrpc.NodeID) {
	r = n.replica(shard)
	if r == nil {
		return nil, shardrpc.ReasonNoReplica, ""
	}
	if reason, leader = r.serves(); reason != shardrpc.ReasonNone {
		return nil, reason, leader
	}
	if !strong {
		return r, shardrpc.ReasonNone, ""
	}
	if err := r.barrier(ctx); err != nil {
		reason, leader = r.serves()
		if reason == shardrpc.ReasonNone {
			reason = shardrpc.ReasonLeadershipLost
			if ctx.Err() != nil {
				reason = shardrpc.ReasonDeadline
			}
		}
		return nil, reason, leader
	}
	return r, shardrpc.ReasonNone, ""
}
