package httpapi

import (
	"fmt"
	"time"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
)

// These functions show the router's views as the API's documents.

// policyView shows a policy, but for the safety stock.
func policyView(p *allocator.Policy) api.Policy {
	late := api.LateConfirmRetake
	if p.LateConfirm == allocator.LateConfirmReject {
		late = api.LateConfirmReject
	}
	return api.Policy{
		MaxPerReservation: int64(p.MaxPerReservation),
		MaxPerBuyer:       int64(p.MaxPerBuyer),
		DefaultTTLSeconds: int64(p.DefaultTTL / 1000),
		MaxTTLSeconds:     int64(p.MaxTTL / 1000),
		LateConfirm:       late,
		SaleStartsAt:      api.Time(p.SaleStarts),
		SaleEndsAt:        api.Time(p.SaleEnds),
		Watch:             p.Watch,
	}
}

// sumsView shows the sums of a SKU.
func sumsView(v *router.SKUView) api.Sums {
	return api.Sums{
		OnHand: v.OnHand, Available: v.Available, Reserved: v.Reserved, Committed: v.Committed,
		InTransit: v.InTransit, SafetyStock: v.SafetyStock,
	}
}

// skuView shows a SKU.
func skuView(v *router.SKUView) api.SKU {
	buckets := make([]api.Bucket, len(v.Buckets))
	for i, b := range v.Buckets {
		buckets[i] = api.Bucket{Shard: int(b.Shard), Available: b.Available, Reserved: b.Reserved, Committed: b.Committed}
	}
	return api.SKU{
		SKU: v.SKU, Version: v.Policy.Version, Paused: v.Policy.Paused,
		Sums: sumsView(v), Buckets: buckets, Policy: policyView(&v.Policy), Metadata: v.Metadata,
		CreatedAt: api.Time(v.Created), UpdatedAt: api.Time(v.Updated), AsOf: api.TimeOf(v.AsOf),
	}
}

// effectView shows when a change took effect.
func effectView(e *router.Effect) (v api.Effect) {
	if !e.At.IsZero() {
		v.EffectiveAt = api.TimeOf(e.At)
	}
	for _, shard := range e.Pending {
		v.PendingShards = append(v.PendingShards, int(shard))
	}
	return v
}

// availabilityView shows how many units are for sale.
func availabilityView(a *router.Availability) api.Availability {
	v := api.Availability{SKU: a.SKU, Available: a.Available, SoldOut: a.SoldOut, AsOf: api.TimeOf(a.AsOf)}
	for _, s := range a.Shards {
		v.Shards = append(v.Shards, api.AvailabilityShard{
			Shard: int(s.Shard), Applied: s.Applied, Available: s.Available, InTransit: s.InTransit, Waiting: s.Waiting,
		})
	}
	return v
}

// pageView shows a page of a list of SKUs.
func pageView(p *router.SKUPage) api.SKUPage {
	page := api.SKUPage{Data: make([]api.SKUSummary, len(p.SKUs))}
	for i := range p.SKUs {
		s := &p.SKUs[i]
		page.Data[i] = api.SKUSummary{
			SKU: string(s.SKU), Version: s.Policy.Version, Paused: s.Policy.Paused,
			OnHand: int64(s.OnHand), SafetyStock: int64(s.Policy.SafetyStock), Policy: policyView(&s.Policy),
			CreatedAt: api.Time(s.Created), UpdatedAt: api.Time(s.Updated),
		}
	}
	if p.Next != "" {
		page.NextCursor = &p.Next
	}
	return page
}

// auditView shows an audit.
func auditView(a *router.Audit) api.Audit {
	audit := api.Audit{
		SKU: a.SKU, Balanced: a.Balanced, Problems: a.Problems, SoldOut: a.SoldOut, Sums: sumsView(&a.View),
		Shards: make([]api.AuditShard, len(a.Shards)), AsOf: api.TimeOf(a.AsOf),
	}
	for i := range a.Shards {
		audit.Shards[i] = auditShard(&a.Shards[i])
		audit.Shards[i].Waiting = a.Waiting[i]
	}
	return audit
}

// auditShard shows one shard's part of an audit.
func auditShard(r *allocator.BucketReport) api.AuditShard {
	s := api.AuditShard{
		Shard: int(r.Shard), Anchor: r.Anchor,
		In:        int64(r.Deposited + r.Adjusted),
		Held:      int64(r.Available + r.Reserved + r.Safety),
		Sold:      int64(r.Committed),
		Deposited: int64(r.Deposited), Adjusted: int64(r.Adjusted),
		Available: int64(r.Available), Reserved: int64(r.Reserved), Committed: int64(r.Committed), SafetyStock: int64(r.Safety),
		Flows: make([]api.Flow, len(r.Flows)), Outbox: make([]api.Message, len(r.Outbox)),
		Vector:  api.Vector{Sent: r.Vector.Sent, Acked: r.Vector.Acked, Received: r.Vector.Received},
		Applied: r.Applied, Hash: fmt.Sprintf("%016x", r.Hash), AsOf: api.Time(r.Stamp),
	}
	for i, f := range r.Flows {
		s.In += int64(f.Received)
		s.Out += int64(f.Sent)
		s.Flows[i] = api.Flow{Peer: int(f.Peer), Sent: int64(f.Sent), Acked: int64(f.Acked), Received: int64(f.Received)}
	}
	for i, m := range r.Outbox {
		s.Outbox[i] = api.Message{To: int(m.To), Seq: m.Seq, Quantity: int64(m.Quantity)}
	}
	return s
}

// clusterView shows the cluster.
func clusterView(v *router.ClusterView) api.Cluster {
	c := api.Cluster{
		ClusterID: v.ClusterID, FailureTolerance: v.FailureTolerance,
		Nodes: make([]api.Node, len(v.Nodes)), Shards: make([]api.Shard, len(v.Shards)),
		RetentionSeconds: int64(v.Retention / time.Second),
	}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		c.Nodes[i] = api.Node{ID: string(n.ID), HTTP: n.HTTP, Ops: n.Ops, Peer: n.Peer, Alive: n.Alive, Version: n.Version}
	}
	for i := range v.Shards {
		c.Shards[i] = shardView(&v.Shards[i])
	}
	return c
}

// nodesView shows the nodes to a client of the data port.
func nodesView(v *router.ClusterView) api.NodeList {
	l := api.NodeList{ClusterID: v.ClusterID, Nodes: make([]api.NodeAddress, len(v.Nodes))}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		l.Nodes[i] = api.NodeAddress{ID: string(n.ID), HTTP: n.HTTP, Alive: n.Alive}
	}
	return l
}

// shardView shows one shard.
func shardView(v *router.ShardView) api.Shard {
	s := api.Shard{
		Shard: int(v.Shard), LeaderSince: api.TimeOf(v.LeaderSince), Term: v.Term, Voters: make([]string, len(v.Voters)),
		CommitIndex: v.CommitIndex, AppliedIndex: v.AppliedIndex, Lag: v.Lag, Replicas: make([]api.Replica, len(v.Replicas)),
	}
	if v.Leader != "" {
		leader := string(v.Leader)
		s.Leader = &leader
	}
	for i, id := range v.Voters {
		s.Voters[i] = string(id)
	}
	for i, r := range v.Replicas {
		s.Replicas[i] = api.Replica{
			Node: string(r.Node), AppliedIndex: r.AppliedIndex, Applied: r.Applied, Hash: fmt.Sprintf("%016x", r.Hash),
		}
	}
	return s
}
