package raftfsm

import (
	"math/rand/v2"
	"testing"
	"time"

	"stockade/allocator"
)

// testEpoch is the wall time at which the clock tests begin.
var testEpoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeClock is a machine whose crystal is off by drift parts per million, and
// whose wall clock can be set.
type fakeClock struct {
	mono  time.Duration
	wall  time.Time
	drift int64
}

func newFakeClock() *fakeClock { return &fakeClock{mono: 42 * time.Hour, wall: testEpoch} }

func (c *fakeClock) Monotonic() time.Duration { return c.mono }
func (c *fakeClock) Wall() time.Time          { return c.wall }

// pass lets true time pass. The wall clock follows the crystal.
func (c *fakeClock) pass(d time.Duration) {
	d += d * time.Duration(c.drift) / million
	c.mono += d
	c.wall = c.wall.Add(d)
}

// set moves the wall clock alone.
func (c *fakeClock) set(by time.Duration) { c.wall = c.wall.Add(by) }

// millis is a wall time as a stamp.
func millis(t time.Time) allocator.Millis { return allocator.Millis(t.UnixMilli()) }

// leader returns a clock that cold-started at testEpoch and leads.
func leader(t *testing.T) (*LogClock, *fakeClock) {
	t.Helper()
	machine := newFakeClock()
	c := NewLogClock(machine)
	if !c.ColdStart(machine.wall) || !c.Lead() {
		t.Fatal("a fresh clock did not start")
	}
	return c, machine
}

func TestClockLeaderRunsWithTheMonotonicClock(t *testing.T) {
	c, machine := leader(t)
	for range 10 {
		before := c.Stamp()
		machine.pass(time.Second)
		if got := c.Stamp() - before; got != 1000 {
			t.Fatalf("a second made %d ms", got)
		}
	}
}

func TestClockIgnoresJumpsOfTheWallClock(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name string
		jump time.Duration
		slew allocator.Millis // what an hour may add: 100 ppm, or nothing
	}{
		{"a day ahead", day, 360},
		{"a day back", -day, 0},
		{"a millisecond ahead", time.Millisecond, 1},
		{"not at all", 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, machine := leader(t)
			before := c.Stamp()
			machine.set(test.jump)
			if got := c.Stamp(); got != before {
				t.Fatalf("the jump alone moved the stamp by %d ms", got-before)
			}
			machine.pass(time.Hour)
			if got, want := c.Stamp()-before, 3_600_000+test.slew; got != want {
				t.Fatalf("an hour after the jump: %d ms, want %d", got, want)
			}
		})
	}
}

func TestClockJumpsToAndFroNeverMoveStampsBack(t *testing.T) {
	c, machine := leader(t)
	random := rand.New(rand.NewPCG(1, 2))
	start, last := c.Stamp(), c.Stamp()
	const steps = 10_000
	for range steps {
		machine.set(time.Duration(random.Int64N(int64(48*time.Hour))) - 24*time.Hour)
		machine.pass(10 * time.Millisecond)
		now := c.Stamp()
		if now < last {
			t.Fatalf("stamp went back from %d to %d", last, now)
		}
		last = now
	}
	passed := allocator.Millis(steps * 10)
	if got := last - start; got < passed || got > passed+passed*maxSlew/million+1 {
		t.Fatalf("%d ms passed, stamps moved %d", passed, got)
	}
}

func TestClockSlewStopsAtTheWall(t *testing.T) {
	c, machine := leader(t)
	machine.set(50 * time.Millisecond) // takes 500 s at 100 ppm
	for range 1000 {
		machine.pass(time.Second)
		if stamp, wall := c.Stamp(), millis(machine.wall); stamp > wall {
			t.Fatalf("stamp %d is beyond the wall clock %d", stamp, wall)
		}
	}
	if stamp, wall := c.Stamp(), millis(machine.wall); stamp != wall {
		t.Fatalf("after 1,000 s the stamp is %d ms behind the wall clock", wall-stamp)
	}
}

func TestClockSlewsAlsoWhenAskedOften(t *testing.T) {
	c, machine := leader(t)
	machine.set(time.Hour)
	before := c.Stamp()
	const step = 9 * time.Microsecond // less than a nanosecond of slew
	for range int(10 * time.Second / step) {
		machine.pass(step)
		c.Stamp()
	}
	// 100 ppm of 10 s are 1 ms; rounding down may hide it for one step.
	machine.pass(time.Millisecond)
	if got := c.Stamp() - before; got < 10_001 || got > 10_002 {
		t.Fatalf("10.001 s made %d ms, want one more by slewing", got)
	}
}

