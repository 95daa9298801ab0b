//go:build !race

package shard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

const (
	stormShards  = 3
	stormUnits   = 1000 // of each SKU: towards the end they are short
	stormClients = 6
	stormFaults  = 30

	// stormCommands bounds what one client does, and with it memory and time.
	stormCommands = 350
	// stormLimit bounds virtual time: a cluster that hangs fails the test instead
	// of spinning through years.
	stormLimit = 20 * time.Minute

	// stormSeedEnv repeats the draws of a run. The order in which goroutines run
	// is not part of it, so a failure may need some attempts.
	stormSeedEnv = "STOCKADE_TEST_SEED"
)

// Clients sell over real nodes while these are cut off, restarted, hung and sent
// snapshots at random. Afterwards every reservation that was acknowledged is on
// every replica in the state that was acknowledged last, what was held and sold is
// what was acknowledged and nothing else, replicas have the same hash at the same
// command, and the audit balances.
func TestSlowStorm(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			seed := rand.Uint64()
			if fixed := os.Getenv(stormSeedEnv); fixed != "" {
				var err error
				seed, err = strconv.ParseUint(fixed, 10, 64)
				check(t, err)
			}
			t.Logf("%s=%d", stormSeedEnv, seed)
			bubble.Test(t, func(t *testing.T) { newStorm(t, kind, seed).run() })
		})
	}
}

// storm is one run. Faults are made by one goroutine, each client is another.
type storm struct {
	t      *testing.T
	c      *testCluster
	names  []string
	skus   []allocator.SKU
	random *rand.Rand // of the goroutine that makes faults
	seed   uint64
	end    time.Time // of virtual time

	mu    sync.Mutex
	nodes map[string]*Node // those that run; the cluster's own map
	acked []promise
	ended map[string]int // nodes that ended themselves, by reason
}

// promise is what a client was told last about a reservation.
type promise struct {
	id     allocator.ReservationID
	status allocator.Status
	sku    allocator.SKU
	units  allocator.Quantity
}

func newStorm(t *testing.T, kind LogStoreKind, seed uint64) *storm {
	c := newTestCluster(t, 3, stormShards, func(cfg *Config) {
		cfg.LogStore = kind
		cfg.Retention = 24 * time.Hour
		cfg.Storage.SegmentSize = testSegment
		cfg.Storage.SnapshotEvery = 3 * time.Second
		cfg.Storage.SnapshotAfter = 64
		cfg.Storage.Trailing = 16
	})
	s := &storm{
		t: t, c: c, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), end: time.Now().Add(stormLimit),
		names: []string{"n1", "n2", "n3"}, nodes: c.nodes, ended: map[string]int{},
	}
	return s
}

func (s *storm) run() {
	s.c.startAll()
	defer s.c.stopAll()
	for i := range allocator.ShardID(stormShards) {
		s.c.leader(i)
		sku := skuOn(i, stormShards, "hot")
		s.skus = append(s.skus, allocator.SKU(sku))
		put := putSKU(sku, stormUnits)
		put.Policy = allocator.Policy{DefaultTTL: 3_600_000, MaxTTL: 3_600_000}
		if res := s.c.apply(s.c.nodes["n1"], i, put.AppendTo(nil)); !res.Created {
			s.t.Fatal(res)
		}
	}
	var clients sync.WaitGroup
	for i := range stormClients {
		clients.Go(func() { s.sell(i) })
	}
	for range stormFaults {
		s.fault()
		s.reviveAll()
		if s.t.Failed() {
			break
		}
	}
	clients.Wait()
	s.t.Logf("%d of %d reservations acknowledged in %v; nodes that ended themselves: %v",
		len(s.acked), stormClients*stormCommands, stormLimit-time.Until(s.end), s.ended)
	s.verify()
}

