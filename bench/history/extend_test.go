package history

import (
	"strings"
	"testing"
)

// extend is a call that extends r1 of key a, and what end it was told; 0: none.
func extend(from, to, ttl, expires int, o Outcome) Call {
	c := until(act(Extend, "a", "r1", from, to, o), expires)
	c.TTL = at(ttl)
	return c
}

// shown is a reading with the end that it shows.
func shown(from, to, expires int, o Outcome) Call {
	return until(act(Read, "a", "r1", from, to, o), expires)
}

// held is what begins each of these histories: all units, until millisecond 20.
func held() Call { return until(reserve("a", 3, 1, 2, Held, "r1"), 20) }

// What an extension moves, and what it does not.
func TestExtensions(t *testing.T) {
	judge(t, map[string]sample{
		"it expires at its new time": {calls: []Call{
			held(), extend(10, 11, 30, 41, Held), shown(30, 31, 41, Held), shown(45, 46, 41, Expired), reserve("b", 3, 47, 48, Held, "r2"),
		}},
		"it has expired before its new time": {calls: []Call{
			held(), extend(10, 11, 30, 41, Held), shown(30, 31, 41, Expired),
		}, wrong: "key a"},
		"its units are sold before its new time": {calls: []Call{
			held(), extend(10, 11, 30, 41, Held), reserve("b", 3, 30, 31, Held, "r2"), shown(45, 46, 41, Expired),
		}, wrong: "6 units of s are held"},
		"its units are sold before its new time, which only a reading told": {calls: []Call{
			held(), extend(10, 11, 30, 0, Unknown), reserve("b", 3, 30, 31, Held, "r2"), shown(45, 46, 41, Expired),
		}, wrong: "6 units of s are held"},
		"an extension that nobody knows of was not made": {calls: []Call{
			held(), extend(10, 11, 30, 0, Unknown), shown(22, 23, 20, Expired), reserve("b", 3, 25, 26, Held, "r2"),
		}},
		"an extension that nobody knows of was made": {calls: []Call{
			held(), extend(10, 11, 30, 0, Unknown), shown(30, 31, 42, Held), shown(45, 46, 42, Expired),
		}},
		"it is known since a reading": {calls: []Call{
			held(), extend(10, 11, 30, 0, Unknown), shown(15, 16, 42, Held), shown(30, 31, 42, Expired),
		}, wrong: "key a"},
		"it ends twice": {calls: []Call{
			held(), extend(10, 11, 30, 0, Unknown), shown(15, 16, 42, Held), shown(17, 18, 43, Held),
		}, wrong: "key a"},
		"it expired at a time that was to come": {calls: []Call{
			held(), extend(10, 11, 30, 0, Unknown), shown(25, 26, 42, Expired),
		}, wrong: "key a"},
		"an extension that nobody knows of shortens": {calls: []Call{
			held(), extend(10, 11, 30, 0, Unknown), shown(12, 13, 15, Held),
		}, wrong: "key a"},
		"an extension that nobody knows of moves what was sold": {calls: []Call{
			held(), act(Confirm, "a", "r1", 3, 4, Sold), extend(10, 11, 30, 0, Unknown), shown(30, 31, 42, Sold),
		}, wrong: "key a"},
		"an extension that nobody asked for": {calls: []Call{
			held(), shown(30, 31, 42, Held),
		}, wrong: "key a"},
		"an extension is forgotten": {calls: []Call{
			held(), extend(10, 11, 30, 41, Held), shown(12, 13, 20, Held),
		}, wrong: "key a"},
		"a repetition of the reservation tells the first end": {calls: []Call{
			held(), extend(10, 11, 30, 41, Held), until(reserve("a", 3, 12, 13, Held, "r1"), 20), shown(14, 15, 41, Held),
		}},
		"a repetition of the reservation tells another end": {calls: []Call{
			held(), extend(10, 11, 30, 41, Held), until(reserve("a", 3, 12, 13, Held, "r1"), 41),
		}, wrong: "key a"},
		"an extension shortens": {calls: []Call{
			held(), extend(10, 11, 5, 16, Held),
		}, wrong: "key a"},
		"an extension that is too short moves nothing": {calls: []Call{
			held(), extend(10, 11, 5, 20, Held), shown(12, 13, 20, Held),
		}},
		"an extension for too short a time": {calls: []Call{
			held(), extend(10, 11, 30, 38, Held),
		}, wrong: "for less than was asked for"},
		"an extension for too long a time": {calls: []Call{
			held(), extend(10, 11, 30, 43, Held),
		}, wrong: "key a"},
		"an extension of what has expired": {calls: []Call{
			held(), shown(25, 26, 20, Expired), extend(27, 28, 30, 58, Held),
		}, wrong: "key a"},
		"an extension of what had not expired yet": {calls: []Call{
			held(), extend(27, 28, 30, 58, Held), reserve("b", 3, 29, 30, Short, ""),
		}},
		"an extension of what was sold": {calls: []Call{
			held(), act(Confirm, "a", "r1", 3, 4, Sold), extend(10, 11, 30, 41, Held),
		}, wrong: "key a"},
		"an extension of what was sold is refused": {calls: []Call{
			held(), act(Confirm, "a", "r1", 3, 4, Sold), extend(10, 11, 30, 0, Sold),
		}},
		"an extension is refused, as if it had been canceled": {calls: []Call{
			held(), extend(10, 11, 30, 0, Canceled), shown(12, 13, 20, Held),
		}, wrong: "key a"},
		"sold within the new time": {calls: []Call{
			held(), extend(10, 11, 30, 41, Held), act(Confirm, "a", "r1", 30, 31, Sold), reserve("b", 1, 32, 33, Short, ""),
		}, final: &Final{Taken: map[string]int{"s": 3}}},
		"sold within the new time, and again in between": {calls: []Call{
			held(), extend(10, 11, 30, 41, Held), reserve("b", 3, 25, 26, Held, "r2"), act(Confirm, "a", "r1", 30, 31, Sold), act(Cancel, "b", "r2", 27, 28, Canceled),
		}, wrong: "6 units of s are held"},
		"it is still held in the end": {calls: []Call{
			held(), extend(10, 11, 100, 111, Held),
		}, final: &Final{At: at(50), Status: map[string]Outcome{"r1": Expired}, Taken: map[string]int{"s": 0}}, wrong: "key a"},
		"its units are still held in the end": {calls: []Call{
			held(), extend(10, 11, 100, 111, Held), act(Read, "a", "r1", 50, 51, Held),
		}, final: &Final{At: at(52), Taken: map[string]int{"s": 0}}, wrong: "in the end 0 units"},
	})
}

