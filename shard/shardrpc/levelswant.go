package shardrpc

import (
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
)

const (
	// wantFor is how long levels are kept after they were last wanted: longer
	// than the pauses between the requests of somebody who tries again.
	wantFor = 3 * time.Second
	// wantForFull is the same while there is no room for others, so that those
	// few that are wanted again and again come in.
	wantForFull = 500 * time.Millisecond
	// wantGrain is the least time between two notes that a SKU is wanted, so that
	// many who want it don't write to the same memory all the time.
	wantGrain = 100 * time.Millisecond
)

// wanted is a SKU whose levels are kept.
type wanted struct {
	sku     allocator.SKU
	last    atomic.Int64              // the instant when it was last wanted, to wantGrain
	version atomic.Uint64             // of what the board knows of it; grows under board.mu
	view    atomic.Pointer[levelView] // nil: not looked at yet
}

// wants is the set of wanted SKUs. It is safe for concurrent use.
type wants struct {
	mu      sync.RWMutex
	all     map[allocator.SKU]*wanted
	version uint64 // grows when all changes
}

func (w *wants) find(sku allocator.SKU) *wanted {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.all[sku]
}

// want notes that sku is wanted. It tells whether it is the only one now, and
// whether it is a new one.
func (w *wants) want(sku allocator.SKU, now instant) (first, taken bool) {
	if e := w.find(sku); e != nil {
		e.touch(now)
		return false, false
	}
	if !allocator.ValidSKU(sku) { // nodes refuse a whole request for one
		return false, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.all[sku]; e != nil {
		e.touch(now)
		return false, false
	}
	if len(w.all) >= MaxLevels {
		return false, false
	}
	e := &wanted{sku: sku}
	e.last.Store(int64(now))
	w.all[sku] = e
	w.version++
	return len(w.all) == 1, true
}

func (w *wanted) touch(now instant) {
	if now-instant(w.last.Load()) >= instant(wantGrain) {
		w.last.Store(int64(now))
	}
}

// sweep drops what has not been wanted lately.
func (w *wants) sweep(now instant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keep := instant(wantFor)
	if len(w.all) >= MaxLevels {
		keep = instant(wantForFull)
	}
	for sku, e := range w.all {
		if now-instant(e.last.Load()) > keep {
			delete(w.all, sku)
			w.version++
		}
	}
}

func (w *wants) len() int {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return len(w.all)
}

// list gives all wanted SKUs.
func (w *wants) list() []*wanted {
	w.mu.RLock()
	defer w.mu.RUnlock()
	all := make([]*wanted, 0, len(w.all))
	for _, e := range w.all {
		all = append(all, e)
	}
	return all
}

// subscription is which SKUs a node was asked for on one stream.
type subscription struct {
	skus    map[allocator.SKU]bool
	version uint64 // of wants
}

// update makes the subscription what is wanted now, and gives the difference.
func (w *wants) update(s *subscription) (add, drop []allocator.SKU) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if s.version == w.version {
		return nil, nil
	}
	s.version = w.version
	for sku := range s.skus {
		if w.all[sku] == nil {
			drop = append(drop, sku)
			delete(s.skus, sku)
		}
	}
	for sku := range w.all {
		if !s.skus[sku] {
			add = append(add, sku)
			s.skus[sku] = true
		}
	}
	return add, drop
}
