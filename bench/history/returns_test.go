package history

import (
	"strings"
	"testing"
	"time"
)

// back is a return of units of r1 of key a, and how many were left; Returned: none.
func back(op string, units, from, to int, o Outcome, has int) Call {
	c := act(Return, "a", "r1", from, to, o)
	c.Op, c.Units, c.Has = op, units, has
	return c
}

// sold is what begins each of these histories: all units are sold.
func sold(more ...Call) []Call {
	return append([]Call{reserve("a", 3, 1, 2, Held, "r1"), act(Confirm, "a", "r1", 3, 4, Sold)}, more...)
}

// has is a reading that shows how many units are left.
func has(from, to int, o Outcome, units int) Call {
	c := act(Read, "a", "r1", from, to, o)
	c.Has = units
	return c
}

// inTheEnd is what r1 is in the end, and how many units of s are held or sold.
func inTheEnd(status Outcome, has, taken int) *Final {
	return &Final{At: at(90), Status: map[string]Outcome{"r1": status}, Has: map[string]int{"r1": has}, Taken: map[string]int{"s": taken}}
}

func TestReturns(t *testing.T) {
	judge(t, map[string]sample{
		"a part, and then the rest": {calls: sold(
			back("x", 1, 5, 6, Sold, 2), has(7, 8, Sold, 2), back("y", 2, 9, 10, Returned, 0), has(11, 12, Returned, 0),
		), final: inTheEnd(Returned, 0, 0)},
		"again, with the first answer": {calls: sold(
			back("x", 1, 5, 6, Sold, 2), back("y", 1, 7, 8, Sold, 1), back("x", 1, 9, 10, Sold, 2), has(11, 12, Sold, 1),
		), final: inTheEnd(Sold, 1, 1)},
		"again, with another answer": {calls: sold(
			back("x", 1, 5, 6, Sold, 2), back("y", 1, 7, 8, Sold, 1), back("x", 1, 9, 10, Sold, 1),
		), wrong: "key a"},
		"twice": {calls: sold(
			back("x", 1, 5, 6, Unknown, 0), back("x", 1, 7, 8, Sold, 1),
		), wrong: "key a"},
		"twice, as is seen later": {calls: sold(
			back("x", 1, 5, 6, Unknown, 0), back("x", 1, 7, 8, Sold, 2), has(9, 10, Sold, 1),
		), wrong: "key a"},
		"twice, as is seen in the end": {calls: sold(
			back("x", 1, 5, 6, Sold, 2),
		), final: inTheEnd(Sold, 1, 1), wrong: "key a"},
		"twice, as the sum says": {calls: sold(
			back("x", 1, 5, 6, Sold, 2),
		), final: &Final{Taken: map[string]int{"s": 1}}, wrong: "in the end 1 units"},
		"not at all": {calls: sold(
			back("x", 1, 5, 6, Sold, 2), has(7, 8, Sold, 3),
		), wrong: "key a"},
		"not at all, as is seen in the end": {calls: sold(
			back("x", 3, 5, 6, Returned, 0),
		), final: inTheEnd(Sold, 3, 3), wrong: "key a"},
		"not at all, as the sum says": {calls: sold(
			back("x", 3, 5, 6, Returned, 0),
		), final: &Final{Taken: map[string]int{"s": 3}}, wrong: "in the end 3 units"},
		"nobody knows, and it was done":       {calls: sold(back("x", 1, 5, 6, Unknown, 0), has(7, 8, Sold, 3), has(9, 10, Sold, 2)), final: inTheEnd(Sold, 2, 2)},
		"nobody knows, and it was not":        {calls: sold(back("x", 1, 5, 6, Unknown, 0), has(9, 10, Sold, 3)), final: inTheEnd(Sold, 3, 3)},
		"it was certainly not done":           {calls: sold(back("x", 1, 5, 6, NotDone, 0)), final: inTheEnd(Sold, 2, 2), wrong: "key a"},
		"it was not done, says the sum":       {calls: sold(back("x", 1, 5, 6, NotDone, 0)), final: &Final{Taken: map[string]int{"s": 2}}, wrong: "in the end 2 units"},
		"more than there was":                 {calls: sold(back("x", 2, 5, 6, Sold, 1), back("y", 2, 7, 8, Returned, 0)), wrong: "key a"},
		"of what is held":                     {calls: []Call{reserve("a", 3, 1, 2, Held, "r1"), back("x", 3, 5, 6, Returned, 0)}, wrong: "key a"},
		"of what is held, refused":            {calls: []Call{reserve("a", 3, 1, 2, Held, "r1"), back("x", 3, 5, 6, NotSold, 0)}},
		"refused, as if it was not sold":      {calls: sold(back("x", 1, 5, 6, NotSold, 0)), wrong: "key a"},
		"confirmed again after it":            {calls: sold(back("x", 3, 5, 6, Returned, 0), act(Confirm, "a", "r1", 7, 8, Returned))},
		"canceled after it, refused":          {calls: sold(back("x", 3, 5, 6, Returned, 0), act(Cancel, "a", "r1", 7, 8, Sold))},
		"more than there was, as nobody says": {calls: sold(back("x", 2, 5, 6, Sold, 1), back("y", 2, 7, 8, Sold, 0)), wrong: "key a"},
		"all of it, and some is left":         {calls: sold(back("x", 1, 5, 6, Returned, 0)), wrong: "key a"},
		"of what is held, as nobody says":     {calls: []Call{reserve("a", 3, 1, 2, Held, "r1"), back("x", 1, 5, 6, Unknown, 0), has(7, 8, Held, 2)}, wrong: "key a"},
		"one of two that nobody knows of, the first": {calls: sold(
			back("x", 1, 5, 6, Unknown, 0), back("y", 1, 5, 6, Unknown, 0), has(7, 8, Sold, 2), back("y", 1, 9, 10, Sold, 1), back("x", 1, 11, 12, Sold, 2),
		)},
		"one of two that nobody knows of, the second": {calls: sold(
			back("x", 1, 5, 6, Unknown, 0), back("y", 1, 5, 6, Unknown, 0), has(7, 8, Sold, 2), back("x", 1, 9, 10, Sold, 1), back("y", 1, 11, 12, Sold, 2),
		)},
		"a reservation that is too small": {calls: []Call{
			func() Call { c := reserve("a", 3, 1, 2, Held, "r1"); c.Has = 2; return c }(),
		}, wrong: "key a"},
	})
}

