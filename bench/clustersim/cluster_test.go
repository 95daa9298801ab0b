package clustersim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stockade/shard"
	"stockade/shard/memnet"
	"stockade/shard/shardrpc"
	"stockade/shard/simdisk"
)

const (
	hosts = 3

	// usualDelay and usualSync are the longest times of a hop and of a sync, when all
	// is well.
	usualDelay = 2 * time.Millisecond
	usualSync  = 20 * time.Millisecond

	segment = 64 << 10 // so that segments change in a short run

	maxDrift = 80 // ppm: what two crystals may differ by is 200
)

// cluster is some hosts with their network.
type cluster struct {
	t     *testing.T
	dir   string
	base  shard.Config
	net   *memnet.Network
	hosts []*host
	lost  atomic.Int64 // sectors that power failures took

	mu    sync.Mutex // guards what follows
	rand  *rand.Rand // of the network and the disks
	delay time.Duration
	sync  time.Duration
}

func newCluster(t *testing.T, seed uint64, shards int) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), base: shard.DefaultConfig(), rand: rand.New(rand.NewPCG(seed, 7)), delay: usualDelay, sync: usualSync}
	c.net = memnet.NewOver(memnet.NewWires(c.hop, nil))
	for i := range hosts {
		name := fmt.Sprintf("n%d", i+1)
		c.base.Initial = append(c.base.Initial, shard.Peer{ID: shardrpc.NodeID(name), Addr: name})
	}
	c.base.Shards, c.base.Logger = shards, quiet()
	c.base.Retention = 24 * time.Hour
	c.base.Storage = shard.Storage{
		SnapshotEvery: 5 * time.Second, SnapshotAfter: 64, Trailing: 32, SegmentSize: segment, CacheSize: 64,
	}
	for i := range hosts {
		c.hosts = append(c.hosts, newHost(c, i))
	}
	return c
}

// upTo draws a time.
func (c *cluster) upTo(longest func() time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.rand.Int64N(int64(longest())))
}

// hop is how long a packet takes.
func (c *cluster) hop() time.Duration {
	return 50*time.Microsecond + c.upTo(func() time.Duration { return c.delay })
}

func (c *cluster) drift() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rand.Int64N(2*maxDrift+1) - maxDrift
}

func (c *cluster) newDisk() *simdisk.Disk {
	c.mu.Lock()
	defer c.mu.Unlock()
	return simdisk.New(c.rand.Uint64(), func() time.Duration {
		return 100*time.Microsecond + c.upTo(func() time.Duration { return c.sync })
	})
}

// slow changes how long hops and syncs take at the most.
func (c *cluster) slow(delay, sync time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay, c.sync = delay, sync
}

// openAll opens all nodes side by side.
func (c *cluster) openAll() error {
	errs := make([]error, len(c.hosts))
	var wg sync.WaitGroup
	for i, h := range c.hosts {
		wg.Go(func() {
			if h.running() == nil {
				errs[i] = h.open()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// close ends everything.
func (c *cluster) close() {
	c.net.Wires().Resume()
	for _, h := range c.hosts {
		h.disk.Stall(false)
		h.stop(c.t)
		h.ending.Wait()
	}
	c.net.Wires().Wait()
}
