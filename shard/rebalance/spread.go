package rebalance

import (
	"cmp"
	"slices"

	"stockade/allocator"
)

// Move is a transfer that nobody asked for. Stock can be so large that its quantity
// is more than one command carries (allocator.MaxQuantity).
type Move struct {
	From, To allocator.ShardID
	Quantity allocator.Quantity // at least 1
}

// Spread tells how units that were just deposited at from (a new SKU, a restock)
// are spread: so that all stock together lies where it sells, by rates if any
// is known, else evenly. The moves are together at most units, all from from.
//
// Buckets names every shard of the cluster, with 0 units where there is no
// bucket yet; the deposit is counted in from's level. Deposits that are small for
// the number of shards go to a few of them, in parts of 32 units at least: first to
// those that would run dry first, and among equals to those that follow from.
func Spread(from allocator.ShardID, units allocator.Quantity, buckets []Bucket) []Move {
	return tuned.spread(from, units, buckets)
}

func (t *tuning) spread(from allocator.ShardID, units allocator.Quantity, buckets []Bucket) []Move {
	parts := make([]part, 0, len(buckets))
	weights := t.weigh(buckets)
	for i, b := range buckets {
		p := part{Bucket: b, weight: weights[i], order: distance(int(from), b.Shard)}
		if b.Shard == from {
			units = min(units, b.Available)
			p.Available -= max(units, 0)
			p.order = -1
		}
		parts = append(parts, p)
	}
	if units <= 0 {
		return nil
	}
	// Who runs dry first comes first; the deposit's own shard among equals.
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.cover(), b.cover()), cmp.Compare(b.weight, a.weight), cmp.Compare(a.order, b.order))
	})
	if most := max(1, int(units/t.leastPart)); most < len(parts) {
		parts = parts[:most]
	}
	level := waterline(parts, float64(units))
	var moves []Move
	for _, p := range parts {
		n := allocator.Quantity(level*p.weight) - p.Available
		if p.Shard != from && n >= t.leastPart {
			moves = append(moves, Move{from, p.Shard, n})
		}
	}
	return moves
}

// part is a bucket with its part of the demand.
type part struct {
	Bucket
	weight float64 // all weights together are 1
	order  int     // breaks ties
}

// cover is how long the bucket lasts, in units of the time in which all shards
// together sell one unit.
func (p part) cover() float64 { return float64(p.Available) / p.weight }

// waterline is the cover up to which units fill the parts, which are sorted by
// cover, as water fills vessels that stand at different heights.
func waterline(parts []part, units float64) float64 {
	var level, stock, weight float64
	for i, p := range parts {
		stock += float64(p.Available)
		weight += p.weight
		level = (stock + units) / weight
		if i+1 < len(parts) && level <= parts[i+1].cover() {
			break
		}
	}
	return level
}

// weigh tells which part of the demand each bucket has: all weights together are
// 1, and none is 0.
func (t *tuning) weigh(buckets []Bucket) []float64 {
	var sum float64
	for _, b := range buckets {
		sum += max(b.Rate, 0)
	}
	n := float64(len(buckets))
	weights := make([]float64, len(buckets))
	for i, b := range buckets {
		if sum == 0 {
			weights[i] = 1 / n
			continue
		}
		weights[i] = (1-t.weightFloor)*max(b.Rate, 0)/sum + t.weightFloor/n
	}
	return weights
}

// distance is how many steps forward it is from start to a shard, in the circle
// of all possible shard numbers.
func distance(start int, to allocator.ShardID) int {
	return ((int(to)-start-1)%allocator.MaxShards + allocator.MaxShards) % allocator.MaxShards
}
