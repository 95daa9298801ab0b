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
	status  Outcome       // NotDone: there is none
	id      string        // empty: it was made by a call whose answer nobody got
	units   int           // it has; of a confirmed one what was not given back
	first   time.Duration // its end by the first answer, which repetitions get; 0: not known
	expires time.Duration // it does not end before; 0: not known
	vague   bool          // nor perhaps for longer: an extension was done whose answer nobody got
	returns []returned    // that were done
}

// returned is what a repetition of a return is answered.
type returned struct {
	op  string
	has int
}

func (r *reservation) equal(other *reservation) bool {
	return r.status == other.status && r.id == other.id && r.units == other.units && r.first == other.first &&
		r.expires == other.expires && r.vague == other.vague && slices.Equal(r.returns, other.returns)
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
		Equal: func(a, b any) bool {
			x, y := a.(reservation), b.(reservation)
			return x.equal(&y)
		},
		DescribeOperation: func(input, _ any) string {
			c := input.(Call)
			return fmt.Sprintf("%s %s%s at %s: %s %s", c.Kind, c.Key, c.details(), c.Server, c.Outcome, c.ID)
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
func (r reservation) after(c *Call, rules *Rules) (may []reservation) {
	switch {
	case c.open():
		return append(r.done(c, rules), r)
	case c.Outcome == NotDone || c.Outcome == Refused:
		return []reservation{r}
	case c.Kind == Reserve:
		return r.afterReserve(c)
	case c.Kind == Return:
		return r.afterReturn(c, rules)
	}
	for _, n := range r.done(c, rules) {
		if n.shows(c, rules.Slack) {
			may = append(may, n)
		}
	}
	// Without an effect it is a reading, a repetition or a refusal. Only a reading may
	// find a hold and leave it as it is.
	if (c.Kind == Read || c.Outcome != Held) && r.shows(c, rules.Slack) {
		may = append(may, r)
	}
	return may
}

// afterReserve takes the answer to a reservation. One that is a repetition has the
// first answer, whatever became of the reservation meanwhile.
func (r reservation) afterReserve(c *Call) []reservation {
	switch {
	case c.Outcome == Short && r.status == NotDone:
		return []reservation{r}
	case c.Outcome != Held || c.Has != 0 && c.Has != c.Units:
		return nil
	case r.status == NotDone:
		return r.done(c, nil)
	case !r.named(c) || r.first != 0 && c.Expires != 0 && r.first != c.Expires:
		return nil
	}
	r.first = max(r.first, c.Expires)
	if r.expires == 0 {
		r.expires = c.Expires
	}
	return []reservation{r}
}

// afterReturn takes the answer to a return. One that is a repetition has the first
// answer, and gives nothing back.
func (r reservation) afterReturn(c *Call, rules *Rules) []reservation {
	for _, g := range r.returns {
		if g.op == c.Op {
			then := r
			then.units = g.has
			if !then.shows(c, rules.Slack) {
				return nil
			}
			return []reservation{r}
		}
	}
	switch {
	case c.Outcome == NotSold && r.status != Sold:
		return []reservation{r}
	case (c.Outcome == Canceled || c.Outcome == Expired) && r.shows(c, rules.Slack): // refusals
		return []reservation{r}
	case c.Outcome != Sold && c.Outcome != Returned:
		return nil
	}
	var may []reservation
	for _, n := range r.done(c, rules) {
		if n.shows(c, rules.Slack) {
			may = append(may, n)
		}
	}
	return may
}

// named tells whether a call is about this reservation, whose id it may be the first to
// tell.
func (r *reservation) named(c *Call) bool {
	if r.id == "" {
		r.id = c.ID
	}
	return r.id == c.ID || c.ID == ""
}

// shows tells whether an answer shows this reservation as it is.
func (r *reservation) shows(c *Call, slack time.Duration) bool {
	want, has := c.Outcome, c.Has == 0 || c.Has == r.units
	switch want {
	case Returned:
		want, has = Sold, r.units == 0
	case Short:
		want = Expired // and its units could not be taken again
	}
	return r.status == want && has && r.named(c) && r.ends(c, slack)
}

// ends tells whether an answer shows the end of this reservation's hold, which it may be
// the first to tell.
func (r *reservation) ends(c *Call, slack time.Duration) bool {
	switch {
	case c.Expires == 0, c.Expires == r.expires && !r.vague:
		return true
	case r.expires == 0, r.vague && c.Expires >= r.expires:
		r.expires, r.vague = c.Expires, false
		return r.status != Expired || c.Expires <= c.End+slack
	}
	return false
}

// done is what a reservation is when the call was done; nothing: it would change
// nothing.
func (r reservation) done(c *Call, rules *Rules) []reservation {
	switch {
	case c.Kind == Reserve && r.status == NotDone:
		r.status, r.id, r.units, r.first, r.expires = Held, c.ID, c.Units, c.Expires, c.Expires
	case c.Kind == Confirm && (r.status == Held || r.status == Expired && rules.Retake):
		r.status = Sold
	case c.Kind == Cancel && r.status == Held:
		r.status = Canceled
	case c.Kind == Extend && r.status == Held && r.mayEnd(c, rules):
		r.vague = true // until an answer shows the end, mostly this one
	case c.Kind == Return && r.status == Sold && c.Units <= r.units && !r.gaveBack(c):
		r.units -= c.Units
		r.returns = append(slices.Clip(r.returns), returned{c.Op, r.units})
	default:
		return nil
	}
	return []reservation{r}
}

// mayEnd tells whether a hold may end when an extension says so: no sooner than before,
// and no later than what was asked for, unless it did before.
func (r *reservation) mayEnd(c *Call, rules *Rules) bool {
	if c.Expires == 0 || r.expires == 0 {
		return true
	}
	return c.Expires == r.expires || c.Expires > r.expires && (r.vague || c.Expires <= c.End+c.TTL+rules.Slack)
}

func (r *reservation) gaveBack(c *Call) bool {
	return slices.ContainsFunc(r.returns, func(g returned) bool { return g.op == c.Op })
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

// byKey sorts calls by their keys. Keys are
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
