package shard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

const levelsDelay = time.Millisecond // of the network

// newLevelsCluster starts three nodes with two shards, on a network with a
// delay, and creates a SKU on each shard.
func newLevelsCluster(t *testing.T) (*testCluster, [2]allocator.SKU) {
	t.Helper()
	c := newTestCluster(t, 3, 2, nil)
	c.net = slowNetwork(levelsDelay)
	c.startAll()
	var skus [2]allocator.SKU
	for shard := range skus {
		sku := skuOn(allocator.ShardID(shard), 2, "sku")
		c.leader(allocator.ShardID(shard))
		c.put(c.nodes["n1"], allocator.ShardID(shard), sku)
		skus[shard] = allocator.SKU(sku)
	}
	return c, skus
}

// want wants SKUs at a node until the returned function is called.
func want(l *shardrpc.Levels, skus ...allocator.SKU) (stop func()) {
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for {
			for _, sku := range skus {
				l.Want(sku)
			}
			select {
			case <-time.After(time.Second):
			case <-over:
				return
			}
		}
	})
	return func() { close(over); wg.Wait() }
}

// age is how old the levels of a SKU are.
func age(l *shardrpc.Levels, sku allocator.SKU) time.Duration {
	if _, asOf, ok := l.Cut(sku); ok {
		return time.Since(asOf)
	}
	return time.Hour
}

// freshWithin waits until a table has fresh levels of a SKU.
func freshWithin(t *testing.T, l *shardrpc.Levels, sku allocator.SKU, limit time.Duration) {
	t.Helper()
	for began := time.Now(); age(l, sku) > shardrpc.MaxLevelAge; <-time.After(time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("levels of %s are %v old after %v", sku, age(l, sku), limit)
		}
	}
}

// ages watches tables for a while and gives the greatest age of a SKU's levels.
func ages(d time.Duration, sku allocator.SKU, tables ...*shardrpc.Levels) (oldest time.Duration) {
	for began := time.Now(); time.Since(began) < d; <-time.After(time.Millisecond) {
		for _, l := range tables {
			oldest = max(oldest, age(l, sku))
		}
	}
	return oldest
}

func (c *testCluster) tables(t *testing.T, skus ...allocator.SKU) (all []*shardrpc.Levels, stop func()) {
	t.Helper()
	var stops []func()
	for _, p := range c.base.Initial {
		l := c.nodes[string(p.ID)].LevelTable()
		all = append(all, l)
		stops = append(stops, want(l, skus...))
	}
	for _, l := range all {
		for _, sku := range skus {
			freshWithin(t, l, sku, time.Second)
		}
	}
	return all, func() {
		for _, f := range stops {
			f()
		}
	}
}

// TestLevelsStayFresh wants a SKU on an idle cluster: from then on its levels
// must never be older than what refusals may stand on. Who only knows the cluster
// from outside, as a router does, gets them too.
func TestLevelsStayFresh(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, skus := newLevelsCluster(t)
		defer c.stopAll()
		router := shardrpc.NewLevels(shardrpc.LevelsConfig{Directory: c.nodes["n1"].directory})
		defer router.Close()
		tables, stop := c.tables(t, skus[0])
		defer stop()
		defer want(router, skus[0])()
		freshWithin(t, router, skus[0], time.Second)
		oldest := ages(5*time.Second, skus[0], append(tables, router)...)
		t.Logf("at most %v old", oldest)
		if oldest > shardrpc.MaxLevelAge {
			t.Errorf("levels were %v old", oldest)
		}
		for i, l := range append(tables, router) {
			cut, _, _ := l.Cut(skus[0])
			if cut.Units() != 100 || !cut.Consistent() || l.SoldOut(skus[0], 100) || !l.SoldOut(skus[0], 101) {
				t.Errorf("table %d: %d units, consistent %v", i, cut.Units(), cut.Consistent())
			}
		}
	})
}

// TestNothingIsSentWhenNothingIsWanted counts what happens by moments, of which
// each question takes one. A single asker makes all nodes ask each other; that
// must end after him.
func TestNothingIsSentWhenNothingIsWanted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, skus := newLevelsCluster(t)
		defer c.stopAll()
		happened := func() (sum shardrpc.Moment) {
			for _, n := range c.nodes {
				sum += n.levels.Moment()
			}
			return sum
		}
		for _, phase := range []string{"never", "no more"} {
			before := happened()
			<-time.After(5 * time.Second)
			if got := happened() - before; got != 3 { // the count's own
				t.Errorf("%s wanted: %d moments", phase, got-3)
			}
			stop := want(c.nodes["n2"].LevelTable(), skus[0])
			freshWithin(t, c.nodes["n2"].LevelTable(), skus[0], time.Second)
			<-time.After(time.Second)
			stop()
			<-time.After(5 * time.Second) // 3 s wanted, 1 s proving
		}
	})
}

