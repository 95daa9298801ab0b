package shard

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/memnet"
	"stockade/shard/shardrpc"
)

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
	net   *memnet.Network
	base  Config
	dir   string
	nodes map[string]*Node // those that run
	moved string           // put before the addresses they listen on
	each  func(*Config)    // may adapt the configuration of one node
}

// newTestCluster prepares a cluster of nodes n1, n2, … in memory; nothing runs
// yet. change may adapt the configuration of all.
func newTestCluster(t testing.TB, size, shards int, change func(*Config)) *testCluster {
	c := &testCluster{t: t, net: memnet.New(), base: DefaultConfig(), dir: t.TempDir(), nodes: map[string]*Node{}}
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
	cfg.Network = c.net.Host(cfg.Listen)
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
	if wires := c.net.Wires(); wires != nil {
		wires.Resume()
		defer wires.Wait()
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

// slowNetwork is a network on which each packet takes delay. Streams of Raft can be
// paused alone.
func slowNetwork(delay time.Duration) *memnet.Network {
	return memnet.NewOver(memnet.NewWires(func() time.Duration { return delay }, []byte(peerMagic)))
}
