package shardrpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"stockade/allocator"
)

// UnavailableError says that a shard could not be asked before the time ran out.
type UnavailableError struct {
	Shard  allocator.ShardID
	Reason Reason
	Since  time.Time // zero: not known
}

// Error says it in a sentence.
func (e *UnavailableError) Error() string {
	s := fmt.Sprintf("shard %d can't be used: %s", e.Shard, e.Reason.Phrase())
	if !e.Since.IsZero() {
		s += ", since " + e.Since.UTC().Format(time.RFC3339Nano)
	}
	return s
}

// unavailable describes the trouble with shard as far as it is known.
func (d *Dispatcher) unavailable(shard allocator.ShardID) *UnavailableError {
	reason, since := d.dir.Trouble(shard)
	if reason == ReasonNone {
		reason = ReasonDeadline
	}
	return &UnavailableError{Shard: shard, Reason: reason, Since: since}
}

// Gather is Buckets without who waits in line.
func (d *Dispatcher) Gather(ctx context.Context, sku allocator.SKU, strong bool) (allocator.Cut, []allocator.ShardID) {
	g := d.Buckets(ctx, sku, strong)
	return g.Cut, g.Missing
}

// Gathered is what the shards said of one SKU.
type Gathered struct {
	Cut     allocator.Cut       // a report of each shard that answered, in order
	Waiting []int               // beside each report: how many stood in line there
	Missing []allocator.ShardID // the shards that did not answer
}

// Buckets reports sku from every shard, asking each leader's node once for all
// it leads, in parallel. What is missing is asked for again until ctx ends; the
// shards that are still missing then are named, and the cut lacks them. A cut
// without missing shards has one report per shard, in order.
func (d *Dispatcher) Buckets(ctx context.Context, sku allocator.SKU, strong bool) Gathered {
	g := &gathering{d: d, sku: sku, strong: strong, answers: make([]BucketAnswer, d.dir.Shards())}
	for pause := minBackoff; ; pause = min(2*pause, maxBackoff) {
		g.round(ctx)
		all := g.result()
		if len(all.Missing) == 0 || ctx.Err() != nil {
			return all
		}
		sleep(ctx, pause/2+rand.N(pause/2))
		if ctx.Err() != nil {
			return all
		}
	}
}

// gathering is the state of one call of Buckets.
type gathering struct {
	d      *Dispatcher
	sku    allocator.SKU
	strong bool

	mu      sync.Mutex
	answers []BucketAnswer // by shard; without a report: missing
}

// question is what one node is asked in one round.
type question struct {
	id     NodeID
	node   Node
	shards []allocator.ShardID
}

// round asks for what is missing, once.
func (g *gathering) round(ctx context.Context) {
	g.d.metrics.readRounds.Inc()
	var wait sync.WaitGroup
	for _, q := range g.questions() {
		wait.Go(func() { g.ask(ctx, q) })
	}
	wait.Wait()
}

// questions groups the missing shards by their leaders' nodes.
func (g *gathering) questions() []question {
	open := make(map[NodeID]int) // node → index of its question that has room
	var all []question
	for _, shard := range g.result().Missing {
		id, node, ok := g.d.dir.Leader(shard)
		if !ok {
			g.d.dir.leaderless(shard)
			continue
		}
		i, ok := open[id]
		if !ok || len(all[i].shards) == MaxBucketsPerRequest {
			i = len(all)
			open[id] = i
			all = append(all, question{id: id, node: node})
		}
		all[i].shards = append(all[i].shards, shard)
	}
	return all
}

// ask asks one node and takes in what it answers.
func (g *gathering) ask(ctx context.Context, q question) {
	answers, err := q.node.Buckets(ctx, BucketsRequest{SKU: g.sku, Shards: q.shards, Strong: g.strong})
	if err != nil {
		for _, shard := range q.shards {
			g.d.readFailed(ctx, shard, q.id, ReasonUnreachable)
		}
		return
	}
	for _, a := range answers {
		if a.Report == nil || int(a.Shard) >= len(g.answers) {
			g.d.noteRead(a.Shard, q.id, a.Reason, a.Leader)
			continue
		}
		g.d.dir.Succeeded(a.Shard)
		g.mu.Lock()
		g.answers[a.Shard] = a
		g.mu.Unlock()
	}
}

