package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// peers are the nodes of the cluster with their addresses, and a client to each
// but this one. The set does not change, the addresses may; methods may be called
// from any goroutine.
type peers struct {
	self    shardrpc.NodeID
	clients map[shardrpc.NodeID]*shardrpc.Client

	mu    sync.Mutex
	addrs map[shardrpc.NodeID]string
}

// newPeers makes the clients, which begin to connect.
func newPeers(n *Node, addrs map[shardrpc.NodeID]string) (*peers, error) {
	p := &peers{self: n.cfg.NodeID, addrs: addrs, clients: make(map[shardrpc.NodeID]*shardrpc.Client)}
	for id, addr := range addrs {
		if id == p.self {
			continue
		}
		c, err := shardrpc.NewClient(shardrpc.ClientConfig{
			Node: id, Cluster: n.cluster.ClusterID, Address: addr,
			Dial: n.port.dial, Metrics: n.rpcMetrics, Log: n.log,
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make a client for node %s: %w", id, err), p.close())
		}
		p.clients[id] = c
	}
	return p, nil
}

// addr is the peer address of a node.
func (p *peers) addr(id shardrpc.NodeID) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.addrs[id]
	return a, ok
}

// relocate notes another address of a node, and tells whether that is news.
func (p *peers) relocate(id shardrpc.NodeID, addr string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, ok := p.addrs[id]
	if !ok || id == p.self || old == addr {
		return false
	}
	p.addrs[id] = addr
	p.clients[id].SetAddress(addr)
	return true
}

// others are the other nodes with their addresses.
func (p *peers) others() (others []Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, addr := range p.addrs {
		if id != p.self {
			others = append(others, Peer{ID: id, Addr: addr})
		}
	}
	return others
}

// statuses asks nodes about themselves, all at once, and returns what was
// answered before ctx ended. What an answer says of clocks is as old as its way
// back took; while others are waited for, its clocks go on.
func (p *peers) statuses(ctx context.Context, nodes []shardrpc.NodeID) []shardrpc.Status {
	var mu sync.Mutex
	var all []shardrpc.Status
	var came []time.Time
	var questions sync.WaitGroup
	for _, id := range nodes {
		c, ok := p.clients[id]
		if !ok {
			continue
		}
		questions.Go(func() {
			s, err := c.Status(ctx)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all, came = append(all, s), append(came, time.Now())
		})
	}
	questions.Wait()
	for i := range all {
		goOn(&all[i], time.Since(came[i]))
	}
	return all
}

// goOn lets the clocks of a status go on for some time, by this node's own clock.
func goOn(s *shardrpc.Status, waited time.Duration) {
	if !s.WallClock.IsZero() {
		s.WallClock = s.WallClock.Add(waited)
	}
	for i := range s.Shards {
		if s.Shards[i].LogTime > 0 {
			s.Shards[i].LogTime += allocator.Millis(waited.Milliseconds())
		}
	}
}

// close ends all clients.
func (p *peers) close() error {
	var errs []error
	for _, c := range p.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
