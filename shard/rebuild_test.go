package shard

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stockade/shard/bubble"
)

// moveAway takes the directory of a stopped node's replica of shard 0 away, as
// the messages about damage advise.
func (c *testCluster) moveAway(name string) {
	c.t.Helper()
	dir := filepath.Join(c.config(name).DataDir, shardsDir, "0000")
	if err := os.Rename(dir, filepath.Join(c.dir, name+"-damaged")); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testCluster) rebuilding(name string) bool {
	_, err := os.Stat(filepath.Join(c.config(name).DataDir, shardsDir, "0000", rebuildMarker))
	return err == nil
}

// A replica whose directory was moved away is filled from the others, and then
// votes again.
func TestReplicaIsRebuilt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		c.put(c.leader(0), 0, "a")
		c.stop("n2")
		c.moveAway("n2")
		c.start("n2")
		if !c.rebuilding("n2") {
			t.Error("an empty replica is not marked")
		}
		c.put(c.leader(0), 0, "b")
		eventually(t, "n2 has everything", func() bool { return knows(c.nodes["n2"], 0, "a") && knows(c.nodes["n2"], 0, "b") })
		eventually(t, "n2 votes again", func() bool { return !c.rebuilding("n2") })

		// Now it counts: with another node gone it is needed for a majority.
		other := "n1"
		if c.leader(0).ID() == "n1" {
			other = "n3"
		}
		c.stop(other)
		c.put(c.leader(0), 0, "c")
	})
}

// A replica that is filled by a snapshot of all there is votes again, also when nothing is
// written any more.
func TestReplicaIsRebuiltOnAnIdleShard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, func(cfg *Config) {
			cfg.LogStore = LogStoreBolt // the wal forgets whole segments only
			cfg.Storage.Trailing = 0
		})
		c.startAll()
		defer c.stopAll()
		if c.leader(0).ID() == "n2" {
			check(t, c.leader(0).replica(0).raft.LeadershipTransfer().Error())
			eventually(t, "another one leads", func() bool { return c.leader(0).ID() != "n2" })
		}
		leader := c.leader(0)
		c.put(leader, 0, "a")
		c.stop("n2")
		c.moveAway("n2")
		check(t, leader.replica(0).raft.Snapshot().Error())
		c.start("n2")
		eventually(t, "n2 votes again", func() bool { return !c.rebuilding("n2") })
	})
}

// An empty replica must not elect a leader that lacks what it once acknowledged:
// n1 and n2 have "b", n2 loses its disk, n1 is down, n3 never heard of "b".
// Without votes being withheld n2 and n3 would elect n3, and "b" would be gone.
func TestEmptyReplicaDoesNotVote(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		c.put(c.leader(0), 0, "a")
		eventually(t, "all have a", func() bool { return knows(c.nodes["n3"], 0, "a") && knows(c.nodes["n2"], 0, "a") })
		c.stop("n3")
		c.put(c.leader(0), 0, "b")
		eventually(t, "n1 and n2 have b", func() bool { return knows(c.nodes["n1"], 0, "b") && knows(c.nodes["n2"], 0, "b") })
		c.stop("n2")
		c.stop("n1")
		c.moveAway("n2")

		c.start("n2", "n3")
		never := time.Now().Add(time.Minute)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for time.Now().Before(never) {
			for name, n := range c.nodes {
				if n.replica(0).leading() {
					t.Fatalf("%s leads, and an acknowledged write is gone", name)
				}
			}
			<-tick.C
		}
		// A restart must not make it forget that it is empty.
		c.stop("n2")
		c.start("n2")
		if !c.rebuilding("n2") {
			t.Error("the mark is gone")
		}
		c.start("n1")
		if leader := c.leader(0); !knows(leader, 0, "b") {
			t.Errorf("%s leads without b", leader.ID())
		}
		eventually(t, "n2 votes again", func() bool { return !c.rebuilding("n2") })
	})
}

// A replica that is being rebuilt must not stand for election: with another one
// that lacks the same entries it would be a majority, and what only the third
// has, acknowledged as it is, would be overwritten. (Tried with three real nodes:
// 3,000 acknowledged entries were gone.)
func TestHalfRebuiltReplicaDoesNotStandForElection(t *testing.T) {
	rebuilt := &groupTransport{gate: &gate{votes: new(voteFilter)}}
	if err := rebuilt.RequestVote("", "", nil, nil); !errors.Is(err, errVotesWithheld) {
		t.Errorf("it asks for votes: %v", err)
	}
	if err := rebuilt.RequestPreVote("", "", nil, nil); !errors.Is(err, errVotesWithheld) {
		t.Errorf("it asks whether it would be elected: %v", err)
	}
}
