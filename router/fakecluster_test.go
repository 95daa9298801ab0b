package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// fakeCluster is a whole cluster in one process: real state machines, no Raft.
// Commands are applied at once, one after the other. When a command is short
// its shard gets all there is from the others first. A test can make the
// cluster misbehave.
type fakeCluster struct {
	nodes []shardrpc.NodeID

	mu     sync.Mutex
	states []*allocator.State
	now    allocator.Millis
	seen   []allocator.Command // every command applied for a proposal
	reads  int                 // questions for buckets
	// fault decides what happens to a proposal; nil: it is applied.
	fault func(p *shardrpc.Proposal) fault
	// bend changes a report before it is answered.
	bend func(*allocator.BucketReport)
	down map[shardrpc.NodeID]bool
	held []func() // proposals that wait for release
	// undelivered has messages between shards stay where they are.
	undelivered bool
	waiting     map[allocator.ShardID]int // what shards say of their lines
}

// fault is what happens to a proposal.
type fault int

const (
	fine         fault = iota
	lostAnswer         // applied, and the outcome is unknown
	lostRequest        // not applied, and the outcome is unknown
	overload           // not applied
	hold               // applied when the test says so
	damagedReply       // applied, and the result can't be read
)

// newFakeCluster makes shards spread over nodes n1, n2 and n3.
func newFakeCluster(t *testing.T, shards int) *fakeCluster {
	t.Helper()
	c := &fakeCluster{nodes: []shardrpc.NodeID{"n1", "n2", "n3"}, now: 1_800_000_000_000, down: make(map[shardrpc.NodeID]bool)}
	for i := range shards {
		s, err := allocator.New(allocator.Config{Shard: allocator.ShardID(i), Shards: shards})
		if err != nil {
			t.Fatal(err)
		}
		c.states = append(c.states, s)
	}
	return c
}

// leader is the node that leads a shard.
func (c *fakeCluster) leader(shard allocator.ShardID) shardrpc.NodeID {
	return c.nodes[int(shard)%len(c.nodes)]
}

// dispatcher makes a dispatcher that reaches the cluster.
func (c *fakeCluster) dispatcher(t *testing.T) *shardrpc.Dispatcher {
	dir := shardrpc.NewDirectory(shardrpc.DirectoryConfig{Shards: len(c.states)})
	for _, id := range c.nodes {
		dir.SetMember(id, &fakeNode{c: c, id: id})
	}
	d := shardrpc.NewDispatcher(shardrpc.DispatcherConfig{Directory: dir})
	t.Cleanup(func() { d.Close(); dir.Close() })
	return d
}

