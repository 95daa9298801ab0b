package allocator

import (
	"cmp"
	"fmt"
	"slices"
)

// Cut is what all shards know of one SKU: one report per shard, in the order of
// ShardID. The reports may be of different moments; the flows in them tell how
// they fit together. For a giver s and a receiver d, with the units of this SKU
// that ever went from s to d,
//
//   - Sent, in the report of s, are no longer counted in its bucket;
//   - Acked, in the report of s, are no longer in its outbox either;
//   - Received, in the report of d, are counted there.
//
// Messages between two shards arrive in order, so comparing these sums compares
// how many messages each report knows of.
//
// A cut is consistent when for every pair Acked is at most Received. Then no unit
// is missed. Follow one that is in no bucket and no outbox of the cut: at the
// moment of its shard's report it had left, by a message that was acknowledged,
// which therefore was received by the next shard before the report of that one,
// from where it had left again, and so on; but each time it has made a hop, and
// a unit has only made so many.
//
// Units, which counts what was sent and not received, misses none in any other cut
// of true reports either: follow a unit from where it was before all reports. As
// long as it is not counted, the next shard on its way was asked before it came
// there; so was, at last, the one where it stays, which is a contradiction. That a
// cut is consistent is asked for all the same before somebody is refused: reports
// that never become so are those of a replica that has lost messages.
//
// A cut is exact when it is consistent and for every pair Received is at most
// Sent. Then no unit is counted twice either: it is in the giver's bucket (not
// sent), or else in the receiver's (received), or else in the outbox (sent and
// not received, so not acknowledged).
//
// A Cut's methods only read. Those that look at pairs of shards need it to be
// complete, and are false or empty otherwise.
type Cut []BucketReport

// Complete tells whether there is exactly one report of each of a cluster's
// shards, in order.
func (c Cut) Complete(shards int) bool {
	for i := range c {
		if c[i].Shard != ShardID(i) || c[i].Shards != shards {
			return false
		}
	}
	return len(c) == shards && shards > 0
}

// Consistent tells whether no unit that was in the cluster all the while can be
// missed: what is not in this cut is nowhere.
func (c Cut) Consistent() bool {
	return c.Complete(len(c)) && c.everyPair(func(_, _ int, p pairFlow) bool { return p.acked <= p.received })
}

// Final tells whether the SKU exists, no unit is missed, and nothing else is known
// that keeps units from being had: a request for more than Units can be refused.
func (c Cut) Final() bool {
	known := false
	for i := range c {
		if c[i].Known && c[i].Policy.Paused {
			return false
		}
		known = known || c[i].Known
	}
	return known && c.Consistent()
}

// Exact tells whether every unit is counted once, so that sums are true and
// not only upper bounds.
func (c Cut) Exact() bool {
	return c.Complete(len(c)) && c.everyPair(func(_, _ int, p pairFlow) bool {
		return p.acked <= p.received && p.received <= p.sent
	})
}

// pairFlow is what went from one shard to another: the giver's word and the
// receiver's.
type pairFlow struct{ sent, acked, received Quantity }

// everyPair tells whether something holds for all pairs of a giver and a
// receiver that ever traded the SKU.
func (c Cut) everyPair(holds func(s, d int, p pairFlow) bool) bool {
	for s := range c {
		for _, f := range c[s].Flows {
			d := int(f.Peer)
			if d >= len(c) {
				continue
			}
			back := c[d].With(ShardID(s))
			if f.Sent != 0 && !holds(s, d, pairFlow{f.Sent, f.Acked, back.Received}) {
				return false
			}
			// What the giver's report does not know of yet.
			if back.Sent == 0 && f.Received != 0 && !holds(d, s, pairFlow{received: f.Received}) {
				return false
			}
		}
	}
	return true
}

// With gives the flow with a peer; empty when there is none.
func (r *BucketReport) With(peer ShardID) Flow {
	at, ok := slices.BinarySearchFunc(r.Flows, peer, func(f Flow, p ShardID) int { return cmp.Compare(f.Peer, p) })
	if !ok {
		return Flow{}
	}
	return r.Flows[at]
}

// Of is the report of one shard; nil when there is none.
func (c Cut) Of(shard ShardID) *BucketReport {
	for i := range c {
		if c[i].Shard == shard {
			return &c[i]
		}
	}
	return nil
}

// Known tells whether any shard has a bucket of the SKU.
func (c Cut) Known() bool {
	for i := range c {
		if c[i].Known {
			return true
		}
	}
	return false
}

// Available is the sum of units that could be sold where they are.
func (c Cut) Available() (sum Quantity) {
	for i := range c {
		sum += c[i].Available
	}
	return sum
}

// InTransit is the sum of units that were sent and that their receivers do not
// count yet.
func (c Cut) InTransit() (sum Quantity) {
	if !c.Complete(len(c)) {
		return 0
	}
	c.everyPair(func(_, _ int, p pairFlow) bool {
		sum += p.inTransit()
		return true
	})
	return sum
}

