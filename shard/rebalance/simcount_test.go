package rebalance

import (
	"math"
	"slices"

	"stockade/allocator"
)

// outcome is what a run counts.
type outcome struct {
	transfers, spreads, levels, pulls int
	asked                             int // asks, granted or not
	moved                             allocator.Quantity
	back, levelledBack                int // transfers, and levelling moves, that undid one of the last second
	toAndFro                          int // that undid one which undid one
	deposited, sold, returned, left   allocator.Quantity
	waits                             []micros // of the parked who were served
	refusals                          []micros // of the parked who were refused
	lastWaits                         []micros // of the last hundredth of the units, parked or not
	refused, falseRefusals            int
	leftAtRefusal                     allocator.Quantity // when the first was refused
	shortTime                         micros             // in which somebody was parked
	zero, ideal                       micros             // when the last unit was sold, and with one bucket
}

// count keeps the books of transfers.
func (s *sim) count(k kind, from, to int, n allocator.Quantity) {
	s.transfers++
	s.moved += n
	switch k {
	case kindSpread:
		s.spreads++
		return // the sale has not begun, or stock came in: nothing it could reverse
	case kindLevel:
		s.levels++
		if back, _ := undoes(s.levelled, from, to, s.now); back {
			s.levelledBack++
		}
	case kindPull:
		s.pulls++
	}
	back, again := undoes(s.trail, from, to, s.now)
	if back {
		s.back++
	}
	if again {
		s.toAndFro++
	}
}

// step is a transfer in the trail, and whether it undid another one.
type step struct {
	at   micros
	undo bool
}

// undoes adds a transfer to a trail. It tells whether it undoes one of the last
// second, and whether that one undid one itself.
func undoes(trail map[[2]int]step, from, to int, now micros) (back, again bool) {
	last, ok := trail[[2]int{to, from}]
	back = ok && now-last.at < second
	trail[[2]int{from, to}] = step{now, back}
	return back, back && last.undo
}

// quantile is the q-quantile of waits, in milliseconds.
func quantile(waits []micros, q float64) float64 {
	if len(waits) == 0 {
		return 0
	}
	slices.Sort(waits)
	return float64(waits[int(q*float64(len(waits)-1))]) / float64(ms)
}

// bound is G·log2(S/G): what transfers are to stay below.
func bound(units allocator.Quantity, shards int) float64 {
	return float64(shards) * math.Log2(float64(units)/float64(shards))
}
