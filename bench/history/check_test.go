package history

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

var usual = Rules{Stock: map[string]int{"s": 3}, Slack: ms, Stale: 5 * ms, Patience: time.Minute}

// at is a number of milliseconds.
func at(n int) time.Duration { return time.Duration(n) * ms }

// reserve is a call that asks for units of s from one millisecond to another.
func reserve(key string, units int, from, to int, o Outcome, id string) Call {
	return Call{Kind: Reserve, Key: key, SKU: "s", Units: units, Begin: at(from), End: at(to), Outcome: o, ID: id}
}

func act(kind Kind, key, id string, from, to int, o Outcome) Call {
	return Call{Kind: kind, Key: key, ID: id, SKU: "s", Begin: at(from), End: at(to), Outcome: o}
}

// until gives a hold its end.
func until(c Call, expires int) Call {
	c.Expires = at(expires)
	return c
}

// sample is a history and what is wrong with it; nothing: it is right.
type sample struct {
	calls []Call
	final *Final
	wrong string
}

// judge checks samples, each by its name.
func judge(t *testing.T, samples map[string]sample) {
	t.Helper()
	for name, c := range samples {
		t.Run(name, func(t *testing.T) {
			r := Check(c.calls, usual, c.final)
			if c.wrong == "" && len(r.Violations) > 0 || c.wrong != "" && !slices.ContainsFunc(r.Violations, func(v Violation) bool { return strings.Contains(v.String(), c.wrong) }) {
				t.Errorf("found %v", r.Violations)
			}
		})
	}
}

