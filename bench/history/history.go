// Package history records what clients ask of a Stockade and what they are told,
// and checks afterwards that one correct stock could have answered all of it.
//
// A call whose outcome nobody knows (no answer, 504) may have been done or not, at
// any moment since it was begun. With that, Check asks of a history:
//
//   - per idempotency key: is there an order in which one reservation, with its
//     confirmations, cancellations, extensions, returns and readings, gives these
//     answers? So one key has one reservation, what was confirmed does not expire,
//     nothing expires before its time, which an extension moves, what is returned
//     comes back once, and an acknowledged operation is in all later answers. This
//     is linearizability, decided by anishathalye/porcupine.
//   - per SKU: is there at every moment room for all that is certainly held? And was
//     there, at some moment of each refusal for lack of stock, really too little?
//     Where a SKU has few enough calls, and none that ends by itself, the order of
//     all its reservations is decided by porcupine too. Restocks and adjustments
//     make of what there is two bounds: with all that may have been done, and with
//     what certainly was.
//   - in the end: does the cluster have what clients were told, and nothing else?
package history

import (
	"slices"
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
	Extend  Kind = "extend"
	Return  Kind = "return"  // of units of a confirmed reservation
	Restock Kind = "restock" // of a SKU, as Adjust is
	Adjust  Kind = "adjust"
)

// Outcome is what a call was answered, or what is known without an answer.
type Outcome string

// The outcomes of calls.
const (
	Unknown  Outcome = "unknown"   // it was done or not
	NotDone  Outcome = "not_done"  // 503: certainly not
	Held     Outcome = "held"      // the reservation holds its units
	Sold     Outcome = "sold"      // it is confirmed
	Returned Outcome = "returned"  // it is confirmed, and all its units were given back
	Canceled Outcome = "canceled"  // it was canceled
	Expired  Outcome = "expired"   // its time was over
	Short    Outcome = "short"     // refused: not enough units
	Refused  Outcome = "refused"   // refused for another reason, which this package does not judge
	NotFound Outcome = "not_found" // there is no such reservation
	NotSold  Outcome = "not_sold"  // a return was refused: it is not confirmed
	Done     Outcome = "done"      // the stock was changed
	Odd      Outcome = "odd"       // an answer that there must not be: what was done is unknown
)

// outcomes are all there are. One that is none of them, which a client that does not
// understand an answer may have noted, is a violation as Odd is.
var outcomes = []Outcome{Unknown, NotDone, Held, Sold, Returned, Canceled, Expired, Short, Refused, NotFound, NotSold, Done, Odd}

// Call is one request and its answer. Times are since the recorder was made.
type Call struct {
	Client  int           `json:"client"`
	Server  string        `json:"server,omitempty"` // that was asked
	Kind    Kind          `json:"kind"`
	Key     string        `json:"key"`          // idempotency key of the reservation, one per reservation; of a change of the stock
	Op      string        `json:"op,omitempty"` // idempotency key of a return
	ID      string        `json:"id,omitempty"` // of the reservation, if known
	SKU     string        `json:"sku,omitempty"`
	Units   int           `json:"units,omitempty"` // what was asked for: to reserve, to give back, by which to change the stock
	Has     int           `json:"has,omitempty"`   // units that the reservation has by the answer; 0: it does not say
	Begin   time.Duration `json:"begin"`
	End     time.Duration `json:"end"`
	Wait    time.Duration `json:"wait,omitempty"`    // how long it was willing to wait in line
	TTL     time.Duration `json:"ttl,omitempty"`     // extended: for how long from then on
	Expires time.Duration `json:"expires,omitempty"` // when the hold ends; 0: not known, or not within the history
	Outcome Outcome       `json:"outcome"`
	Note    string        `json:"note,omitempty"` // of a refusal its code, of an odd answer what it was
}

// open tells whether nobody knows what became of a call.
func (c *Call) open() bool { return c.Outcome == Unknown || c.odd() }

// odd tells whether a call has an answer that there must not be.
func (c *Call) odd() bool { return c.Outcome == Odd || !slices.Contains(outcomes, c.Outcome) }

// changesStock tells whether a call is about the stock and no reservation.
func (c *Call) changesStock() bool { return c.Kind == Restock || c.Kind == Adjust }

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

// End notes what a call was answered, which may also tell which reservation it was
// about. Its Expires is by the clock of the cluster.
func (p *Pending) End(a Answer) {
	p.call.End, p.call.Outcome, p.call.Has, p.call.Note = p.recorder.Since(time.Now()), a.Outcome, a.Has, a.Code
	if a.ID != "" {
		p.call.ID = a.ID
	}
	if !a.Expires.IsZero() {
		p.call.Expires = p.recorder.Since(a.Expires)
	}
	p.recorder.mu.Lock()
	defer p.recorder.mu.Unlock()
	p.recorder.calls = append(p.recorder.calls, p.call)
}
