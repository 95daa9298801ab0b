package shard

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// reserve makes a command for one line with a key of its own.
func reserve(n int, sku allocator.SKU, q allocator.Quantity) *allocator.Reserve {
	r := &allocator.Reserve{Body: 1, Lines: []allocator.Line{{SKU: sku, Quantity: q}}}
	r.Key[0] = 1
	binary.LittleEndian.PutUint64(r.Key[8:], uint64(n))
	return r
}

// inBubble runs f with a cluster in virtual time.
func inBubble(t *testing.T, shards int, seed uint64, f func(t *testing.T, c *simCluster)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f(t, newSimCluster(t, ctx, shards, seed))
	})
}

// TestPullsSellToZero sells random amounts over random numbers of shards while
// calls between shards get lost: never a refusal while units that could serve
// it are anywhere, and single units end at exactly zero.
func TestPullsSellToZero(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			shards := 1 + int(seed)%16
			inBubble(t, shards, seed, func(t *testing.T, c *simCluster) {
				c.setLoss(float64(seed%4) / 20)
				units := allocator.Quantity(1 + seed*17)
				c.create(t, "hot", units)
				var sold atomic.Int64
				var wg sync.WaitGroup
				for i := range int(units) + 20 {
					wg.Go(func() {
						res, r := c.shards[i%shards].do(t, reserve(i, "hot", 1), time.Minute)
						switch {
						case r.Outcome != shardrpc.Applied:
							t.Errorf("%d: %v %v", i, r.Outcome, r.Reason)
						case res.Code == allocator.CodeOK:
							sold.Add(1)
						case res.Code != allocator.CodeInsufficientStock:
							t.Errorf("%d: %v", i, res.Code)
						}
					})
				}
				wg.Wait()
				c.setLoss(0)
				<-time.After(time.Second) // for acknowledgements under way
				available, reserved, moving := c.sum("hot")
				if sold.Load() != int64(units) || reserved != units || available != 0 || moving != 0 {
					t.Errorf("%d units: sold %d, reserved %d, available %d, in transit %d", units, sold.Load(), reserved, available, moving)
				}
			})
		})
	}
}

// TestOneRequestGathersFragments asks for every unit there is, which lie on 16
// shards, and then for one more.
func TestOneRequestGathersFragments(t *testing.T) {
	inBubble(t, 16, 1, func(t *testing.T, c *simCluster) {
		c.create(t, "wide", 40)
		res, _ := c.shards[3].do(t, reserve(1, "wide", 41), time.Minute)
		if res.Code != allocator.CodeInsufficientStock || res.Available != 40 || res.Requested != 41 {
			t.Errorf("41 of 40: %+v", res)
		}
		res, r := c.shards[3].do(t, reserve(2, "wide", 40), time.Minute)
		if res.Code != allocator.CodeOK {
			t.Errorf("40 of 40: %+v %+v", r, res)
		}
	})
}

// TestUnknownSKUIsAskedAtAnchor tells a SKU that is only unknown here from one
// that does not exist, and opens the bucket for a policy with no stock left.
func TestUnknownSKUIsAskedAtAnchor(t *testing.T) {
	inBubble(t, 4, 1, func(t *testing.T, c *simCluster) {
		for i, s := range c.shards {
			if res, _ := s.do(t, reserve(i, "nowhere", 1), time.Minute); res.Code != allocator.CodeSKUNotFound {
				t.Errorf("shard %d: %v", i, res.Code)
			}
		}
		c.create(t, "empty", 0)
		for i, s := range c.shards {
			if res, _ := s.do(t, reserve(10+i, "empty", 1), time.Minute); res.Code != allocator.CodeInsufficientStock {
				t.Errorf("shard %d: %v", i, res.Code)
			}
		}
	})
}

// TestUnreachableStockIsNotRefused asks for units that lie only behind a shard
// that can't be reached: that is not a refusal but an outage that names it. The
// units are sold when the shard is back.
func TestUnreachableStockIsNotRefused(t *testing.T) {
	inBubble(t, 2, 1, func(t *testing.T, c *simCluster) {
		anchor := allocator.Anchor("far", 2)
		home := c.shards[1-anchor]
		c.create(t, "far", 1) // too few to spread
		c.shards[anchor].setDown(true)
		_, r := home.do(t, reserve(1, "far", 1), time.Second)
		if r.Outcome != shardrpc.NotApplied || r.Reason != shardrpc.ReasonStockUnreachable || r.Shard != anchor {
			t.Errorf("%+v", r)
		}
		c.shards[anchor].setDown(false)
		if res, _ := home.do(t, reserve(2, "far", 1), time.Second); res.Code != allocator.CodeOK {
			t.Errorf("%v", res.Code)
		}
	})
}

