package history

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Rules are what a checker needs to know of the cluster.
type Rules struct {
	// Stock is how many units of each SKU there are in the beginning.
	Stock map[string]int
	// Slack is by how much the clock of holds may be ahead of the recorder's, and Late by
	// how much it may be behind.
	Slack, Late time.Duration
	// Stale is how old what a refusal is founded on may be when its call begins.
	Stale time.Duration
	// Retake: what has expired can still be confirmed, if there are units.
	Retake bool
	// Patience bounds the search for an order of the calls of one SKU; what is not
	// decided by then is counted. 0: SKUs are judged by their sums alone.
	Patience time.Duration
}

// Final is what the cluster had in the end, when nothing was under way.
type Final struct {
	// At is when that was looked at, behind all calls.
	At time.Duration
	// Status is what some reservations are, by id: Held, Sold, Returned, Canceled or Expired.
	Status map[string]Outcome
	// Has is how many units they have; 0: that was not looked at, or there are none.
	Has map[string]int
	// Taken is how many units of each SKU are held or sold.
	Taken map[string]int
	// OnHand is how many there are of SKUs; one that is missing was not looked at.
	OnHand map[string]int
}

// Violation is something that no correct stock could have done.
type Violation struct {
	What  string // in one sentence
	Calls []Call // that prove it
}

// String implements fmt.Stringer.
func (v Violation) String() string {
	var b strings.Builder
	b.WriteString(v.What)
	for _, c := range v.Calls {
		fmt.Fprintf(&b, "\n  %9.3f to %9.3f s  client %d at %s: %s %s, %d of %s%s: %s %s",
			c.Begin.Seconds(), c.End.Seconds(), c.Client, c.Server, c.Kind, c.Key, c.Units, c.SKU, c.details(), c.Outcome, c.ID)
	}
	return b.String()
}

// details are what few calls have, in words.
func (c *Call) details() (text string) {
	if c.Op != "" {
		text += " by " + c.Op
	}
	if c.TTL != 0 {
		text += fmt.Sprintf(" for %v", c.TTL)
	}
	if c.Expires != 0 {
		text += fmt.Sprintf(", ends at %.3f s", c.Expires.Seconds())
	}
	if c.Has != 0 {
		text += fmt.Sprintf(", has %d", c.Has)
	}
	if c.Note != "" {
		text += " (" + c.Note + ")"
	}
	return text
}

// Report is what a check found.
type Report struct {
	Violations []Violation
	Calls      int
	Open       int // of them, whose outcome nobody knows
	Keys       int // each decided by porcupine
	Refusals   int
	Done       map[Kind]int // that were answered with success, also again
	// Ordered are the SKUs for which an order of all calls was found; the others are
	// judged by their sums: Undecided because there were too many or the search took
	// too long, the rest because holds ended by themselves.
	Ordered, Undecided []string
}

// String implements fmt.Stringer: one line.
func (r Report) String() string {
	return fmt.Sprintf("%d calls, %d of them without a known outcome; %d keys and %d refusals; done were %v; an order of all calls for SKUs %v, not decided for %v; %d violations",
		r.Calls, r.Open, r.Keys, r.Refusals, r.Done, r.Ordered, r.Undecided, len(r.Violations))
}

// Check holds a history against the rules and what the cluster had in the end; a
// nil Final leaves that out.
func Check(calls []Call, rules Rules, final *Final) Report {
	c := &checker{
		rules: rules, report: Report{Calls: len(calls), Done: map[Kind]int{}},
		holds: map[string][]hold{}, refusals: map[string][]refusal{},
	}
	for i := range calls {
		c.end = max(c.end, calls[i].End+1)
		c.call(&calls[i])
	}
	calls, c.changes = stockChanges(calls)
	keys, of := byKey(calls)
	c.report.Keys = len(keys)
	c.ids(calls)
	for _, key := range keys {
		c.key(key, of[key], final)
	}
	for _, sku := range slices.Sorted(maps.Keys(rules.Stock)) {
		c.sku(sku)
		if final != nil {
			c.final(sku, final)
		}
	}
	return c.report
}

// checker collects what it finds.
type checker struct {
	rules    Rules
	end      time.Duration // behind all calls
	report   Report
	holds    map[string][]hold // by SKU
	changes  map[string][]change
	refusals map[string][]refusal
}

func (c *checker) found(calls []Call, format string, args ...any) {
	c.report.Violations = append(c.report.Violations, Violation{fmt.Sprintf(format, args...), calls})
}

// call counts a call, and looks at what it says by itself.
func (c *checker) call(call *Call) {
	if call.open() {
		c.report.Open++
	}
	if slices.Contains(successes[call.Kind], call.Outcome) || call.Outcome == Done {
		c.report.Done[call.Kind]++
	}
	if call.odd() {
		c.found([]Call{*call}, "%s of key %s was answered %q, which is no answer: %s", call.Kind, call.Key, call.Outcome, call.Note)
	}
	if call.Kind == Extend && call.Outcome == Held && call.Expires != 0 && call.Expires+c.rules.Late < call.Begin+call.TTL {
		c.found([]Call{*call}, "key %s was extended for less than was asked for", call.Key)
	}
}