// fault draws one fault, lets it last, and mends it.
func (s *storm) fault() {
	name := s.names[s.random.IntN(len(s.names))]
	lasts := time.Duration(s.random.Int64N(int64(3 * time.Second)))
	switch s.random.IntN(6) {
	case 0, 1:
		s.c.net.Isolate(name, true)
		<-time.After(lasts)
		s.c.net.Isolate(name, false)
	case 2:
		s.stop(name)
		<-time.After(lasts)
	case 3: // to the others it has crashed
		s.c.net.Isolate(name, true)
		s.stop(name)
		<-time.After(lasts)
		s.c.net.Isolate(name, false)
	case 4: // a disk that does not answer, for less than the deadline
		if r := s.replica(name); r != nil {
			release := hang(r)
			<-time.After(lasts)
			release()
		}
	case 5: // no majority for a while
		other := s.names[s.random.IntN(len(s.names))]
		s.c.net.Isolate(name, true)
		s.stop(other)
		<-time.After(lasts)
		s.c.net.Isolate(name, false)
	}
	<-time.After(time.Duration(s.random.Int64N(int64(time.Second))))
}

// replica is one of a node's replicas; nil when the node does not run.
func (s *storm) replica(name string) *replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[name]; n != nil {
		return n.replica(allocator.ShardID(s.random.IntN(stormShards)))
	}
	return nil
}

func (s *storm) stop(name string) {
	s.mu.Lock()
	n := s.nodes[name]
	delete(s.nodes, name)
	s.mu.Unlock()
	if n == nil {
		return
	}
	if err := n.Close(context.Background()); err != nil {
		s.t.Errorf("close %s: %v", name, err)
	}
}