// UnderWay is how many units of a shard's flow its peer does not count yet; 0 when
// the cut has no report of the peer. For that alone the cut need not be complete,
// but its reports must be in order, from shard 0 on.
func (c Cut) UnderWay(from ShardID, f Flow) Quantity {
	if int(f.Peer) >= len(c) {
		return 0
	}
	return pairFlow{sent: f.Sent, received: c[f.Peer].With(from).Received}.inTransit()
}

func (p pairFlow) inTransit() Quantity { return max(0, p.sent-p.received) }

// Units is what could be sold, here or on its way: available and in transit. In
// a consistent cut there is no more than that anywhere.
func (c Cut) Units() Quantity { return c.Available() + c.InTransit() }

// OnHand is everything the cluster answers for: what lies in buckets and what
// is in transit. Of an exact cut it is what was deposited, with adjustments.
func (c Cut) OnHand() Quantity {
	sum := c.InTransit()
	for i := range c {
		sum += c[i].Held()
	}
	return sum
}

// Balance is the proof that no unit of a SKU was lost or made.
type Balance struct {
	// Exact tells whether the reports fit together. If not, nothing can be said
	// about pairs and the total: read them again.
	Exact bool
	// Balanced: the cut is exact, and every sum is as it must be.
	Balanced bool
	// Deposited is what was put in, ever, with adjustments; OnHand is what is
	// there. Of a balanced cut they are equal.
	Deposited Quantity
	OnHand    Quantity
	// Pairs are the flows from one shard to another, for pairs that have any.
	Pairs []PairBalance
	// Problems says what is off, one sentence each.
	Problems []string
}

// PairBalance compares what one shard sent with what another took in.
type PairBalance struct {
	From      ShardID
	To        ShardID
	Sent      Quantity // by From, ever
	InTransit Quantity // sent and not taken in by To
	Received  Quantity // by To, ever
}

// Balance adds everything up: each bucket for itself, each pair of shards, and
// the deposits against what is there.
func (c Cut) Balance() Balance {
	b := Balance{Exact: c.Exact(), OnHand: c.OnHand()}
	for i := range c {
		b.Deposited += c[i].Deposited + c[i].Adjusted
		b.addBucket(&c[i])
	}
	if b.Exact {
		c.addPairs(&b)
		if b.Deposited != b.OnHand {
			b.problem("%d units were deposited, but %d are there", b.Deposited, b.OnHand)
		}
	} else {
		c.explain(&b)
	}
	b.Balanced = len(b.Problems) == 0
	return b
}

func (b *Balance) problem(format string, args ...any) {
	b.Problems = append(b.Problems, fmt.Sprintf(format, args...))
}

// addBucket checks one bucket's own sum: what came in is there or went out, and
// what went out and is not acknowledged is in the outbox.
func (b *Balance) addBucket(r *BucketReport) {
	in, out := r.Deposited+r.Adjusted, r.Held()
	for _, f := range r.Flows {
		in += f.Received
		out += f.Sent
		if int(f.Peer) >= r.Shards {
			b.problem("shard %d traded with shard %d, which does not exist", r.Shard, f.Peer)
		}
		if box := r.outboxTo(f.Peer); f.Sent-f.Acked != box {
			b.problem("shard %d: %d units to shard %d are not acknowledged, but %d are in the outbox", r.Shard, f.Sent-f.Acked, f.Peer, box)
		}
	}
	if in != out {
		b.problem("shard %d: %d units came in, %d are there or went out", r.Shard, in, out)
	}
	if min(r.Available, r.Reserved, r.Committed, r.Safety) < 0 {
		b.problem("shard %d: available %d, reserved %d, committed %d, safety stock %d: one is negative",
			r.Shard, r.Available, r.Reserved, r.Committed, r.Safety)
	}
}

// outboxTo is the sum of units in the outbox towards a peer.
func (r *BucketReport) outboxTo(peer ShardID) (sum Quantity) {
	for _, m := range r.Outbox {
		if m.To == peer {
			sum += m.Quantity
		}
	}
	return sum
}

// addPairs lists what each shard sent beside what the other took in. That these
// fit is what makes the cut exact.
func (c Cut) addPairs(b *Balance) {
	c.everyPair(func(s, d int, p pairFlow) bool {
		b.Pairs = append(b.Pairs, PairBalance{
			From: ShardID(s), To: ShardID(d), Sent: p.sent, InTransit: p.inTransit(), Received: p.received,
		})
		return true
	})
	slices.SortFunc(b.Pairs, func(x, y PairBalance) int {
		return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(x.To, y.To))
	})
}

// explain says why the reports do not fit together.
func (c Cut) explain(b *Balance) {
	if !c.Complete(len(c)) {
		b.problem("there is not one report of every shard")
		return
	}
	c.everyPair(func(s, d int, p pairFlow) bool {
		if p.acked > p.received {
			b.problem("the report of shard %d is too old: it has %d units of shard %d, which has %d acknowledged", d, p.received, s, p.acked)
		}
		if p.received > p.sent {
			b.problem("the report of shard %d is too old: it sent %d units to shard %d, which has %d", s, p.sent, d, p.received)
		}
		return true
	})
}
