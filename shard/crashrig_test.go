package shard

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// The rig of the crash points: four real nodes, of which n1, n2, n3 host shard 0,
// the source of a transfer, and n2, n3, n4 shard 1, its destination. n1 and n4
// lead, so that cutting one off changes one leader.
//
// Every proposal between shards goes through a directory's member, and a member
// is an interface: the rig puts itself between, which no production code knows
// of. There it stops the first proposal that a point waits for, lets the fault
// happen, and goes on as the point says.

const (
	crashSource allocator.ShardID = 0
	crashDest   allocator.ShardID = 1
)

// crashRig is a cluster with a transfer that can be stopped.
type crashRig struct {
	t   *testing.T
	c   *testCluster
	sku allocator.SKU

	mu      sync.Mutex
	armed   *crashPoint
	stopped chan struct{} // closed when the world stands still
	release chan struct{} // closed when it goes on
	taken   int           // deliveries that the destination answered
	late    []byte        // a delivery that was held back
	gap     bool          // the destination refused a gap
}

// gated is a node as the rig lets others see it.
type gated struct {
	shardrpc.Node
	rig *crashRig
}

// Propose implements shardrpc.Node.
func (g gated) Propose(p *shardrpc.Proposal) {
	kind := allocator.CommandKind(p.Command)
	counted := *p
	if kind == allocator.KindTransferIn {
		counted.Done = func(r shardrpc.Response) {
			g.rig.answered(r)
			p.Done(r)
		}
	}
	g.rig.mu.Lock()
	point := g.rig.armed
	if point == nil || point.kind != kind {
		g.rig.mu.Unlock()
		g.Node.Propose(&counted)
		return
	}
	g.rig.armed = nil
	g.rig.mu.Unlock()
	point.stop(g.rig, &counted, g.Node.Propose)
}

func (r *crashRig) answered(resp shardrpc.Response) {
	var res allocator.Result
	if resp.Outcome != shardrpc.Applied || allocator.DecodeResult(resp.Result, &res) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if res.Code == allocator.CodeTransferGap {
		r.gap = true
		return
	}
	r.taken++
}

// hold stops the world, and goes on with then when the fault has happened.
func (r *crashRig) hold(then func()) {
	close(r.stopped)
	go func() {
		<-r.release
		then()
	}()
}

// newCrashRig starts the cluster and lays 50 units into each shard.
func newCrashRig(t *testing.T, change func(*Config)) *crashRig {
	t.Helper()
	r := &crashRig{t: t, sku: allocator.SKU(skuOn(crashSource, 2, "moving")), stopped: make(chan struct{}), release: make(chan struct{})}
	r.c = newTestCluster(t, 4, 2, func(cfg *Config) {
		cfg.Replicas = 3
		cfg.Storage.Trailing = 1
		if change != nil {
			change(cfg)
		}
	})
	r.start()
	r.lead(crashSource, "n1")
	r.lead(crashDest, "n4")
	if res := r.c.apply(r.c.nodes["n2"], crashSource, putSKU(string(r.sku), 100).AppendTo(nil)); !res.Created {
		t.Fatal(res)
	}
	eventually(t, "the stock is spread", func() bool {
		cut := r.cut()
		return cut[0].Available == 50 && cut[1].Available == 50 && len(cut[0].Outbox) == 0
	})
	return r
}

// start starts all nodes, with the rig between them.
func (r *crashRig) start() {
	r.c.startAll()
	for _, n := range r.c.nodes {
		for id := range n.peers.addrs {
			if node, ok := n.directory.Member(id); ok {
				n.directory.SetMember(id, gated{node, r})
			}
		}
	}
}

// restart stops all nodes and starts them again.
func (r *crashRig) restart() {
	r.c.stopAll()
	r.start()
}

// lead has a node lead a shard.
func (r *crashRig) lead(shard allocator.ShardID, name string) {
	r.t.Helper()
	r.await(shard)
	eventually(r.t, name+" leads", func() bool {
		leader := r.leading(shard)
		if leader == nil || string(leader.ID()) == name {
			return leader != nil
		}
		rep := leader.replica(shard)
		for _, s := range rep.raft.GetConfiguration().Configuration().Servers {
			if string(nodeOf(s.ID)) == name {
				_ = rep.raft.LeadershipTransferToServer(s.ID, s.Address).Error() // tried again
			}
		}
		return false
	})
}

// leading is the node that leads a shard and is ready, not cut off; nil: none is.
func (r *crashRig) leading(shard allocator.ShardID) *Node {
	for name, n := range r.c.nodes {
		if rep := n.replica(shard); rep != nil && rep.ready() && !r.c.net.Isolated(name) {
			return n
		}
	}
	return nil
}