var testSecret = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// router makes a router with the cluster's secret.
func (c *fakeCluster) router(t *testing.T, change ...func(*Config)) *Router {
	t.Helper()
	cfg := Config{Shards: len(c.states), Secret: testSecret, Dispatcher: c.dispatcher(t), Retention: 15 * time.Minute}
	for _, f := range change {
		f(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// misbehave sets what happens to the proposals from now on.
func (c *fakeCluster) misbehave(f func(p *shardrpc.Proposal) fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// always is one fault for every proposal.
func always(f fault) func(*shardrpc.Proposal) fault {
	return func(*shardrpc.Proposal) fault { return f }
}

// sequence is one fault after the other, then none.
func sequence(faults ...fault) func(*shardrpc.Proposal) fault {
	return func(*shardrpc.Proposal) fault {
		if len(faults) == 0 {
			return fine
		}
		f := faults[0]
		faults = faults[1:]
		return f
	}
}

// commands is how many proposals were applied.
func (c *fakeCluster) commands() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// release applies what is held.
func (c *fakeCluster) release() {
	c.mu.Lock()
	held := c.held
	c.held = nil
	c.mu.Unlock()
	for _, f := range held {
		f()
	}
}

// must applies one command; an error of the state machine ends the test run.
func (c *fakeCluster) must(shard allocator.ShardID, cmd []byte) allocator.Result {
	s := c.states[shard]
	if err := s.Begin(c.now); err != nil {
		panic(err)
	}
	out, err := s.Apply(cmd, nil)
	if err != nil {
		panic(err)
	}
	var res allocator.Result
	if err := allocator.DecodeResult(out, &res); err != nil {
		panic(err)
	}
	return res
}

// apply is what the leader of a shard does with a command. c.mu is held.
func (c *fakeCluster) apply(shard allocator.ShardID, cmd []byte) []byte {
	decoded, err := allocator.DecodeCommand(cmd)
	if err != nil {
		panic(fmt.Sprintf("the router made a command that can't be read: %v", err))
	}
	c.seen = append(c.seen, decoded)
	res := c.must(shard, cmd)
	if len(res.Shortages) > 0 {
		for _, short := range res.Shortages {
			c.pull(shard, short.SKU)
		}
		res = c.must(shard, cmd)
	}
	if !c.undelivered {
		c.deliver()
	}
	return res.AppendTo(nil)
}

// deliver brings all messages to where they belong. c.mu is held.
func (c *fakeCluster) deliver() {
	for i := range c.states {
		for j := range c.states {
			if i != j {
				c.carry(allocator.ShardID(i), allocator.ShardID(j))
			}
		}
	}
}

// carry brings the messages from one shard to another. c.mu is held.
func (c *fakeCluster) carry(from, to allocator.ShardID) {
	messages, first := c.states[from].Outbox(to, 0, allocator.MaxMessages)
	if len(messages) == 0 {
		return
	}
	in := allocator.TransferIn{From: from, First: first, Messages: messages}
	ack := allocator.TransferAck{To: to, Through: c.must(to, in.AppendTo(nil)).Through}
	c.must(from, ack.AppendTo(nil))
}

// pull brings all units of a SKU to a shard.
func (c *fakeCluster) pull(to allocator.ShardID, sku allocator.SKU) {
	for i, s := range c.states {
		from := allocator.ShardID(i)
		if b := s.Bucket(sku); from == to || !b.Known {
			continue
		}
		out := allocator.TransferOut{SKU: sku, To: to, Quantity: allocator.MaxQuantity, Open: true}
		c.must(from, out.AppendTo(nil))
		c.carry(from, to)
	}
}

// reserved is the sum of units in open reservations of a SKU.
func (c *fakeCluster) reserved(sku allocator.SKU) (sum allocator.Quantity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.states {
		sum += s.Bucket(sku).Reserved
	}
	return sum
}

// fakeNode is one node of a fakeCluster.
type fakeNode struct {
	c  *fakeCluster
	id shardrpc.NodeID
}

// Propose implements shardrpc.Node.
func (n *fakeNode) Propose(p *shardrpc.Proposal) {
	r := shardrpc.Response{Outcome: shardrpc.NotApplied, Shard: p.Shard}
	n.c.mu.Lock()
	leader := n.c.leader(p.Shard)
	switch {
	case n.c.down[n.id]:
		r.Reason = shardrpc.ReasonUnreachable
	case leader != n.id:
		r.Reason, r.Leader = shardrpc.ReasonNotLeader, leader
	default:
		r = n.c.serve(p, r)
	}
	n.c.mu.Unlock()
	if r.Outcome != 0 {
		p.Done(r)
	}
}

// serve does what the fault of the moment says. c.mu is held.
func (c *fakeCluster) serve(p *shardrpc.Proposal, r shardrpc.Response) shardrpc.Response {
	f := fine
	if c.fault != nil {
		f = c.fault(p)
	}
	switch f {
	case lostAnswer:
		c.apply(p.Shard, p.Command)
		return shardrpc.Response{Outcome: shardrpc.Unknown, Reason: shardrpc.ReasonLeadershipLost, Shard: p.Shard}
	case lostRequest:
		return shardrpc.Response{Outcome: shardrpc.Unknown, Reason: shardrpc.ReasonLeadershipLost, Shard: p.Shard}
	case overload:
		r.Reason = shardrpc.ReasonOverloaded
		return r
	case damagedReply:
		c.apply(p.Shard, p.Command)
		return shardrpc.Response{Outcome: shardrpc.Applied, Shard: p.Shard, Result: []byte("?")}
	case hold:
		c.held = append(c.held, func() { p.Done(c.done(p)) })
		return shardrpc.Response{}
	case fine:
	}
	return shardrpc.Response{Outcome: shardrpc.Applied, Shard: p.Shard, Result: c.apply(p.Shard, p.Command)}
}

func (c *fakeCluster) done(p *shardrpc.Proposal) shardrpc.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	return shardrpc.Response{Outcome: shardrpc.Applied, Shard: p.Shard, Result: c.apply(p.Shard, p.Command)}
}

// answers tells whether a node answers for a shard, and else why not.
func (n *fakeNode) answers(shard allocator.ShardID) (reason shardrpc.Reason, leader shardrpc.NodeID) {
	if l := n.c.leader(shard); l != n.id {
		return shardrpc.ReasonNotLeader, l
	}
	return shardrpc.ReasonNone, ""
}

// Buckets implements shardrpc.Node.
func (n *fakeNode) Buckets(_ context.Context, r shardrpc.BucketsRequest) ([]shardrpc.BucketAnswer, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.c.down[n.id] {
		return nil, shardrpc.ErrUnreachable
	}
	n.c.reads++
	var all []shardrpc.BucketAnswer
	for _, shard := range r.Shards {
		a := shardrpc.BucketAnswer{Shard: shard}
		if a.Reason, a.Leader = n.answers(shard); a.Reason == shardrpc.ReasonNone {
			report := n.c.states[shard].Bucket(r.SKU)
			if n.c.bend != nil {
				n.c.bend(&report)
			}
			a.Report, a.Waiting = &report, n.c.waiting[shard]
		}
		all = append(all, a)
	}
	return all, nil
}

// Reservation implements shardrpc.Node.
func (n *fakeNode) Reservation(_ context.Context, r shardrpc.ReservationRequest) (a shardrpc.ReservationAnswer, err error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.c.down[n.id] {
		return a, shardrpc.ErrUnreachable
	}
	if a.Reason, a.Leader = n.answers(r.ID.Shard); a.Reason == shardrpc.ReasonNone {
		a.Reservation, a.Found = n.c.states[r.ID.Shard].Reservation(r.ID)
	}
	return a, nil
}

// SKUs implements shardrpc.Node.
func (n *fakeNode) SKUs(_ context.Context, r shardrpc.SKUsRequest) (a shardrpc.SKUsAnswer, err error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.c.down[n.id] {
		return a, shardrpc.ErrUnreachable
	}
	if a.Reason, a.Leader = n.answers(r.Shard); a.Reason == shardrpc.ReasonNone {
		a.SKUs = n.c.states[r.Shard].Freeze().SKUs(r.Prefix, r.After, r.Limit)
	}
	return a, nil
}

func (n *fakeNode) Exist(_ context.Context, r shardrpc.ExistRequest) (shardrpc.ExistAnswer, error) {
	return shardrpc.ExistAnswer{Exist: make([]bool, len(r.SKUs))}, nil
}

func (n *fakeNode) Levels(context.Context) (shardrpc.LevelStream, error) {
	return nil, errors.ErrUnsupported
}

// Status implements shardrpc.Node.
func (n *fakeNode) Status(context.Context) (shardrpc.Status, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	s := shardrpc.Status{Node: n.id, ClusterID: "c1", HTTP: "http-" + string(n.id)}
	if n.c.down[n.id] {
		return shardrpc.Status{}, shardrpc.ErrUnreachable
	}
	for i := range n.c.states {
		leader := n.c.leader(allocator.ShardID(i))
		s.Shards = append(s.Shards, shardrpc.ShardStatus{
			Shard: allocator.ShardID(i), Leader: leader, Ready: leader == n.id, Term: 1, Voters: n.c.nodes,
			CommitIndex: 7, AppliedIndex: 7,
		})
	}
	return s, nil
}

// setDown takes a node down or brings it back.
func (c *fakeCluster) setDown(id shardrpc.NodeID, down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down[id] = down
}

// put creates a SKU and fails the test when that fails.
func put(t *testing.T, r *Router, sku string, units int64, change ...func(*allocator.Policy)) {
	t.Helper()
	p := allocator.Policy{DefaultTTL: allocator.DefaultTTL, MaxTTL: allocator.MaxTTL}
	for _, f := range change {
		f(&p)
	}
	if _, err := r.PutSKU(t.Context(), PutSKURequest{SKU: sku, Policy: p, OnHand: &units}); err != nil {
		t.Fatal(err)
	}
}

// one is a request for units of one SKU.
func one(sku string, units int64, key string) ReserveRequest {
	return ReserveRequest{IdempotencyKey: key, Lines: []Line{{SKU: sku, Quantity: units}}}
}

// reserve makes a reservation and fails the test when that fails.
func reserve(t *testing.T, r *Router, req ReserveRequest) Reserved {
	t.Helper()
	got, err := r.Reserve(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
