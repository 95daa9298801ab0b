package allocator

import "fmt"

// Cut is what all shards know of one SKU: one report per shard, in the order of
// ShardID. The reports may be of different moments; the transfer vectors in
// them tell how they fit together. In what follows, a message from s to d is
//
//   - forgotten, if its number is at most Acked[d] in the report of s: it is no
//     longer in the outbox that s reports;
//   - taken, if its number is at most Received[s] in the report of d: its units
//     are counted in what d reports;
//   - sent, if its number is at most Sent[d] in the report of s: its units are
//     no longer counted in the bucket that s reports.
//
// A cut is consistent when every forgotten message is taken. Then no unit is
// missed. Follow one that is in no bucket and no outbox of the cut: at the
// moment of its shard's report it had left, by a message that was forgotten,
// which therefore was taken by the next shard before the report of that one,
// from where it had left again, and so on; but each time it has made a hop, and
// a unit has only made so many.
//
// A cut is exact when it is consistent and every taken message is sent. Then no
// unit is counted twice either: a message is in the giver's bucket (not sent),
// or else in the receiver's (taken), or else in the outbox (sent and not
// taken, so not forgotten).
//
// A Cut's methods only read. Those that look at pairs of shards need it to be
// complete, and are false or empty otherwise.
type Cut []BucketReport

// Complete tells whether there is exactly one report of each of a cluster's
// shards, in order.
func (c Cut) Complete(shards int) bool {
	for i := range c {
		v := &c[i].Vector
		if c[i].Shard != ShardID(i) || len(v.Sent) != len(c) || len(v.Acked) != len(c) || len(v.Received) != len(c) {
			return false
		}
	}
	return len(c) == shards && shards > 0
}

// Consistent tells whether no unit that was in the cluster all the while can be
// missed: what is not in this cut is nowhere.
func (c Cut) Consistent() bool {
	return c.Complete(len(c)) && c.everyPair(func(s, d int) bool {
		return c[s].Vector.Acked[d] <= c[d].Vector.Received[s]
	})
}

// Exact tells whether every unit is counted once, so that sums are true and
// not only upper bounds.
func (c Cut) Exact() bool {
	return c.Consistent() && c.everyPair(func(s, d int) bool {
		return c[d].Vector.Received[s] <= c[s].Vector.Sent[d]
	})
}

// everyPair tells whether something holds for all pairs of a giver and a receiver.
func (c Cut) everyPair(holds func(s, d int) bool) bool {
	for s := range c {
		for d := range c {
			if s != d && !holds(s, d) {
				return false
			}
		}
	}
	return true
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

// InTransit is the sum of units in outboxes that their receivers do not count
// yet.
func (c Cut) InTransit() (sum Quantity) {
	for s := range c {
		for _, m := range c[s].Outbox {
			if !c.taken(s, m) {
				sum += m.Quantity
			}
		}
	}
	return sum
}

// taken tells whether the receiver's report counts a message of shard s.
func (c Cut) taken(s int, m InTransit) bool {
	if int(m.To) >= len(c) || s >= len(c[m.To].Vector.Received) {
		return false
	}
	return m.Seq <= c[m.To].Vector.Received[s]
}

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

// Balanced tells whether nothing is lost or made between the two.
func (p PairBalance) Balanced() bool { return p.Sent-p.InTransit == p.Received }

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

// addBucket checks one bucket's own sum: what came in is there or went out.
func (b *Balance) addBucket(r *BucketReport) {
	in, out := r.Deposited+r.Adjusted, r.Held()
	for _, f := range r.Flows {
		in += f.Received
		out += f.Sent
	}
	if in != out {
		b.problem("shard %d: %d units came in, %d are there or went out", r.Shard, in, out)
	}
	if min(r.Available, r.Reserved, r.Committed, r.Safety) < 0 {
		b.problem("shard %d: available %d, reserved %d, committed %d, safety stock %d: one is negative",
			r.Shard, r.Available, r.Reserved, r.Committed, r.Safety)
	}
}

// addPairs checks what each shard sent against what the other took in.
func (c Cut) addPairs(b *Balance) {
	pairs := make([]PairBalance, len(c)*len(c))
	for s := range c {
		for _, f := range c[s].Flows {
			if int(f.Peer) >= len(c) {
				b.problem("shard %d traded with shard %d, which does not exist", s, f.Peer)
				continue
			}
			pairs[s*len(c)+int(f.Peer)].Sent = f.Sent
			pairs[int(f.Peer)*len(c)+s].Received = f.Received
		}
	}
	for s := range c {
		for _, m := range c[s].Outbox {
			if int(m.To) < len(c) && !c.taken(s, m) {
				pairs[s*len(c)+int(m.To)].InTransit += m.Quantity
			}
		}
	}
	for i, p := range pairs {
		p.From, p.To = ShardID(i/len(c)), ShardID(i%len(c))
		if p.Sent == 0 && p.Received == 0 && p.InTransit == 0 {
			continue
		}
		b.Pairs = append(b.Pairs, p)
		if !p.Balanced() {
			b.problem("shard %d sent %d units to shard %d, of which %d are in transit, but %d were received",
				p.From, p.Sent, p.To, p.InTransit, p.Received)
		}
	}
}

// explain says why the reports do not fit together.
func (c Cut) explain(b *Balance) {
	if !c.Complete(len(c)) {
		b.problem("there is not one report of every shard")
		return
	}
	c.everyPair(func(s, d int) bool {
		sent, acked, received := c[s].Vector.Sent[d], c[s].Vector.Acked[d], c[d].Vector.Received[s]
		if acked > received {
			b.problem("the report of shard %d is too old: it has %d messages of shard %d, which forgot %d", d, received, s, acked)
		}
		if received > sent {
			b.problem("the report of shard %d is too old: it sent %d messages to shard %d, which has %d", s, sent, d, received)
		}
		return true
	})
}
