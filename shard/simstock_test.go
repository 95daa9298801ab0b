package shard

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// simCluster is a cluster of real state machines, pullers and couriers without
// Raft and without a network, for use inside a synctest bubble. Commands are
// applied after random delays; calls between shards are lost before or after
// they were applied with probability loss.
type simCluster struct {
	shards []*simShard
	jitter time.Duration // how far apart delays are

	mu   sync.Mutex // guards what follows
	loss float64
	rand *rand.Rand
}

// simShard is one shard and its leader's helpers.
type simShard struct {
	cluster *simCluster
	shard   allocator.ShardID
	pulls   *puller

	mu    sync.Mutex
	state *allocator.State
	next  chan struct{} // closed when the next command has been applied
	down  bool          // not reachable from other shards
}

func newSimCluster(t *testing.T, ctx context.Context, shards int, seed uint64) *simCluster {
	t.Helper()
	c := &simCluster{jitter: 4 * time.Millisecond, rand: rand.New(rand.NewPCG(seed, 0))}
	log := slog.New(slog.DiscardHandler)
	metrics := newPullMetrics(prometheus.NewRegistry())
	for i := range shards {
		st, err := allocator.New(allocator.Config{
			Shard: allocator.ShardID(i), Shards: shards,
			Retention: allocator.DefaultRetention, ExpiryPerStamp: 4096,
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &simShard{cluster: c, shard: allocator.ShardID(i), state: st, next: make(chan struct{})}
		c.shards = append(c.shards, s)
	}
	for _, s := range c.shards {
		s.pulls = newPuller(ctx, s, c, (*shardrpc.Levels)(nil), metrics) // it asks how many shards there are
		go s.pulls.run()
		go newCourier(s.shard, s, c, log).run(ctx)
	}
	return c
}

// chance draws a number in [0, 1).
func (c *simCluster) chance() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rand.Float64()
}

// lost draws whether something gets lost.
func (c *simCluster) lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rand.Float64() < c.loss
}

// setLoss changes the probability that something gets lost.
func (c *simCluster) setLoss(loss float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loss = loss
}

// delay draws how long a commit or a hop takes.
func (c *simCluster) delay() time.Duration {
	return time.Millisecond + time.Duration(c.chance()*float64(c.jitter))
}

// submit applies a command after a delay.
func (s *simShard) submit(p *shardrpc.Proposal) {
	time.AfterFunc(s.cluster.delay(), func() { p.Done(s.apply(p)) })
}

// apply applies a command now.
func (s *simShard) apply(p *shardrpc.Proposal) shardrpc.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !time.Now().Before(p.Deadline) {
		return notApplied(s.shard, shardrpc.ReasonDeadline)
	}
	if err := s.state.Begin(allocator.Millis(time.Now().UnixMilli())); err != nil {
		panic(err)
	}
	result, err := s.state.Apply(p.Command, nil)
	if err != nil {
		panic(err)
	}
	close(s.next)
	s.next = make(chan struct{})
	return shardrpc.Response{Outcome: shardrpc.Applied, Shard: s.shard, Result: result}
}

// propose is what a client's request meets: with shortages it is parked.
func (s *simShard) propose(p *shardrpc.Proposal) {
	if _, reserve := allocator.ReserveKey(p.Command); reserve && !p.Final {
		if lined, minds := s.pulls.minds(p); minds && s.pulls.receive(p, lined) {
			return
		}
	}
	q := *p
	q.Done = func(r shardrpc.Response) {
		if r.Outcome == shardrpc.Applied && !p.Final && allocator.ResultHasShortages(r.Result) {
			s.pulls.park(p, r.Result)
			return
		}
		p.Done(r)
	}
	s.submit(&q)
}

func (s *simShard) read(look func(*allocator.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	look(s.state)
}

func (s *simShard) id() allocator.ShardID { return s.shard }

func (s *simShard) shards() int { return len(s.cluster.shards) }

func (s *simShard) applied() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *simShard) Destinations() []allocator.ShardID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Destinations()
}

func (s *simShard) Head(to allocator.ShardID, limit int) allocator.TransferIn {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, first := s.state.Outbox(to, 0, limit)
	return allocator.TransferIn{From: s.shard, First: first, Messages: messages}
}

func (s *simShard) report(sku allocator.SKU) allocator.BucketReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Bucket(sku)
}

func (s *simShard) reachable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.down
}

