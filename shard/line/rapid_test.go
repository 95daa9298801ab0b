package line

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"stockade/allocator"
)

// watcher checks that what a desk wants done fits together, whatever it is told.
type watcher struct {
	t        *rapid.T
	desk     *Desk
	now      time.Time
	here     map[allocator.SKU]*allocator.BucketReport
	parked   map[ID][]Need
	waits    map[ID]time.Time
	deadline map[ID]time.Time
	proposed map[ID]bool
	looking  map[allocator.SKU]int
	asked    map[allocator.SKU]map[allocator.ShardID]bool
}

const watchedShards = 4

var watchedSKUs = []allocator.SKU{"a", "b", "c"}

func newWatcher(t *rapid.T) *watcher {
	w := &watcher{
		t: t, now: start, here: map[allocator.SKU]*allocator.BucketReport{}, parked: map[ID][]Need{},
		waits: map[ID]time.Time{}, deadline: map[ID]time.Time{}, proposed: map[ID]bool{},
		looking: map[allocator.SKU]int{}, asked: map[allocator.SKU]map[allocator.ShardID]bool{},
	}
	home := allocator.ShardID(rapid.IntRange(0, watchedShards-1).Draw(t, "home"))
	for _, sku := range watchedSKUs {
		w.here[sku] = &allocator.BucketReport{Shard: home, Shards: watchedShards, SKU: sku, Known: rapid.Bool().Draw(t, "known")}
		w.asked[sku] = map[allocator.ShardID]bool{}
	}
	w.desk = NewDesk(home, watchedShards, w)
	return w
}

// Level implements Local.
func (w *watcher) Level(sku allocator.SKU) allocator.BucketReport { return *w.here[sku] }

// step has the desk go on, and checks what it wants.
func (w *watcher) step() {
	actions, next := w.desk.Step(w.now)
	for _, a := range actions {
		w.take(a)
	}
	if !next.IsZero() && !next.After(w.now) {
		w.t.Fatalf("the next step is due at once: that has no end")
	}
	if w.desk.Len() > 0 && next.IsZero() && len(w.proposed) == 0 {
		w.t.Fatalf("%d in line, and nothing will ever happen", w.desk.Len())
	}
	if w.desk.Len() != len(w.parked) {
		w.t.Fatalf("%d in line, want %d", w.desk.Len(), len(w.parked))
	}
	if again, _ := w.desk.Step(w.now); len(again) > 0 {
		w.t.Fatalf("nothing has happened, and it goes on: %s", list(again))
	}
}

// take checks one action.
func (w *watcher) take(a Action) {
	switch a.Kind {
	case Propose, Refuse, Late:
		if _, ok := w.parked[a.ID]; !ok || w.proposed[a.ID] {
			w.t.Fatalf("entry %d is answered or proposed already: %s", a.ID, describe(a))
		}
		if a.Kind == Propose {
			w.proposed[a.ID] = true
			return
		}
		if a.Kind == Refuse && !a.Unknown && (a.Units >= a.Quantity || w.now.Before(w.waits[a.ID])) {
			w.t.Fatalf("%s with %d units, waits until %v", describe(a), a.Units, w.waits[a.ID])
		}
		if a.Kind == Late && w.now.Before(w.deadline[a.ID]) {
			w.t.Fatalf("%s before its time", describe(a))
		}
		delete(w.parked, a.ID)
	case Look:
		if w.looking[a.SKU]++; w.looking[a.SKU] > 1 {
			w.t.Fatalf("it looks twice at %s", a.SKU)
		}
	case Pull:
		if a.Giver == w.desk.home || a.Giver >= watchedShards || a.Open != (a.Quantity == 0) || sumOf(a.Claims) != a.Quantity || len(a.Claims) > MaxClaims {
			w.t.Fatal(describe(a))
		}
		if w.asked[a.SKU][a.Giver] {
			w.t.Fatalf("shard %d is asked twice for %s", a.Giver, a.SKU)
		}
		w.asked[a.SKU][a.Giver] = true
	}
}

