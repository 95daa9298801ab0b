package shardrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"stockade/allocator"
	"stockade/shard/bubble"
)

var errBroken = errors.New("broken")

// fakeLeader is a node of which only the levels are asked. It tells of the
// shards in leads, each time everything, or what a test lets it tell.
type fakeLeader struct {
	fakeNode

	mu      sync.Mutex
	leads   map[allocator.ShardID]allocator.BucketReport // for every SKU the same
	proves  bool                                         // claims the probe at hand
	claims  uint64                                       // else this one
	terms   []ShardTerm
	broken  bool
	late    time.Duration
	streams int
	asked   []LevelsRequest
	asking  int // polls under way
}

func newFakeLeader(leads map[allocator.ShardID]allocator.BucketReport) *fakeLeader {
	f := &fakeLeader{leads: leads, proves: true}
	f.levels = func() (LevelStream, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.streams++
		if f.broken {
			return nil, errBroken
		}
		return &fakeStream{leader: f, skus: make(map[allocator.SKU]bool)}, nil
	}
	return f
}

func (f *fakeLeader) set(change func(f *fakeLeader)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// requests gives what it was asked, and forgets it.
func (f *fakeLeader) requests() (all []LevelsRequest) {
	f.set(func(f *fakeLeader) { all, f.asked = f.asked, nil })
	return all
}

// tells makes it lead a shard with so many units available.
func (f *fakeLeader) tells(shard allocator.ShardID, units allocator.Quantity) {
	f.set(func(f *fakeLeader) { f.leads[shard] = report(shard, 2, units) })
}

func report(shard allocator.ShardID, shards int, units allocator.Quantity) allocator.BucketReport {
	return allocator.BucketReport{Shard: shard, Shards: shards, Known: true, Available: units}
}

type fakeStream struct {
	leader *fakeLeader
	skus   map[allocator.SKU]bool
}

func (s *fakeStream) Close() {}

func (s *fakeStream) Poll(_ context.Context, r LevelsRequest) (LevelsReply, error) {
	f := s.leader
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asking++; f.asking > 1 {
		panic("two questions at once")
	}
	if late := f.late; late > 0 {
		f.mu.Unlock()
		<-time.After(late)
		f.mu.Lock()
	}
	f.asking--
	f.asked = append(f.asked, r)
	if f.broken {
		return LevelsReply{}, errBroken
	}
	for _, sku := range r.Drop {
		delete(s.skus, sku)
	}
	for _, sku := range r.Add {
		s.skus[sku] = true
	}
	reply := LevelsReply{Probe: r.Probe, Terms: slices.Clone(f.terms)}
	for shard, rep := range f.leads {
		levels := ShardLevels{Shard: shard, AsOf: f.claims}
		if f.proves {
			levels.AsOf = r.Probe
		}
		for sku := range s.skus {
			rep.SKU = sku
			levels.Changed = append(levels.Changed, rep)
		}
		reply.Shards = append(reply.Shards, levels)
	}
	return reply, nil
}

// newTestLevels makes a table over two shards, led by n1 and n2.
func newTestLevels(t *testing.T) (l *Levels, n1, n2 *fakeLeader) {
	t.Helper()
	n1 = newFakeLeader(map[allocator.ShardID]allocator.BucketReport{0: report(0, 2, 3)})
	n2 = newFakeLeader(map[allocator.ShardID]allocator.BucketReport{1: report(1, 2, 4)})
	d := newTestDirectory(t, 2, map[NodeID]Node{"n1": n1, "n2": n2})
	l = NewLevels(LevelsConfig{Directory: d})
	t.Cleanup(func() { l.Close(); d.Close() })
	return l, n1, n2
}

// pass lets time pass while a SKU is wanted.
func pass(l *Levels, d time.Duration, skus ...allocator.SKU) {
	for ; d > 0; d -= time.Second {
		for _, sku := range skus {
			l.Want(sku)
		}
		<-time.After(min(d, time.Second))
	}
}

// units are those of a SKU's cut; -1: it is not known.
func units(l *Levels, sku allocator.SKU) allocator.Quantity {
	cut, _, ok := l.Cut(sku)
	if !ok {
		return -1
	}
	return cut.Units()
}

func age(l *Levels, sku allocator.SKU) time.Duration {
	_, asOf, _ := l.Cut(sku)
	return time.Since(asOf)
}

func TestNoLevels(t *testing.T) {
	var l *Levels
	l.Want("a")
	l.Notify(func([]allocator.SKU) {})
	_, _, ok := l.Cut("a")
	if ok || l.SoldOut("a", 1) || l.Stocked("a") != nil {
		t.Error("nobody knows something")
	}
	l.Close()
}

func TestLevelsOfAllShards(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, n2 := newTestLevels(t)
		if units(l, "a") != -1 || l.SoldOut("a", 1) {
			t.Error("known before it was wanted")
		}
		n2.set(func(f *fakeLeader) { f.broken = true })
		pass(l, time.Second, "a")
		if units(l, "a") != -1 {
			t.Error("known with one shard only")
		}
		n2.set(func(f *fakeLeader) { f.broken, f.proves = false, false })
		pass(l, time.Second, "a")
		if units(l, "a") != -1 {
			t.Error("known without a proof")
		}
		n2.set(func(f *fakeLeader) { f.proves = true })
		pass(l, 20*time.Millisecond, "a")
		if units(l, "a") != 7 || age(l, "a") > pollInterval {
			t.Errorf("%d units, %v old", units(l, "a"), age(l, "a"))
		}
		if l.SoldOut("a", 7) || !l.SoldOut("a", 8) {
			t.Error("there are 7")
		}
		if got := fmt.Sprint(l.Stocked("a")); got != "[{1 4} {0 3}]" {
			t.Error(got)
		}
		n1.tells(0, 5)
		pass(l, 20*time.Millisecond, "a")
		if all := l.Stocked("a"); len(all) == 0 || all[0].Shard != 0 || !l.SoldOut("a", 10) || l.SoldOut("a", 9) {
			t.Errorf("stocked %v, %d units", all, units(l, "a"))
		}
	})
}