func TestClockColdStart(t *testing.T) {
	night := 8 * time.Hour
	old := millis(testEpoch.Add(-night))
	for _, test := range []struct {
		name  string
		setup func(*LogClock)
		wall  time.Time
		jumps bool
		want  allocator.Millis // the stamp afterwards
	}{
		{"an empty state", func(*LogClock) {}, testEpoch, true, millis(testEpoch)},
		{"a replayed log", func(c *LogClock) { c.Observe(old, false) }, testEpoch, true, millis(testEpoch)},
		{"a wall clock that was never set", func(c *LogClock) { c.Observe(old, false) }, time.Unix(0, 0), false, old},
		{"a wall clock in the far future", func(c *LogClock) { c.Observe(old, false) }, testEpoch.AddDate(40_000, 0, 0), false, old},
		{"a live leader was heard", func(c *LogClock) { c.Observe(old, true) }, testEpoch, false, old},
		{"live, then replayed", func(c *LogClock) { c.Observe(old, true); c.Observe(old+1, false) }, testEpoch, false, old + 1},
		{"the wall is behind the state", func(c *LogClock) { c.Observe(millis(testEpoch), false) }, testEpoch.Add(-night), false, millis(testEpoch)},
		{"a second time", func(c *LogClock) { c.ColdStart(testEpoch.Add(-night)) }, testEpoch, false, old},
		{"a second time after the wall was behind", func(c *LogClock) { c.Observe(old, false); c.ColdStart(testEpoch.Add(-2 * night)) }, testEpoch, false, old},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewLogClock(newFakeClock())
			test.setup(c)
			if got := c.ColdStart(test.wall); got != test.jumps {
				t.Errorf("jumped: %v, want %v", got, test.jumps)
			}
			c.Lead()
			if got := c.Stamp(); got != test.want {
				t.Errorf("stamp is %d, want %d", got, test.want)
			}
			if _, warm := c.Reading(); warm != plausible(test.wall) {
				t.Errorf("another cold start is ruled out: %v", warm)
			}
		})
	}
}

func TestClockNeedsSomethingToStartFrom(t *testing.T) {
	c := NewLogClock(newFakeClock())
	c.Observe(0, false)           // an empty state
	c.ColdStart(time.Unix(10, 0)) // a machine without a battery
	if c.Lead() {
		t.Fatal("a clock without any stamp leads")
	}
	c.Observe(1, false)
	if !c.Lead() {
		t.Fatal("a clock with a stamp does not lead")
	}
}

func TestClockDoesNotSlewToAWallThatIsNotSet(t *testing.T) {
	for _, wall := range []time.Time{time.Unix(0, 0), testEpoch.AddDate(40_000, 0, 0)} {
		c, machine := leader(t)
		before := c.Stamp()
		machine.wall = wall
		machine.pass(time.Hour)
		if got := c.Stamp() - before; got != 3_600_000 {
			t.Errorf("under the wall clock %v an hour made %d ms", wall, got)
		}
	}
}

func TestClockUntil(t *testing.T) {
	c, machine := leader(t)
	due := c.Stamp() + 1500
	if got := c.Until(due); got != 1500*time.Millisecond {
		t.Fatalf("until: %v", got)
	}
	machine.pass(c.Until(due) - 1)
	if c.Until(due) == 0 || c.Stamp() >= due {
		t.Fatal("a nanosecond early is taken for the time")
	}
	machine.pass(1)
	if c.Until(due) != 0 || c.Stamp() != due {
		t.Fatal("the time is not reached when it is")
	}
}

// A month without an entry: a follower with a fast crystal must not be ahead of
// a leader with a slow one, or a takeover would cut holds short.
func TestClockFollowerStaysBehindTheLeader(t *testing.T) {
	leads, leadMachine := leader(t)
	leadMachine.drift = -100
	followMachine := newFakeClock()
	followMachine.drift = 100
	follows := NewLogClock(followMachine)
	follows.Observe(leads.Stamp(), true)
	for range 30 * 24 {
		leadMachine.pass(time.Hour)
		followMachine.pass(time.Hour)
		reading, _ := follows.Reading()
		if now, _ := leads.Reading(); reading > now {
			t.Fatalf("the follower reads %d, the leader %d", reading, now)
		}
	}
	before, _ := follows.Reading()
	follows.Lead()
	if got := follows.Stamp(); got != before {
		t.Fatalf("taking over moved the reading by %d ms", got-before)
	}
}