// TestDeposedLeadersLevelsAge cuts a leader off, by a network that loses
// everything: with its office its levels must end, in every table, within the age
// that refusals allow, and its successor's take over.
func TestDeposedLeadersLevelsAge(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, skus := newLevelsCluster(t)
		defer c.stopAll()
		old := c.leader(0)
		_, stop := c.tables(t, skus[0])
		defer stop()
		c.net.Wires().Pause(string(old.ID()), true)
		cutOff := time.Now()
		<-time.After(shardrpc.MaxLevelAge + 1)
		for _, n := range c.nodes {
			if _, asOf, _ := n.LevelTable().Cut(skus[0]); asOf.After(cutOff) {
				t.Errorf("%s: levels as of %v after the leader was cut off", n.ID(), asOf.Sub(cutOff))
			}
			if n.LevelTable().SoldOut(skus[0], 101) {
				t.Errorf("%s refuses by old levels", n.ID())
			}
		}
		delete(c.nodes, string(old.ID()))
		defer func() { c.nodes[string(old.ID())] = old }()
		next := c.leader(0)
		c.leader(1) // the old one may have led both
		for _, n := range c.nodes {
			freshWithin(t, n.LevelTable(), skus[0], 100*time.Millisecond)
		}
		t.Logf("fresh again %v after the cut", time.Since(cutOff))
		c.apply(next, 0, (&allocator.Restock{Key: allocator.Key{1}, Body: 1, SKU: skus[0], Quantity: 7}).AppendTo(nil))
		if _, asOf, ok := old.LevelTable().Cut(skus[0]); ok && asOf.After(cutOff) {
			t.Errorf("the old leader has levels as of %v after it was cut off", asOf.Sub(cutOff))
		}
		c.net.Wires().Pause(string(old.ID()), false)
		freshWithin(t, old.LevelTable(), skus[0], 5*time.Second)
		if cut, _, _ := old.LevelTable().Cut(skus[0]); cut.Units() != 107 {
			t.Errorf("the old leader knows of %d units", cut.Units())
		}
	})
}

// TestPausedFollowersProveNothing pauses one follower, then both. Without both
// the leader is still in office for half a second, and can't know it.
func TestPausedFollowersProveNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.net = slowNetwork(levelsDelay)
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		c.put(leader, 0, "a")
		defer want(leader.LevelTable(), "a")()
		freshWithin(t, leader.LevelTable(), "a", time.Second)
		var paused []string
		for name := range c.nodes {
			if name != string(leader.ID()) {
				paused = append(paused, name)
			}
		}
		c.net.Wires().Pause(paused[0], true)
		if oldest := ages(time.Second, "a", leader.LevelTable()); oldest > shardrpc.MaxLevelAge {
			t.Errorf("with one follower levels were %v old", oldest)
		}
		c.net.Wires().Pause(paused[1], true)
		began := time.Now()
		<-time.After(300 * time.Millisecond)
		if !leader.replica(0).ready() {
			t.Error("the leader has noticed: the test proves nothing")
		}
		if _, asOf, _ := leader.LevelTable().Cut("a"); asOf.After(began) {
			t.Errorf("without followers levels are as of %v after the pause", asOf.Sub(began))
		}
		for _, name := range paused {
			c.net.Wires().Pause(name, false)
		}
		freshWithin(t, leader.LevelTable(), "a", 5*time.Second)
	})
}

// TestTransfersOfOtherSKUsLeaveCutsConsistent moves units of one SKU to and fro a
// thousand times a second: the cut of another must stay consistent and fresh.
func TestTransfersOfOtherSKUsLeaveCutsConsistent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, skus := newLevelsCluster(t)
		defer c.stopAll()
		tables, stop := c.tables(t, skus[0])
		defer stop()
		for _, l := range tables { // its own units have been spread
			eventually(t, "nothing is on its way", func() bool {
				cut, _, _ := l.Cut(skus[0])
				return cut.Exact() && cut.InTransit() == 0 && cut.Of(1).Available == 50
			})
		}
		var done sync.WaitGroup
		defer done.Wait()
		transfers := 0
		for began := time.Now(); time.Since(began) < 2*time.Second; <-time.After(time.Millisecond) {
			from := allocator.ShardID(transfers % 2)
			transfers++
			done.Add(1)
			c.nodes["n1"].Dispatcher().Propose(&shardrpc.Proposal{
				Shard: from, Final: true, Deadline: time.Now().Add(time.Second),
				Command: (&allocator.TransferOut{SKU: skus[1], To: 1 - from, Quantity: 1}).AppendTo(nil),
				Done:    func(shardrpc.Response) { done.Done() },
			})
			for _, l := range tables {
				if cut, _, _ := l.Cut(skus[0]); !cut.Consistent() || age(l, skus[0]) > shardrpc.MaxLevelAge {
					t.Errorf("consistent %v, %v old", cut.Consistent(), age(l, skus[0]))
				}
			}
		}
		t.Logf("%d transfers", transfers)
	})
}