func TestHistories(t *testing.T) {
	judge(t, map[string]sample{
		"a sale": {calls: []Call{
			reserve("a", 2, 1, 2, Held, "r1"), act(Confirm, "a", "r1", 3, 4, Sold), reserve("b", 2, 10, 11, Short, ""),
		}, final: &Final{Status: map[string]Outcome{"r1": Sold}, Taken: map[string]int{"s": 2}}},
		"a repetition": {calls: []Call{
			reserve("a", 2, 1, 2, Unknown, ""), reserve("a", 2, 3, 4, Held, "r1"), reserve("a", 2, 5, 6, Held, "r1"),
		}},
		"a repetition with another reservation": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), reserve("a", 1, 5, 6, Held, "r2"),
		}, wrong: "key a"},
		"a repetition that is refused": {calls: []Call{
			reserve("a", 3, 1, 2, Held, "r1"), reserve("a", 3, 5, 6, Short, ""),
		}, wrong: "key a"},
		"two keys with one reservation": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), reserve("b", 1, 5, 6, Held, "r1"),
		}, wrong: "two keys"},
		"unknown comes true late": {calls: []Call{
			reserve("a", 3, 1, 2, Unknown, ""), reserve("b", 3, 3, 4, Held, "r2"), act(Cancel, "b", "r2", 5, 6, Canceled),
			reserve("a", 3, 10, 11, Held, "r1"),
		}},
		"too much is held": {calls: []Call{
			reserve("a", 2, 1, 2, Held, "r1"), reserve("b", 2, 3, 4, Held, "r2"),
		}, wrong: "4 units of s are held"},
		"a unit is sold again while it is perhaps given back": {calls: []Call{
			reserve("a", 3, 1, 2, Held, "r1"), act(Cancel, "a", "r1", 3, 9, Canceled), reserve("b", 3, 4, 5, Held, "r2"),
		}},
		"a refusal although there was enough": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), reserve("b", 2, 10, 11, Short, ""),
		}, wrong: "2 units of s were refused"},
		"a refusal beside somebody who perhaps has it": {calls: []Call{
			reserve("a", 2, 1, 2, Unknown, ""), reserve("b", 2, 10, 11, Short, ""),
		}},
		"a refusal soon after units came back": {calls: []Call{
			reserve("a", 3, 1, 2, Held, "r1"), act(Cancel, "a", "r1", 3, 4, Canceled), reserve("b", 2, 8, 10, Short, ""),
		}},
		"a refusal long after units came back": {calls: []Call{
			reserve("a", 3, 1, 2, Held, "r1"), act(Cancel, "a", "r1", 3, 4, Canceled), reserve("b", 2, 10, 12, Short, ""),
		}, wrong: "2 units of s were refused"},
		"each refusal has its moment, but not in one order": {calls: []Call{
			reserve("a", 3, 20, 21, Held, "r1"), reserve("b", 3, 30, 90, Short, ""), act(Cancel, "a", "r1", 22, 24, Canceled),
			reserve("c", 3, 40, 80, Unknown, ""), reserve("d", 3, 60, 61, Held, "r2"), reserve("c", 3, 62, 63, Held, "r3"),
		}, wrong: "6 units"},
		"confirmed and then expired": {calls: []Call{
			until(reserve("a", 1, 1, 2, Held, "r1"), 10), act(Confirm, "a", "r1", 3, 4, Sold), act(Read, "a", "r1", 20, 21, Expired),
		}, wrong: "key a"},
		"expired in time": {calls: []Call{
			until(reserve("a", 3, 1, 2, Held, "r1"), 10), act(Confirm, "a", "r1", 13, 14, Expired), reserve("b", 3, 15, 16, Held, "r2"),
		}},
		"expired early": {calls: []Call{
			until(reserve("a", 1, 1, 2, Held, "r1"), 10), act(Confirm, "a", "r1", 3, 4, Expired),
		}, wrong: "key a"},
		"sold early to somebody else": {calls: []Call{
			until(reserve("a", 3, 1, 2, Held, "r1"), 10), reserve("b", 3, 4, 5, Held, "r2"), act(Read, "a", "r1", 12, 13, Expired),
		}, wrong: "6 units of s are held"},
		"confirmed late": {calls: []Call{
			until(reserve("a", 1, 1, 2, Held, "r1"), 10), act(Read, "a", "r1", 12, 13, Expired), act(Confirm, "a", "r1", 15, 16, Sold),
		}, wrong: "key a"},
		"canceled and confirmed at once": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), act(Cancel, "a", "r1", 3, 6, Canceled), act(Confirm, "a", "r1", 3, 6, Sold),
		}, wrong: "key a"},
		"a cancellation that nobody knows of": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), act(Cancel, "a", "r1", 3, 4, Unknown), act(Read, "a", "r1", 5, 6, Held), act(Read, "a", "r1", 7, 8, Canceled),
		}},
		"a cancellation that is undone": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), act(Cancel, "a", "r1", 3, 4, Canceled), act(Read, "a", "r1", 5, 6, Held),
		}, wrong: "key a"},
		"an answer from nowhere": {calls: []Call{act(Read, "a", "r1", 5, 6, Held)}, wrong: "key a"},
		"it is gone": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), act(Read, "a", "r1", 5, 6, NotFound),
		}, wrong: "key a"},
		"it expires before the end": {calls: []Call{
			until(reserve("a", 1, 1, 2, Held, "r1"), 10),
		}, final: &Final{At: 20 * ms, Status: map[string]Outcome{"r1": Expired}, Taken: map[string]int{"s": 0}}},
		"it has expired by the end, before its time": {calls: []Call{
			until(reserve("a", 1, 1, 2, Held, "r1"), 30),
		}, final: &Final{At: 20 * ms, Status: map[string]Outcome{"r1": Expired}, Taken: map[string]int{"s": 0}}, wrong: "key a"},
		"the end has other states": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), act(Confirm, "a", "r1", 3, 4, Sold),
		}, final: &Final{Status: map[string]Outcome{"r1": Held}, Taken: map[string]int{"s": 1}}, wrong: "key a"},
		"the end has lost one": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"),
		}, final: &Final{Taken: map[string]int{"s": 0}}, wrong: "in the end 0 units"},
		"the end has one more": {calls: []Call{
			reserve("a", 1, 1, 2, Held, "r1"), reserve("b", 1, 1, 2, NotDone, ""),
		}, final: &Final{Taken: map[string]int{"s": 2}}, wrong: "in the end 2 units"},
		"the end has what nobody knew of": {calls: []Call{
			reserve("a", 1, 1, 2, Unknown, ""),
		}, final: &Final{Taken: map[string]int{"s": 1}}},
		"a refusal settles what nobody knew of": {calls: []Call{
			reserve("a", 1, 1, 2, Unknown, ""), reserve("b", 3, 1, 2, Held, "r1"), reserve("a", 1, 3, 4, Short, ""), act(Cancel, "b", "r1", 5, 6, Canceled),
		}, final: &Final{Taken: map[string]int{"s": 1}}, wrong: "in the end 1 units"},
		"it does not settle what came after": {calls: []Call{
			reserve("b", 3, 1, 2, Held, "r1"), reserve("a", 1, 3, 4, Short, ""), act(Cancel, "b", "r1", 5, 6, Canceled), reserve("a", 1, 7, 8, Unknown, ""),
		}, final: &Final{Taken: map[string]int{"s": 1}}},
	})
}

