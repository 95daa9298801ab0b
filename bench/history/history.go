// Package history records what clients ask of a Stockade and what they are told,
// and checks afterwards that one correct stock could have answered all of it.
//
// A call whose outcome nobody knows (no answer, 504) may have been done or not, at
// any moment since it was begun. With that, Check asks of a history:
//
//   - per idempotency key: is there an order in which one reservation, with its
//     confirmations, cancellations and readings, gives these answers? So one key
//     has one reservation, what was confirmed does not expire, nothing expires
//     before its time, and an acknowledged operation is in all later answers. This
//     is linearizability, decided by anishathalye/porcupine.
//   - per SKU: is there at every moment room for all that is certainly held? And was
//     there, at some moment of each refusal for lack of stock, really too little?
//     Where a SKU has few enough calls, and none that ends by itself, the order of
//     all its reservations is decided by porcupine too.
//   - in the end: does the cluster have what clients were told, and nothing else?
package history

import (
	"sync"
	"time"
)

// Kind is what a call asks for.
type Kind string

// The kinds of calls.
const (
	Reserve Kind = "reserve"
	Confirm Kind = "confirm"
	Cancel  Kind = "cancel"
	Read    Kind = "read"
)

// Outcome is what a call was answered, or what is known without an answer.
type Outcome string

// The outcomes of calls.
const (
	Unknown  Outcome = "unknown"   // it was done or not
	NotDone  Outcome = "not_done"  // 503: certainly not
	Held     Outcome = "held"      // the reservation holds its units
	Sold     Outcome = "sold"      // it is confirmed
	Canceled Outcome = "canceled"  // it was canceled
	Expired  Outcome = "expired"   // its time was over
	Short    Outcome = "short"     // refused: not enough units
	Refused  Outcome = "refused"   // refused for another reason, which this package does not judge
	NotFound Outcome = "not_found" // there is no such reservation
)

// Call is one request and its answer. Times are since the recorder was made.
type Call struct {
	Client  int           `json:"client"`
	Server  string        `json:"server,omitempty"` // that was asked
	Kind    Kind          `json:"kind"`
	Key     string        `json:"key"`          // idempotency key of the reservation, one per reservation
	ID      string        `json:"id,omitempty"` // of the reservation, if known
	SKU     string        `json:"sku,omitempty"`
	Units   int           `json:"units,omitempty"` // reserved: what was asked for
	Begin   time.Duration `json:"begin"`
	End     time.Duration `json:"end"`
	Wait    time.Duration `json:"wait,omitempty"`    // how long it was willing to wait in line
	Expires time.Duration `json:"expires,omitempty"` // when the hold ends; 0: not known, or not within the history
	Outcome Outcome       `json:"outcome"`
}

// open tells whether nobody knows what became of a call.
func (c *Call) open() bool { return c.Outcome == Unknown }

// Recorder collects calls. Its methods are safe for concurrent use.
type Recorder struct {
	began time.Time

	mu    sync.Mutex
	calls []Call
}

// NewRecorder makes a recorder whose time begins now.
func NewRecorder() *Recorder { return &Recorder{began: time.Now()} }

// Since is a moment in the time of the history.
func (r *Recorder) Since(t time.Time) time.Duration { return t.Sub(r.began) }

// Begin notes that a call begins now. Its End is to be called when there is an
// answer, or when none is waited for any more.
func (r *Recorder) Begin(c Call) *Pending {
	c.Begin = r.Since(time.Now())
	return &Pending{recorder: r, call: c}
}

// Calls are all calls that have ended so far, in the order of their ends.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Call(nil), r.calls...)
}

// Pending is a call that is under way.
type Pending struct {
	recorder *Recorder
	call     Call
}

// End notes the outcome of a call, and which reservation it was about; id is empty
// when that is not known. expires is when its hold ends, by the clock of the
// cluster; the zero time: it was not told.
func (p *Pending) End(o Outcome, id string, expires time.Time) {
	p.call.End, p.call.Outcome = p.recorder.Since(time.Now()), o
	if id != "" {
		p.call.ID = id
	}
	if !expires.IsZero() {
		p.call.Expires = p.recorder.Since(expires)
	}
	p.recorder.mu.Lock()
	defer p.recorder.mu.Unlock()
	p.recorder.calls = append(p.recorder.calls, p.call)
}