// Units are free for others from the begin of a return on, and for refusals from its
// answer on.
func TestReturnedUnits(t *testing.T) {
	judge(t, map[string]sample{
		"sold again": {calls: sold(back("x", 2, 10, 20, Sold, 1), reserve("b", 2, 11, 12, Held, "r2"))},
		"sold again before they came back": {calls: sold(
			reserve("b", 2, 5, 6, Held, "r2"), back("x", 2, 10, 20, Sold, 1),
		), wrong: "5 units of s are held"},
		"more than came back is sold again": {calls: sold(
			back("x", 1, 10, 20, Sold, 2), reserve("b", 2, 30, 31, Held, "r2"),
		), wrong: "4 units of s are held"},
		"sold again, of a return that nobody knows of": {calls: sold(
			back("x", 2, 10, 20, Unknown, 0), reserve("b", 2, 30, 31, Held, "r2"),
		)},
		"sold again, of a return that was not made": {calls: sold(
			back("x", 2, 10, 20, NotDone, 0), reserve("b", 2, 30, 31, Held, "r2"),
		), wrong: "5 units of s are held"},
		"refused while they come back": {calls: sold(back("x", 2, 10, 20, Sold, 1), reserve("b", 2, 18, 19, Short, ""))},
		"refused soon after":           {calls: sold(back("x", 2, 10, 20, Sold, 1), reserve("b", 2, 24, 30, Short, ""))},
		"refused long after":           {calls: sold(back("x", 2, 10, 20, Sold, 1), reserve("b", 2, 27, 30, Short, "")), wrong: "2 units of s were refused"},
		"refused more than came back":  {calls: sold(back("x", 2, 10, 20, Sold, 1), reserve("b", 3, 27, 30, Short, ""))},
		"refused beside a return that nobody knows of": {calls: sold(
			back("x", 2, 10, 20, Unknown, 0), reserve("b", 2, 27, 30, Short, ""),
		)},
		"refused beside a return that was repeated": {calls: sold(
			back("x", 2, 10, 20, Unknown, 0), back("x", 2, 12, 15, Sold, 1), reserve("b", 2, 27, 30, Short, ""),
		), wrong: "2 units of s were refused"},
	})
}

// TestNoOrderOfReturnsIsNoticed has a refusal that the sums excuse, since the return
// before it may have been late, and that no order does: b has got what came back.
func TestNoOrderOfReturnsIsNoticed(t *testing.T) {
	calls := sold(
		back("x", 2, 10, 40, Sold, 1),
		reserve("b", 1, 11, 12, Held, "r2"),
		reserve("c", 1, 20, 21, Short, ""),
	)
	rules := Rules{Stock: map[string]int{"s": 3}}
	if r := Check(calls, rules, nil); len(r.Violations) > 0 {
		t.Fatalf("by the sums: %v", r.Violations)
	}
	rules.Patience = time.Minute
	r := Check(calls, rules, nil)
	if len(r.Violations) != 1 || !strings.Contains(r.Violations[0].What, "no order") {
		t.Errorf("%v: %v", r, r.Violations)
	}
	calls[2].Units, calls[2].Has = 1, 2 // one came back, and b has it
	if r := Check(calls, rules, nil); len(r.Violations) > 0 || len(r.Ordered) != 1 {
		t.Errorf("%v: %v", r, r.Violations)
	}
}
