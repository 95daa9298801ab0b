package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/shard/bubble"
)

// TestClusterSellsThroughPartitions runs three replicas on the real Raft and its
// real transport over pipes, in virtual time. Clients sell with unique keys and
// repeat what is not known, while leaders are cut off again and again and
// followers come back by snapshots. In the end all replicas have the same hash,
// each key was sold once, and log time has run with the virtual clock although
// every node's wall clock is wrong.
func TestClusterSellsThroughPartitions(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		sold := c.sell(4, 400)
		c.heal()
		c.converge()
		c.verify(sold)
		c.shutdown()
	})
}

// clusterLimit bounds virtual time: a group that is stuck fails the test
// instead of spinning through years.
const clusterLimit = 10 * time.Minute

type cluster struct {
	t     *testing.T
	ctx   context.Context
	end   context.CancelFunc
	net   *pipeNet
	nodes []*clusterNode
	began time.Time
}

// clusterNode is one replica.
type clusterNode struct {
	*machine
	name     string
	raft     *raft.Raft
	trans    *raft.NetworkTransport
	proposer *Proposer
	clocks   *skewedClock
	leads    atomic.Bool
	restores atomic.Int32 // snapshots taken in
	notify   chan bool
	done     chan struct{} // closed when follow has ended
}

// skewedClock is the bubble's clock with a wall clock of its own.
type skewedClock struct {
	Clock
	skew time.Duration
}

func (c *skewedClock) Wall() time.Time { return c.Clock.Wall().Add(c.skew) }

func newCluster(t *testing.T, size int) *cluster {
	t.Helper()
	c := &cluster{t: t, net: newPipeNet(), began: time.Now()}
	c.ctx, c.end = context.WithTimeout(context.Background(), clusterLimit)
	var members raft.Configuration
	for i := range size {
		name := fmt.Sprintf("node-%d", i)
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name)})
	}
	for i, s := range members.Servers {
		c.nodes = append(c.nodes, c.newNode(string(s.ID), members, time.Duration(i-1)*24*time.Hour))
	}
	for _, n := range c.nodes {
		go n.follow(c)
	}
	return c
}

func (c *cluster) newNode(name string, members raft.Configuration, skew time.Duration) *clusterNode {
	c.t.Helper()
	n := &clusterNode{name: name, clocks: &skewedClock{SystemClock(), skew}, notify: make(chan bool, 64), done: make(chan struct{})}
	n.machine = newMachine(c.t, func(cfg *FSMConfig) {
		cfg.Clock = NewLogClock(n.clocks)
	})
	n.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: c.net.listen(name), MaxPool: 3, MaxRPCsInFlight: 1, Timeout: time.Second, Logger: hclog.NewNullLogger(),
	})
	store, snapshots, cfg := raft.NewInmemStore(), raft.NewInmemSnapshotStore(), clusterConfig(n)
	trans := mainLoopTransport{n.trans}
	if err := raft.BootstrapCluster(cfg, store, store, snapshots, trans, members); err != nil {
		c.t.Fatal(err)
	}
	r, err := raft.NewRaft(cfg, restoreCounter{n.FSM, &n.restores}, store, store, snapshots, trans)
	if err != nil {
		c.t.Fatal(err)
	}
	n.raft = r
	n.proposer, err = NewProposer(ProposerConfig{Raft: r, FSM: n.FSM, Limits: DefaultLimits()})
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func clusterConfig(n *clusterNode) *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(n.name)
	cfg.NotifyCh = n.notify
	cfg.Logger = hclog.NewNullLogger()
	cfg.NoLegacyTelemetry = true
	cfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs = 500*time.Millisecond, 20, 5
	return cfg
}

// mainLoopTransport leaves heartbeats to Raft's main loop.
type mainLoopTransport struct{ *raft.NetworkTransport }

func (mainLoopTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// restoreCounter counts the snapshots that Raft restores.
type restoreCounter struct {
	*FSM
	n *atomic.Int32
}

func (r restoreCounter) Restore(source io.ReadCloser) error {
	r.n.Add(1)
	return r.FSM.Restore(source)
}

// follow starts and stops the proposer with the leadership, as a shard does.
func (n *clusterNode) follow(c *cluster) {
	defer close(n.done)
	for leads := range n.notify {
		n.leads.Store(false)
		if !leads {
			n.proposer.Stop(CauseNotLeader)
			continue
		}
		n.proposer.Stop(CauseNotReady)
		if n.raft.Barrier(time.Second).Error() != nil {
			continue
		}
		for _, o := range c.nodes { // whoever knows what log time is tells
			if now, warm := o.clock.Reading(); warm {
				n.clock.Observe(now, true)
			}
		}
		n.clock.ColdStart(c.lowestWall())
		if err := n.proposer.Start(n.raft.CurrentTerm()); err != nil {
			c.t.Error(err)
		}
		n.leads.Store(true)
	}
}

// lowestWall is the lowest wall clock of a majority: here the one that is right.
func (c *cluster) lowestWall() time.Time { return c.nodes[1].clocks.Wall() }

// leader is a node that leads, nil if there is none.
func (c *cluster) leader() *clusterNode {
	for _, n := range c.nodes {
		if n.leads.Load() && !c.net.isCut(n.name) {
			return n
		}
	}
	return nil
}

// sell sells with some clients, and cuts leaders off meanwhile. It returns the
// number of keys sold.
func (c *cluster) sell(clients, each int) int {
	c.t.Helper()
	c.propose(putSKU())
	var selling sync.WaitGroup
	for g := range clients {
		selling.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			for i := range each {
				c.propose(reserve(g*each + i))
				time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
			}
		})
	}
	sold := make(chan struct{})
	go func() { selling.Wait(); close(sold) }()
	c.disturb(sold)
	return clients * each
}

