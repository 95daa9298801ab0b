package shard

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/line"
	"stockade/shard/shardrpc"
)

// knownLevels is a levelTable whose levels are those of a simCluster, as of now.
type knownLevels struct {
	cluster *simCluster
	wanted  sync.Map
}

func (k *knownLevels) Want(sku allocator.SKU)       { k.wanted.Store(sku, true) }
func (k *knownLevels) Wants(sku allocator.SKU) bool { _, ok := k.wanted.Load(sku); return ok }

func (k *knownLevels) Cut(sku allocator.SKU) (cut allocator.Cut, asOf time.Time, ok bool) {
	asOf = time.Now()
	if !k.Wants(sku) {
		return nil, asOf, false
	}
	for _, s := range k.cluster.shards {
		r := s.report(sku)
		r.Rate = s.pulls.rate(sku)
		cut = append(cut, r)
	}
	return cut, asOf, true
}

func (k *knownLevels) SoldOut(sku allocator.SKU, units allocator.Quantity) bool {
	cut, _, ok := k.Cut(sku)
	return ok && cut.Consistent() && cut.Known() && cut.Units() < units
}

// withLevels runs f with a cluster whose leaders know all levels.
func withLevels(t *testing.T, shards int, seed uint64, f func(t *testing.T, c *simCluster)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := newSimCluster(t, ctx, shards, seed)
		levels := &knownLevels{cluster: c}
		for _, s := range c.shards {
			s.pulls.levels = levels
		}
		f(t, c)
	})
}

// applied adds up the commands of all shards.
func (c *simCluster) applied() (sum uint64) {
	for _, s := range c.shards {
		s.read(func(st *allocator.State) { sum += st.Applied() })
	}
	return sum
}

// TestRefusalsCostNoLogEntry sells a SKU out. From the first refusal on requests
// are refused from memory, but who repeats a key gets its first answer.
func TestRefusalsCostNoLogEntry(t *testing.T) {
	withLevels(t, 4, 1, func(t *testing.T, c *simCluster) {
		c.create(t, "hot", 200)
		for i := range 201 {
			res, _ := c.shards[i%4].do(t, reserve(i, "hot", 1), time.Minute)
			if want := i < 200; want != (res.Code == allocator.CodeOK) {
				t.Fatalf("request %d: %v", i, res.Code)
			}
		}
		for i, s := range c.shards { // each home has to see that it is short once
			s.do(t, reserve(300+i, "hot", 1), time.Minute)
		}
		<-time.After(100 * time.Millisecond) // for acknowledgements under way
		before := c.applied()
		for i := range 100 {
			res, _ := c.shards[i%4].do(t, reserve(1000+i, "hot", 1), time.Minute)
			if res.Code != allocator.CodeInsufficientStock || res.SKU != "hot" || res.Requested != 1 || res.Available != 0 {
				t.Fatalf("%+v", res)
			}
		}
		if n := c.applied() - before; n != 0 {
			t.Errorf("100 refusals took %d log entries", n)
		}
		for i := range 200 {
			res, _ := c.shards[i%4].do(t, reserve(i, "hot", 1), time.Minute)
			if res.Code != allocator.CodeOK || !res.Replayed {
				t.Fatalf("request %d again: %v, replayed %v", i, res.Code, res.Replayed)
			}
		}
		again := reserve(7, "hot", 1)
		again.Body++
		if res, _ := c.shards[3].do(t, again, time.Minute); res.Code != allocator.CodeKeyReused {
			t.Errorf("another body under a used key: %v", res.Code)
		}
	})
}

// newerLevels are levels of a moment when another leads shard 1.
type newerLevels struct{ *knownLevels }

func (n newerLevels) Cut(sku allocator.SKU) (allocator.Cut, time.Time, bool) {
	cut, asOf, ok := n.knownLevels.Cut(sku)
	if ok {
		cut[1].Applied++
	}
	return cut, asOf, ok
}

// TestDeposedLeaderRefusesNobody: a leader that does not know yet that another has
// taken over may lack the key of a reservation that the other made. Who repeats it
// is not refused, though all levels say that nothing is left.
func TestDeposedLeaderRefusesNobody(t *testing.T) {
	withLevels(t, 4, 1, func(t *testing.T, c *simCluster) {
		c.create(t, "hot", 4)
		for i := range 4 {
			c.shards[i].do(t, reserve(i, "hot", 1), time.Minute)
		}
		home := c.shards[1]
		if res, _ := home.do(t, reserve(10, "hot", 1), time.Minute); res.Code != allocator.CodeInsufficientStock {
			t.Fatalf("sold out: %v", res.Code)
		}
		home.pulls.levels = newerLevels{home.pulls.levels.(*knownLevels)}
		for i := range 2 {
			_, r := home.do(t, reserve(20+i, "hot", 1), 500*time.Millisecond)
			if r.Outcome != shardrpc.NotApplied || r.Reason != shardrpc.ReasonDeadline {
				t.Errorf("%+v", r)
			}
		}
	})
}

