package shard

import (
	"fmt"
	"testing"
	"time"

	"stockade/shard/bubble"
)

// Three nodes form a cluster, elect, commit, lose a leader, go on, and find
// everything again after a restart of all.
func TestClusterLives(t *testing.T) {
	for _, kind := range []LogStoreKind{LogStoreWAL, LogStoreBolt} {
		t.Run(string(kind), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newTestCluster(t, 3, 1, func(cfg *Config) { cfg.LogStore = kind })
				c.startAll()
				defer c.stopAll()
				first := c.leader(0)
				if res := c.put(first, 0, "before"); !res.Created {
					t.Fatalf("not created: %+v", res)
				}

				c.net.Isolate(string(first.ID()), true)
				lost := c.nodes[string(first.ID())]
				delete(c.nodes, string(first.ID()))
				second := c.leader(0)
				c.put(second, 0, "between")
				eventually(t, "the cut-off leader steps down", func() bool { return !lost.replica(0).leading() })
				c.net.Isolate(string(first.ID()), false)
				c.nodes[string(first.ID())] = lost
				eventually(t, "the former leader catches up", func() bool { return knows(lost, 0, "between") })

				id := first.ClusterID()
				c.stopAll()
				c.startAll()
				c.put(c.leader(0), 0, "after")
				for _, n := range c.nodes {
					if n.ClusterID() != id {
						t.Errorf("%s is in cluster %s, was in %s", n.ID(), n.ClusterID(), id)
					}
					for _, sku := range []string{"before", "between", "after"} {
						eventually(t, string(n.ID())+" has "+sku, func() bool { return knows(n, 0, sku) })
					}
				}
			})
		})
	}
}

// Many groups share one port; each gets a leader, and every node can have a
// command applied on every shard.
func TestManyGroups(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const shards = 8
		c := newTestCluster(t, 3, shards, nil)
		c.startAll()
		defer c.stopAll()
		for s := range shards {
			for name, n := range c.nodes {
				shard := n.all()[s].shard
				c.leader(shard)
				if res := c.put(n, shard, skuOn(shard, shards, name)); !res.Created {
					t.Fatalf("shard %d through %s: %+v", s, name, res)
				}
			}
		}
	})
}

// CommitTimeout is for idle groups: it delays how a follower learns that the
// last entry is committed, not commits themselves. In virtual time the network
// takes none, so what is measured is waiting.
func TestCommitTimeoutDelaysOnlyIdleFollowers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		commit := c.base.Timing.Commit
		var slowest, idle time.Duration
		for i := range 20 {
			began := time.Now()
			c.put(leader, 0, fmt.Sprintf("sku-%d", i))
			slowest = max(slowest, time.Since(began))
			eventually(t, "all know it", func() bool { return c.allKnow(fmt.Sprintf("sku-%d", i)) })
			idle = max(idle, time.Since(began))
		}
		if slowest > 20*time.Millisecond {
			t.Errorf("a commit took %v", slowest)
		}
		if idle > 2*commit+100*time.Millisecond {
			t.Errorf("followers of an idle leader were %v behind", idle)
		}

		// With an entry every 10 ms they are one entry behind.
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		var late int
		for i := range 50 {
			<-pace.C
			c.put(leader, 0, fmt.Sprintf("more-%d", i))
			if i > 1 && !c.allKnow(fmt.Sprintf("more-%d", i-2)) {
				late++
			}
		}
		if late > 5 {
			t.Errorf("followers were more than one entry behind %d times of 50", late)
		}
		t.Logf("commit %v, idle followers %v", slowest, idle)
	})
}

// allKnow tells whether all nodes have applied the creation of a SKU.
func (c *testCluster) allKnow(sku string) bool {
	for _, n := range c.nodes {
		if !knows(n, 0, sku) {
			return false
		}
	}
	return true
}
