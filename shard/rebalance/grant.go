package rebalance

import "stockade/allocator"

// Asked is an ask as its giver sees it.
type Asked struct {
	Need allocator.Quantity // what the home shard asks this giver for
	Left allocator.Quantity // the giver's available units without those its own older claims need

	// What is asked for per second at both sides, as in Bucket.
	HomeRate, GiverRate float64
}

// Grant is how many units the giver sends: the need, or all that is left when
// that is less; and with the need a share of the rest, so that the next need is
// met without asking. The share is the home shard's part of both rates, and half
// of the rest when neither is known; 5 % of the rest at least goes along, and 5 %
// at least stays.
//
// It is never negative, never more than Left, and at least the need if that is
// left: whoever asks long enough gets what there is.
func Grant(a Asked) allocator.Quantity { return tuned.grant(a) }

func (t *tuning) grant(a Asked) allocator.Quantity {
	need, left := max(a.Need, 0), max(a.Left, 0)
	rest := left - need
	if rest <= 0 {
		return left
	}
	home, giver := max(a.HomeRate, 0)+t.ratePrior, max(a.GiverRate, 0)+t.ratePrior
	share := min(max(home/(home+giver), t.shareFloor), 1-t.shareFloor)
	return need + allocator.Quantity(share*float64(rest))
}
