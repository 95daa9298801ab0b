package shardrpc

import "time"

// sweepInterval is the least time between two looks for overdue entries. A look
// costs time for each entry, and nobody minds 5 ms beyond a deadline.
const sweepInterval = 5 * time.Millisecond

// pending holds what is under way until it ends or its deadline passes,
// whichever comes first: only one of them gets the entry. One timer serves all
// entries: it is set to the earliest deadline seen, and when most entries end in
// time it seldom has to be set at all. pending is not safe for concurrent use;
// its owner's mutex guards it.
type pending[V any] struct {
	entries map[uint64]waiting[V]
	timer   *time.Timer // calls the owner, who takes what is due
	wake    time.Time   // when the timer fires; zero: it is not set
}

type waiting[V any] struct {
	deadline time.Time
	value    V
}

// newPending makes an empty set. overdue is called on a goroutine of its own
// when something may be due; it is expected to call due.
func newPending[V any](overdue func()) *pending[V] {
	p := &pending[V]{entries: make(map[uint64]waiting[V])}
	p.timer = time.AfterFunc(time.Hour, overdue)
	p.timer.Stop()
	return p
}

func (p *pending[V]) add(id uint64, deadline time.Time, v V) {
	p.entries[id] = waiting[V]{deadline, v}
	if p.wake.IsZero() || deadline.Before(p.wake) {
		p.set(deadline)
	}
}

// take removes an entry; false when it has ended before.
func (p *pending[V]) take(id uint64) (V, bool) {
	w, ok := p.entries[id]
	if ok {
		delete(p.entries, id)
	}
	return w.value, ok
}

// due removes what is due at now, and sets the timer for the rest.
func (p *pending[V]) due(now time.Time) []V {
	var over []V
	var next time.Time
	for id, w := range p.entries {
		switch {
		case !w.deadline.After(now):
			over = append(over, w.value)
			delete(p.entries, id)
		case next.IsZero() || w.deadline.Before(next):
			next = w.deadline
		}
	}
	p.wake = time.Time{}
	if !next.IsZero() {
		if soon := now.Add(sweepInterval); next.Before(soon) {
			next = soon
		}
		p.set(next)
	}
	return over
}

// clear removes all entries and stops the timer.
func (p *pending[V]) clear() []V {
	all := make([]V, 0, len(p.entries))
	for _, w := range p.entries {
		all = append(all, w.value)
	}
	clear(p.entries)
	p.timer.Stop()
	p.wake = time.Time{}
	return all
}

func (p *pending[V]) set(at time.Time) {
	p.wake = at
	p.timer.Reset(time.Until(at))
}
