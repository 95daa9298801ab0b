package shardrpc

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"stockade/allocator"
)

// fakeNode is a Node whose answers a test decides. Without a decision it applies
// everything and echoes the command.
type fakeNode struct {
	status      Status
	propose     func(p *Proposal)
	buckets     func(BucketsRequest) ([]BucketAnswer, error)
	reservation func(ReservationRequest) (ReservationAnswer, error)
	skus        func(SKUsRequest) (SKUsAnswer, error)
	statusErr   error
	onStatus    func() // called by Status, if set
	levels      func() (LevelStream, error)

	mu sync.Mutex // guards status and statusErr once the node is in use
}

func (n *fakeNode) Propose(p *Proposal) {
	if n.propose != nil {
		n.propose(p)
		return
	}
	p.Done(Response{Outcome: Applied, Shard: p.Shard, Result: p.Command})
}

func (n *fakeNode) Buckets(_ context.Context, r BucketsRequest) ([]BucketAnswer, error) {
	if n.buckets != nil {
		return n.buckets(r)
	}
	var answers []BucketAnswer
	for _, s := range r.Shards {
		answers = append(answers, BucketAnswer{Shard: s, Report: &allocator.BucketReport{Shard: s, SKU: r.SKU}})
	}
	return answers, nil
}

func (n *fakeNode) Reservation(_ context.Context, r ReservationRequest) (ReservationAnswer, error) {
	if n.reservation != nil {
		return n.reservation(r)
	}
	return ReservationAnswer{}, nil
}

func (n *fakeNode) SKUs(_ context.Context, r SKUsRequest) (SKUsAnswer, error) {
	if n.skus != nil {
		return n.skus(r)
	}
	return SKUsAnswer{}, nil
}

func (n *fakeNode) Exist(_ context.Context, r ExistRequest) (ExistAnswer, error) {
	return ExistAnswer{Exist: make([]bool, len(r.SKUs))}, nil
}

func (n *fakeNode) Levels(context.Context) (LevelStream, error) {
	if n.levels != nil {
		return n.levels()
	}
	return nil, errors.ErrUnsupported
}

func (n *fakeNode) Status(context.Context) (Status, error) {
	if n.onStatus != nil {
		n.onStatus()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status, n.statusErr
}

func (n *fakeNode) setStatus(s Status, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.status, n.statusErr = s, err
}

// leads is the status of a node that leads shards.
func leads(id NodeID, term uint64, shards ...allocator.ShardID) Status {
	s := Status{Node: id, ClusterID: "c1"}
	for _, shard := range shards {
		s.Shards = append(s.Shards, ShardStatus{Shard: shard, Leader: id, Ready: true, Term: term, Voters: []NodeID{id}})
	}
	return s
}

// collected is what Done was called with.
type collected struct {
	t    *testing.T
	ch   chan Response
	mu   sync.Mutex
	done map[string]int // calls of Done by command
}

func newCollected(t *testing.T) *collected {
	return &collected{t: t, ch: make(chan Response, 100_000), done: make(map[string]int)}
}

// proposal makes a proposal whose Done must be called exactly once.
func (c *collected) proposal(command string, timeout time.Duration) *Proposal {
	return &Proposal{
		Command: []byte(command), Deadline: time.Now().Add(timeout),
		Done: func(r Response) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.done[command]++; c.done[command] > 1 {
				c.t.Errorf("Done of %q was called %d times", command, c.done[command])
			}
			c.ch <- r
		},
	}
}

// next waits for one answer.
func (c *collected) next() Response {
	c.t.Helper()
	select {
	case r := <-c.ch:
		return r
	case <-time.After(20 * time.Second):
		c.t.Fatal("no answer")
		return Response{}
	}
}
