package raftfsm

import (
	"sync"
	"time"

	"stockade/allocator"
)

// Log time is the only time the allocator knows. Each entry carries a stamp,
// made by the leader of the day, and a reservation expires when the stamps have
// passed its end. So stamps decide when somebody loses units that were promised
// to him, and a wall clock must not make them: operators and time daemons set
// wall clocks, by a day if need be, and each machine's is different.
//
// What stamps follow is the monotonic clock, which only drifts. The rules, and
// why a hold may live longer than promised but never shorter:
//
//  1. Every replica notes the stamps of the entries it applies. An entry with
//     stamp S that is applied at the moment m says: log time is at least S now.
//     From then on log time has moved on with the clock of whoever leads. A
//     follower's reading is the highest such note, carried forward by its own
//     monotonic clock. It comes late by the delay of replication and never early.
//
//  2. Two quartz crystals disagree. A follower whose crystal is fast, and which
//     carried one old note forward for a month while nothing was sold, would be
//     minutes ahead of the leader, and would cut holds short by that much on the
//     day it takes over. So a follower carries notes forward more slowly than
//     its crystal says, by followerDiscount: more than two crystals can differ.
//     The reading stays a lower bound of the leader's log time.
//
//  3. A leader goes on from its reading at the rate of its crystal. A hold made
//     at stamp S under one leader and ended under the next has then lived at
//     least as long as promised, by the crystals of the leaders.
//
//  4. What failovers lose (the delays of rule 1, the discount of rule 2) and what
//     crystals drift would add up over the years, and log time is what a client
//     reads as expires_at. So a leader's time is slewed towards its wall clock:
//     forward only, by at most maxSlew of the time passed, never beyond the wall.
//     That is a crystal's own error; a wall clock that is wrong can't do worse
//     than a bad crystal. A wall clock that is behind changes nothing.
//
//  5. When the whole group was down, nobody's monotonic clock spans the gap. A
//     leader that never heard from another one since its process began may jump
//     forward, once, to a wall clock: the lowest of a majority's, so that one
//     clock that is ahead ends no hold early. Without the jump a shard that was
//     down for a night would hold yesterday's carts for another night.
//
// Stamps never go backward in one process. Across leaders a stamp may be lower
// than the last one in the log; the allocator keeps the highest.
const (
	// maxSlew is how much faster than its crystal a leader's log time may run, in
	// parts per million. Quartz without temperature control is specified to
	// 20–100 ppm.
	maxSlew = 100
	// followerDiscount is how much slower than its crystal a follower carries log
	// time forward, in parts per million: the error of two crystals.
	followerDiscount = 2 * maxSlew
	// slewStep is the least time over which a slew is computed. Below it the
	// integer division would lose too much of it.
	slewStep = time.Millisecond

	million = 1_000_000
)

// Wall clocks outside of these years are not set: a machine without a battery
// wakes up in 1970. Log time never goes back, so a jump to one beyond would last.
const (
	firstYear = 2000
	lastYear  = 2200
)

// Clock gives the two clocks of a machine. Implementations are safe for
// concurrent use.
type Clock interface {
	// Monotonic is the time since some fixed moment. It never goes backward and
	// is never set.
	Monotonic() time.Duration
	// Wall is the time of day. It may be set at any time, in either direction.
	Wall() time.Time
}

// SystemClock reads the clocks of this machine.
func SystemClock() Clock {
	return systemClock{start: time.Now()}
}

// systemClock measures from start, whose monotonic reading time.Since uses.
type systemClock struct {
	start time.Time
}

// Monotonic implements Clock.
func (c systemClock) Monotonic() time.Duration { return time.Since(c.start) }

// Wall implements Clock.
func (systemClock) Wall() time.Time { return time.Now() }

// LogClock makes the stamps of one replica. The reasoning is at the top of this
// file. All methods are safe for concurrent use and return at once.
type LogClock struct {
	clock Clock

	mu      sync.Mutex
	set     bool          // a stamp was observed or the clock cold-started: anchor means something
	warm    bool          // rule 5 does not apply any more
	leading bool          // rule 3 and 4 instead of 2
	anchor  time.Duration // log time at the moment at, since the Unix epoch
	at      time.Duration // monotonic
	last    allocator.Millis
}

