package bench

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Outcome is how a request ended.
type Outcome uint8

// The outcomes. A batch has one for each item.
const (
	Accepted Outcome = iota // 2xx
	SoldOut                 // 409: there are not enough units
	Rejected                // any other 4xx
	NotDone                 // 429 or 503: nothing was done
	Unknown                 // 5xx, no answer in time, a broken connection
	GaveUp                  // not sent: all connections were busy until its time was over
	outcomes
)

var outcomeNames = [outcomes]string{"accepted", "sold_out", "rejected", "not_done", "unknown", "gave_up"}

// String names an outcome as results do.
func (o Outcome) String() string { return outcomeNames[o] }

// operation is what a request asked for.
type operation uint8

const (
	reserving operation = iota
	confirming
	canceling
	repeating // the same reservation again, with the same key
	operations
)

var operationNames = [operations]string{"reserve", "confirm", "cancel", "repeat"}

// Histograms count microseconds from 1 to a minute, which is beyond every deadline, with
// three digits.
const (
	longestLatency  = int64(time.Minute / time.Microsecond)
	latencyDigits   = 3
	recorderStripes = 4 // a processor; workers rarely meet then
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestLatency, latencyDigits)
}

// histogramSet has one histogram for each operation and outcome that occurred.
type histogramSet [operations][outcomes]*hdrhistogram.Histogram

func (s *histogramSet) record(op operation, o Outcome, latency time.Duration, n int64) {
	h := s[op][o]
	if h == nil {
		h = newHistogram()
		s[op][o] = h
	}
	micros := min(max(latency.Microseconds(), 1), longestLatency)
	_ = h.RecordValues(micros, n) // it is within the bounds
}

// merge adds another set.
func (s *histogramSet) merge(other *histogramSet) {
	for op := range other {
		for o, h := range other[op] {
			if h == nil {
				continue
			}
			if s[op][o] == nil {
				s[op][o] = newHistogram()
			}
			s[op][o].Merge(h)
		}
	}
}

// reset empties a set and keeps its memory.
func (s *histogramSet) reset() {
	for op := range s {
		for _, h := range s[op] {
			if h != nil {
				h.Reset()
			}
		}
	}
}

// reserved is how many reservations were asked for that had an outcome.
func (s *histogramSet) reserved(o Outcome) int64 {
	if h := s[reserving][o]; h != nil {
		return h.TotalCount()
	}
	return 0
}

// recorder takes latencies from many workers. A collector turns it once a second.
type recorder struct {
	stripes []stripe
	wake    hdrLock // how late workers woke up for a request that was due
	crowded atomic.Int64
	sent    atomic.Int64
}

type stripe struct {
	mu  sync.Mutex
	now *histogramSet
	_   [64]byte // a stripe has a cache line of its own
}

// hdrLock is a histogram that many may use.
type hdrLock struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func (l *hdrLock) record(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.h.RecordValue(min(max(d.Microseconds(), 1), longestLatency)) // it is within the bounds
}

func newRecorder() *recorder {
	r := &recorder{stripes: make([]stripe, recorderStripes*runtime.GOMAXPROCS(0)), wake: hdrLock{h: newHistogram()}}
	for i := range r.stripes {
		r.stripes[i].now = new(histogramSet)
	}
	return r
}

// record notes how n requests of a worker ended.
func (r *recorder) record(worker int, op operation, o Outcome, latency time.Duration, n int64) {
	if n == 0 {
		return
	}
	s := &r.stripes[worker%len(r.stripes)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.record(op, o, latency, n)
}

// turn takes what was recorded since the last turn.
func (r *recorder) turn() *histogramSet {
	all := new(histogramSet)
	for i := range r.stripes {
		s := &r.stripes[i]
		s.mu.Lock()
		all.merge(s.now)
		s.now.reset()
		s.mu.Unlock()
	}
	return all
}