// TestLevelsGetOld lets a leader lose its proof: what it tells is still taken,
// and at the age of MaxLevelAge nothing is refused by it any more.
func TestLevelsGetOld(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, _ := newTestLevels(t)
		pass(l, time.Second, "a")
		synctest.Wait() // also for the questions of this very moment
		n1.set(func(f *fakeLeader) { f.proves = false })
		_, asOf, _ := l.Cut("a")
		<-time.After(time.Until(asOf.Add(MaxLevelAge)))
		if _, now, _ := l.Cut("a"); !now.Equal(asOf) || !l.SoldOut("a", 8) {
			t.Errorf("as of %v later, sold out %v", now.Sub(asOf), l.SoldOut("a", 8))
		}
		<-time.After(1)
		if l.SoldOut("a", 8) || len(l.Stocked("a")) != 2 {
			t.Error("too old to refuse, not too old to choose")
		}
		n1.tells(0, 1)
		pass(l, time.Second, "a")
		if units(l, "a") != 5 || len(l.Stocked("a")) != 0 {
			t.Errorf("%d units, stocked %v", units(l, "a"), l.Stocked("a"))
		}
		n1.set(func(f *fakeLeader) { f.claims = 3 }) // of a second ago
		pass(l, 100*time.Millisecond, "a")
		if _, now, _ := l.Cut("a"); !now.Equal(asOf) {
			t.Errorf("it went from %v to %v", asOf, now)
		}
		n1.set(func(f *fakeLeader) { f.claims = 1 << 40 })
		pass(l, 100*time.Millisecond, "a")
		if _, now, _ := l.Cut("a"); !now.Equal(asOf) {
			t.Errorf("a probe that was never sent made it %v", now)
		}
	})
}

// TestNobodyKeepsLevelsFreshThatNobodyWants: what was known before a time without wants
// does not count as old when the next one comes.
func TestNobodyKeepsLevelsFreshThatNobodyWants(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, _ := newTestLevels(t)
		pass(l, time.Second, "a")
		<-time.After(time.Hour)
		n1.set(func(f *fakeLeader) { f.late = 30 * time.Millisecond })
		pass(l, time.Second, "a")
		var m dto.Metric
		if err := l.metrics.levelsAge.Write(&m); err != nil {
			t.Fatal(err)
		}
		if n, sum := m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum(); n < 100 || sum/float64(n) > 0.05 {
			t.Errorf("%d samples, %.3f s old on average", n, sum/float64(n))
		}
	})
}