func TestClockFollowKeepsTheReading(t *testing.T) {
	c, machine := leader(t)
	machine.pass(time.Hour)
	stamp := c.Stamp()
	c.Follow()
	if got, _ := c.Reading(); got != stamp {
		t.Fatalf("the reading jumped from %d to %d", stamp, got)
	}
	machine.pass(time.Hour)
	if got, _ := c.Reading(); got != stamp+3_600_000-720 {
		t.Fatalf("an hour of following made %d ms, want 200 ppm less than an hour", got-stamp)
	}
	c.Observe(stamp+3_600_000, true)
	if got, _ := c.Reading(); got != stamp+3_600_000 {
		t.Fatalf("a higher stamp was not followed: %d", got)
	}
	c.Observe(stamp, true)
	if got, _ := c.Reading(); got != stamp+3_600_000 {
		t.Fatalf("a lower stamp was followed: %d", got)
	}
}

// holds is a simulation of a group: one leader at a time, entries that reach
// the others late or never, crystals that drift, wall clocks that jump.
type holds struct {
	t        *testing.T
	random   *rand.Rand
	clocks   []*LogClock
	machines []*fakeClock
	leads    int
	log      allocator.Millis // the highest stamp applied
	now      time.Duration    // true time
	open     []hold
	ended    int
}

// hold was made at a stamp and ends at another.
type hold struct {
	made time.Duration
	ttl  time.Duration
	ends allocator.Millis
}

// Under any order of failovers and jumps, a hold lives for its TTL by true
// time, but for what crystals and slewing may be wrong by.
func TestClockHoldsNeverLiveShorter(t *testing.T) {
	for seed := range uint64(20) {
		s := &holds{t: t, random: rand.New(rand.NewPCG(seed, 7))}
		for _, drift := range []int64{-100, 0, 100} {
			machine := newFakeClock()
			machine.drift = drift
			s.machines = append(s.machines, machine)
			s.clocks = append(s.clocks, NewLogClock(machine))
		}
		s.clocks[0].ColdStart(testEpoch)
		s.clocks[0].Lead()
		for range 2000 {
			s.step()
		}
		if s.ended < 100 {
			t.Fatalf("only %d holds ended: the simulation does not show anything", s.ended)
		}
	}
}

func (s *holds) step() {
	s.pass(time.Duration(s.random.ExpFloat64() * float64(20*time.Second)))
	switch s.random.IntN(20) {
	case 0:
		s.machines[s.random.IntN(3)].set(time.Duration(s.random.Int64N(int64(48*time.Hour))) - 24*time.Hour)
	case 1:
		s.clocks[s.leads].Follow()
		s.leads = s.random.IntN(3)
		s.clocks[s.leads].ColdStart(s.machines[s.leads].wall) // does nothing, or holds die
		s.clocks[s.leads].Lead()
	default:
		s.propose()
	}
}

func (s *holds) pass(d time.Duration) {
	s.now += d
	for _, m := range s.machines {
		m.pass(d)
	}
}

// propose applies an entry with one new hold on all replicas.
func (s *holds) propose() {
	stamp := s.clocks[s.leads].Stamp()
	s.log = max(s.log, stamp)
	still := s.open[:0]
	for _, h := range s.open {
		if h.ends > s.log {
			still = append(still, h)
			continue
		}
		s.ended++
		wrong := h.ttl*(maxSlew+100)/million + time.Millisecond
		if lived := s.now - h.made; lived < h.ttl-wrong {
			s.t.Fatalf("a hold of %v lived %v", h.ttl, lived)
		}
	}
	ttl := time.Duration(1+s.random.IntN(1800)) * time.Second
	still = append(still, hold{made: s.now, ttl: ttl, ends: s.log + allocator.Millis(ttl.Milliseconds())})
	s.open = still
	for i, c := range s.clocks {
		if i == s.leads || s.random.IntN(10) > 0 { // else it never arrives
			c.Observe(stamp, true)
		}
		if i == s.leads {
			s.pass(time.Duration(s.random.IntN(3)) * time.Millisecond) // on its way to the others
		}
	}
}

func TestPPMDoesNotOverflow(t *testing.T) {
	year := 365 * 24 * time.Hour
	if got, want := ppm(50*year, maxSlew), 50*year/10_000; got > want || want-got > time.Millisecond {
		t.Fatalf("100 ppm of 50 years are %v, want %v", got, want)
	}
	if got := ppm(time.Second, maxSlew); got != 100*time.Microsecond {
		t.Fatalf("100 ppm of a second are %v", got)
	}
}

func TestSystemClock(t *testing.T) {
	c := SystemClock()
	if a, b := c.Monotonic(), c.Monotonic(); b < a {
		t.Fatalf("monotonic clock went from %v to %v", a, b)
	}
	if d := time.Since(c.Wall()); d < -time.Minute || d > time.Minute {
		t.Fatalf("wall clock is off by %v", d)
	}
}
