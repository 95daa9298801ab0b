package rebalance

import "stockade/allocator"

// tuning is the numbers that the planner's rules depend on. They stand together,
// and apart from the rules, so that the simulation can try others.
type tuning struct {
	// askLag is the age of a level when the ask based on it is decided, in
	// seconds: 10 to 20 ms of coalescing, and the way.
	askLag float64

	// shareFloor is the least part of what is left that goes with a grant, and
	// the least that stays. It bounds the number of pulls by a logarithm of the
	// stock however wrong the rates are.
	shareFloor float64

	// ratePrior is added to both rates before a grant is shared by them, in units
	// per second: where requests are few, one request says little.
	ratePrior float64

	// leastPart is the smallest part of a deposit that is sent, in units. Smaller
	// parts have to be collected again, one transfer each, if demand is skewed.
	leastPart allocator.Quantity

	// weightFloor is the weight of a shard where nobody asks, in parts of the
	// mean: demand can begin anywhere, and rates come from few requests.
	weightFloor float64

	// soonDry is for how many seconds a shard's stock must last for it to be left
	// alone: there will be time to look again.
	soonDry float64

	// tooLate is for how many seconds all stock lasts when levelling ends: what
	// it moved would be sold where it was before it arrived.
	tooLate float64

	// poor is the part of its due below which a shard gets units. It is then
	// filled up to its due, so it is not looked at again soon.
	poor float64

	// busy is the least rate, in units per second, of a shard that gets units by
	// levelling: elsewhere a pull costs one request a few milliseconds, and the
	// rate is too uncertain to plan with.
	busy float64

	// leastMove is the smallest move of levelling, in units; maxMoves bounds
	// the moves of one call.
	leastMove allocator.Quantity
	maxMoves  int
}

// tuned is what measured best; docs/rebalancing.md has the figures.
var tuned = tuning{
	askLag:      0.02,
	shareFloor:  0.05,
	ratePrior:   1,
	leastPart:   32,
	weightFloor: 0.1,
	soonDry:     0.2,
	tooLate:     0.03,
	poor:        0.7,
	busy:        100,
	leastMove:   8,
	maxMoves:    32,
}