// TestWaitInLine lets requests wait for units that come back: they are served in
// order of arrival and before a newcomer, and refused when their time is over.
func TestWaitInLine(t *testing.T) {
	withLevels(t, 1, 1, func(t *testing.T, c *simCluster) {
		c.create(t, "hot", 3)
		home := c.shards[0]
		var held []allocator.ReservationID
		for i := range 3 {
			res, _ := home.do(t, reserve(i, "hot", 1), time.Minute)
			held = append(held, res.Reservation.ID)
		}
		order := make(chan int, 10)
		var refused atomic.Int64
		wait := func(n int, patience time.Duration) {
			home.propose(&shardrpc.Proposal{
				Command: reserve(n, "hot", 1).AppendTo(nil), Deadline: time.Now().Add(time.Minute), WaitUntil: time.Now().Add(patience),
				Done: func(r shardrpc.Response) {
					if allocator.ResultCode(r.Result) == allocator.CodeOK {
						order <- n
					} else {
						refused.Add(1)
					}
				},
			})
			synctest.Wait()
			<-time.After(20 * time.Millisecond)
		}
		began := time.Now()
		wait(10, 30*time.Second)
		wait(11, time.Second)
		wait(12, 30*time.Second)
		<-time.After(5 * time.Second)
		if refused.Load() != 1 || len(order) != 0 {
			t.Fatalf("after 5 s %d are refused and %d served", refused.Load(), len(order))
		}
		home.do(t, &allocator.Cancel{ID: held[0]}, time.Minute)
		if first := <-order; first != 10 {
			t.Errorf("%d was served first", first)
		}
		// One unit comes back and somebody new asks at the same moment.
		newcomer := make(chan allocator.Code, 1)
		home.submit(&shardrpc.Proposal{
			Command: (&allocator.Cancel{ID: held[1]}).AppendTo(nil), Deadline: time.Now().Add(time.Minute), Done: func(shardrpc.Response) {},
		})
		go func() {
			res, _ := home.do(t, reserve(20, "hot", 1), time.Minute)
			newcomer <- res.Code
		}()
		if second := <-order; second != 12 {
			t.Errorf("%d was served second", second)
		}
		if code := <-newcomer; code != allocator.CodeInsufficientStock {
			t.Errorf("the newcomer: %v", code)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestPauseReachesTheLine pauses a SKU that somebody waits for: he is told so, and
// not at the end of his wait that there were no units.
func TestPauseReachesTheLine(t *testing.T) {
	withLevels(t, 4, 1, func(t *testing.T, c *simCluster) {
		c.create(t, "hot", 1)
		<-time.After(time.Second)
		anchor := c.shards[allocator.Anchor("hot", 4)]
		anchor.do(t, reserve(1, "hot", 1), time.Minute)
		answers := make(chan allocator.Code, 2)
		for i, home := range []*simShard{anchor, c.shards[(anchor.shard+1)%4]} {
			home.propose(&shardrpc.Proposal{
				Shard: home.shard, Command: reserve(10+i, "hot", 1).AppendTo(nil),
				Deadline: time.Now().Add(time.Minute), WaitUntil: time.Now().Add(30 * time.Second),
				Done: func(r shardrpc.Response) { answers <- allocator.ResultCode(r.Result) },
			})
		}
		<-time.After(2 * time.Second)
		anchor.do(t, &allocator.SetPaused{SKU: "hot", Paused: true}, time.Minute)
		began := time.Now()
		for range 2 {
			if code := <-answers; code != allocator.CodeSKUPaused {
				t.Errorf("who waited was told %v", code)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestLineIsBounded parks more than there is room for: the rest is refused at
// once, as overload.
func TestLineIsBounded(t *testing.T) {
	inBubble(t, 2, 1, func(t *testing.T, c *simCluster) {
		anchor := allocator.Anchor("far", 2)
		c.create(t, "far", 1)
		<-time.After(time.Second)
		home := c.shards[1-anchor]
		home.do(t, reserve(0, "far", 1), time.Minute) // opens the bucket and takes the unit
		c.shards[anchor].setDown(true)
		var overloaded, unreachable atomic.Int64
		var wg sync.WaitGroup
		for i := range line.MaxEntries + 100 {
			wg.Add(1)
			home.propose(&shardrpc.Proposal{
				Command: reserve(1+i, "far", 1).AppendTo(nil), Deadline: time.Now().Add(2 * time.Second),
				Done: func(r shardrpc.Response) {
					defer wg.Done()
					switch r.Reason {
					case shardrpc.ReasonOverloaded:
						overloaded.Add(1)
					case shardrpc.ReasonStockUnreachable:
						unreachable.Add(1)
					}
				},
			})
		}
		wg.Wait()
		if overloaded.Load() != 100 || unreachable.Load() != line.MaxEntries {
			t.Errorf("%d overloaded, %d unreachable", overloaded.Load(), unreachable.Load())
		}
	})
}

// TestLevellerMovesOnce has units where nobody asks and demand where there are
// none: they are moved, once, and not again before the move shows.
func TestLevellerMovesOnce(t *testing.T) {
	withLevels(t, 4, 1, func(t *testing.T, c *simCluster) {
		sku := allocator.SKU(skuOn(0, 4, "hot"))
		c.create(t, sku, 10_000)
		<-time.After(time.Second)
		c.shards[2].do(t, &allocator.TransferOut{SKU: sku, To: 3, Quantity: 2_500}, time.Minute)
		<-time.After(time.Second)
		for i, s := range c.shards {
			s.pulls.existence.learn(sku)
			s.pulls.existence.here([]byte(sku)).asked.Add([]int64{500, 500, 4_000, 500}[i])
		}
		levels := c.shards[0].pulls.levels
		levels.Want(sku)
		l := newLeveller(0, 4, c, levels, c.shards[0].pulls.metrics)
		before := c.received(2, sku)
		l.changed([]allocator.SKU{sku, "other"})
		first := testutil.ToFloat64(l.metrics.levelled)
		l.changed([]allocator.SKU{sku})
		if again := testutil.ToFloat64(l.metrics.levelled); first == 0 || again != first {
			t.Errorf("%v moves, and then %v", first, again-first)
		}
		<-time.After(100 * time.Millisecond)
		got := c.received(2, sku) - before
		if got < 1000 {
			t.Errorf("%d units moved to where they sell", got)
		}
		l.changed([]allocator.SKU{sku})
		<-time.After(100 * time.Millisecond)
		if more := c.received(2, sku) - before - got; more != 0 {
			t.Errorf("then %d more", more)
		}
		newLeveller(1, 4, c, levels, c.shards[1].pulls.metrics).changed([]allocator.SKU{sku})
		<-time.After(100 * time.Millisecond)
		if balance := c.balance(t, sku); !balance.Balanced {
			t.Error(balance.Problems)
		}
	})
}

// received is how many units ever came to a shard from others.
func (c *simCluster) received(shard int, sku allocator.SKU) allocator.Quantity {
	r := c.shards[shard].report(sku)
	return r.Received()
}

// balance audits a SKU.
func (c *simCluster) balance(t *testing.T, sku allocator.SKU) allocator.Balance {
	t.Helper()
	cut, _ := c.Gather(t.Context(), sku, false)
	return cut.Balance()
}

// fullLevels have no room for any SKU.
type fullLevels struct{ *knownLevels }

func (fullLevels) Want(allocator.SKU)       {}
func (fullLevels) Wants(allocator.SKU) bool { return false }
func (fullLevels) Cut(allocator.SKU) (allocator.Cut, time.Time, bool) {
	return nil, time.Time{}, false
}
func (fullLevels) SoldOut(allocator.SKU, allocator.Quantity) bool { return false }

// deposedCluster answers looks as a leader does that has been deposed: by what
// shard 1 had before it got its units. It passes no barrier, so strong looks find
// the other one.
type deposedCluster struct {
	*simCluster
	before allocator.BucketReport
}

func (c deposedCluster) Gather(ctx context.Context, sku allocator.SKU, strong bool) (allocator.Cut, []allocator.ShardID) {
	cut, missing := c.simCluster.Gather(ctx, sku, strong)
	for i := range cut {
		if !strong && cut[i].Shard == c.before.Shard {
			cut[i] = c.before
		}
	}
	return cut, missing
}

// TestDeposedLeaderJustifiesNoRefusal: levels have no room for a SKU, and one of
// the shards that are asked instead is answered for by a leader that another has
// followed. Nobody is refused by its word.
func TestDeposedLeaderJustifiesNoRefusal(t *testing.T) {
	withLevels(t, 3, 1, func(t *testing.T, c *simCluster) {
		sku := allocator.SKU(skuOn(1, 3, "hot"))
		c.create(t, sku, 0)
		home := c.shards[0]
		if res, _ := home.do(t, reserve(1, sku, 1), time.Minute); res.Code != allocator.CodeInsufficientStock {
			t.Fatal(res.Code)
		}
		home.pulls.cluster = deposedCluster{c, c.shards[1].report(sku)}
		home.pulls.levels = fullLevels{home.pulls.levels.(*knownLevels)}
		c.shards[1].do(t, &allocator.Restock{Key: allocator.Key{3}, SKU: sku, Quantity: 1}, time.Minute)
		if res, r := home.do(t, reserve(2, sku, 1), time.Second); r.Outcome == shardrpc.Applied && res.Code != allocator.CodeOK {
			t.Errorf("refused while there is a unit: %+v", res)
		}
	})
}

// TestEndOfAWaitHasItsReason: the SKU is paused while somebody waits in line. When
// his time is over he is told that, which comes before any lack of units.
func TestEndOfAWaitHasItsReason(t *testing.T) {
	withLevels(t, 1, 1, func(t *testing.T, c *simCluster) {
		c.create(t, "hot", 0)
		home := c.shards[0]
		answer := make(chan shardrpc.Response, 1)
		home.propose(&shardrpc.Proposal{
			Command: reserve(1, "hot", 1).AppendTo(nil), Deadline: time.Now().Add(time.Minute), WaitUntil: time.Now().Add(time.Second),
			Done: func(r shardrpc.Response) { answer <- r },
		})
		home.do(t, &allocator.SetPaused{SKU: "hot", Paused: true}, time.Minute)
		if r := <-answer; allocator.ResultCode(r.Result) != allocator.CodeSKUPaused {
			t.Errorf("%v: %v", r.Outcome, allocator.ResultCode(r.Result))
		}
	})
}

// TestRepeatedEndIsNotRefused: a correction of the count and a late confirmation lack
// units that another shard has, and are sent again while they wait for these. The first
// attempt takes them. The second one finds none, and must not be told that nothing was
// done.
func TestRepeatedEndIsNotRefused(t *testing.T) {
	tests := map[string]func(t *testing.T, home *simShard, sku allocator.SKU) allocator.Command{
		"adjustment": func(_ *testing.T, _ *simShard, sku allocator.SKU) allocator.Command {
			return &allocator.Adjust{Key: allocator.Key{9}, Body: 1, SKU: sku, Delta: -3}
		},
		"late confirmation": func(t *testing.T, home *simShard, sku allocator.SKU) allocator.Command {
			hold := reserve(8, sku, 3)
			hold.TTL = 1000
			res, _ := home.do(t, hold, time.Minute)
			<-time.After(2 * time.Second)
			if late, _ := home.do(t, &allocator.Extend{ID: res.Reservation.ID, TTL: 1}, time.Minute); late.Code != allocator.CodeReservationExpired {
				t.Fatal(late.Code)
			}
			return &allocator.Confirm{ID: res.Reservation.ID}
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			withLevels(t, 2, 1, func(t *testing.T, c *simCluster) {
				sku := allocator.SKU(skuOn(0, 2, "hot"))
				c.create(t, sku, 3)
				home := c.shards[0]
				cmd := prepare(t, home, sku).AppendTo(nil)
				moved, _ := c.shards[1].do(t, reserve(1, sku, 3), time.Minute)
				c.shards[1].do(t, &allocator.Cancel{ID: moved.Reservation.ID}, time.Minute)
				answers := make(chan shardrpc.Response, 2)
				for range 2 {
					home.propose(&shardrpc.Proposal{
						Command: cmd, Deadline: time.Now().Add(time.Minute), Done: func(r shardrpc.Response) { answers <- r },
					})
				}
				for range 2 {
					if r := <-answers; r.Outcome != shardrpc.Applied || allocator.ResultCode(r.Result) != allocator.CodeOK {
						t.Errorf("%v: %v", r.Outcome, allocator.ResultCode(r.Result))
					}
				}
			})
		})
	}
}

// TestAskForNobody: an ask names a shard that the cluster does not have. The log
// refuses it; nothing breaks before.
func TestAskForNobody(t *testing.T) {
	withLevels(t, 2, 1, func(t *testing.T, c *simCluster) {
		sku := allocator.SKU(skuOn(0, 2, "hot"))
		c.create(t, sku, 100)
		home := c.shards[0]
		home.pulls.levels.Want(sku)
		out := allocator.TransferOut{SKU: sku, To: 7, Quantity: 1}
		p := &shardrpc.Proposal{Command: out.AppendTo(nil), Claims: []shardrpc.Claim{{Units: 1}}}
		if home.pulls.yield(p) == nil {
			t.Error("it did not get to the log")
		}
	})
}
