package history

import (
	"strings"
	"testing"
	"time"
)

// stock is a call that changes how many units of s there are.
func stock(kind Kind, key string, units, from, to int, o Outcome) Call {
	return Call{Kind: kind, Key: key, SKU: "s", Units: units, Begin: at(from), End: at(to), Outcome: o}
}

// onHand is what there is in the end, with all of it for sale or not.
func onHand(units, taken int) *Final {
	return &Final{At: at(90), Taken: map[string]int{"s": taken}, OnHand: map[string]int{"s": units}}
}

// Each of these begins with three units.
func TestStockChanges(t *testing.T) {
	judge(t, map[string]sample{
		"restocked and sold":                     {calls: []Call{stock(Restock, "x", 2, 5, 9, Done), reserve("a", 5, 6, 7, Held, "r1")}, final: onHand(5, 5)},
		"sold before it came":                    {calls: []Call{stock(Restock, "x", 2, 5, 9, Done), reserve("a", 5, 3, 4, Held, "r1")}, wrong: "5 units of s are held"},
		"more than came is sold":                 {calls: []Call{stock(Restock, "x", 2, 5, 9, Done), reserve("a", 6, 10, 11, Held, "r1")}, wrong: "6 units of s are held at 11ms, and there are 5"},
		"nobody knows, and it is sold":           {calls: []Call{stock(Restock, "x", 2, 5, 9, Unknown), reserve("a", 5, 10, 11, Held, "r1")}, final: onHand(5, 5)},
		"nobody knows, and it is refused":        {calls: []Call{stock(Restock, "x", 2, 5, 9, Unknown), reserve("a", 5, 20, 21, Short, "")}, final: onHand(3, 0)},
		"it did not come, and is sold":           {calls: []Call{stock(Restock, "x", 2, 5, 9, NotDone), reserve("a", 5, 10, 11, Held, "r1")}, wrong: "5 units of s are held"},
		"refused while it comes":                 {calls: []Call{stock(Restock, "x", 2, 5, 9, Done), reserve("a", 5, 7, 8, Short, "")}},
		"refused soon after":                     {calls: []Call{stock(Restock, "x", 2, 5, 9, Done), reserve("a", 5, 13, 15, Short, "")}},
		"refused long after":                     {calls: []Call{stock(Restock, "x", 2, 5, 9, Done), reserve("a", 5, 15, 17, Short, "")}, wrong: "5 units of s were refused"},
		"repeated, and there once":               {calls: []Call{stock(Restock, "x", 2, 5, 9, Unknown), stock(Restock, "x", 2, 10, 11, Done)}, final: onHand(5, 0)},
		"repeated, and there twice":              {calls: []Call{stock(Restock, "x", 2, 5, 9, Unknown), stock(Restock, "x", 2, 10, 11, Done)}, final: onHand(7, 0), wrong: "in the end there are 7 units"},
		"two of them, and one is there":          {calls: []Call{stock(Restock, "x", 2, 5, 9, Done), stock(Restock, "y", 2, 10, 11, Done)}, final: onHand(5, 0), wrong: "in the end there are 5 units"},
		"answered, and not there":                {calls: []Call{stock(Restock, "x", 2, 5, 9, Done)}, final: onHand(3, 0), wrong: "in the end there are 3 units"},
		"nobody looked":                          {calls: []Call{stock(Restock, "x", 2, 5, 9, Done)}, final: &Final{}},
		"taken away":                             {calls: []Call{stock(Adjust, "x", -2, 5, 9, Done), reserve("a", 2, 20, 21, Short, ""), reserve("b", 1, 30, 31, Held, "r1")}, final: onHand(1, 1)},
		"taken away, and refused too early":      {calls: []Call{stock(Adjust, "x", -2, 5, 9, Done), reserve("a", 2, 3, 4, Short, "")}, wrong: "2 units of s were refused"},
		"taken away, and sold all the same":      {calls: []Call{stock(Adjust, "x", -2, 5, 9, Done), reserve("a", 2, 10, 11, Held, "r1")}, wrong: "2 units of s are held at 11ms, and there are 1"},
		"perhaps taken away, and sold":           {calls: []Call{stock(Adjust, "x", -2, 5, 9, Unknown), reserve("a", 3, 10, 11, Held, "r1")}, final: onHand(3, 3)},
		"perhaps taken away, and refused":        {calls: []Call{stock(Adjust, "x", -2, 5, 9, Unknown), reserve("a", 3, 10, 11, Short, "")}, final: onHand(1, 0)},
		"not taken away, and refused":            {calls: []Call{stock(Adjust, "x", -2, 5, 9, Refused), reserve("a", 3, 10, 11, Short, "")}, wrong: "3 units of s were refused"},
		"not taken away, and not there":          {calls: []Call{stock(Adjust, "x", -2, 5, 9, Refused)}, final: onHand(1, 0), wrong: "in the end there are 1 units"},
		"taken away while they were sold":        {calls: []Call{reserve("a", 3, 1, 2, Held, "r1"), stock(Adjust, "x", -2, 5, 9, Done)}, wrong: "3 units of s are held at 9ms, and there are 1"},
		"taken away before they were given back": {calls: []Call{reserve("a", 3, 1, 2, Held, "r1"), act(Cancel, "a", "r1", 3, 6, Canceled), stock(Adjust, "x", -2, 4, 5, Done)}, final: onHand(1, 0)},
		"odd":                                    {calls: []Call{stock(Adjust, "x", -2, 5, 9, Odd)}, wrong: "no answer"},
	})
}

// TestNoOrderOfChangesIsNoticed has a refusal that the sums excuse, since the units may
// have come after it, and that no order does: b has some of them.
func TestNoOrderOfChangesIsNoticed(t *testing.T) {
	calls := []Call{
		stock(Restock, "x", 2, 10, 40, Done),
		reserve("b", 4, 11, 12, Held, "r2"),
		reserve("c", 1, 20, 21, Short, ""),
	}
	rules := Rules{Stock: map[string]int{"s": 3}}
	if r := Check(calls, rules, nil); len(r.Violations) > 0 {
		t.Fatalf("by the sums: %v", r.Violations)
	}
	rules.Patience = time.Minute
	r := Check(calls, rules, nil)
	if len(r.Violations) != 1 || !strings.Contains(r.Violations[0].What, "no order") {
		t.Errorf("%v: %v", r, r.Violations)
	}
	calls[0].Units = 1 // and b has it
	if r := Check(calls, rules, nil); len(r.Violations) > 0 || len(r.Ordered) != 1 {
		t.Errorf("%v: %v", r, r.Violations)
	}
}