// A confirmation or an extension that is answered with a hold has not been done.
func TestHoldsAreNoSuccess(t *testing.T) {
	judge(t, map[string]sample{
		"a confirmation": {calls: []Call{held(), act(Confirm, "a", "r1", 3, 4, Held)}, wrong: "key a"},
		"a cancellation": {calls: []Call{held(), act(Cancel, "a", "r1", 3, 4, Held)}, wrong: "key a"},
		"a reading":      {calls: []Call{held(), act(Read, "a", "r1", 3, 4, Held)}},
	})
}

// The clock of holds may be late where the rules say so.
func TestLateClock(t *testing.T) {
	calls := []Call{held(), extend(10, 11, 30, 35, Held)}
	rules := usual
	rules.Late = 5 * ms
	if r := Check(calls, rules, nil); len(r.Violations) > 0 {
		t.Errorf("found %v", r.Violations)
	}
	rules.Late = 4 * ms
	if r := Check(calls, rules, nil); len(r.Violations) != 1 {
		t.Errorf("found %v", r.Violations)
	}
}

// An answer that is none is a violation, and nobody knows what was done.
func TestOddAnswersAreNoticed(t *testing.T) {
	odd := act(Cancel, "a", "r1", 3, 4, Odd)
	odd.Note = `200 "{}"`
	judge(t, map[string]sample{
		"odd":     {calls: []Call{held(), odd}, wrong: `200 "{}"`},
		"nothing": {calls: []Call{held(), act(Cancel, "a", "r1", 3, 4, "")}, wrong: `answered "", which is no answer`},
		"another": {calls: []Call{held(), act(Cancel, "a", "r1", 3, 4, "perhaps")}, wrong: `answered "perhaps"`},
	})
	for _, o := range []Outcome{Canceled, Held} { // it was done or not
		r := Check([]Call{held(), odd, act(Read, "a", "r1", 5, 6, o)}, usual, nil)
		if len(r.Violations) != 1 || !strings.Contains(r.Violations[0].What, "no answer") || r.Open != 1 {
			t.Errorf("%v: %v", r, r.Violations)
		}
	}
}