// TestParkedIsAnsweredWhenLeadershipEnds leaves nobody waiting.
func TestParkedIsAnsweredWhenLeadershipEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := newSimCluster(t, ctx, 2, 1)
		anchor := allocator.Anchor("far", 2)
		c.create(t, "far", 1)
		c.shards[anchor].setDown(true)
		time.AfterFunc(time.Second, cancel)
		_, r := c.shards[1-anchor].do(t, reserve(1, "far", 1), time.Minute)
		if r.Outcome != shardrpc.NotApplied || r.Reason != shardrpc.ReasonNotLeader {
			t.Errorf("%+v", r)
		}
	})
}

// TestTransfersSurviveLoss moves units around at random while half of all calls
// are lost in one of the two ways: nothing is lost or doubled, and everything
// arrives once the network is well again.
func TestTransfersSurviveLoss(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			inBubble(t, 4, seed, func(t *testing.T, c *simCluster) {
				c.create(t, "moving", 1000)
				c.setLoss(0.5)
				r := rand.New(rand.NewPCG(seed, 1))
				for range 200 {
					from, to := r.IntN(4), r.IntN(4)
					if from == to {
						continue
					}
					out := &allocator.TransferOut{SKU: "moving", To: allocator.ShardID(to), Quantity: allocator.Quantity(1 + r.IntN(50))}
					c.shards[from].do(t, out, time.Minute)
				}
				c.setLoss(0)
				<-time.After(10 * time.Second)
				available, _, moving := c.sum("moving")
				cut, _ := c.Gather(t.Context(), "moving", false)
				if balance := cut.Balance(); available != 1000 || moving != 0 || !balance.Balanced {
					t.Errorf("available %d, in transit %d: %+v", available, moving, balance)
				}
			})
		})
	}
}

// TestCartIsRefusedForTheRightReason asks for a SKU that is known here and short
// everywhere, together with one that is not known here. Whether there is such a
// SKU decides first.
func TestCartIsRefusedForTheRightReason(t *testing.T) {
	inBubble(t, 4, 1, func(t *testing.T, c *simCluster) {
		c.create(t, "few", 4)
		c.create(t, "other", 0)
		home := c.shards[(allocator.Anchor("other", 4)+1)%4]
		cart := func(n int, second allocator.SKU) allocator.Result {
			r := reserve(n, "few", 5)
			r.Lines = append(r.Lines, allocator.Line{SKU: second, Quantity: 1})
			res, _ := home.do(t, r, time.Minute)
			return res
		}
		if res := cart(1, "nowhere"); res.Code != allocator.CodeSKUNotFound || res.SKU != "nowhere" {
			t.Errorf("with a SKU that does not exist: %v of %s", res.Code, res.SKU)
		}
		res := cart(2, "other")
		few := res.SKU == "few" && res.Requested == 5 && res.Available == 4
		if other := res.SKU == "other" && res.Requested == 1 && res.Available == 0; res.Code != allocator.CodeInsufficientStock || few == other {
			t.Errorf("with a SKU that exists elsewhere: %+v", res)
		}
	})
}

// TestHomesDoNotSwapForEver lets two shards that hold half of it each serve a
// request for everything: one gets it, the other is refused. With delays that are
// nearly equal the two stay in step unless they take care not to. In a cart the
// halves are units of different SKUs.
func TestHomesDoNotSwapForEver(t *testing.T) {
	for _, jitter := range []time.Duration{4 * time.Millisecond, 200 * time.Microsecond, 20 * time.Microsecond, 1} {
		for seed := range uint64(25) {
			t.Run(fmt.Sprint("jitter", jitter, "seed", seed), func(t *testing.T) {
				inBubble(t, 2, seed, func(t *testing.T, c *simCluster) {
					c.jitter = jitter
					one := []allocator.Line{{SKU: "pair", Quantity: 2}}
					cart := []allocator.Line{{SKU: allocator.SKU(skuOn(0, 2, "a")), Quantity: 1}, {SKU: allocator.SKU(skuOn(1, 2, "b")), Quantity: 1}}
					c.create(t, "pair", 2)
					c.create(t, cart[0].SKU, 1)
					c.create(t, cart[1].SKU, 1)
					for _, lines := range [][]allocator.Line{one, cart} {
						if sold := c.compete(t, lines); sold != 1 {
							t.Errorf("%v was sold %d times", lines, sold)
						}
					}
				})
			})
		}
	}
}

// compete asks every shard for the same lines at once, and returns how many got
// them. The others must be refused for lack of stock, and nobody be left waiting.
func (c *simCluster) compete(t *testing.T, lines []allocator.Line) (sold int64) {
	t.Helper()
	var won atomic.Int64
	var wg sync.WaitGroup
	for i, s := range c.shards {
		r := reserve(100*len(lines)+i, "", 0)
		r.Lines = lines
		wg.Go(func() {
			res, resp := s.do(t, r, 2*time.Second)
			switch {
			case resp.Outcome != shardrpc.Applied:
				t.Errorf("shard %d: %v %v", i, resp.Outcome, resp.Reason)
			case res.Code == allocator.CodeOK:
				won.Add(1)
			case res.Code != allocator.CodeInsufficientStock:
				t.Errorf("shard %d: %v", i, res.Code)
			}
		})
	}
	wg.Wait()
	return won.Load()
}