func (s *simShard) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Propose implements stockFinder: it takes a hop, applies, and takes a hop back.
func (c *simCluster) Propose(p *shardrpc.Proposal) {
	to := c.shards[p.Shard]
	time.AfterFunc(c.delay(), func() {
		if !to.reachable() || c.lost() {
			p.Done(notApplied(p.Shard, shardrpc.ReasonUnreachable))
			return
		}
		granted := p
		if len(p.Claims) > 0 {
			if granted = to.pulls.yield(p); granted == nil {
				result := (&allocator.Result{}).AppendTo(nil)
				p.Done(shardrpc.Response{Outcome: shardrpc.Applied, Shard: p.Shard, Result: result})
				return
			}
		}
		r := to.apply(granted)
		if c.lost() {
			r = shardrpc.Response{Outcome: shardrpc.Unknown, Reason: shardrpc.ReasonUnreachable, Shard: p.Shard}
		}
		time.AfterFunc(c.delay(), func() { p.Done(r) })
	})
}

// Gather implements stockFinder: each shard is read at another moment.
func (c *simCluster) Gather(ctx context.Context, sku allocator.SKU, _ bool) (allocator.Cut, []allocator.ShardID) {
	var (
		mu      sync.Mutex
		cut     allocator.Cut
		missing []allocator.ShardID
		wg      sync.WaitGroup
	)
	for _, s := range c.shards {
		wg.Go(func() {
			hop := time.NewTimer(c.delay())
			defer hop.Stop()
			select {
			case <-hop.C:
			case <-ctx.Done():
			}
			mu.Lock()
			defer mu.Unlock()
			if !s.reachable() || ctx.Err() != nil {
				missing = append(missing, s.shard)
				return
			}
			cut = append(cut, s.report(sku))
		})
	}
	wg.Wait()
	slices.SortFunc(cut, func(a, b allocator.BucketReport) int { return cmp.Compare(a.Shard, b.Shard) })
	return cut, missing
}

// Exist implements anchors: it takes a hop there and back.
func (c *simCluster) Exist(ctx context.Context, r shardrpc.ExistRequest) ([]bool, error) {
	hop := time.NewTimer(2 * c.delay())
	defer hop.Stop()
	select {
	case <-hop.C:
	case <-ctx.Done():
	}
	s := c.shards[r.Shard]
	if !s.reachable() || ctx.Err() != nil {
		return nil, &shardrpc.UnavailableError{Shard: r.Shard}
	}
	exist := make([]bool, len(r.SKUs))
	s.read(func(st *allocator.State) {
		for i, sku := range r.SKUs {
			exist[i] = st.Knows([]byte(sku))
		}
	})
	return exist, nil
}

// do proposes cmd as a client would and waits for the answer.
func (s *simShard) do(t *testing.T, cmd allocator.Command, timeout time.Duration) (allocator.Result, shardrpc.Response) {
	t.Helper()
	answer := make(chan shardrpc.Response, 1)
	s.propose(&shardrpc.Proposal{
		Shard: s.shard, Command: cmd.AppendTo(nil), Deadline: time.Now().Add(timeout),
		Done: func(r shardrpc.Response) { answer <- r },
	})
	r := <-answer
	var res allocator.Result
	if r.Outcome == shardrpc.Applied {
		if err := allocator.DecodeResult(r.Result, &res); err != nil {
			t.Fatal(err)
		}
	}
	return res, r
}

// create makes a SKU on its anchor and spreads its units.
func (c *simCluster) create(t *testing.T, sku allocator.SKU, units allocator.Quantity) {
	t.Helper()
	anchor := c.shards[allocator.Anchor(sku, len(c.shards))]
	key := allocator.Key{2}
	copy(key[1:], sku)
	put := &allocator.PutSKU{Key: key, SKU: sku, HasOnHand: true, OnHand: units}
	res, _ := anchor.do(t, put, time.Minute)
	if res.Code != allocator.CodeOK {
		t.Fatalf("create %s: %v", sku, res.Code)
	}
	spread(sku, units, anchor, (*shardrpc.Levels)(nil))
}

// sum adds up a SKU over all shards.
func (c *simCluster) sum(sku allocator.SKU) (available, reserved, moving allocator.Quantity) {
	for _, s := range c.shards {
		r := s.report(sku)
		available += r.Available
		reserved += r.Reserved
		for _, m := range r.Outbox {
			moving += m.Quantity
		}
	}
	return available, reserved, moving
}
