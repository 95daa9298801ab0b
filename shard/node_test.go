package shard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// Three real nodes on loopback.
func TestNodesOnTCP(t *testing.T) {
	c := newTestCluster(t, 3, 2, func(cfg *Config) { cfg.Clock = nil })
	taken := &takenPorts{}
	for i := range c.base.Initial {
		c.base.Initial[i].Addr = taken.listen(t)
	}
	var wg sync.WaitGroup
	nodes := make([]*Node, 3)
	for i, p := range c.base.Initial {
		wg.Go(func() {
			cfg := c.config(string(p.ID))
			cfg.Network, cfg.Listen, cfg.Metrics = taken, p.Addr, prometheus.NewRegistry()
			n, err := Open(context.Background(), cfg)
			if err != nil {
				t.Errorf("open %s: %v", p.ID, err)
				return
			}
			nodes[i] = n
		})
	}
	wg.Wait()
	for i, p := range c.base.Initial {
		if nodes[i] == nil {
			t.FailNow()
		}
		c.nodes[string(p.ID)] = nodes[i]
	}
	defer c.stopAll()
	for s := range 2 {
		c.leader(allocator.ShardID(s))
		for name, n := range c.nodes {
			c.put(n, allocator.ShardID(s), skuOn(allocator.ShardID(s), 2, name))
		}
	}
	for _, n := range nodes {
		checkMetrics(t, n)
	}
}

// takenPorts is TCP on listeners that were opened before, so that their ports
// can be written into the lists.
type takenPorts struct {
	TCP
	mu   sync.Mutex
	open map[string]net.Listener
}

func (p *takenPorts) listen(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = map[string]net.Listener{}
	}
	p.open[l.Addr().String()] = l
	return l.Addr().String()
}

func (p *takenPorts) Listen(addr string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.open[addr]
	if l == nil {
		return nil, fmt.Errorf("listen %s: not reserved", addr)
	}
	delete(p.open, addr)
	return l, nil
}

// checkMetrics looks for the series that every node has.
func checkMetrics(t *testing.T, n *Node) {
	t.Helper()
	families, err := n.cfg.Metrics.(*prometheus.Registry).Gather()
	check(t, err)
	have := map[string]int{}
	for _, f := range families {
		have[f.GetName()] = len(f.GetMetric())
	}
	for _, name := range []string{"leader", "ready", "term", "commit_index", "applied_index"} {
		if have["stockade_shard_"+name] != 2 {
			t.Errorf("%s: %d series of stockade_shard_%s, want 2", n.ID(), have["stockade_shard_"+name], name)
		}
	}
	for _, f := range families {
		if name := f.GetName(); strings.HasPrefix(name, "stockade_data_") && f.GetMetric()[0].GetGauge().GetValue() <= 0 {
			t.Errorf("%s has no %s", n.ID(), name)
		}
	}
	if have["stockade_data_free_bytes"] != 1 || have["stockade_data_size_bytes"] != 1 {
		t.Errorf("%s does not say how full its disk is", n.ID())
	}
	if have["stockade_log_write_seconds"] != 2 {
		t.Errorf("%s has no log write times", n.ID())
	}
}

func TestPortInUse(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1, 1, nil)
		l, err := c.net.Host("n1").Listen("n1")
		check(t, err)
		defer l.Close()
		says(t, openErrors(t, time.Minute, c.config("n1"))[0], "open the peer port", "n1", "already in use")
	})
}