// TestNewLeadersLevels lets a second node lead shard 0 while the first one still
// believes that it does: what counts is told by the one with the newer proof.
func TestNewLeadersLevels(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, n2 := newTestLevels(t)
		pass(l, time.Second, "a")
		step := func(what string, want allocator.Quantity, fresh bool) {
			t.Helper()
			pass(l, 100*time.Millisecond, "a")
			if got := units(l, "a"); got != want || age(l, "a") <= MaxLevelAge != fresh {
				t.Errorf("%s: %d units, want %d; %v old", what, got, want, age(l, "a"))
			}
		}
		n1.set(func(f *fakeLeader) { f.proves = false })
		step("no proof", 7, false)
		n1.tells(0, 2)
		step("news without a proof are no older", 6, false)
		n2.set(func(f *fakeLeader) { f.leads[0] = report(0, 2, 10) })
		step("the new leader", 14, true)
		n1.tells(0, 1)
		step("news of the old one", 14, true)
		n1.set(func(f *fakeLeader) { delete(f.leads, 0) })
		step("the old one has noticed", 14, true)
		n2.set(func(f *fakeLeader) { delete(f.leads, 0) })
		step("nobody", 14, false)
		n1.tells(0, 8)
		n1.set(func(f *fakeLeader) { f.proves = true })
		step("the first one again", 12, true)
	})
}

// TestLevelsAfterAReconnect breaks a stream: everything is asked for again, and
// until there is an answer nothing is as of later than before.
func TestLevelsAfterAReconnect(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, _ := newTestLevels(t)
		pass(l, time.Second, "a", "b")
		n1.set(func(f *fakeLeader) { f.broken = true })
		pass(l, time.Second, "a", "b")
		_, before, ok := l.Cut("a")
		if !ok || time.Since(before) < 900*time.Millisecond {
			t.Errorf("known %v, as of %v ago", ok, time.Since(before))
		}
		n1.set(func(f *fakeLeader) {
			if f.streams > 15 {
				t.Errorf("tried %d times in a second", f.streams)
			}
			f.broken, f.asked, f.leads[0] = false, nil, report(0, 2, 1)
		})
		pass(l, time.Second, "a", "b")
		first := n1.requests()[0]
		if got := slices.Sorted(slices.Values(first.Add)); !slices.Equal(got, []allocator.SKU{"a", "b"}) || first.Probe != 1 {
			t.Errorf("asked for %v by probe %d", got, first.Probe)
		}
		if units(l, "b") != 5 || age(l, "b") > MaxLevelAge {
			t.Errorf("%d units, %v old", units(l, "b"), age(l, "b"))
		}
	})
}

// TestUnwantedLevelsAreDropped lets the interest in one SKU of two end, and come
// again; then in both.
func TestUnwantedLevelsAreDropped(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, _ := newTestLevels(t)
		pass(l, time.Second, "a", "b")
		n1.requests()
		pass(l, wantFor+time.Second, "a")
		var drop []allocator.SKU
		for _, r := range n1.requests() {
			drop = append(drop, r.Drop...)
		}
		if !slices.Equal(drop, []allocator.SKU{"b"}) || units(l, "b") != -1 || units(l, "a") != 7 {
			t.Errorf("dropped %v; units %d and %d", drop, units(l, "a"), units(l, "b"))
		}
		l.Want("b")
		if units(l, "b") != -1 {
			t.Error("known from before")
		}
		pass(l, 20*time.Millisecond, "b")
		if units(l, "b") != 7 {
			t.Errorf("%d units", units(l, "b"))
		}
		<-time.After(wantFor + time.Second)
		n1.requests()
		<-time.After(time.Minute)
		if n := len(n1.requests()); n > 0 {
			t.Errorf("asked %d times for nothing", n)
		}
		pass(l, 30*time.Millisecond, "b")
		if units(l, "b") != 7 || l.SoldOut("b", 7) || !l.SoldOut("b", 8) {
			t.Errorf("%d units", units(l, "b"))
		}
	})
}

func TestTooManyWanted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, _, _ := newTestLevels(t)
		for i := range MaxLevels {
			l.Want(allocator.SKU(fmt.Sprint("sku-", i)))
		}
		l.Want("one more")
		l.Want("not a SKU!")
		pass(l, 50*time.Millisecond, "one-more", "sku-7")
		if units(l, "sku-7") != 7 || units(l, "one-more") != -1 || l.wants.len() != MaxLevels {
			t.Errorf("units %d and %d of %d", units(l, "sku-7"), units(l, "one-more"), l.wants.len())
		}
		for range 10 { // those that are wanted again stay
			pass(l, 100*time.Millisecond, "sku-7", "one-more")
		}
		if units(l, "sku-7") != 7 || units(l, "one-more") != 7 || units(l, "sku-8") != -1 {
			t.Errorf("units %d, %d and %d", units(l, "sku-7"), units(l, "one-more"), units(l, "sku-8"))
		}
	})
}

