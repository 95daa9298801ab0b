package bench

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// An arrival is one request that is due.
type arrival struct {
	n   int64         // of the run
	due time.Duration // since the run began; a closed loop: when it was taken
}

// schedule says when requests are due. It is safe for concurrent use.
type schedule interface {
	// next takes the next arrival; false: the run is over before it.
	next(now time.Duration) (arrival, bool)
}

// closedLoop has requests due as soon as somebody can send them.
type closedLoop struct {
	mu   sync.Mutex
	n    int64
	ends time.Duration
}

func (s *closedLoop) next(now time.Duration) (arrival, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now >= s.ends {
		return arrival{}, false
	}
	s.n++
	return arrival{s.n - 1, now}, true
}

// openLoop has requests due at times of their own. The rate may change over the run: the
// times are those of a process of rate 1, put through the inverse of the integral of the
// rate.
type openLoop struct {
	mu   sync.Mutex
	n    int64
	work float64 // requests that should have come up to the last arrival
	gap  func() float64
	when func(work float64) time.Duration
	ends time.Duration
}

// newOpenLoop makes the schedule of a run of a length: rate requests a second, times the
// profile.
func newOpenLoop(r *rand.Rand, a Arrivals, rate float64, ends time.Duration, p profile) *openLoop {
	s := &openLoop{ends: ends, gap: func() float64 { return 1 }}
	if a == Poisson {
		s.gap = r.ExpFloat64
	}
	s.when = func(work float64) time.Duration { return time.Duration(work / rate * float64(time.Second)) }
	if p != nil {
		s.when = newIntegral(rate, ends, p).when
	}
	return s
}

func (s *openLoop) next(time.Duration) (arrival, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work += s.gap()
	due := s.when(s.work)
	if due >= s.ends {
		return arrival{}, false
	}
	s.n++
	return arrival{s.n - 1, due}, true
}

// integralSteps is how finely a changing rate is looked at.
const integralSteps = 10_000

// integral is how many requests have come by a time, as a line with corners.
type integral struct {
	step time.Duration
	sums []float64 // by step
	at   int       // the last step that was used; arrivals only go forward
}

func newIntegral(rate float64, ends time.Duration, p profile) *integral {
	i := &integral{step: ends / integralSteps, sums: make([]float64, integralSteps+1)}
	for n := range integralSteps {
		middle := time.Duration(n)*i.step + i.step/2
		i.sums[n+1] = i.sums[n] + rate*p(middle, ends)*i.step.Seconds()
	}
	return i
}

// when is the time by which so many requests have come.
func (i *integral) when(work float64) time.Duration {
	for i.at < integralSteps && i.sums[i.at+1] < work {
		i.at++
	}
	if i.at == integralSteps {
		return math.MaxInt64
	}
	part := (work - i.sums[i.at]) / (i.sums[i.at+1] - i.sums[i.at])
	return time.Duration((float64(i.at) + part) * float64(i.step))
}

// expected is how many requests an open loop has from one part of a run to another.
func expected(rate float64, ends time.Duration, p profile) float64 {
	if p == nil {
		return rate * ends.Seconds()
	}
	return newIntegral(rate, ends, p).sums[integralSteps]
}