// ids looks for reservations that two keys have.
func (c *checker) ids(calls []Call) {
	first := map[string]Call{}
	for _, call := range calls {
		if call.Kind != Reserve || call.ID == "" {
			continue
		}
		if other, known := first[call.ID]; known && other.Key != call.Key {
			c.found([]Call{other, call}, "two keys have reservation %s", call.ID)
		} else if !known {
			first[call.ID] = call
		}
	}
}

// key decides about the calls of one key, and notes what it takes of a SKU.
func (c *checker) key(key string, calls []Call, final *Final) {
	all := calls
	if final != nil {
		all = append(slices.Clone(calls), finalReads(calls, final, max(c.end, final.At))...)
	}
	if !porcupine.CheckOperations(keyModel(&c.rules), operations(all)) {
		c.found(all, "no reservation could have given these answers to key %s", key)
	}
	if h, made := holdOf(key, all, c.rules.Slack, c.end); made {
		c.holds[h.sku] = append(c.holds[h.sku], h)
	}
	for _, call := range calls {
		if call.Outcome == Short {
			c.report.Refusals++
			c.refusals[call.SKU] = append(c.refusals[call.SKU], refusal{call, call.Begin - c.rules.Stale})
		}
	}
}

// finalReads is the last state of a key's reservation as readings at the end.
func finalReads(calls []Call, final *Final, end time.Duration) (reads []Call) {
	for _, call := range calls {
		status, known := final.Status[call.ID]
		if call.ID != "" && known && len(reads) == 0 {
			reads = append(reads, Call{
				Server: "the end", Kind: Read, Key: call.Key, ID: call.ID, SKU: call.SKU, Units: call.Units,
				Has: final.Has[call.ID], Begin: end, End: end, Outcome: status,
			})
		}
	}
	return reads
}

// sku decides about the units of one SKU.
func (c *checker) sku(sku string) {
	stock, holds, changes := c.rules.Stock[sku], c.holds[sku], c.changes[sku]
	for _, l := range certain(holds, changes) {
		if l.units > stock {
			_, most := stockAt(stock, changes, l.at)
			c.found(nil, "%d units of %s are held at %v, and there are %d", l.units-stock+most, sku, l.at, most)
			break
		}
	}
	taken := possible(holds, changes)
	for _, r := range c.refusals[sku] {
		if left := stock - most(taken, r.from, r.call.End); left >= r.call.Units {
			c.found([]Call{r.call}, "%d units of %s were refused, and at least %d were left all the time", r.call.Units, sku, left)
		}
	}
	c.order(sku, holds, c.refusals[sku])
}

// maxOrdered bounds the calls of a SKU of which one order is looked for: what that
// takes of memory grows with the square of their number.
const maxOrdered = 5000

// order looks for an order of all changes of a SKU.
func (c *checker) order(sku string, holds []hold, refusals []refusal) {
	if c.rules.Patience == 0 {
		return
	}
	all, ok := skuOperations(holds, c.changes[sku], refusals)
	if !ok {
		return
	}
	if len(all) > maxOrdered {
		c.report.Undecided = append(c.report.Undecided, sku)
		return
	}
	switch porcupine.CheckOperationsTimeout(skuModel(c.rules.Stock[sku]), all, c.rules.Patience) {
	case porcupine.Ok:
		c.report.Ordered = append(c.report.Ordered, sku)
	case porcupine.Unknown:
		c.report.Undecided = append(c.report.Undecided, sku)
	case porcupine.Illegal:
		c.found(nil, "there is no order of %d reservations and %d refusals of %s", len(holds), len(refusals), sku)
	}
}

// final holds what is taken and what there is in the end against what was acknowledged.
func (c *checker) final(sku string, final *Final) {
	least, most := 0, 0
	for _, h := range c.holds[sku] {
		if h.over < forever {
			continue
		}
		certainly, perhaps := stockAt(0, h.returns, forever-1) // given back
		most += h.units - certainly
		if h.held < forever && h.ending == forever {
			least += h.units - perhaps
		}
	}
	if taken := final.Taken[sku]; taken < least || taken > most {
		c.found(nil, "in the end %d units of %s are held or sold; clients were told %d to %d", taken, sku, least, most)
	}
	onHand, known := final.OnHand[sku]
	least, most = stockAt(c.rules.Stock[sku], c.changes[sku], forever-1)
	if known && (onHand < least || onHand > most) {
		c.found(nil, "in the end there are %d units of %s; clients were told %d to %d", onHand, sku, least, most)
	}
}

// Progress tells the moments after which no call succeeded within a time, among
// those when a fault had gone.
func Progress(calls []Call, healed []time.Duration, within time.Duration) (stuck []time.Duration) {
	var done []time.Duration
	for _, c := range calls {
		if !c.open() && c.Outcome != NotDone {
			done = append(done, c.End)
		}
	}
	slices.Sort(done)
	for _, at := range healed {
		next, _ := slices.BinarySearch(done, at)
		if next == len(done) || done[next] > at+within {
			stuck = append(stuck, at)
		}
	}
	return stuck
}

// Draw draws the calls of one key as a page for a browser.
func Draw(w io.Writer, calls []Call, rules Rules) error {
	m := keyModel(&rules)
	_, info := porcupine.CheckOperationsVerbose(m, operations(calls), time.Minute)
	return porcupine.Visualize(m, info, w)
}
