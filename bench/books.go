package bench

import (
	"sync"
	"sync/atomic"
	"time"
)

// books are what the driver knows of each SKU from the answers alone, to be compared
// with what the cluster says at the end. They are safe for concurrent use.
type books struct {
	skus []account

	repeats    atomic.Int64 // reservations asked for once more that were answered
	duplicates atomic.Int64 // of these, answered with another reservation
	endsBy     atomic.Int64 // when the last hold that was left to expire ends, in Unix nanoseconds
}

// account is one SKU's. Quantities are units.
type account struct {
	accepted  atomic.Int64
	confirmed atomic.Int64
	released  atomic.Int64 // canceled, or left to expire
	unsure    atomic.Int64 // reservations whose outcome is unknown
	unsureOff atomic.Int64 // cancellations and confirmations whose outcome is unknown

	mu      sync.Mutex
	added   time.Time // when units last came back, at the latest
	refused time.Time // when the last request was sent that was refused for a lack of units
}

func newBooks(skus int) *books { return &books{skus: make([]account, skus)} }

// reserved notes how a request for one unit of each SKU ended.
func (b *books) reserved(skus []int, o Outcome, sent time.Time) {
	for _, s := range skus {
		a := &b.skus[s]
		switch o {
		case Accepted:
			a.accepted.Add(1)
		case Unknown:
			a.unsure.Add(1)
		case SoldOut:
			if len(skus) == 1 { // else nobody knows here which SKU was short
				a.wasRefused(sent)
			}
		}
	}
}

func (a *account) wasRefused(sent time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if sent.After(a.refused) {
		a.refused = sent
	}
}

// cameBack notes that units may have come back up to a moment.
func (a *account) cameBack(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at.After(a.added) {
		a.added = at
	}
}

// refusedSince tells whether somebody was refused who asked after the last units came.
func (a *account) refusedSince() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused.After(a.added)
}

// released notes units that will have come back by a moment.
func (b *books) released(skus []int, by time.Time) {
	for _, s := range skus {
		b.skus[s].released.Add(1)
		b.skus[s].cameBack(by)
	}
	for at := by.UnixNano(); ; {
		last := b.endsBy.Load()
		if last >= at || b.endsBy.CompareAndSwap(last, at) {
			return
		}
	}
}

// followed notes how a confirmation or cancellation ended.
func (b *books) followed(f followUp, o Outcome) {
	for _, s := range f.skus {
		a := &b.skus[s]
		switch {
		case o == Accepted && f.fate == Confirm:
			a.confirmed.Add(1)
		case o == Accepted:
			a.released.Add(1)
			a.cameBack(time.Now())
		case o == Unknown:
			a.unsureOff.Add(1)
			a.cameBack(time.Now())
		}
	}
}

// restocked notes that a SKU was filled up.
func (b *books) restocked(at time.Time) {
	for s := range b.skus {
		b.skus[s].cameBack(at)
	}
}

// repeated notes how a repeated request ended.
func (b *books) repeated(o Outcome, another bool) {
	if o != Accepted {
		return
	}
	b.repeats.Add(1)
	if another {
		b.duplicates.Add(1)
	}
}
