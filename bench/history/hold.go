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
	sold, expires := time.Duration(forever), time.Duration(forever)
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
		if c.Outcome == Canceled || c.Outcome == Expired {
			h.over = min(h.over, c.End)
		}
		if c.Outcome == Sold {
			sold = min(sold, c.End)
		}
		if c.Expires > 0 {
			expires = min(expires, c.Expires-slack)
		}
	}
	switch {
	case sold < forever:
		h.ending, h.over = forever, forever
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

// certain is how many units are certainly held, over time.
func certain(holds []hold) []level {
	var steps []step
	for _, h := range holds {
		if h.held < h.ending {
			steps = append(steps, step{h.held, h.units})
			if h.ending < forever {
				steps = append(steps, step{h.ending, -h.units})
			}
		}
	}
	return levels(steps)
}

// possible is how many units are perhaps held, over time.
func possible(holds []hold) []level {
	var steps []step
	for _, h := range holds {
		steps = append(steps, step{h.begun, h.units})
		if h.over < forever {
			steps = append(steps, step{h.over, -h.units})
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

// skuOperations are the changes that holds and refusals stand for. ok is false when
// a hold ended by itself, which may be at any moment: then their number makes the
// question too hard.
func skuOperations(holds []hold, refusals []refusal) (all []porcupine.Operation, ok bool) {
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
	}
	for _, r := range refusals {
		add(r.from, r.call.End, skuChange{units: r.call.Units, refused: true})
	}
	return all, true
}