// TestWhatIsNoRefusal lists what keeps a refusal from being made at once.
func TestWhatIsNoRefusal(t *testing.T) {
	for what, change := range map[string]func(r *allocator.BucketReport){
		"paused":       func(r *allocator.BucketReport) { r.Policy.Paused = true },
		"unknown":      func(r *allocator.BucketReport) { *r = allocator.BucketReport{Shard: 0, Shards: 2} },
		"inconsistent": func(r *allocator.BucketReport) { r.Flows = []allocator.Flow{{Peer: 1, Sent: 5, Acked: 5}} },
		"on its way":   func(r *allocator.BucketReport) { r.Flows = []allocator.Flow{{Peer: 1, Sent: 5}} },
		"foreign":      func(r *allocator.BucketReport) { r.Shards = 3 },
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				l, n1, n2 := newTestLevels(t)
				n1.tells(0, 0)
				n2.set(func(f *fakeLeader) { f.leads[1] = allocator.BucketReport{Shard: 1, Shards: 2} })
				pass(l, 30*time.Millisecond, "a")
				if !l.SoldOut("a", 1) {
					t.Error("there is none")
				}
				n1.set(func(f *fakeLeader) {
					r := f.leads[0]
					change(&r)
					f.leads[0] = r
				})
				pass(l, 30*time.Millisecond, "a")
				if l.SoldOut("a", 1) {
					t.Error("refused")
				}
			})
		})
	}
}

func TestLevelsNotify(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, n2 := newTestLevels(t)
		n2.set(func(f *fakeLeader) { f.proves = false })
		var mu sync.Mutex
		told := make(map[allocator.Quantity]int) // by what was known then
		l.Notify(func(skus []allocator.SKU) {
			mu.Lock()
			defer mu.Unlock()
			for _, sku := range skus {
				told[units(l, sku)]++
			}
		})
		pass(l, time.Second, "a")
		n2.set(func(f *fakeLeader) { f.proves = true })
		pass(l, time.Second, "a")
		n1.tells(0, 30)
		pass(l, time.Second, "a")
		mu.Lock()
		defer mu.Unlock()
		if told[7] == 0 || told[34] == 0 {
			t.Errorf("told at %v units", told)
		}
	})
}

// TestOneQuestionAtATime has a node answer late: the next question waits, and
// the levels are as old as the last question that was answered.
func TestOneQuestionAtATime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, _ := newTestLevels(t) // the fake minds two at once
		pass(l, time.Second, "a")
		n1.set(func(f *fakeLeader) { f.late, f.asked = 35*time.Millisecond, nil })
		pass(l, time.Second, "a")
		if n := len(n1.requests()); n < 20 || n > 30 {
			t.Errorf("%d questions in a second", n)
		}
		n1.set(func(f *fakeLeader) { f.late = 0 })
		if got := age(l, "a"); got > 2*35*time.Millisecond {
			t.Errorf("%v old", got)
		}
		pass(l, 100*time.Millisecond, "a")
	})
}

// TestTermsAgree has a node answer with its terms: they hold from the moment
// before the question.
func TestTermsAgree(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, n1, _ := newTestLevels(t)
		n1.set(func(f *fakeLeader) { f.terms = []ShardTerm{{Shard: 5, Term: 2}, {Shard: 1, Term: 7}} })
		if _, ok := l.Agreed("n1", 1, 7); ok {
			t.Error("agreed before it was asked")
		}
		before := l.Moment()
		l.KeepProving()
		<-time.After(100 * time.Millisecond)
		at, ok := l.Agreed("n1", 1, 7)
		if !ok || at <= before || at >= l.Moment() {
			t.Errorf("agreed %v at %d, after %d", ok, at, before)
		}
		for _, no := range []ShardTerm{{1, 6}, {1, 8}, {5, 7}, {0, 0}} {
			if _, ok := l.Agreed("n1", no.Shard, no.Term); ok {
				t.Errorf("agreed on %v", no)
			}
		}
		<-time.After(2 * proveFor)
		n1.requests()
		l.KeepProving()
		<-time.After(2 * proveFor)
		if n := len(n1.requests()); n < 90 || n > 110 {
			t.Errorf("asked %d times in a second", n)
		}
	})
}

func BenchmarkSoldOut(b *testing.B) {
	n1 := newFakeLeader(map[allocator.ShardID]allocator.BucketReport{0: report(0, 1, 3)})
	d := NewDirectory(DirectoryConfig{Shards: 1})
	d.SetMember("n1", n1)
	l := NewLevels(LevelsConfig{Directory: d})
	defer d.Close()
	defer l.Close()
	for !l.SoldOut("a", 4) {
		l.Want("a")
		<-time.After(time.Millisecond)
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			l.Want("a")
			l.SoldOut("a", 4)
		}
	})
}
