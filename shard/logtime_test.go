package shard

import (
	"context"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// Log time must go on over restarts. An idle shard's last stamp is old; a
// follower that restarts replays it, also within its leader's term, and must not
// take it for the present. Here both followers restart after 20 idle minutes and
// then the leader stops: whoever follows must not be 20 minutes behind.
func TestLogTimeOutlivesRestarts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		// The true clocks of the bubble: the wall clock says what log time is.
		c := newTestCluster(t, 3, 1, func(cfg *Config) { cfg.Clock = raftfsm.SystemClock() })
		c.startAll()
		defer c.stopAll()
		first := c.leader(0)
		c.put(first, 0, "sku")
		<-time.After(20 * time.Minute)
		for _, p := range c.base.Initial {
			if p.ID != first.ID() {
				c.stop(string(p.ID))
				c.start(string(p.ID))
			}
		}
		c.leader(0)
		c.stop(string(first.ID()))
		second := c.leader(0)
		now, warm := second.replica(0).clock.Reading()
		behind := time.Since(time.UnixMilli(int64(now)))
		if !warm || behind > time.Second {
			t.Errorf("the new leader's log time is %v behind; warm: %v", behind, warm)
		}
	})
}

// One of the nodes that are asked for their clocks does not answer, and is waited for. The
// clocks of the others must not be as old as that afterwards: after a start of all nodes log
// time would be late by it for good.
func TestClocksDoNotWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, func(cfg *Config) { cfg.Clock = raftfsm.SystemClock() })
		c.net = slowNetwork(time.Millisecond)
		c.startAll()
		defer c.stopAll()
		c.put(c.leader(0), 0, "sku")
		asked := c.nodes["n2"].replica(0)
		eventually(t, "who is asked knows log time", func() bool { return asked.logTime() != 0 })
		c.net.Wires().Pause("n3", true)
		began, ctx := time.Now(), t.Context()
		ctx, cancel := context.WithTimeout(ctx, clockTimeout)
		defer cancel()
		all := c.nodes["n1"].peers.statuses(ctx, []shardrpc.NodeID{"n2", "n3"})
		if took := time.Since(began); len(all) != 1 || took < clockTimeout {
			t.Fatalf("%d answers after %v: nobody was waited for", len(all), took)
		}
		const way = 20 * time.Millisecond
		if age := time.Since(all[0].WallClock).Abs(); age > way {
			t.Errorf("a wall clock is %v away from the others", age)
		}
		if late := asked.logTime() - all[0].Shards[0].LogTime; late < -1 || late > allocator.Millis(way.Milliseconds()) {
			t.Errorf("log time is %d ms late", late)
		}
	})
}

// A leader that does not know log time takes it from whoever knows, before any
// wall clock: here all of them are an hour ahead of log time.
func TestLogTimeComesBeforeWallClocks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		wall := &shiftedClock{Clock: raftfsm.SystemClock()}
		c := newTestCluster(t, 3, 1, func(cfg *Config) { cfg.Clock = wall })
		c.startAll()
		defer c.stopAll()
		first := c.leader(0)
		c.put(first, 0, "sku")
		wall.by.Store(int64(time.Hour))
		victim := c.other(first)
		c.stop(string(victim.ID()))
		c.start(string(victim.ID()))
		r := c.nodes[string(victim.ID())].replica(0)
		eventually(t, "the restarted replica knows log time", func() bool { return r.logTime() != 0 })
		if err := r.setClock(context.Background()); err != nil {
			t.Fatal(err)
		}
		now, _ := r.clock.Reading()
		if ahead := time.Until(time.UnixMilli(int64(now))); ahead > time.Minute {
			t.Errorf("log time jumped %v ahead with the wall clocks", ahead)
		}
	})
}
