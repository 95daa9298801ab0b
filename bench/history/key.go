package history

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// What one reservation may answer, as a model that porcupine decides about.

// forever is the return of a call without an answer: it may be done at any time.
const forever = math.MaxInt64

// reservation is the state of one key.
type reservation struct {
	status  Outcome // NotDone: there is none
	id      string  // empty: it was made by a call whose answer nobody got
	expires time.Duration
}

// keyModel says how the calls of one key change its reservation. A hold may live
// longer than promised, never shorter than that by more than the rules' slack.
func keyModel(rules *Rules) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{reservation{status: NotDone}} },
		Step: func(state, input, _ any) []any {
			r, c := state.(reservation), input.(Call)
			var next []any
			for _, r := range append(r.expired(&c, rules.Slack), r) {
				for _, n := range r.after(&c, rules) {
					next = append(next, n)
				}
			}
			return next
		},
		DescribeOperation: func(input, _ any) string {
			c := input.(Call)
			return fmt.Sprintf("%s %s at %s: %s %s", c.Kind, c.Key, c.Server, c.Outcome, c.ID)
		},
		DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	return m.ToModel()
}

// expired is what a hold may have become by itself before a call was answered.
func (r reservation) expired(c *Call, slack time.Duration) []reservation {
	if r.status != Held || r.expires == 0 || !c.open() && c.End+slack < r.expires {
		return nil
	}
	r.status = Expired
	return []reservation{r}
}

// after is what a reservation may be after a call with its outcome; nothing: the
// call can't have had that outcome.
func (r reservation) after(c *Call, rules *Rules) []reservation {
	if c.open() {
		return append(r.done(c, rules), r)
	}
	if c.Outcome == NotDone || c.Outcome == Refused {
		return []reservation{r}
	}
	if c.Kind == Reserve {
		return r.afterReserve(c)
	}
	if c.Outcome == NotFound || r.status == NotDone || !r.take(c) {
		return nil
	}
	want := c.Outcome
	if want == Short {
		want = Expired // and its units could not be taken again
	}
	var may []reservation
	for _, n := range append(r.done(c, rules), r) {
		if n.status == want {
			may = append(may, n)
		}
	}
	return may
}

// afterReserve takes the answer to a reservation. One that is a repetition has the
// first answer, whatever became of the reservation meanwhile.
func (r reservation) afterReserve(c *Call) []reservation {
	switch {
	case c.Outcome == Short && r.status == NotDone:
		return []reservation{r}
	case c.Outcome != Held:
		return nil
	case r.status == NotDone:
		return []reservation{{status: Held, id: c.ID, expires: c.Expires}}
	case r.take(c):
		return []reservation{r}
	}
	return nil
}

// take tells whether a call is about this reservation, whose id and end it may be
// the first to tell.
func (r *reservation) take(c *Call) bool {
	if r.id == "" {
		r.id = c.ID
	}
	if r.expires == 0 {
		r.expires = c.Expires
	}
	return r.id == c.ID || c.ID == ""
}

// done is what a reservation is when the call was done; nothing: it would change
// nothing.
func (r reservation) done(c *Call, rules *Rules) []reservation {
	switch {
	case c.Kind == Reserve && r.status == NotDone:
		r.status, r.id, r.expires = Held, c.ID, c.Expires
	case c.Kind == Confirm && (r.status == Held || r.status == Expired && rules.Retake):
		r.status = Sold
	case c.Kind == Cancel && r.status == Held:
		r.status = Canceled
	default:
		return nil
	}
	return []reservation{r}
}

// operations are calls as porcupine takes them.
func operations(calls []Call) []porcupine.Operation {
	all := make([]porcupine.Operation, len(calls))
	for i, c := range calls {
		all[i] = porcupine.Operation{ClientId: c.Client, Input: c, Call: int64(c.Begin), Return: int64(c.End)}
		if c.open() {
			all[i].Return = forever
		}
	}
	return all
}

// byKey sorts calls by their keys; those that changed nothing are left out. Keys are
// in the order of their first calls.
func byKey(calls []Call) (keys []string, of map[string][]Call) {
	of = make(map[string][]Call)
	for _, c := range calls {
		if _, known := of[c.Key]; !known {
			keys = append(keys, c.Key)
		}
		of[c.Key] = append(of[c.Key], c)
	}
	for _, all := range of {
		slices.SortStableFunc(all, func(a, b Call) int { return int(a.Begin - b.Begin) })
	}
	return keys, of
}
