package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/shardrpc"
)

// memNetwork is a network in memory. Its streams are pipes, so that it works in
// virtual time. Hosts can be cut off, or get only what is small.
type memNetwork struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	conns     map[*memConn]bool
	cut       map[string]bool // hosts that reach nobody and are reached by nobody
	limit     map[string]int  // by host: writes of so many bytes to it vanish; 0: none do
	wires     *memWires       // nil: what is sent arrives at once
}

func newMemNetwork() *memNetwork {
	return &memNetwork{listeners: map[string]*memListener{}, conns: map[*memConn]bool{}, cut: map[string]bool{}, limit: map[string]int{}}
}

// host is the network as one host sees it. Addresses are host names.
func (m *memNetwork) host(name string) Network { return memHost{m, name} }

// isolate cuts a host off, or connects it again. Open streams break.
func (m *memNetwork) isolate(host string, cut bool) {
	m.mu.Lock()
	m.cut[host] = cut
	var broken []*memConn
	for c := range m.conns {
		if cut && (c.from == host || c.to == host) {
			broken = append(broken, c)
		}
	}
	m.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// swallow has the network lose what is written to a host in pieces of at least
// limit bytes, with all that follows on the same stream; 0: nothing any more.
func (m *memNetwork) swallow(host string, limit int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit[host] = limit
}

// isolated tells whether a host is cut off.
func (m *memNetwork) isolated(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cut[host]
}

type memHost struct {
	net  *memNetwork
	name string
}

func (h memHost) Listen(addr string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.listeners[addr] != nil {
		return nil, fmt.Errorf("listen %s: address already in use", addr)
	}
	l := &memListener{addr: memAddr(addr), net: h.net, queue: make(chan net.Conn), done: make(chan struct{})}
	h.net.listeners[addr] = l
	return l, nil
}

func (h memHost) Dial(ctx context.Context, addr string) (net.Conn, error) {
	h.net.mu.Lock()
	l := h.net.listeners[addr]
	if l == nil || h.net.cut[h.name] || h.net.cut[addr] {
		h.net.mu.Unlock()
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	a, b := h.net.wires.pipe(h.name, addr)
	near := &memConn{Conn: a, net: h.net, from: h.name, to: addr, peer: addr}
	far := &memConn{Conn: b, net: h.net, from: h.name, to: addr, peer: h.name}
	h.net.conns[near], h.net.conns[far] = true, true
	h.net.mu.Unlock()
	select {
	case l.queue <- far:
		return near, nil
	case <-l.done:
	case <-ctx.Done():
	}
	return nil, errors.Join(fmt.Errorf("dial %s: connection refused", addr), near.Close(), far.Close())
}

type memAddr string

func (a memAddr) Network() string { return "mem" }
func (a memAddr) String() string  { return string(a) }

type memListener struct {
	addr  memAddr
	net   *memNetwork
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, string(l.addr))
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return l.addr }

type memConn struct {
	net.Conn
	net      *memNetwork
	from, to string // who dialled whom
	peer     string // who reads what is written here
	lost     bool   // nothing gets through any more; net.mu
}

func (c *memConn) Write(b []byte) (int, error) {
	c.net.mu.Lock()
	limit := c.net.limit[c.peer]
	c.lost = c.lost || limit > 0 && len(b) >= limit
	lost := c.lost
	c.net.mu.Unlock()
	if lost {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *memConn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}

// testLogger writes to the test's log, if the test is verbose.
func testLogger(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// laterClock lets virtual time, which begins in the year 2000, pass for today.
type laterClock struct{ raftfsm.Clock }

func (c laterClock) Wall() time.Time { return c.Clock.Wall().AddDate(50, 0, 0) }

// testCluster is some nodes in this process, with their directories.
type testCluster struct {
	t     testing.TB
	net   *memNetwork
	base  Config
	dir   string
	nodes map[string]*Node // those that run
	moved string           // put before the addresses they listen on
	each  func(*Config)    // may adapt the configuration of one node
}

// newTestCluster prepares a cluster of nodes n1, n2, … in memory; nothing runs
// yet. change may adapt the configuration of all.
func newTestCluster(t testing.TB, size, shards int, change func(*Config)) *testCluster {
	c := &testCluster{t: t, net: newMemNetwork(), base: DefaultConfig(), dir: t.TempDir(), nodes: map[string]*Node{}}
	for i := range size {
		name := fmt.Sprintf("n%d", i+1)
		c.base.Initial = append(c.base.Initial, Peer{ID: shardrpc.NodeID(name), Addr: name})
	}
	c.base.Shards = shards
	c.base.Logger = testLogger(t)
	c.base.Clock = laterClock{raftfsm.SystemClock()}
	c.base.Storage.SegmentSize = 1 << 20
	if change != nil {
		change(&c.base)
	}
	return c
}

// config is the configuration of one node.
func (c *testCluster) config(name string) Config {
	cfg := c.base
	cfg.NodeID = shardrpc.NodeID(name)
	cfg.DataDir = filepath.Join(c.dir, name)
	cfg.Listen = c.moved + name
	cfg.Network = c.net.host(cfg.Listen)
	if c.each != nil {
		c.each(&cfg)
	}
	return cfg
}

// start opens nodes side by side, which the forming of a cluster needs.
func (c *testCluster) start(names ...string) {
	c.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, name := range names {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			n, err := Open(ctx, c.config(name))
			if err != nil {
				c.t.Errorf("open %s: %v", name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			c.nodes[name] = n
		})
	}
	wg.Wait()
	if c.t.Failed() {
		c.stopAll()
		c.t.FailNow()
	}
}

func (c *testCluster) startAll() {
	c.t.Helper()
	var names []string
	for _, p := range c.base.Initial {
		names = append(names, string(p.ID))
	}
	c.start(names...)
}

// stop closes a node gracefully.
func (c *testCluster) stop(name string) {
	c.t.Helper()
	if err := c.nodes[name].Close(context.Background()); err != nil {
		c.t.Errorf("close %s: %v", name, err)
	}
	delete(c.nodes, name)
}

func (c *testCluster) stopAll() {
	if wires := c.net.wires; wires != nil {
		wires.resume()
		defer wires.done.Wait()
	}
	var wg sync.WaitGroup
	for name, n := range c.nodes {
		wg.Go(func() {
			if err := n.Close(context.Background()); err != nil {
				c.t.Errorf("close %s: %v", name, err)
			}
		})
	}
	wg.Wait()
	clear(c.nodes)
}

// eventually polls until f is true. In virtual time the pauses cost nothing.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	const limit, pause = 30 * time.Second, 5 * time.Millisecond
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-tick.C
	}
}

// leader waits until one of the running nodes leads a shard and is ready.
func (c *testCluster) leader(shard allocator.ShardID) *Node {
	c.t.Helper()
	var found *Node
	eventually(c.t, fmt.Sprintf("shard %d has a leader that is ready", shard), func() bool {
		for _, n := range c.nodes {
			if r := n.replica(shard); r != nil && r.ready() {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// put creates a SKU on a shard through any node, and returns the result.
func (c *testCluster) put(via *Node, shard allocator.ShardID, sku string) allocator.Result {
	c.t.Helper()
	return c.apply(via, shard, putSKU(sku, 100).AppendTo(nil))
}

// putLarge does so with a command of more than 4,000 bytes.
func (c *testCluster) putLarge(via *Node, shard allocator.ShardID, sku string) allocator.Result {
	c.t.Helper()
	command := putSKU(sku, 100)
	command.Metadata = []byte(`{"a":"` + strings.Repeat("x", 4000) + `"}`)
	return c.apply(via, shard, command.AppendTo(nil))
}

// apply has a command applied.
func (c *testCluster) apply(via *Node, shard allocator.ShardID, command []byte) allocator.Result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r := via.Dispatcher().Do(ctx, shard, command)
	if r.Outcome != shardrpc.Applied {
		c.t.Fatalf("shard %d: outcome %v, reason %v", shard, r.Outcome, r.Reason)
	}
	var res allocator.Result
	if err := allocator.DecodeResult(r.Result, &res); err != nil {
		c.t.Fatal(err)
	}
	return res
}

// skuOn is a name for a SKU whose anchor is the shard.
func skuOn(shard allocator.ShardID, shards int, name string) string {
	for i := 0; ; i++ {
		sku := fmt.Sprintf("%s-%d", name, i)
		if allocator.Anchor(allocator.SKU(sku), shards) == shard {
			return sku
		}
	}
}

func putSKU(sku string, units allocator.Quantity) *allocator.PutSKU {
	var key allocator.Key
	copy(key[:], sku+" key")
	return &allocator.PutSKU{
		Key: key, Body: 1, SKU: allocator.SKU(sku), HasOnHand: true, OnHand: units,
		Policy: allocator.Policy{DefaultTTL: 1000, MaxTTL: 1000},
	}
}

// knows tells whether a node's replica has a SKU in its applied state.
func knows(n *Node, shard allocator.ShardID, sku string) (known bool) {
	n.replica(shard).fsm.Read(func(s *allocator.State) { known = s.Bucket(allocator.SKU(sku)).Known })
	return known
}

// copyDir copies a directory, to damage the copy.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// readAll reads a file.
func readAll(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// other is a running node that is not n.
func (c *testCluster) other(n *Node) *Node {
	for _, o := range c.nodes {
		if o != n {
			return o
		}
	}
	return nil
}

// shiftedClock is a wall clock that can be set while the monotonic one goes on.
type shiftedClock struct {
	raftfsm.Clock
	by atomic.Int64
}

func (c *shiftedClock) Wall() time.Time { return c.Clock.Wall().Add(time.Duration(c.by.Load())) }
