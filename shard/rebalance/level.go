package rebalance

import (
	"cmp"
	"slices"

	"stockade/allocator"
)

// Level tells which units to move ahead of need: to shards that will be dry soon
// although others have enough, from those that have more than their due. A shard's
// due is its part of all units by its part of all demand.
//
// It does nothing while demand is even and stock is where it sells. A shard gets
// units only when it will be dry within 200 ms and has less than 70 % of its due, so
// chance alone seldom makes it move, and it is then filled to its due, so it is not
// looked at again soon. A giver keeps its due: no move makes another one necessary.
// Shards with fewer than 100 units a second are left to pulls, and all are when
// there are less than 30 ms of stock left everywhere: a move would come too late.
//
// The moves are at most 32, of 8 units at least, and together never take more from a
// shard than it has. It is meant to be called with each new picture of the levels,
// some 20 ms apart, with units that earlier moves have sent counted where they go.
// Called every 100 ms it misses the last dry shards of a fast sale; pulls find them.
func Level(buckets []Bucket) []Move { return tuned.level(buckets) }

func (t *tuning) level(buckets []Bucket) []Move {
	var total allocator.Quantity
	var rate float64
	for _, b := range buckets {
		total += b.Available
		rate += max(b.Rate, 0)
	}
	if rate < t.busy || float64(total) < rate*t.tooLate {
		return nil
	}
	takers, givers := t.sides(buckets, total)
	var moves []Move
	for _, taker := range takers {
		before := len(moves)
		for i := range givers {
			g := &givers[i]
			n := min(taker.gap, g.gap)
			if n < t.leastMove || len(moves) == t.maxMoves {
				break
			}
			moves = append(moves, Move{g.Shard, taker.Shard, n})
			taker.gap -= n
			g.gap -= n
		}
		if len(moves) == before {
			break // the others lack less, and the givers have no more
		}
		slices.SortFunc(givers, widestFirst)
	}
	return moves
}

// side is a bucket and how far it is below or above its due.
type side struct {
	Bucket
	gap allocator.Quantity
}

func widestFirst(a, b side) int {
	return cmp.Or(cmp.Compare(b.gap, a.gap), cmp.Compare(a.Shard, b.Shard))
}

// sides finds who should get units and who can give some, widest gap first.
func (t *tuning) sides(buckets []Bucket, total allocator.Quantity) (takers, givers []side) {
	weights := t.weigh(buckets)
	for i, b := range buckets {
		has, due := float64(b.Available), weights[i]*float64(total)
		gap := allocator.Quantity(due) - b.Available
		switch {
		case gap < 0:
			givers = append(givers, side{b, -gap})
		case b.Rate >= t.busy && has < t.poor*due && has < t.soonDry*b.Rate:
			takers = append(takers, side{b, gap})
		}
	}
	slices.SortFunc(takers, widestFirst)
	slices.SortFunc(givers, widestFirst)
	return takers, givers
}
