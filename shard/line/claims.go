package line

import (
	"cmp"

	"stockade/allocator"
)

// Claim is what an entry still lacks, and since when it has been parked.
type Claim struct {
	Parked allocator.Millis
	Units  allocator.Quantity
}

// MaxClaims bounds the claims of one pull. Beyond it the youngest are put
// together, as if all were as young as the last.
const MaxClaims = 32

// addClaim adds what the next entry lacks.
func addClaim(claims []Claim, c Claim) []Claim {
	switch n := len(claims); {
	case c.Units <= 0:
		return claims
	case n > 0 && (claims[n-1].Parked == c.Parked || n == MaxClaims):
		claims[n-1].Parked = c.Parked
		claims[n-1].Units += c.Units
		return claims
	}
	return append(claims, c)
}

// sumOf adds claims up.
func sumOf(claims []Claim) (units allocator.Quantity) {
	for _, c := range claims {
		units += c.Units
	}
	return units
}

// cutClaims splits claims after a number of units.
func cutClaims(claims []Claim, units allocator.Quantity) (first, rest []Claim) {
	for i, c := range claims {
		if c.Units > units {
			first = addClaim(first, Claim{c.Parked, units})
			return first, append([]Claim{{c.Parked, c.Units - units}}, claims[i+1:]...)
		}
		first = append(first, c)
		units -= c.Units
	}
	return first, nil
}

// Yield tells how many of the available units of a SKU another shard gets for its
// claims, and how many nobody here has a claim to. Units go to the oldest first,
// theirs and those of this shard's own entries in one order.
func (d *Desk) Yield(sku allocator.SKU, available allocator.Quantity, asker allocator.ShardID, claims []Claim) (units, free allocator.Quantity) {
	own := d.claims(sku)
	free = max(0, available-sumOf(own))
	for _, c := range claims {
		for len(own) > 0 && d.older(own[0], c, asker) {
			available -= own[0].Units
			own = own[1:]
		}
		given := max(0, min(c.Units, available))
		units += given
		available -= given
	}
	return units, free
}

// older tells whether an own claim comes before another shard's.
func (d *Desk) older(own, theirs Claim, asker allocator.ShardID) bool {
	return cmp.Or(cmp.Compare(own.Parked, theirs.Parked), cmp.Compare(d.home, asker)) < 0
}

// claims is what this shard's own entries need of a SKU in all, those being
// decided included.
func (d *Desk) claims(sku allocator.SKU) (all []Claim) {
	q := d.lines[sku]
	if q == nil {
		return nil
	}
	for _, e := range q.entries {
		if !e.gone && (e.proposed || e.claims()) {
			all = append(all, Claim{e.Parked, e.place(q).need})
		}
	}
	return all
}
