package line

import (
	"sync"

	"stockade/allocator"
)

// A refusal must settle a request. Its client, or a router on its behalf, repeats what
// nobody knows the outcome of, and takes a refusal for the answer. If an attempt before
// it were still on its way, in the log or in line, it could find units that have come
// back since, and hold them for somebody who was told that there are none.
//
// So there is one attempt of a key at a time at a leader, and those that come
// meanwhile get its answer. What an earlier leader had under way is decided: it was
// applied before this one served, or never will be.

// Attempts are the requests under way at one shard's leader, by their keys. P is what
// stands for one. The zero value is ready. All methods are safe for concurrent use.
type Attempts[P any] struct {
	mu   sync.Mutex
	open map[allocator.Key]attempt[P]
}

// attempt is the one that is made, and those that wait for its answer.
type attempt[P any] struct {
	first    P
	more     []P
	outlives bool // the first was answered, and its command is in the log all the same
}

// Entry says what becomes of a request that comes in.
type Entry uint8

// The entries.
const (
	// First: no other attempt of its key is under way. Answered must follow.
	First Entry = iota
	// Joined: another one is, and this one gets its answer.
	Joined
	// Foreign: the key is under way for something else.
	Foreign
)

// Enter takes a request in. same tells whether it asks for the same as another.
func (a *Attempts[P]) Enter(key allocator.Key, p P, same func(other P) bool) Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	first, ok := a.open[key]
	switch {
	case !ok:
		if a.open == nil {
			a.open = make(map[allocator.Key]attempt[P])
		}
		a.open[key] = attempt[P]{first: p}
		return First
	case !same(first.first):
		return Foreign
	}
	first.more = append(first.more, p)
	a.open[key] = first
	return Joined
}

// Outlives says that the first attempt is about to be answered because its time is
// over, while its command stays in the log. Over must follow.
func (a *Attempts[P]) Outlives(key allocator.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if first, ok := a.open[key]; ok {
		first.outlives = true
		a.open[key] = first
	}
}

// Answered says that the first attempt has its answer, and gives those that get the
// same. It gives none while a command outlives its attempt.
func (a *Attempts[P]) Answered(key allocator.Key) (more []P) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first, ok := a.open[key]
	if !ok || first.outlives {
		return nil
	}
	delete(a.open, key)
	return first.more
}

// Over says what became of a command that outlived its attempt. If it was short of
// units, the next attempt goes on from there, and is the first one from now on; else
// those who wait get the log's answer.
func (a *Attempts[P]) Over(key allocator.Key, short bool) (next P, goesOn bool, more []P) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first, ok := a.open[key]
	switch {
	case !ok:
		return next, false, nil
	case short && len(first.more) > 0:
		next = first.more[0]
		a.open[key] = attempt[P]{first: next, more: first.more[1:]}
		return next, true, nil
	}
	delete(a.open, key)
	return next, false, first.more
}
