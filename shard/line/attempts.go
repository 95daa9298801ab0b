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
// meanwhile get its answer, or are made when nothing was done for it. What an earlier
// leader had under way is decided: it was applied before this one served, or never
// will be.

// Attempts are the requests under way at one shard's leader, by their keys. P is what
// stands for one. The zero value is ready. All methods are safe for concurrent use.
type Attempts[P any] struct {
	mu    sync.Mutex
	first map[allocator.Key]P            // the one that is made, of each key
	rest  map[allocator.Key]*attempts[P] // what else there is; for few keys
}

// attempts are what seldom is.
type attempts[P any] struct {
	more     []P  // attempts that wait for the first one's answer
	outlives bool // the first was answered, and its command is in the log all the same
	ended    bool // no more, although it is about to be answered because its time is over
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
	first, ok := a.first[key]
	switch {
	case !ok:
		if a.first == nil {
			a.first, a.rest = make(map[allocator.Key]P), make(map[allocator.Key]*attempts[P])
		}
		a.first[key] = p
		return First
	case !same(first):
		return Foreign
	}
	rest := a.restOf(key)
	rest.more = append(rest.more, p)
	return Joined
}

// restOf is what else there is of a key that is under way. a.mu is held.
func (a *Attempts[P]) restOf(key allocator.Key) *attempts[P] {
	rest := a.rest[key]
	if rest == nil {
		rest = new(attempts[P])
		a.rest[key] = rest
	}
	return rest
}

// Outlives says that the first attempt is about to be answered because its time is
// over, while its command stays in the log. Over must follow, or have come just before.
func (a *Attempts[P]) Outlives(key allocator.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.first[key]; ok {
		rest := a.restOf(key)
		rest.outlives = !rest.ended
	}
}

// Answered says that the first attempt has its answer, and gives those that get the
// same. It gives none while a command outlives its attempt.
func (a *Attempts[P]) Answered(key allocator.Key) (more []P) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.rest) > 0 {
		if rest := a.rest[key]; rest != nil {
			if rest.outlives {
				return nil
			}
			more = rest.more
			delete(a.rest, key)
		}
	}
	delete(a.first, key)
	return more
}

// Over says what became of a command that outlived its attempt. If it was short of
// units, the next attempt goes on from there, and is the first one from now on; else
// those who wait get the log's answer.
func (a *Attempts[P]) Over(key allocator.Key, short bool) (next P, goesOn bool, more []P) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.first[key]; !ok {
		return next, false, nil
	}
	rest := a.restOf(key)
	switch {
	case !rest.outlives:
		rest.ended = true
		return next, false, nil
	case short && len(rest.more) > 0:
		next = rest.more[0]
		a.first[key], a.rest[key] = next, &attempts[P]{more: rest.more[1:]}
		return next, true, nil
	}
	delete(a.first, key)
	delete(a.rest, key)
	return next, false, rest.more
}
