package shard

import (
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/shard/rebalance"
)

// demand counts the units of a SKU that are asked for at one shard, whether they
// can be served or not. The zero value is ready. It is safe for concurrent use,
// and counting costs one addition.
type demand struct {
	asked atomic.Int64

	mu      sync.Mutex
	meter   rebalance.Meter
	metered int64 // the part of asked that the meter has
}

// rate is how many units a second were asked for lately, at a moment on any clock
// that does not run backwards.
func (d *demand) rate(now time.Duration) float64 {
	at := allocator.Millis(now.Milliseconds())
	d.mu.Lock()
	defer d.mu.Unlock()
	if asked := d.asked.Load(); asked != d.metered {
		d.meter.Add(allocator.Quantity(asked-d.metered), at)
		d.metered = asked
	}
	return d.meter.Rate(at)
}
