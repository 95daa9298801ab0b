// Package rebalance decides which units of a SKU move from one shard to another.
//
// A SKU's stock lies in buckets, one per shard, and a request takes from its home
// shard's bucket only. So units must follow the demand, with few transfers, and at
// the end of a sale none may lie where nobody asks for it. Four questions come up,
// and each has a function:
//
//   - Spread: a deposit has arrived at the anchor. Which shards get a part of it?
//   - Level: the sale is running. Which shard will be dry soon while others are not?
//   - Asks: a home shard is short. Whom does it ask for how much?
//   - Grant: somebody asks. How much does the giver send?
//
// Asks and Grant alone sell a SKU to its last unit; Spread and Level make it rare
// that somebody has to wait. None of them guards a promise: levels may be stale and
// rates wrong, and then units move once more than they had to.
//
// It is a pure planner: levels and rates in, transfers out. It reads no clock, keeps
// no state and draws no random numbers, so it can be simulated. The simulation in
// this package's tests counts what it costs; docs/rebalancing.md has its table.
package rebalance

import "stockade/allocator"

// Bucket is what is known of one SKU on one shard.
type Bucket struct {
	Shard allocator.ShardID

	// Available is the units for sale there. Units on their way to the shard
	// count as there already, if they are known: they will be when the plan is
	// carried out, and otherwise the same need would be met twice.
	Available allocator.Quantity

	// Rate is how many units a second were asked for there lately, 0 if nothing
	// is known. Requests count once, when they arrive, whether they were served
	// or had to wait: a shard that is dry sells nothing and needs most.
	Rate float64
}
