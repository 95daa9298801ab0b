package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// What the calls of all keys say of the units of a SKU.

// hold is one reservation as far as it takes units: it certainly does from held on
// until it may have given them back, and perhaps does from begun on until it
// certainly has.
type hold struct {
	key          string
	sku          string
	units        int
	begun, held  time.Duration // held: forever when nobody knows that it was made
	ending, over time.Duration // when its end began, or its time was over, and when that was known; forever: it did not
	byItself     bool          // its time was over, so that it may have ended at any moment since
	returns      []change      // of its units, when it was sold; then it has no other end
}

// change is a number of units that come into a SKU, or go if it is negative: it may have
// been made from begun on, and certainly was by done; forever: nobody knows that.
type change struct {
	units       int
	begun, done time.Duration
}

// refusal is a refusal for lack of units.
type refusal struct {
	call Call
	from time.Duration // since when it may be justified
}

// holdOf puts the calls of a key together: an attempt that was repeated until it had
// an answer happened once, somewhere between the first attempt and the answer. end
// is the end of the history. Not made: the key certainly has no reservation.
func holdOf(key string, calls []Call, slack, end time.Duration) (h hold, made bool) {
	h = hold{key: key, held: forever, ending: forever, over: forever, begun: forever}
	sold, expires, last := time.Duration(forever), time.Duration(forever), time.Duration(0)
	refused := lastRefusal(calls)
	for _, c := range calls {
		switch {
		case c.Kind == Reserve:
			h.sku, h.units, h.begun = c.SKU, c.Units, min(h.begun, c.Begin)
			made = made || c.open() && c.Begin >= refused || c.Outcome == Held
			if c.Outcome == Held {
				h.held = min(h.held, c.End)
			}
		case c.Kind == Cancel && c.Outcome != NotDone && c.Outcome != Refused:
			h.ending = min(h.ending, c.Begin)
		}
		switch c.Outcome {
		case Canceled, Expired:
			h.over = min(h.over, c.End)
		case Sold, Returned:
			sold = min(sold, c.End)
		}
		// An extension is refused once a hold has ended, so whatever end was told is one that
		// it has lived to, or was sold or canceled before: the last of them counts.
		last = max(last, c.Expires)
	}
	if last > 0 {
		expires = last - slack
	}
	switch {
	case sold < forever:
		h.ending, h.over = forever, forever
		h.returns = changesOf(calls, Return)
		if sold >= expires { // its units may have been taken anew
			h.held, h.byItself = sold, true
		}
	case expires <= end:
		h.ending, h.byItself = min(h.ending, expires), true
	}
	return h, made
}

// lastRefusal is when the last attempt began that was refused; -1: none was. Who
// repeats a request until it has an answer takes a refusal for one, so attempts before
// it that nobody knows the outcome of must not have made a reservation, nor make one
// later.
func lastRefusal(calls []Call) time.Duration {
	last := time.Duration(-1)
	for _, c := range calls {
		if c.Kind == Reserve && c.Outcome == Short {
			last = max(last, c.Begin)
		}
	}
	return last
}

// step is a change of how many units are held.
type step struct {
	at     time.Duration
	change int
}

// level is how many units are held since a moment.
type level struct {
	at    time.Duration
	units int
}

// levels adds steps up. Units that come and go at the same moment are both there.
func levels(steps []step) []level {
	slices.SortFunc(steps, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.change, a.change))
	})
	all := []level{{at: -1}}
	for _, s := range steps {
		all = append(all, level{s.at, all[len(all)-1].units + s.change})
	}
	return all
}

// certain is how many units are certainly held, over time, less those that came into the
// SKU by changes and more by those that went.
func certain(holds []hold, changes []change) []level {
	var steps []step
	for _, h := range holds {
		if h.held >= h.ending {
			continue
		}
		steps = append(steps, step{h.held, h.units})
		if h.ending < forever {
			steps = append(steps, step{h.ending, -h.units})
		}
		for _, r := range h.returns {
			steps = append(steps, step{max(h.held, r.begun), -r.units})
		}
	}
	for _, c := range changes {
		if c.units > 0 {
			steps = append(steps, step{c.begun, -c.units})
		} else if c.done < forever {
			steps = append(steps, step{c.done, -c.units})
		}
	}
	return levels(steps)
}

// possible is how many units are perhaps held, over time, less and more the same.
func possible(holds []hold, changes []change) []level {
	var steps []step
	for _, h := range holds {
		steps = append(steps, step{h.begun, h.units})
		if h.over < forever {
			steps = append(steps, step{h.over, -h.units})
		}
		for _, r := range h.returns {
			if r.done < forever {
				steps = append(steps, step{r.done, -r.units})
			}
		}
	}
	for _, c := range changes {
		if c.units < 0 {
			steps = append(steps, step{c.begun, -c.units})
		} else if c.done < forever {
			steps = append(steps, step{c.done, -c.units})
		}
	}
	return levels(steps)
}

// most is the highest of levels between two moments.
func most(levels []level, from, to time.Duration) (units int) {
	at, _ := slices.BinarySearchFunc(levels, from, func(l level, t time.Duration) int { return cmp.Compare(l.at, t) })
	if at > 0 {
		at-- // what was there already
	}
	units = levels[at].units
	for ; at < len(levels) && levels[at].at <= to; at++ {
		units = max(units, levels[at].units)
	}
	return units
}

// skuModel counts what is left of one SKU. A refusal leaves it as it is, and needs
// it to be too little.
func skuModel(stock int) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{stock} },
		Step: func(state, input, _ any) []any {
			left, change := state.(int), input.(skuChange)
			switch {
			case change.refused && left < change.units:
				return []any{left}
			case change.refused || left+change.units < 0 && !change.open:
				return nil
			case left+change.units < 0:
				return []any{left}
			case change.open:
				return []any{left, left + change.units}
			}
			return []any{left + change.units}
		},
	}
	return m.ToModel()
}

// skuChange is a change of what is left of a SKU, or a refusal to make one.
type skuChange struct {
	units   int
	refused bool
	open    bool // nobody knows whether it was made
}

// skuOperations are the changes that holds, changes of the stock and refusals stand for.
// ok is false when a hold ended by itself, which may be at any moment: then their number
// makes the question too hard.
func skuOperations(holds []hold, changes []change, refusals []refusal) (all []porcupine.Operation, ok bool) {
	add := func(from, to time.Duration, c skuChange) {
		c.open = to == forever
		all = append(all, porcupine.Operation{Input: c, Call: int64(from), Return: int64(to)})
	}
	for _, h := range holds {
		add(h.begun, h.held, skuChange{units: -h.units})
		if h.byItself {
			return nil, false
		}
		if h.ending < forever {
			add(h.ending, h.over, skuChange{units: h.units})
		}
		changes = append(changes[:len(changes):len(changes)], h.returns...)
	}
	for _, c := range changes {
		add(c.begun, c.done, skuChange{units: c.units})
	}
	for _, r := range refusals {
		add(r.from, r.call.End, skuChange{units: r.call.Units, refused: true})
	}
	return all, true
}