func TestLateConfirmationTakesAgain(t *testing.T) {
	rules := usual
	rules.Retake = true
	calls := []Call{
		until(reserve("a", 3, 1, 2, Held, "r1"), 10), act(Read, "a", "r1", 12, 13, Expired),
		until(reserve("b", 3, 14, 15, Held, "r2"), 20), act(Confirm, "a", "r1", 16, 17, Short),
		act(Read, "b", "r2", 24, 25, Expired), act(Confirm, "a", "r1", 27, 28, Sold),
	}
	if r := Check(calls, rules, nil); len(r.Violations) > 0 {
		t.Errorf("found %v", r.Violations)
	}
}

// server is a correct stock, whose clients lose some of its answers. Its holds end in hours.
type server struct {
	mu     sync.Mutex
	began  time.Time
	left   int
	ids    map[string]string
	first  map[string]Answer // of the keys of reservations, returns and restocks
	now    map[string]Answer // by id
	onHand int
}

func newServer(stock int) *server {
	return &server{began: time.Now(), left: stock, onHand: stock, ids: map[string]string{}, first: map[string]Answer{}, now: map[string]Answer{}}
}

// do answers a call. What is done is done once for each key.
func (s *server) do(c Call) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := string(c.Kind) + c.Key + c.Op
	if a, known := s.first[name]; known && (c.Kind == Reserve || c.Kind == Return || c.changesStock()) {
		return a
	}
	a := s.now[c.ID]
	switch {
	case (c.Kind == Reserve || c.Kind == Adjust) && s.left < max(c.Units, -c.Units):
		return Answer{Outcome: map[Kind]Outcome{Reserve: Short, Adjust: Refused}[c.Kind]}
	case c.changesStock():
		s.left, s.onHand, a = s.left+c.Units, s.onHand+c.Units, Answer{Outcome: Done}
	case c.Kind == Reserve:
		a = Answer{Outcome: Held, ID: "r-" + c.Key, Has: c.Units, Expires: s.began.Add(time.Hour)}
		s.left -= c.Units
	case c.Kind == Extend && a.Outcome == Held:
		a.Expires = time.Now().Add(c.TTL)
	case c.Kind == Confirm && a.Outcome == Held:
		a.Outcome = Sold
	case c.Kind == Cancel && a.Outcome == Held:
		a.Outcome = Canceled
		s.left += a.Has
	case c.Kind == Return && a.Outcome != Sold && a.Outcome != Returned:
		return Answer{Outcome: NotSold}
	case c.Kind == Return && a.Has < c.Units:
		return Answer{Outcome: Refused}
	case c.Kind == Return:
		s.left += c.Units
		if a.Has -= c.Units; a.Has == 0 {
			a.Outcome = Returned
		}
	}
	s.first[name] = a
	if a.ID != "" {
		s.now[a.ID] = a
	}
	return a
}

// buyer is a client of a server.
type buyer struct {
	*server
	recorder *Recorder
	rand     *rand.Rand
	number   int
}

// ask sends a call once, and loses some of the answers.
func (b *buyer) ask(c Call) Answer {
	c.Client, c.SKU = b.number, "s"
	p := b.recorder.Begin(c)
	a := b.do(c)
	if b.rand.IntN(5) == 0 {
		a = Answer{Outcome: Unknown}
	}
	p.End(a)
	return a
}

