package rebalance

import (
	"fmt"
	"testing"

	"stockade/allocator"
)

// What a plan costs: Asks once a pull, Level once a SKU and picture of the levels.
func BenchmarkPlan(b *testing.B) {
	for _, shards := range []int{16, 256} {
		buckets := make([]Bucket, shards)
		for i := range buckets {
			buckets[i] = Bucket{allocator.ShardID(i), allocator.Quantity(100 + i*37%900), float64(1000 + i*101%5000)}
		}
		b.Run(fmt.Sprintf("asks/%d", shards), func(b *testing.B) {
			for i := range b.N {
				Asks(0, 50, buckets, i)
			}
		})
		b.Run(fmt.Sprintf("level/%d", shards), func(b *testing.B) {
			for b.Loop() {
				Level(buckets)
			}
		})
	}
}