// result gives what is there and names what is missing.
func (g *gathering) result() (all Gathered) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all.Cut, all.Waiting = make(allocator.Cut, 0, len(g.answers)), make([]int, 0, len(g.answers))
	for i, a := range g.answers {
		if a.Report == nil {
			all.Missing = append(all.Missing, allocator.ShardID(i))
			continue
		}
		all.Cut, all.Waiting = append(all.Cut, *a.Report), append(all.Waiting, a.Waiting)
	}
	return all
}

// readFailed notes an error of a node that was asked about shard. When the
// caller's own time ran out, that says nothing about the node.
func (d *Dispatcher) readFailed(ctx context.Context, shard allocator.ShardID, from NodeID, reason Reason) {
	if ctx.Err() != nil {
		d.dir.Failed(shard, ReasonDeadline, time.Time{})
		return
	}
	d.noteRead(shard, from, reason, "")
}

// noteRead tells the directory why a node did not answer about shard.
func (d *Dispatcher) noteRead(shard allocator.ShardID, from NodeID, reason Reason, leader NodeID) {
	d.note(shard, from, Response{Outcome: NotApplied, Reason: reason, Leader: leader})
	d.dir.Failed(shard, reason, time.Time{})
}

// Reservation looks a reservation up at its shard's leader, trying until ctx
// ends. The error is an *UnavailableError.
func (d *Dispatcher) Reservation(ctx context.Context, id allocator.ReservationID) (allocator.Reservation, bool, error) {
	var a ReservationAnswer
	err := d.read(ctx, id.Shard, func(n Node) (Reason, NodeID, error) {
		var err error
		a, err = n.Reservation(ctx, ReservationRequest{ID: id})
		return a.Reason, a.Leader, err
	})
	return a.Reservation, a.Found && err == nil, err
}

// SKUs lists SKUs of one anchor, trying until ctx ends. The error is an
// *UnavailableError.
func (d *Dispatcher) SKUs(ctx context.Context, r SKUsRequest) ([]allocator.SKUSummary, error) {
	var a SKUsAnswer
	err := d.read(ctx, r.Shard, func(n Node) (Reason, NodeID, error) {
		var err error
		a, err = n.SKUs(ctx, r)
		return a.Reason, a.Leader, err
	})
	return a.SKUs, err
}

// Exist tells which SKUs of an anchor exist, trying until ctx ends. The error is
// an *UnavailableError.
func (d *Dispatcher) Exist(ctx context.Context, r ExistRequest) ([]bool, error) {
	var a ExistAnswer
	err := d.read(ctx, r.Shard, func(n Node) (Reason, NodeID, error) {
		var err error
		a, err = n.Exist(ctx, r)
		if err == nil && a.Reason == ReasonNone && len(a.Exist) != len(r.SKUs) {
			err = fmt.Errorf("asked for %d SKUs, %d were answered", len(r.SKUs), len(a.Exist))
		}
		return a.Reason, a.Leader, err
	})
	return a.Exist, err
}

// read asks the leader of shard until it answers or ctx ends.
func (d *Dispatcher) read(ctx context.Context, shard allocator.ShardID, ask func(Node) (Reason, NodeID, error)) error {
	for pause := minBackoff; ; pause = min(2*pause, maxBackoff) {
		if d.readOnce(ctx, shard, ask) {
			return nil
		}
		sleep(ctx, pause/2+rand.N(pause/2))
		if ctx.Err() != nil {
			return d.unavailable(shard)
		}
	}
}

// readOnce asks the node that is thought to lead shard, if there is one.
func (d *Dispatcher) readOnce(ctx context.Context, shard allocator.ShardID, ask func(Node) (Reason, NodeID, error)) bool {
	d.metrics.readRounds.Inc()
	id, node, ok := d.dir.Leader(shard)
	if !ok {
		d.dir.leaderless(shard)
		return false
	}
	reason, leader, err := ask(node)
	switch {
	case err != nil:
		d.readFailed(ctx, shard, id, ReasonUnreachable)
	case reason != ReasonNone:
		d.noteRead(shard, id, reason, leader)
	default:
		d.dir.Succeeded(shard)
		return true
	}
	return false
}
