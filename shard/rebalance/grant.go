package rebalance

import "stockade/allocator"

// Claim is an ask as its giver sees it.
type Claim struct {
	Need allocator.Quantity // what the home shard asks this giver for
	Left allocator.Quantity // the giver's available units without those its own older claims need

	// What is asked for per second at both sides, as in Bucket.
	HomeRate, GiverRate float64
}

// shareFloor is the least part of what is left that goes with the need, and the
// least that stays. It bounds the number of asks by a logarithm however wrong the
// rates are: each time a fixed part at least of what is left goes along.
const shareFloor = 0.25

// keepTogether is how many units are not worth splitting: at most so many left
// over stay where they are.
const keepTogether = 2

// Grant is how many units the giver sends: the need, or all that is left when
// that is less; and with the need a share of the rest, so that the next need is
// met without asking. The share is the home shard's part of both rates, and half
// of the rest when neither is known.
//
// It is never negative, never more than Left, and at least the need if that is
// left: whoever asks long enough gets what there is.
func Grant(c Claim) allocator.Quantity {
	need, left := max(c.Need, 0), max(c.Left, 0)
	rest := left - need
	if rest <= keepTogether {
		return min(need, left)
	}
	part := 0.5
	if sum := c.HomeRate + c.GiverRate; sum > 0 {
		part = min(max(c.HomeRate/sum, shareFloor), 1-shareFloor)
	}
	return need + allocator.Quantity(part*float64(rest))
}