func TestConfigIsValidated(t *testing.T) {
	good := newTestCluster(t, 3, 1, nil).config("n1")
	check(t, good.Validate())
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"node id":     {func(c *Config) { c.NodeID = "a.b" }, `node id "a.b"`},
		"directory":   {func(c *Config) { c.DataDir = "" }, "no data directory"},
		"shards":      {func(c *Config) { c.Shards = 5000 }, "5000 shards"},
		"replicas":    {func(c *Config) { c.Replicas = 5 }, "5 replicas need as many nodes"},
		"log store":   {func(c *Config) { c.LogStore = "sql" }, `log store "sql"`},
		"not listed":  {func(c *Config) { c.NodeID = "n9" }, "not among the initial nodes"},
		"twice":       {func(c *Config) { c.Initial = append(c.Initial, c.Initial[0]) }, "listed twice"},
		"lease":       {func(c *Config) { c.Timing.Lease = time.Hour }, "two leaders"},
		"segment":     {func(c *Config) { c.Storage.SegmentSize = 1 }, "segment"},
		"no address":  {func(c *Config) { c.Listen = "" }, "no address"},
		"bad address": {func(c *Config) { c.Initial = []Peer{{"n1", ""}} }, "and an address"},
	}
	for name, tt := range tests {
		cfg := good
		cfg.Initial = append([]Peer{}, good.Initial...)
		tt.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if _, err := Open(context.Background(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestParsePeers(t *testing.T) {
	got, err := ParsePeers("n1=10.0.0.1:8402, n2=[::1]:8402")
	if err != nil || len(got) != 2 || got[1].ID != "n2" || got[1].Addr != "[::1]:8402" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "n1", "n1=", "=a:1", "n1=a:1,,n2=b:1", "n.1=a:1"} {
		if _, err := ParsePeers(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// A graceful stop answers everyone: each proposal is applied or certainly not,
// and leadership is handed over, so that the others go on at once.
func TestGracefulStop(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 4, nil)
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		for s := range 4 {
			c.leader(allocator.ShardID(s))
		}
		answers := make(chan raftfsm.Completion, 100)
		for i := range 100 {
			leader.replica(0).proposer.Submit(&raftfsm.Item{
				Command:  putSKU(fmt.Sprintf("sku-%d", i), 1).AppendTo(nil),
				Deadline: time.Now().Add(time.Minute),
				Done:     func(a raftfsm.Completion) { answers <- a },
			})
		}
		began := time.Now()
		c.stop(string(leader.ID()))
		for range 100 {
			if a := <-answers; a.Outcome == raftfsm.Unknown {
				t.Errorf("an answer is unknown: %+v", a)
			}
		}
		for s := range 4 {
			c.leader(allocator.ShardID(s))
		}
		if d := time.Since(began); d > 400*time.Millisecond {
			t.Errorf("the others took over after %v, which is an election", d)
		}
	})
}

// A node that is stopped while it waits for others to form a cluster leaves
// nothing behind that keeps it from starting again.
func TestStopWhileForming(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 2, 1, nil)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		if _, err := Open(ctx, c.config("n1")); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		c.startAll()
		defer c.stopAll()
		c.leader(0)
	})
}

// Only some nodes host a shard when there are more nodes than replicas; all can
// reach it.
func TestMoreNodesThanReplicas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const shards = 5
		c := newTestCluster(t, 5, shards, nil)
		c.startAll()
		defer c.stopAll()
		for s := range allocator.ShardID(shards) {
			hosts := 0
			for _, n := range c.nodes {
				if n.replica(s) != nil {
					hosts++
				}
			}
			if hosts != 3 {
				t.Errorf("shard %d has %d hosts", s, hosts)
			}
			for name, n := range c.nodes {
				c.put(n, s, skuOn(s, shards, name))
			}
		}
	})
}

// Damage in one replica keeps the node from starting, and says which. The log
// store itself takes a damaged frame for the end of the log, and would start
// without what follows.
func TestDamageKeepsTheNodeFromStarting(t *testing.T) {
	damages := map[string]func(t *testing.T, segment []byte){
		"data":  func(_ *testing.T, b []byte) { b[walkSegment(b).end/2] ^= 1 },
		"frame": func(t *testing.T, b []byte) { damageFrameOf(t, b, 3) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newTestCluster(t, 1, 2, nil)
				c.startAll()
				n := c.leader(1)
				for i := range 5 {
					c.putLarge(n, 1, skuOn(1, 2, fmt.Sprint(i)))
				}
				c.stopAll()
				dir := filepath.Join(c.config("n1").DataDir, shardsDir, "0001")
				path := logFile(t, LogStoreWAL, dir)
				b := readAll(t, path)
				damage(t, b)
				check(t, os.WriteFile(path, b, fileMode))
				says(t, openErrors(t, time.Minute, c.config("n1"))[0], "shard 1", path, "at offset", "not the end of the log", dir)
			})
		})
	}
}

// The state machine's fatal errors end the node.
func TestFatalIsToldOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		leader.replica(0).env.fatal(errors.New("replicas differ"))
		leader.replica(0).env.fatal(errors.New("and again"))
		says(t, (<-leader.Fatal()).Error(), "replicas differ")
		if len(leader.Fatal()) != 0 {
			t.Error("it was told twice")
		}
		delete(c.nodes, string(leader.ID()))
		defer leader.Close(context.Background())
		if next := c.leader(0); next.ID() == leader.ID() {
			t.Error("the node goes on")
		}
		var _ shardrpc.Node = leader
	})
}

// A node whose log can't be written has nothing to hand over and nobody to wait
// for: Raft's goroutine, which would give the leadership away, has ended.
func TestFailedNodeClosesAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		delete(c.nodes, string(leader.ID()))
		r, full := leader.replica(0), errors.New("no space left on device")
		r.store.note(full) // every write fails from now on, and ends who wrote
		r.env.fatal(full)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if got := leader.Dispatcher().Do(ctx, 0, putSKU("a", 1).AppendTo(nil)); got.Outcome == shardrpc.Applied {
			t.Fatal("it was applied without a disk")
		}
		began := time.Now()
		check(t, leader.Close(context.Background()))
		if took := time.Since(began); took > 2*failedCloseLimit {
			t.Errorf("closing took %v", took)
		}
	})
}