// insist sends a call until there is an answer.
func (b *buyer) insist(c Call) (a Answer) {
	for a.Outcome = Unknown; a.Outcome == Unknown; {
		a = b.ask(c)
	}
	return a
}

// order makes a reservation, or changes the stock, and does this and that with it.
func (b *buyer) order(key string) {
	if n := b.rand.IntN(20); n < 2 {
		b.insist(Call{Kind: []Kind{Restock, Adjust}[n], Key: key, Units: []int{1, -1}[n]})
		return
	}
	c := Call{Kind: Reserve, Key: key, Units: 1 + b.rand.IntN(3)}
	a := b.insist(c)
	if a.Outcome != Held {
		return
	}
	steps := [][]Kind{{Confirm, Cancel}, {Cancel}, {Extend, Read, Confirm}, {Confirm, Return, Return, Read}, {Extend, Cancel}}
	for i, kind := range steps[b.rand.IntN(len(steps))] {
		c := Call{Kind: kind, Key: key, ID: a.ID}
		switch kind {
		case Extend:
			c.TTL = time.Duration(1+b.rand.IntN(5)) * time.Hour
		case Return:
			c.Op, c.Units = fmt.Sprintf("%s-%d", key, i), 1
			b.insist(c)
			continue
		}
		b.ask(c)
	}
}

// sale has clients buy from a server at the same time, and returns what they saw and
// what there is in the end.
func sale(seed uint64, clients, orders, stock int) ([]Call, *Final) {
	s := newServer(stock)
	recorder := NewRecorder()
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			b := &buyer{server: s, recorder: recorder, rand: rand.New(rand.NewPCG(seed, uint64(client))), number: client}
			for n := range orders {
				b.order(fmt.Sprintf("%d-%d", client, n))
			}
		})
	}
	all.Wait()
	final := &Final{
		At: recorder.Since(time.Now()), Status: map[string]Outcome{}, Has: map[string]int{},
		Taken: map[string]int{"s": s.onHand - s.left}, OnHand: map[string]int{"s": s.onHand},
	}
	for id, a := range s.now {
		final.Status[id], final.Has[id] = a.Outcome, a.Has
	}
	return recorder.Calls(), final
}

func TestCorrectServer(t *testing.T) {
	done := map[Kind]int{}
	for seed := range uint64(20) {
		calls, final := sale(seed, 4, 40, 20)
		r := Check(calls, Rules{Stock: map[string]int{"s": 20}, Slack: ms, Patience: time.Minute}, final)
		if len(r.Violations) > 0 {
			t.Fatalf("seed %d: %v\n%v", seed, r, r.Violations[:1])
		}
		if len(r.Ordered) == 0 {
			t.Errorf("seed %d: no order was looked for: %v", seed, r)
		}
		for kind, n := range r.Done {
			done[kind] += n
		}
	}
	for _, kind := range kinds {
		if done[kind] < 20 {
			t.Errorf("%d times: %s", done[kind], kind)
		}
	}
}

// TestNoOrderIsNoticed has calls whose sums are right at every instant, and that no order
// explains: b was made before x was refused, and then three have two units.
func TestNoOrderIsNoticed(t *testing.T) {
	calls := []Call{
		reserve("a", 1, 0, 4, Held, "r1"),
		reserve("b", 1, 5, 30, Held, "r2"),
		reserve("x", 1, 11, 12, Short, ""),
		reserve("d", 1, 13, 14, Held, "r3"),
		act(Cancel, "a", "r1", 20, 25, Canceled),
	}
	rules := Rules{Stock: map[string]int{"s": 2}}
	if r := Check(calls, rules, nil); len(r.Violations) > 0 {
		t.Fatalf("by the sums: %v", r.Violations)
	}
	rules.Patience = time.Minute
	r := Check(calls, rules, nil)
	if len(r.Violations) != 1 || !strings.Contains(r.Violations[0].What, "no order") {
		t.Errorf("%v: %v", r, r.Violations)
	}
	rules.Stock["s"] = 3 // with one more, x has no reason
	if r := Check(calls, rules, nil); len(r.Violations) == 0 {
		t.Errorf("%v", r)
	}
}

