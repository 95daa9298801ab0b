package history

import (
	"maps"
	"slices"
	"time"
)

// What changes of the stock, and returns of what was sold, are by the attempts to make
// them.

// changesOf are the changes of some kinds that were perhaps made. Attempts with one key
// make one change: the first of them that was done. A refusal settles nothing here: an
// attempt before it that nobody knows of may be made later.
func changesOf(calls []Call, kinds ...Kind) (all []change) {
	type name struct {
		kind    Kind
		sku     string
		key, op string
	}
	of := map[name]int{}
	for i := range calls {
		c := &calls[i]
		done := c.Outcome == Done || c.Outcome == Sold || c.Outcome == Returned
		if !slices.Contains(kinds, c.Kind) || !done && !c.open() {
			continue
		}
		n := name{c.Kind, c.SKU, c.Key, c.Op}
		at, known := of[n]
		if !known {
			at = len(all)
			of[n] = at
			all = append(all, change{units: c.Units, begun: forever, done: forever})
		}
		all[at].begun = min(all[at].begun, c.Begin)
		if done {
			all[at].done = min(all[at].done, c.End)
		}
	}
	return all
}

// stockChanges sorts out the calls that are about the stock, and what they make, by SKU.
func stockChanges(calls []Call) (others []Call, of map[string][]change) {
	bySKU := map[string][]Call{}
	for _, c := range calls {
		if c.changesStock() {
			bySKU[c.SKU] = append(bySKU[c.SKU], c)
		} else {
			others = append(others, c)
		}
	}
	of = map[string][]change{}
	for _, sku := range slices.Sorted(maps.Keys(bySKU)) {
		of[sku] = changesOf(bySKU[sku], Restock, Adjust)
	}
	return others, of
}

// stockAt is the least and the most that there may be of a SKU at a moment.
func stockAt(stock int, changes []change, at time.Duration) (least, most int) {
	least, most = stock, stock
	for _, c := range changes {
		if c.begun <= at {
			least, most = least+min(0, c.units), most+max(0, c.units)
		}
		if c.done <= at {
			least, most = least+max(0, c.units), most+min(0, c.units)
		}
	}
	return least, most
}