// propose repeats a command until it is applied.
func (c *cluster) propose(command []byte) {
	for c.ctx.Err() == nil {
		n := c.leader()
		if n == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		done := make(chan Completion, 1)
		n.proposer.Submit(&Item{Command: command, Deadline: time.Now().Add(500 * time.Millisecond), Done: func(c Completion) { done <- c }})
		if (<-done).Outcome == Applied {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// disturb cuts the leader off for a while, until the sale is over.
func (c *cluster) disturb(sold chan struct{}) {
	random := rand.New(rand.NewPCG(8, 8))
	for cuts := 0; ; {
		select {
		case <-sold:
			if cuts < 3 {
				c.t.Errorf("only %d leaders were cut off", cuts)
			}
			return
		case <-time.After(time.Duration(500+random.IntN(1500)) * time.Millisecond):
		}
		if n := c.leader(); n != nil {
			cuts++
			c.net.cut(n.name)
			time.Sleep(time.Duration(1000+random.IntN(3000)) * time.Millisecond)
			c.heal()
		}
	}
}

func (c *cluster) heal() { c.net.heal() }

// converge waits until all replicas have applied the same.
func (c *cluster) converge() {
	c.t.Helper()
	for c.ctx.Err() == nil {
		want, count := c.nodes[0].hash()
		same := c.leader() != nil
		for _, n := range c.nodes {
			h, k := n.hash()
			same = same && h == want && k == count && n.raft.AppliedIndex() == c.nodes[0].raft.LastIndex()
		}
		if same {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Error("the replicas did not converge")
}

func (c *cluster) verify(sold int) {
	c.t.Helper()
	passed := time.Since(c.began)
	restores := int32(0)
	for _, n := range c.nodes {
		restores += n.restores.Load()
		n.healthy(c.t)
		n.invariants(c.t)
		n.Read(func(s *allocator.State) {
			if got := s.Stats(); got.Reserved != allocator.Quantity(sold) || got.Live != sold {
				c.t.Errorf("%s: %d units in %d reservations, want %d in as many", n.name, got.Reserved, got.Live, sold)
			}
			// Between two and ten seconds are lost to the failovers at most.
			if behind := time.Since(time.UnixMilli(int64(s.Now()))); behind < -time.Second || behind > 10*time.Second {
				c.t.Errorf("%s: log time is %v behind after %v", n.name, behind, passed)
			}
		})
	}
	if restores == 0 {
		c.t.Error("no replica came back by a snapshot")
	}
	c.t.Logf("%d sold in %v of virtual time, term %d, %d snapshots restored", sold, passed, c.nodes[0].raft.CurrentTerm(), restores)
}

func (c *cluster) shutdown() {
	c.t.Helper()
	for _, n := range c.nodes {
		if err := n.proposer.Drain(c.ctx); err != nil {
			c.t.Error(err)
		}
		n.proposer.Close()
	}
	for _, n := range c.nodes {
		if err := n.raft.Shutdown().Error(); err != nil {
			c.t.Error(err)
		}
		if err := n.trans.Close(); err != nil {
			c.t.Error(err)
		}
		close(n.notify)
		<-n.done
	}
	c.net.close()
	c.end()
}

// pipeNet is a network of net.Pipe connections in which nodes can be cut off.
type pipeNet struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
	cutOff    map[string]bool
	open      map[net.Conn][2]string // both ends of every connection, with its nodes
}

func newPipeNet() *pipeNet {
	return &pipeNet{listeners: map[string]*pipeListener{}, cutOff: map[string]bool{}, open: map[net.Conn][2]string{}}
}

// pipeListener is a node's end of the network: a raft.StreamLayer.
type pipeListener struct {
	net    *pipeNet
	name   string
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipeNet) listen(name string) *pipeListener {
	l := &pipeListener{net: p, name: name, accept: make(chan net.Conn), closed: make(chan struct{})}
	p.listeners[name] = l
	return l
}

// errCutOff is what dialling across a partition gives.
var errCutOff = errors.New("no route to host")

// Dial implements raft.StreamLayer.
func (l *pipeListener) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	here, there, to, err := l.net.connect(l.name, string(address))
	if err != nil {
		return nil, err
	}
	select {
	case to.accept <- there:
		return here, nil
	case <-to.closed:
	case <-time.After(timeout):
	}
	here.Close()
	there.Close()
	return nil, errCutOff
}

// connect makes a connection that cut finds.
func (p *pipeNet) connect(from, address string) (here, there net.Conn, to *pipeListener, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to = p.listeners[address]
	if to == nil || p.cutOff[from] || p.cutOff[address] {
		return nil, nil, nil, errCutOff
	}
	here, there = net.Pipe()
	p.open[here], p.open[there] = [2]string{from, address}, [2]string{from, address}
	return here, there, to, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.name) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// cut closes a node's connections, at both ends, and refuses new ones.
func (p *pipeNet) cut(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutOff[name] = true
	for c, ends := range p.open {
		if ends[0] == name || ends[1] == name {
			c.Close()
			delete(p.open, c)
		}
	}
}

func (p *pipeNet) isCut(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cutOff[name]
}

func (p *pipeNet) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.cutOff)
}

// close closes every connection that is left.
func (p *pipeNet) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
}
