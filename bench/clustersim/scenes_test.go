package clustersim

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// successions are enough for one run in three to fail without the remedy, which is in
// shard/gate.go.
const successions = 10

// TestLeaderReturnsToItsSuccessor has a leader come back with entries that nobody else
// has, to a successor whose first entry hung in its disk meanwhile: what the leader has
// in place of that entry was never committed, and no replica may apply it.
func TestLeaderReturnsToItsSuccessor(t *testing.T) {
	seed := number(t, seedEnv, rand.Uint64())
	t.Logf("again: %s=%d go test -count=1 -run '^TestLeaderReturnsToItsSuccessor$' ./bench/clustersim", seedEnv, seed)
	inVirtualTime(t, func(t *testing.T) {
		r := newRun(t, seed, 0)
		r.all(func(d *rand.Rand) {
			for range successions {
				r.succeed(d)
			}
		})
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
	inVirtualTime(t, func(t *testing.T) {
		r := newRun(t, seed, 0)
		r.all(func(d *rand.Rand) {
			for range 15 {
				r.whole()
				h := r.draw(d)
				r.note("%s is stopped while its disk stalls", h.name)
				h.disk.Stall(true)
				<-time.After(time.Duration(d.Int64N(int64(30 * time.Millisecond))))
				h.stop(t)
				h.disk.Stall(false)
				r.revive()
				r.progress()
			}
		})
	})
}
