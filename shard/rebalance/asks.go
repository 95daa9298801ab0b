package rebalance

import (
	"cmp"
	"slices"

	"stockade/allocator"
)

// Ask is what a home shard asks of one giver.
type Ask struct {
	Giver    allocator.ShardID
	Quantity allocator.Quantity // at least 1
}

// Asks picks whom a home shard that lacks need units asks for how much: the
// shard with the most units first, then the next, until the need is met. The
// quantities are together the need, or all there is elsewhere if that is less;
// none is more than its giver has by its level. It is empty when nobody has any.
//
// Levels are some milliseconds old, and a shard that sells fast has less by the
// time it is asked. So "most" is what is expected to be left at that time.
//
// Equal givers come in the order of their numbers, beginning after home+turn. A
// caller that counts turn up with each round does not meet the same one again,
// and homes that ask at the same time do not meet at one giver.
func Asks(home allocator.ShardID, need allocator.Quantity, buckets []Bucket, turn int) []Ask {
	if need <= 0 {
		return nil
	}
	givers := make([]giver, 0, len(buckets))
	for _, b := range buckets {
		if b.Shard != home && b.Available > 0 {
			givers = append(givers, giver{b, b.expected()})
		}
	}
	start := int(home) + turn
	slices.SortFunc(givers, func(a, b giver) int {
		return cmp.Or(
			cmp.Compare(b.expected, a.expected),
			cmp.Compare(b.Available, a.Available),
			cmp.Compare(distance(start, a.Shard), distance(start, b.Shard)),
		)
	})
	var asks []Ask
	for _, g := range givers {
		if need <= 0 {
			break
		}
		part := min(need, g.Available)
		asks = append(asks, Ask{g.Shard, part})
		need -= part
	}
	return asks
}

// giver is a bucket with what is expected to be left when it is asked.
type giver struct {
	Bucket
	expected allocator.Quantity
}

// askLag is the age of a level when the ask based on it is decided, in seconds:
// 10 to 20 ms of coalescing, and the way.
const askLag = 0.02

// expected is how much of the bucket is left by the time it is asked.
func (b Bucket) expected() allocator.Quantity {
	return max(0, b.Available-allocator.Quantity(min(b.Rate*askLag, float64(b.Available))))
}

// distance is how many steps forward it is from start to a shard, in the circle
// of all possible shard numbers.
func distance(start int, to allocator.ShardID) int {
	return ((int(to)-start-1)%allocator.MaxShards + allocator.MaxShards) % allocator.MaxShards
}