// deposits restocks a SKU of shard 0 one by one and notes when each was acknowledged.
type deposits struct {
	sku allocator.SKU

	mu    sync.Mutex
	acked []time.Time
}

// run restocks through any node until ctx ends. Outcomes that are not known may
// add units that nobody counts.
func (d *deposits) run(ctx context.Context, c *testCluster, random *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		cmd := &allocator.Restock{Body: 1, SKU: d.sku, Quantity: 1}
		copy(cmd.Key[:], fmt.Sprintf("%d %s", i, d.sku))
		n := c.nodes[fmt.Sprintf("n%d", 1+random.IntN(3))]
		try, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		r := n.Dispatcher().Do(try, 0, cmd.AppendTo(nil))
		cancel()
		if r.Outcome == shardrpc.Applied {
			d.mu.Lock()
			d.acked = append(d.acked, time.Now())
			d.mu.Unlock()
		}
		<-time.After(time.Duration(random.IntN(8)) * time.Millisecond)
	}
}

// before counts what was acknowledged before a moment.
func (d *deposits) before(at time.Time) allocator.Quantity {
	d.mu.Lock()
	defer d.mu.Unlock()
	count, _ := slices.BinarySearchFunc(d.acked, at, time.Time.Compare)
	return allocator.Quantity(count)
}

// check looks at a table; it tells whether it was fresh.
func (d *deposits) check(t *testing.T, name string, l *shardrpc.Levels) bool {
	t.Helper()
	cut, asOf, ok := l.Cut(d.sku)
	if !ok {
		return false
	}
	at := cut.Of(0)
	if has, least := at.Deposited, 100+d.before(asOf); has < least {
		t.Fatalf("%s: levels of %s as of %v ago miss acknowledged writes: %d units, not %d", name, d.sku, time.Since(asOf), has, least)
	}
	return time.Since(asOf) <= shardrpc.MaxLevelAge
}

// TestLevelsIncludeWhatWasAcknowledged lets leaders be cut off and paused at
// random, while writes go on. Whatever a table says to be complete as of some
// moment must include every write that was acknowledged before that moment, at
// every node, whoever led.
//
// One node notices late that it is no longer the leader, as one does whose
// process was stopped, and is made the leader before each fault: for a second
// there are two. A fault may also cut Raft off and leave the rest connected.
func TestLevelsIncludeWhatWasAcknowledged(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { chaosOfLevels(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func chaosOfLevels(t *testing.T, random *rand.Rand) {
	c := newTestCluster(t, 3, 1, nil)
	c.net = slowNetwork(levelsDelay)
	c.each = func(cfg *Config) {
		if cfg.NodeID == "n1" {
			cfg.Timing.Election, cfg.Timing.Lease = 2*time.Second, 2*time.Second
		}
	}
	c.startAll()
	defer c.stopAll()
	c.leader(0)
	c.put(c.nodes["n1"], 0, "sku")
	tables, stop := c.tables(t, "sku")
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer func() { cancel(); all.Wait() }()
	writes := &deposits{sku: "sku"}
	own := rand.New(rand.NewPCG(random.Uint64(), 0))
	all.Go(func() { writes.run(ctx, c, own) })
	looks, fresh, leaders := 0, 0, 0
	watch := func(d time.Duration) {
		for began := time.Now(); time.Since(began) < d; <-time.After(time.Duration(1+random.IntN(3000)) * time.Microsecond) {
			leaders = max(leaders, c.leaders(0))
			for i, l := range tables {
				looks++
				if writes.check(t, fmt.Sprintf("n%d", i+1), l) {
					fresh++
				}
			}
		}
	}
	faults := []func(bool){
		func(on bool) { c.net.Isolate("n1", on) },
		func(on bool) { c.net.Wires().Pause("n1", on) },
		func(on bool) { c.net.Wires().PauseMarked("n1", on) },
	}
	for i := range 6 {
		if c.leader(0).ID() != "n1" {
			r := c.leader(0).replica(0)
			to := c.nodes["n1"].replica(0).self
			_ = r.raft.LeadershipTransferToServer(to, raft.ServerAddress(to)).Error() // mostly
			c.leader(0)
		}
		fault := faults[i%len(faults)]
		fault(true)
		watch(time.Second + time.Duration(random.IntN(2500))*time.Millisecond)
		fault(false)
		watch(time.Duration(random.IntN(2500)) * time.Millisecond)
	}
	t.Logf("%d writes, %d of %d looks at fresh levels, at most %d leaders", writes.before(time.Now()), fresh, looks, leaders)
	if fresh < looks/4 || leaders < 2 {
		t.Error("levels were seldom fresh, or there were never two leaders: the test proves little")
	}
}

// leaders counts the nodes that believe that they lead a shard.
func (c *testCluster) leaders(shard allocator.ShardID) (n int) {
	for _, node := range c.nodes {
		if node.replica(shard).ready() {
			n++
		}
	}
	return n
}
