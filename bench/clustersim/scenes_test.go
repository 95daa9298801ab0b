//go:build !race

package clustersim

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"stockade/shard"
)

// Scenes run in `make sim` only: the race detector sees the same code in TestCluster.

// successions are enough for one run in three to fail without the remedy, which is in
// shard/gate.go.
const successions = 10

// TestLeaderReturnsToItsSuccessor has a leader come back with entries that nobody else
// has, to a successor whose first entry hung in its disk meanwhile: what the leader has
// in place of that entry was never committed, and no replica may apply it.
func TestLeaderReturnsToItsSuccessor(t *testing.T) {
	seed := number(t, seedEnv, rand.Uint64())
	t.Logf("again: %s=%d go test -count=1 -run '^TestLeaderReturnsToItsSuccessor$' ./bench/clustersim", seedEnv, seed)
	simulate(t, seed, func(*run) {}, func(r *run, d *rand.Rand) {
		for range successions {
			r.succeed(d)
		}
	})
}

// succeed cuts off who leads shard 0 and lets it back in when its successor waits for
// its disk.
func (r *run) succeed(d *rand.Rand) {
	r.whole()
	old := r.leads(0)
	r.note("%s, which leads, is cut off, and the disks of the others stall", old.name)
	r.net.Isolate(old.name, true)
	for _, h := range r.hosts {
		if h != old {
			h.disk.Stall(true)
		}
	}
	<-time.After(2*time.Second + time.Duration(d.Int64N(int64(2*time.Second))))
	r.note("%s is back", old.name)
	r.net.Isolate(old.name, false)
	<-time.After(time.Duration(d.Int64N(int64(200 * time.Millisecond))))
	r.note("the disks are back")
	for _, h := range r.hosts {
		h.disk.Stall(false)
	}
	r.progress()
}

// leads is the host that leads a shard.
func (r *run) leads(shard int) (leader *host) {
	r.eventually(fmt.Sprintf("shard %d has a leader", shard), startLimit, func() error {
		for _, h := range r.hosts {
			if s, err := h.status(); err == nil && s.Shards[shard].Ready {
				leader = h
				return nil
			}
		}
		return fmt.Errorf("none is ready")
	})
	return leader
}

// TestStopWithAHungDisk stops nodes whose disks have just begun to hang. One that has
// something to write does not end in time, says why, and has lost nothing.
func TestStopWithAHungDisk(t *testing.T) {
	seed := number(t, seedEnv, rand.Uint64())
	t.Logf("again: %s=%d go test -count=1 -run '^TestStopWithAHungDisk$' ./bench/clustersim", seedEnv, seed)
	simulate(t, seed, func(*run) {}, func(r *run, d *rand.Rand) {
		for range 15 {
			r.whole()
			h := r.draw(d)
			r.note("%s is stopped while its disk stalls", h.name)
			h.disk.Stall(true)
			<-time.After(time.Duration(d.Int64N(int64(30 * time.Millisecond))))
			h.stop(r.t)
			h.disk.Stall(false)
			r.revive()
			r.progress()
		}
	})
}

// TestCatchUpBySnapshots has hosts miss more than the logs reach back, and something happen
// to each while it is sent snapshots.
func TestCatchUpBySnapshots(t *testing.T) {
	seed := number(t, seedEnv, rand.Uint64())
	t.Logf("again: %s=%d go test -count=1 -run '^TestCatchUpBySnapshots$' ./bench/clustersim", seedEnv, seed)
	prepare := func(r *run) {
		r.pace = 40 * time.Millisecond
		// Logs that forget after seconds: the wal forgets whole segments only.
		r.base.LogStore = shard.LogStoreBolt
		r.base.Storage.SnapshotEvery, r.base.Storage.SnapshotAfter, r.base.Storage.Trailing = time.Second, 8, 4
	}
	simulate(t, seed, prepare, func(r *run, d *rand.Rand) {
		for range 5 {
			r.catchUp(d)
		}
	})
}

// catchUp has a host come back, and be cut off, stand still or end meanwhile.
func (r *run) catchUp(d *rand.Rand) {
	r.whole()
	h := r.draw(d)
	r.note("%s is cut off until it needs snapshots", h.name)
	r.net.Isolate(h.name, true)
	<-time.After(20 * time.Second)
	r.note("%s is back", h.name)
	r.net.Isolate(h.name, false)
	<-time.After(time.Duration(d.Int64N(int64(2 * time.Second))))
	switch d.IntN(4) {
	case 0:
		r.note("%s stands still", h.name)
		h.pause(true)
		<-time.After(time.Duration(d.Int64N(int64(30 * time.Second))))
		h.pause(false)
	case 1:
		r.note("%s is killed", h.name)
		if err := h.kill(); err != nil {
			r.t.Error(err)
		}
	case 2:
		r.note("%s loses its power", h.name)
		if err := h.crash(h.disk.Draw()); err != nil {
			r.t.Error(err)
		}
	case 3:
		r.note("%s is stopped", h.name)
		h.stop(r.t)
	}
	r.revive()
	r.progress()
}