// NewLogClock returns a clock that has observed nothing.
func NewLogClock(c Clock) *LogClock {
	return &LogClock{clock: c}
}

// Observe notes that log time has reached stamp. An entry that was applied says
// so of its stamp, however long ago that was; then live is false. live tells that
// stamp is what a warm replica reads just now: that rules a cold start out. The
// stamp 0 of an empty state says nothing.
func (c *LogClock) Observe(stamp allocator.Millis, live bool) {
	if stamp <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if live {
		c.warm = true
	}
	c.raise(time.Duration(stamp)*time.Millisecond, c.clock.Monotonic())
}

// ColdStart lets the clock jump forward to wall, if it has heard of no live
// leader since the process began and has not done this before. The caller
// passes the lowest of a majority's wall clocks. One that is not set (before
// 2000 or after 2199) is ignored. It reports whether the clock jumped. Call it on
// every gain of leadership, before Proposer.Start.
func (c *LogClock) ColdStart(wall time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warm || !plausible(wall) {
		return false
	}
	c.warm = true
	return c.raise(time.Duration(wall.UnixMilli())*time.Millisecond, c.clock.Monotonic())
}

// Reading returns a lower bound of log time, and whether a cold start is ruled
// out. Both are of use to another replica that is about to cold-start: the
// reading of a warm one may be observed there as live.
func (c *LogClock) Reading() (now allocator.Millis, warm bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return toMillis(c.read(c.clock.Monotonic())), c.warm
}

// Stamp returns the stamp for an entry that is proposed now. Only the leader
// calls it, after Lead.
func (c *LogClock) Stamp() allocator.Millis {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.clock.Monotonic()
	if c.leading && at-c.at >= slewStep {
		c.anchor, c.at = c.slewed(at), at
	}
	c.last = max(c.last, toMillis(c.read(at)))
	return c.last
}

// Until returns how long it takes until stamps reach t, 0 when they have.
func (c *LogClock) Until(t allocator.Millis) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last >= t {
		return 0
	}
	return max(0, time.Duration(t)*time.Millisecond-c.read(c.clock.Monotonic()))
}

// Lead begins to run at the rate of this machine's clock. It reports false,
// and does nothing, when the clock has nothing to start from: it has observed
// no stamp and ColdStart was not called.
func (c *LogClock) Lead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set && !c.leading {
		c.rebase(true)
	}
	return c.set
}

// Follow ends what Lead began.
func (c *LogClock) Follow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading {
		c.rebase(false)
	}
}

// rebase changes the rate without changing the reading.
func (c *LogClock) rebase(leading bool) {
	at := c.clock.Monotonic()
	c.anchor, c.at = c.read(at), at
	c.leading = leading
}

// raise moves the anchor to t if that is ahead of the reading.
func (c *LogClock) raise(t, at time.Duration) bool {
	if c.set && t <= c.read(at) {
		return false
	}
	c.set = true
	c.anchor, c.at = t, at
	return true
}

// read carries the anchor forward to the moment at.
func (c *LogClock) read(at time.Duration) time.Duration {
	if !c.set {
		return 0
	}
	passed := at - c.at
	if !c.leading {
		passed -= ppm(passed, followerDiscount)
	}
	return c.anchor + passed
}

// slewed is the leader's reading with what rule 4 allows added.
func (c *LogClock) slewed(at time.Duration) time.Duration {
	now := c.read(at)
	wall := c.clock.Wall()
	if !plausible(wall) {
		return now
	}
	ahead := time.Duration(wall.UnixNano()) - now
	return now + max(0, min(ahead, ppm(at-c.at, maxSlew)))
}

// plausible tells whether a wall clock can have been set by somebody.
func plausible(wall time.Time) bool {
	year := wall.UTC().Year()
	return year >= firstYear && year < lastYear
}

// ppm returns parts millionths of d. The order of the operations keeps years
// from overflowing and loses at most parts nanoseconds.
func ppm(d time.Duration, parts int64) time.Duration {
	if d < time.Hour {
		return d * time.Duration(parts) / million
	}
	return d / million * time.Duration(parts)
}

// toMillis rounds down: a stamp is a moment that log time has reached.
func toMillis(d time.Duration) allocator.Millis {
	return allocator.Millis(d / time.Millisecond)
}
