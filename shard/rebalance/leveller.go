package rebalance

import (
	"time"

	"stockade/allocator"
)

// A Leveller decides about moves ahead of need with each new picture of the levels,
// and makes none while earlier ones of the SKU are under way, or don't show in the
// picture yet. The zero value is ready. It is not safe for concurrent use.
type Leveller struct {
	under map[allocator.SKU]moving
}

// moving is what is under way for one SKU.
type moving struct {
	moves int       // without an answer
	last  time.Time // of the last answer: older levels don't show its move
}

// Plan gives the moves that the levels of a SKU, of a moment, ask for, and counts
// them as under way: each ends with Moved.
func (l *Leveller) Plan(sku allocator.SKU, cut allocator.Cut, asOf time.Time) []Move {
	if u, ok := l.under[sku]; ok && (u.moves > 0 || asOf.Before(u.last)) {
		return nil
	}
	moves := Level(Buckets(cut))
	if len(moves) == 0 {
		delete(l.under, sku)
		return nil
	}
	if l.under == nil {
		l.under = make(map[allocator.SKU]moving)
	}
	l.under[sku] = moving{moves: len(moves)}
	return moves
}

// Moved notes that a move was answered, whatever the answer.
func (l *Leveller) Moved(sku allocator.SKU, now time.Time) {
	if u, ok := l.under[sku]; ok {
		l.under[sku] = moving{moves: u.moves - 1, last: now}
	}
}

// Buckets is a cut as the planner reads it: units on their way count where they
// go.
func Buckets(cut allocator.Cut) []Bucket {
	all := make([]Bucket, len(cut))
	for i := range cut {
		all[i].Shard, all[i].Rate = cut[i].Shard, cut[i].Rate
		all[i].Available += cut[i].Available
		for _, f := range cut[i].Flows {
			if to := int(f.Peer); to < len(cut) {
				all[to].Available += cut.UnderWay(cut[i].Shard, f)
			}
		}
	}
	return all
}
