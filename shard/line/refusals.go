package line

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// refusedFor is for how long a refusal counts: longer than the longest request takes,
	// which waits in line for 30 s and then has the usual 2 s.
	refusedFor = 35 * time.Second
	// maxRefusals bounds those that are remembered: some 15 MB, and at ten thousand
	// refusals a second, six seconds of them. That of a late confirmation shows the
	// reservation, which may be a whole cart; so their length is bounded, too.
	maxRefusals    = 1 << 16
	maxRefusedSize = 32 << 20
)

// Refusals remembers what a leader has refused. A refusal settles a request, see
// Attempts: so it is the answer to every attempt that began before it, also to one that
// was under way elsewhere and comes later, when units have come back. An attempt that
// began after it is a new request. K names a request, result is what it was answered.
//
// It is forgotten with the office. The zero value is ready. All methods are safe for
// concurrent use.
type Refusals[K comparable] struct {
	some atomic.Bool // there are

	mu     sync.Mutex
	latest map[K]uint64 // number of a request's last refusal
	order  []refusal[K] // oldest first
	first  uint64       // number of order[0]
	size   int          // of the results, in bytes
}

type refusal[K comparable] struct {
	request K
	at      time.Time
	result  []byte
}

// Note remembers a refusal.
func (r *Refusals[K]) Note(request K, result []byte, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size += len(result)
	r.trim(now, maxRefusals-1)
	if r.latest == nil {
		r.latest = make(map[K]uint64)
	}
	r.latest[request] = r.first + uint64(len(r.order))
	r.order = append(r.order, refusal[K]{request, now, result})
	if len(r.order) == 1 {
		r.some.Store(true)
	}
}

// Some tells whether any are remembered; if not there is no need to name a request.
func (r *Refusals[K]) Some() bool { return r.some.Load() }

// Forget forgets all.
func (r *Refusals[K]) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest, r.order, r.first, r.size = nil, nil, 0, 0
	r.some.Store(false)
}

// Of gives the answer to an attempt that began before its request was refused, if it was.
func (r *Refusals[K]) Of(request K, began, now time.Time) (result []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trim(now, maxRefusals)
	number, ok := r.latest[request]
	if !ok {
		return nil, false
	}
	last := r.order[number-r.first]
	return last.result, began.Before(last.at)
}

// trim forgets what is too old or too much. r.mu is held.
func (r *Refusals[K]) trim(now time.Time, most int) {
	for len(r.order) > 0 && (len(r.order) > most || r.size > maxRefusedSize || now.Sub(r.order[0].at) > refusedFor) {
		oldest := r.order[0].request
		r.size -= len(r.order[0].result)
		if r.latest[oldest] == r.first {
			delete(r.latest, oldest)
		}
		r.order[0] = refusal[K]{}
		if r.order, r.first = r.order[1:], r.first+1; len(r.order) == 0 {
			r.some.Store(false)
		}
	}
}