// reviveAll does what a supervisor of processes does: it starts what has ended.
// A node may end itself for one reason only.
func (s *storm) reviveAll() {
	for _, name := range s.names {
		s.mu.Lock()
		n := s.nodes[name]
		s.mu.Unlock()
		if n != nil {
			select {
			case err := <-n.Fatal():
				s.noteEnd(name, err)
				s.stop(name)
			default:
				continue
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		again, err := Open(ctx, s.c.config(name))
		cancel()
		if err != nil {
			s.t.Errorf("open %s: %v", name, err)
			continue
		}
		s.mu.Lock()
		s.nodes[name] = again
		s.mu.Unlock()
	}
}

func (s *storm) noteEnd(name string, err error) {
	const known = "never committed" // see conflict.go
	if !strings.Contains(err.Error(), known) {
		s.t.Errorf("%s ended itself: %v", name, err)
	}
	s.ended[known]++
}

// client is the state of one client.
type client struct {
	*storm
	number int
	random *rand.Rand
}

// sell reserves, and confirms or cancels some of what it got.
func (s *storm) sell(number int) {
	c := &client{storm: s, number: number, random: rand.New(rand.NewPCG(s.seed, uint64(number)+1))}
	for i := range stormCommands {
		if s.t.Failed() {
			return
		}
		<-time.After(time.Duration(c.random.Int64N(int64(500 * time.Millisecond))))
		p, ok := c.reserve(i)
		if !ok {
			continue
		}
		switch c.random.IntN(3) {
		case 0:
			p.status = c.finish(p, &allocator.Confirm{ID: p.id}, allocator.StatusConfirmed)
		case 1:
			p.status = c.finish(p, &allocator.Cancel{ID: p.id}, allocator.StatusCanceled)
		}
		s.mu.Lock()
		s.acked = append(s.acked, p)
		s.mu.Unlock()
	}
}

// reserve asks for some units; not ok: it was refused.
func (c *client) reserve(i int) (p promise, ok bool) {
	p.sku = c.skus[c.random.IntN(len(c.skus))]
	p.units = 1 + allocator.Quantity(c.random.IntN(4))
	cmd := &allocator.Reserve{Body: 1, Lines: []allocator.Line{{SKU: p.sku, Quantity: p.units}}}
	cmd.Key[0] = 9
	binary.LittleEndian.PutUint32(cmd.Key[4:], uint32(c.number))
	binary.LittleEndian.PutUint32(cmd.Key[8:], uint32(i))
	res, err := c.do(allocator.ShardID(c.random.IntN(stormShards)), cmd)
	switch {
	case err != nil:
		c.t.Errorf("client %d, reservation %d: %v", c.number, i, err)
		return p, false
	case res.Code == allocator.CodeInsufficientStock:
		return p, false
	case res.Code != allocator.CodeOK:
		c.t.Errorf("client %d, reservation %d: %v", c.number, i, res.Code)
		return p, false
	}
	p.id, p.status = res.Reservation.ID, res.Reservation.Status
	return p, true
}

// finish ends a reservation, and tells its new status.
func (c *client) finish(p promise, cmd allocator.Command, want allocator.Status) allocator.Status {
	res, err := c.do(p.id.Shard, cmd)
	if err != nil || res.Code != allocator.CodeOK || res.Reservation.Status != want {
		c.t.Errorf("client %d, end of %v: %v, %v, %v", c.number, p.id, err, res.Code, res.Reservation.Status)
	}
	return want
}

// do has a command applied, through one node after the other, until its result
// is known: the same command, so that an unknown outcome becomes a known one.
func (c *client) do(shard allocator.ShardID, cmd allocator.Command) (res allocator.Result, err error) {
	command := cmd.AppendTo(nil)
	for time.Now().Before(c.end) {
		c.mu.Lock()
		n := c.nodes[c.names[c.random.IntN(len(c.names))]]
		c.mu.Unlock()
		if n != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			r := n.Dispatcher().Do(ctx, shard, command)
			cancel()
			if r.Outcome == shardrpc.Applied {
				return res, allocator.DecodeResult(r.Result, &res)
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	return res, errors.New("no result before the end of time")
}

// verify looks at everything that was promised.
func (s *storm) verify() {
	want := map[allocator.SKU]*[2]allocator.Quantity{}
	for _, sku := range s.skus {
		want[sku] = new([2]allocator.Quantity)
	}
	for _, p := range s.acked {
		switch p.status {
		case allocator.StatusReserved:
			want[p.sku][0] += p.units
		case allocator.StatusConfirmed:
			want[p.sku][1] += p.units
		}
	}
	for _, sku := range s.skus {
		s.audit(sku, *want[sku])
	}
	for i := range allocator.ShardID(stormShards) {
		s.sameEverywhere(i)
	}
	for _, p := range s.acked {
		for name, n := range s.nodes {
			var got allocator.Reservation
			var found bool
			n.replica(p.id.Shard).fsm.Read(func(st *allocator.State) { got, found = st.Reservation(p.id) })
			if !found || got.Status != p.status {
				s.t.Errorf("%s: reservation %v is %v (found: %v), acknowledged was %v", name, p.id, got.Status, found, p.status)
			}
		}
	}
	if len(s.acked) < stormCommands {
		s.t.Errorf("only %d reservations were acknowledged", len(s.acked))
	}
}

// audit compares the sums of a SKU over all shards with what was acknowledged.
func (s *storm) audit(sku allocator.SKU, want [2]allocator.Quantity) {
	var cut allocator.Cut
	eventually(s.t, "nothing is in transit any more", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		all := s.nodes["n1"].Dispatcher().Buckets(ctx, sku, true)
		cut = all.Cut
		return len(all.Missing) == 0 && cut.Exact() && cut.InTransit() == 0
	})
	var reserved, committed allocator.Quantity
	for i := range cut {
		reserved += cut[i].Reserved
		committed += cut[i].Committed
	}
	if reserved != want[0] || committed != want[1] {
		s.t.Errorf("%s: %d reserved and %d sold, acknowledged were %d and %d", sku, reserved, committed, want[0], want[1])
	}
	if b := cut.Balance(); !b.Balanced || b.Deposited != stormUnits || b.OnHand != stormUnits {
		s.t.Errorf("%s: %+v", sku, b)
	}
}

// sameEverywhere compares the replicas of a shard.
func (s *storm) sameEverywhere(shard allocator.ShardID) {
	type point struct{ applied, hash uint64 }
	var points map[string]point
	eventually(s.t, fmt.Sprintf("the replicas of shard %d have applied the same", shard), func() bool {
		points = map[string]point{}
		var any uint64
		for name, n := range s.nodes {
			n.replica(shard).fsm.Read(func(st *allocator.State) {
				b := st.Bucket(s.skus[0])
				points[name] = point{b.Applied, b.Hash}
				if err := st.CheckInvariants(); err != nil {
					s.t.Errorf("%s, shard %d: %v", name, shard, err)
				}
			})
			any = points[name].applied
		}
		for _, p := range points {
			if p.applied != any {
				return false
			}
		}
		return len(points) == len(s.names)
	})
	for _, p := range points {
		if p.hash != points["n1"].hash {
			s.t.Errorf("shard %d: replicas differ after command %d: %+v", shard, p.applied, points)
		}
	}
}