// park has somebody come in.
func (w *watcher) park(t *rapid.T) {
	a := Arrival{Blind: rapid.Bool().Draw(t, "blind"), Parked: allocator.Millis(rapid.IntRange(1, 1000).Draw(t, "age"))}
	for _, sku := range watchedSKUs {
		if n := rapid.IntRange(0, 3).Draw(t, string(sku)); n > 0 {
			a.Needs = append(a.Needs, Need{sku, allocator.Quantity(n)})
		}
	}
	if len(a.Needs) == 0 {
		return
	}
	a.Deadline = w.now.Add(drawTime(t))
	if rapid.Bool().Draw(t, "wait") {
		a.WaitUntil = w.now.Add(drawTime(t))
	}
	id, _ := w.desk.Park(a)
	w.parked[id], w.waits[id], w.deadline[id] = a.Needs, a.WaitUntil, a.Deadline
}

func drawTime(t *rapid.T) time.Duration {
	return time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond
}

// someProposed draws an entry whose proposal is under way; zero: there is none.
func (w *watcher) someProposed(t *rapid.T) ID {
	if len(w.proposed) == 0 {
		return 0
	}
	id := ID(rapid.IntRange(0, 200).Draw(t, "entry"))
	for !w.proposed[id] {
		id = (id + 1) % 1000
	}
	delete(w.proposed, id)
	return id
}

// picture answers a look, or tells what nobody has asked for.
func (w *watcher) picture(t *rapid.T) {
	sku := rapid.SampledFrom(watchedSKUs).Draw(t, "sku")
	var cut allocator.Cut
	var missing []allocator.ShardID
	for i := range allocator.ShardID(watchedShards) {
		r := allocator.BucketReport{Shard: i, Shards: watchedShards}
		if i == w.desk.home {
			r = w.Level(sku)
		} else if rapid.IntRange(0, 9).Draw(t, "silent") == 0 {
			missing = append(missing, i)
			continue
		} else if r.Known = rapid.Bool().Draw(t, "known"); r.Known {
			r.Available = allocator.Quantity(rapid.IntRange(0, 4).Draw(t, "available"))
			acked := allocator.Quantity(rapid.IntRange(0, 2).Draw(t, "acked"))
			r.Flows = []allocator.Flow{{Peer: w.desk.home, Sent: acked + allocator.Quantity(rapid.IntRange(0, 2).Draw(t, "sent")), Acked: acked}}
			r.Deposited = allocator.Quantity(rapid.IntRange(0, 4).Draw(t, "deposited"))
		}
		cut = append(cut, r)
	}
	w.looking[sku] = 0
	asOf := w.now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "age")) * time.Millisecond)
	w.desk.Picture(sku, asOf, cut, missing, rapid.Bool().Draw(t, "final"))
}

// granted answers an ask.
func (w *watcher) granted(t *rapid.T) {
	sku := rapid.SampledFrom(watchedSKUs).Draw(t, "sku")
	for giver := range allocator.ShardID(watchedShards) {
		if w.asked[sku][giver] {
			delete(w.asked[sku], giver)
			w.desk.Granted(w.now, sku, giver, allocator.Quantity(rapid.IntRange(0, 3).Draw(t, "units")))
			return
		}
	}
}

// TestDeskIsConsistent tells a desk anything in any order. Everybody is answered
// once; nobody is proposed who is being proposed; a giver is asked once at a time,
// and never itself; and when nothing happens it does nothing.
func TestDeskIsConsistent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWatcher(t)
		t.Repeat(map[string]func(*rapid.T){
			"park":    w.park,
			"picture": w.picture,
			"granted": w.granted,
			"short": func(t *rapid.T) {
				if id := w.someProposed(t); id > 0 {
					needs := []Need{{rapid.SampledFrom(watchedSKUs).Draw(t, "sku"), 1}}
					if rapid.Bool().Draw(t, "same") {
						needs = nil
					}
					w.desk.Short(id, needs)
				}
			},
			"done": func(t *rapid.T) {
				if id := w.someProposed(t); id > 0 {
					w.desk.Done(id)
					delete(w.parked, id)
				}
			},
			"bucket": func(t *rapid.T) {
				r := w.here[rapid.SampledFrom(watchedSKUs).Draw(t, "sku")]
				r.Known, r.Available = true, allocator.Quantity(rapid.IntRange(0, 5).Draw(t, "available"))
				if q := w.desk.lines[r.SKU]; q != nil {
					w.desk.touch(q)
				}
			},
			"changed": func(t *rapid.T) { w.desk.Changed(rapid.SampledFrom(watchedSKUs).Draw(t, "sku")) },
			"later":   func(t *rapid.T) { w.now = w.now.Add(drawTime(t) / 20) },
			"":        func(t *rapid.T) { w.step() },
		})
	})
}
