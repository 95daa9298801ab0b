package line

import (
	"time"

	"stockade/allocator"
)

const (
	// scarceFor is how long after a refusal requests for a SKU are looked at
	// before they are proposed.
	scarceFor = time.Second
	// maxScarce bounds the SKUs that are remembered for that. The others are
	// refused by way of the log.
	maxScarce = 4096
)

// A Scarcity remembers SKUs that somebody was refused lately. The zero value is
// ready. It is not safe for concurrent use.
type Scarcity struct {
	until  map[allocator.SKU]time.Time
	latest time.Time
}

// Add remembers a SKU for a while.
func (s *Scarcity) Add(sku allocator.SKU, now time.Time) {
	if s.until == nil || len(s.until) >= maxScarce {
		s.until = make(map[allocator.SKU]time.Time)
	}
	s.latest = now.Add(scarceFor)
	s.until[sku] = s.latest
}

// Has tells whether a SKU is remembered.
func (s *Scarcity) Has(sku []byte, now time.Time) bool {
	return len(s.until) > 0 && now.Before(s.until[allocator.SKU(sku)])
}

// Empty tells whether nothing is remembered any more.
func (s *Scarcity) Empty(now time.Time) bool {
	if now.After(s.latest) {
		clear(s.until)
	}
	return len(s.until) == 0
}
