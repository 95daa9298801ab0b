package rebalance

import (
	"cmp"
	"slices"

	"stockade/allocator"
)

const (
	// soonDry is how long stock must last, in seconds, for Level to leave a shard
	// alone, however much more others have: there is time to look again.
	soonDry = 1.0

	// tooLate is how long all stock lasts, in seconds, when Level falls silent:
	// what it moved would be sold where it was before it arrived.
	tooLate = 0.05

	// poor is when a shard gets units: when it has less than this part of what
	// it would have if all stock lay where it sells. A shard that was filled up
	// has to lose half of it before it is looked at again.
	poor = 0.5

	// leastMove is the smallest move.
	leastMove = 8

	// maxMoves bounds the moves of one call.
	maxMoves = 32
)

// Level tells which units to move ahead of need: to shards that will be dry soon
// although others have enough, from those that have more than their part.
//
// It does nothing while demand is even and stock is where it sells. A shard gets
// units only when it has less than half of its part, so chance alone does not make
// it move, and it is then filled to its part, so it is not looked at again soon.
// A giver keeps its part: no move makes another one necessary.
//
// The moves are at most 32, and together never take more from a shard than it
// has. Levels should count what earlier moves have sent, or those have arrived:
// called every 100 ms that is so by itself.
func Level(buckets []Bucket) []Move {
	var total allocator.Quantity
	var rate float64
	for _, b := range buckets {
		total += b.Available
		rate += max(b.Rate, 0)
	}
	if rate == 0 || float64(total) < rate*tooLate {
		return nil
	}
	takers, givers := sides(buckets, total)
	var moves []Move
	for _, t := range takers {
		for i := range givers {
			g := &givers[i]
			n := min(t.gap, g.gap)
			if n < leastMove || len(moves) == maxMoves {
				break
			}
			moves = append(moves, Move{g.Shard, t.Shard, n})
			t.gap -= n
			g.gap -= n
		}
		slices.SortFunc(givers, widestFirst)
	}
	return moves
}

// side is a bucket and how far it is below or above its part of all stock.
type side struct {
	Bucket
	gap allocator.Quantity
}

func widestFirst(a, b side) int {
	return cmp.Or(cmp.Compare(b.gap, a.gap), cmp.Compare(a.Shard, b.Shard))
}

// sides finds who should get units and who can give some, widest gap first.
func sides(buckets []Bucket, total allocator.Quantity) (takers, givers []side) {
	weights := weigh(buckets)
	for i, b := range buckets {
		due := allocator.Quantity(weights[i] * float64(total))
		switch {
		case b.Available > due:
			givers = append(givers, side{b, b.Available - due})
		case float64(b.Available) < poor*float64(due) && float64(b.Available) < b.Rate*soonDry:
			takers = append(takers, side{b, due - b.Available})
		}
	}
	slices.SortFunc(takers, widestFirst)
	slices.SortFunc(givers, widestFirst)
	return takers, givers
}