// await waits until a shard has a leader, and returns it.
func (r *crashRig) await(shard allocator.ShardID) (leader *Node) {
	r.t.Helper()
	eventually(r.t, "there is a leader", func() bool { leader = r.leading(shard); return leader != nil })
	return leader
}

// cut reads what the leaders have applied.
func (r *crashRig) cut() (cut allocator.Cut) {
	r.t.Helper()
	for _, shard := range []allocator.ShardID{crashSource, crashDest} {
		r.await(shard).replica(shard).fsm.Read(func(s *allocator.State) { cut = append(cut, s.Bucket(r.sku)) })
	}
	return cut
}

// transfer proposes a TransferOut; the answer comes through the channel.
func (r *crashRig) transfer(units allocator.Quantity) <-chan shardrpc.Response {
	out := &allocator.TransferOut{SKU: r.sku, To: crashDest, Quantity: units}
	answer := make(chan shardrpc.Response, 1)
	r.c.nodes["n2"].Dispatcher().Propose(&shardrpc.Proposal{
		Shard: crashSource, Command: out.AppendTo(nil), Deadline: time.Now().Add(5 * time.Second),
		Final: true, Once: true, Done: func(resp shardrpc.Response) { answer <- resp },
	})
	return answer
}

// settle waits until nothing is in transit, and tells how long that took.
func (r *crashRig) settle() time.Duration {
	r.t.Helper()
	began := time.Now()
	eventually(r.t, "everything has arrived", func() bool {
		cut := r.cut()
		return cut.InTransit() == 0 && len(cut[0].Outbox)+len(cut[1].Outbox) == 0
	})
	return time.Since(began)
}

// audit proves that nothing was lost or made: by barriers on both shards, and on
// every replica by its hash.
func (r *crashRig) audit() allocator.Cut {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	all := r.c.nodes["n2"].Dispatcher().Buckets(ctx, r.sku, true)
	if len(all.Missing) > 0 {
		r.t.Fatalf("shards %v did not answer", all.Missing)
	}
	cut := all.Cut
	if b := cut.Balance(); !b.Balanced || b.OnHand != 100 {
		r.t.Errorf("%d units on hand, %+v", b.OnHand, b)
	}
	for _, shard := range []allocator.ShardID{crashSource, crashDest} {
		eventually(r.t, "the replicas are equal", func() bool { return r.equal(shard) })
	}
	return cut
}

// equal tells whether all replicas of a shard that are not cut off have applied the same number of
// commands; it fails the test if they differ then.
func (r *crashRig) equal(shard allocator.ShardID) bool {
	type state struct{ applied, hash uint64 }
	var all []state
	for name, n := range r.c.nodes {
		if rep := n.replica(shard); rep != nil && !r.c.net.Isolated(name) {
			rep.fsm.Read(func(s *allocator.State) { all = append(all, state{s.Applied(), s.Hash()}) })
		}
	}
	if slices.ContainsFunc(all, func(s state) bool { return s.applied != all[0].applied }) {
		return false
	}
	if slices.ContainsFunc(all, func(s state) bool { return s.hash != all[0].hash }) {
		r.t.Errorf("the replicas of shard %d differ: %v", shard, all)
	}
	return true
}

// snapshot has all replicas of a shard take a snapshot, and restarts the cluster
// from them.
func (r *crashRig) snapshot(shard allocator.ShardID) {
	r.t.Helper()
	eventually(r.t, "the replicas are equal", func() bool { return r.equal(shard) })
	before := map[string]uint64{}
	for name, n := range r.c.nodes {
		if rep := n.replica(shard); rep != nil {
			rep.fsm.Read(func(s *allocator.State) { before[name] = s.Applied() })
			check(r.t, rep.raft.Snapshot().Error())
		}
	}
	r.restart()
	for name, n := range r.c.nodes {
		if rep := n.replica(shard); rep != nil {
			restored := rep.snapshots.last().index > 0
			rep.fsm.Read(func(s *allocator.State) { restored = restored && s.Applied() >= before[name] })
			if !restored {
				r.t.Errorf("%s did not come from a snapshot", name)
			}
		}
	}
}

// handOver has the leader of a shard give its office to another replica.
func (r *crashRig) handOver(shard allocator.ShardID) {
	r.t.Helper()
	leader := r.leading(shard)
	if leader == nil {
		return // it was cut off by the point itself
	}
	check(r.t, leader.replica(shard).raft.LeadershipTransfer().Error())
	eventually(r.t, "another one leads", func() bool { n := r.leading(shard); return n != nil && n != leader })
}

// cutOff isolates nodes, or connects them again.
func (r *crashRig) cutOff(cut bool, names ...string) {
	for _, name := range names {
		r.c.net.Isolate(name, cut)
	}
}
