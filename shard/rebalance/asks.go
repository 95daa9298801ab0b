package rebalance

import (
	"cmp"
	"math/bits"
	"slices"

	"stockade/allocator"
)

// Ask is what a home shard asks of one giver.
type Ask struct {
	Giver    allocator.ShardID
	Quantity allocator.Quantity // at least 1
}

// Asks picks whom a home shard that lacks need units asks for how much: a shard
// with many units first, then the next, until the need is met. The quantities are
// together the need, or all there is elsewhere if that is less; none is more than
// its giver has by its level. It is empty when nobody has any.
//
// Many is what is expected to be left when the ask arrives, because levels are some
// milliseconds old and a shard that sells fast has less by then, and only its order
// of magnitude counts: givers of the same power of two come in an order that is
// another one for each home and turn. Otherwise all homes that are short at the end
// of a sale would ask the same giver, and all but one of them in vain. So a caller
// counts turn up with each round.
func Asks(home allocator.ShardID, need allocator.Quantity, buckets []Bucket, turn int) []Ask {
	return tuned.asks(home, need, buckets, turn)
}

func (t *tuning) asks(home allocator.ShardID, need allocator.Quantity, buckets []Bucket, turn int) []Ask {
	if need <= 0 {
		return nil
	}
	givers := make([]giver, 0, len(buckets))
	for _, b := range buckets {
		if b.Shard != home && b.Available > 0 {
			givers = append(givers, giver{b, bits.Len64(uint64(t.expected(b))), lot(home, turn, b.Shard)})
		}
	}
	slices.SortFunc(givers, func(a, b giver) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.lot, b.lot), cmp.Compare(a.Shard, b.Shard))
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

// giver is a bucket that could be asked.
type giver struct {
	Bucket
	size int    // the order of magnitude of what is expected to be left
	lot  uint64 // decides among equals
}

// lot draws a number for a home, a round and a giver: always the same for the
// same three, and as good as random otherwise (the finish of SplitMix64).
func lot(home allocator.ShardID, turn int, giver allocator.ShardID) uint64 {
	x := uint64(turn)<<32 | uint64(home)<<16 | uint64(giver)
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// expected is how much of the bucket is left by the time it is asked.
func (t *tuning) expected(b Bucket) allocator.Quantity {
	gone := min(max(b.Rate, 0)*t.askLag, float64(b.Available))
	return b.Available - allocator.Quantity(gone)
}
