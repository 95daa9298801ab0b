package rebalance

import (
	"math"

	"stockade/allocator"
)

// meterMemory is the time constant of a Meter, in milliseconds: what was asked
// for that long ago counts 37 %.
const meterMemory = 1000

// leastAge is the least time, in milliseconds, over which a Meter averages, so
// that the first request is not taken for a flood.
const leastAge = 100

// Meter estimates how many units a second are asked for, as an average with
// weights that fall off exponentially with age. The zero Meter has seen nothing.
// Moments are the caller's, of any clock that does not run backwards.
type Meter struct {
	level float64          // units per second at the moment last
	began allocator.Millis // of the first Add
	last  allocator.Millis // of the last Add
	used  bool
}

// Add counts units that were asked for at a moment.
func (m *Meter) Add(units allocator.Quantity, now allocator.Millis) {
	if !m.used {
		m.used, m.began, m.last = true, now, now
	}
	if now > m.last {
		m.level *= m.decay(now)
		m.last = now
	}
	m.level += float64(units) * 1000 / meterMemory
}

// Rate is the estimate at a moment, in units per second.
func (m *Meter) Rate(now allocator.Millis) float64 {
	if !m.used {
		return 0
	}
	// A young meter has not yet seen what it would remember: scale it up.
	age := max(float64(now-m.began), leastAge)
	return m.level * m.decay(now) / (1 - math.Exp(-age/meterMemory))
}

// decay is the part of the level that is left at a moment.
func (m *Meter) decay(now allocator.Millis) float64 {
	return math.Exp(-max(float64(now-m.last), 0) / meterMemory)
}