// What a client was told is changed in one place.
func TestChangedHistoriesAreNoticed(t *testing.T) {
	const plenty = 150
	changes := map[string]func(c *Call) bool{
		"another id": func(c *Call) bool {
			c.ID += "x"
			return c.Kind != Reserve && c.ID != "x" && c.Outcome != Unknown && c.Outcome != Refused
		},
		"a lost hold":       func(c *Call) bool { c.Outcome = Expired; return c.Kind == Confirm && c.Outcome != Unknown },
		"sold instead":      func(c *Call) bool { was := c.Outcome; c.Outcome = Sold; return c.Kind == Cancel && was == Canceled },
		"more than was had": func(c *Call) bool { c.Units += plenty; return c.Kind == Reserve && c.Outcome == Held },
		"half the time":     func(c *Call) bool { c.Expires -= c.TTL / 2; return c.Kind == Extend && c.Outcome == Held },
		"one unit less":     func(c *Call) bool { c.Has--; return c.Has > 0 },
		"one more is back":  func(c *Call) bool { c.Units++; return c.Kind == Return && (c.Outcome == Sold || c.Outcome == Returned) },
		"no answer":         func(c *Call) bool { c.Outcome = ""; return true },
		"three restocked":   func(c *Call) bool { c.Units += 3; return c.Kind == Restock && c.Outcome == Done },
		"less is taken":     func(c *Call) bool { c.Units -= 3; return c.Kind == Adjust && c.Outcome == Done },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			calls, final := sale(1, 4, 40, plenty)
			changed := 0
			for i := range calls {
				mine := slices.Clone(calls)
				if !change(&mine[i]) || mine[i] == calls[i] {
					continue
				}
				changed++
				sameUnits(mine, mine[i])
				if r := Check(mine, Rules{Stock: map[string]int{"s": plenty}, Slack: ms}, final); len(r.Violations) == 0 {
					t.Fatalf("not noticed: %+v", mine[i])
				}
				if changed == 20 {
					break
				}
			}
			if changed == 0 {
				t.Error("nothing was changed")
			}
		})
	}
}

// sameUnits has all attempts of a call ask for as many units as one of them.
func sameUnits(calls []Call, as Call) {
	for i := range calls {
		if c := &calls[i]; c.Kind == as.Kind && c.Key == as.Key && c.Op == as.Op {
			c.Units = as.Units
		}
	}
}

func TestFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		calls := rapid.SliceOf(rapid.Custom(func(t *rapid.T) Call {
			return Call{
				Client: rapid.Int().Draw(t, "client"), Key: rapid.String().Draw(t, "key"), Kind: Reserve,
				Units: rapid.Int().Draw(t, "units"), Begin: time.Duration(rapid.Int64().Draw(t, "begin")),
				Outcome: rapid.SampledFrom([]Outcome{Held, Unknown}).Draw(t, "outcome"),
			}
		})).Draw(t, "calls")
		var b bytes.Buffer
		if err := Write(&b, calls); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(&b)
		if err != nil || !slices.Equal(again, calls) {
			t.Fatalf("%v, %v", again, err)
		}
	})
	for _, bad := range []string{"{", "[]", `{"units":"x"}`, strings.Repeat("x", 2*maxLine)} {
		if _, err := Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20s… was read", bad)
		}
	}
}

func TestProgress(t *testing.T) {
	calls := []Call{
		reserve("a", 1, 0, 10, Held, "r1"), reserve("b", 1, 20, 30, NotDone, ""), reserve("b", 1, 20, 31, Unknown, ""), reserve("b", 1, 20, 31, Odd, ""),
		reserve("b", 1, 40, 100, Short, ""),
	}
	stuck := Progress(calls, []time.Duration{0, 11 * ms, 90 * ms, 101 * ms}, 20*ms)
	if !slices.Equal(stuck, []time.Duration{11 * ms, 101 * ms}) {
		t.Errorf("stuck after %v", stuck)
	}
}

func TestDraw(t *testing.T) {
	var b bytes.Buffer
	if err := Draw(&b, []Call{reserve("a", 1, 1, 2, Held, "r1")}, usual); err != nil || !strings.Contains(b.String(), "r1") {
		t.Errorf("%v: %.200s", err, b.String())
	}
}
