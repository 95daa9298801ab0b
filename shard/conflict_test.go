package shard

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stockade/shard/bubble"
)

// Hazard: a snapshot is installed again and again (hashicorp/raft issue 697): the
// follower has another entry at the snapshot's last index, and Raft keeps it. The
// loop is the library's own, in both kinds of log store, with the follower's log
// ending at the snapshot's last entry or behind it.
func TestSnapshotBesideAnotherHistory(t *testing.T) {
	for _, kind := range bothKinds {
		for _, beyond := range []uint64{0, 10} {
			c := conflictCase{kind: kind, beyond: beyond}
			name := fmt.Sprintf("%s, %d entries beyond", kind, beyond)
			t.Run(name+", without the remedy", func(t *testing.T) { bubble.Test(t, c.loops) })
			t.Run(name+", with it", func(t *testing.T) { bubble.Test(t, c.isEnded) })
		}
	}
}

type conflictCase struct {
	kind   LogStoreKind
	beyond uint64 // entries of the follower behind the snapshot's last index
}

func (k conflictCase) cluster(t *testing.T) *testCluster {
	c := newTestCluster(t, 3, 1, func(cfg *Config) {
		cfg.LogStore = k.kind
		cfg.Storage.Trailing = 0
		cfg.Storage.SegmentSize = testSegment // the wal forgets whole segments
	})
	c.startAll()
	return c
}

// conflict cuts the leader off while it writes entries that are never committed,
// has the others go on until there is a snapshot that ends among the indexes of
// these entries, and lets it come back.
func (k conflictCase) conflict(t *testing.T, c *testCluster) (follower, leader *Node) {
	t.Helper()
	const lost = 30
	follower = c.leader(0)
	r := follower.replica(0)
	c.put(follower, 0, "before")
	for _, n := range c.nodes {
		eventually(t, "all have what was before", func() bool { return knows(n, 0, "before") })
	}
	c.net.Isolate(string(follower.ID()), true)
	for range lost {
		_ = r.raft.Apply([]byte("never committed"), time.Second)
	}
	eventually(t, "the leader loses its office", func() bool { return !r.leading() })
	last := r.raft.LastIndex()

	leader = c.leader(0)
	o := leader.replica(0)
	for i := 0; o.raft.AppliedIndex() < last-k.beyond; i++ {
		c.putLarge(leader, 0, fmt.Sprintf("sku-%d", i))
	}
	check(t, o.raft.Snapshot().Error())
	c.put(leader, 0, "last")
	if first, err := o.store.FirstIndex(); err != nil || o.raft.AppliedIndex() != last-k.beyond+1 || first < last-lost {
		t.Fatalf("the leader has entries %d to %d: %v; the follower's end with %d", first, o.raft.AppliedIndex(), err, last)
	}
	c.net.Isolate(string(follower.ID()), false)
	return follower, leader
}

// loops shows the hazard, and that it is alarmed on.
func (k conflictCase) loops(t *testing.T) {
	c := k.cluster(t)
	defer c.stopAll()
	const enough = 20
	installed := make(chan struct{}, 1000)
	for _, n := range c.nodes {
		defer passGate(n.replica(0))()
		n.replica(0).snapshots.written = func(uint64, uint64) { // nothing has been written yet
			if n.replica(0).leading() {
				return
			}
			<-time.After(10 * time.Millisecond) // without it the loop takes no time at all
			installed <- struct{}{}
		}
	}
	follower, leader := k.conflict(t, c)
	patience := time.After(time.Minute)
	for i := range enough {
		select {
		case <-installed:
		case <-patience:
			t.Fatalf("%d snapshots were installed: if the library has learned to cut the log, the remedy may be let go", i)
		}
	}
	if knows(follower, 0, "last") {
		t.Error("the follower has caught up all the same")
	}
	if n := alarms(t, leader, follower, alarmSnapshots); n != 1 {
		t.Errorf("%v alarms", n)
	}
	c.net.Isolate(string(follower.ID()), true) // ends the loop
}

// passGate has new streams of a replica's group lead to Raft past the gate, which would
// break the loop, until stop is called.
func passGate(r *replica) (stop func()) {
	streams := newRaftStreams(r.env.port, r.shard, r.self)
	trans := newTransport(streams, r.raftLog)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case rpc := <-trans.Consumer():
				r.trans.gate.hand(rpc, done)
			case <-done:
				return
			}
		}
	}()
	r.env.port.attach(r.shard, streams)
	return func() {
		close(done)
		_ = trans.Close()
	}
}

// isEnded shows the remedy: one snapshot, the node says why it stops, and is good
// again after a start.
func (k conflictCase) isEnded(t *testing.T) {
	c := k.cluster(t)
	defer c.stopAll()
	node, leader := k.conflict(t, c)
	name := string(node.ID())
	delete(c.nodes, name)
	select {
	case err := <-node.Fatal():
		says(t, err.Error(), node.replica(0).dir, "never committed", "the snapshot's of", "start it again")
	case <-time.After(time.Minute):
		t.Fatal("the node goes on")
	}
	c.put(leader, 0, "meanwhile")
	check(t, node.Close(context.Background()))
	c.start(name)
	again := c.nodes[name]
	for _, sku := range []string{"before", "sku-0", "last", "meanwhile"} {
		eventually(t, "the follower has "+sku, func() bool { return knows(again, 0, sku) })
	}
	c.stop(name) // what it has written meanwhile is whole
	c.start(name)
	c.put(c.leader(0), 0, "end")
	again = c.nodes[name]
	eventually(t, "the follower goes on", func() bool { return knows(again, 0, "end") })
	if n := alarms(t, leader, again, alarmSnapshots); n != 0 {
		t.Errorf("%v alarms", n)
	}
}

// A node is stopped, or killed, when a snapshot that its leader sent is on disk and the
// log is not emptied yet. The log then ends before the snapshot, and the wal would take
// nothing that follows it.
func TestLogThatEndsBeforeTheSnapshot(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := conflictCase{kind: kind}.cluster(t)
				defer c.stopAll()
				leader := c.leader(0)
				late := "n1"
				if string(leader.ID()) == late {
					late = "n2"
				}
				c.put(leader, 0, "before")
				eventually(t, "all have what was before", func() bool { return knows(c.nodes[late], 0, "before") })
				c.stop(late)
				c.put(leader, 0, "meanwhile")
				check(t, leader.replica(0).raft.Snapshot().Error())
				of := func(name string) string {
					return filepath.Join(c.config(name).DataDir, shardsDir, "0000", snapshotsDir)
				}
				check(t, os.CopyFS(of(late), os.DirFS(of(string(leader.ID())))))
				c.start(late)
				log, snapshot := c.nodes[late].replica(0).store, c.nodes[late].replica(0).snapshots.last()
				if first, err := log.FirstIndex(); err != nil || first > 0 && first <= snapshot.index {
					t.Errorf("entries from %d on are left below a snapshot of %d: %v", first, snapshot.index, err)
				}
				c.put(leader, 0, "after")
				eventually(t, "the node goes on", func() bool {
					n := c.nodes[late]
					return knows(n, 0, "meanwhile") && knows(n, 0, "after")
				})
			})
		})
	}
}
