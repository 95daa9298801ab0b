package shardrpc

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"stockade/shard/bubble"
)

// TestRemoteClock hears of a clock that runs at another speed, over a road that takes
// its time. What it is taken for is never ahead of what it is, and late by no more than
// the quickest frame of the last seconds took.
func TestRemoteClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drift := rapid.Float64Range(-500e-6, 500e-6).Draw(t, "drift")
		theirs := func(since time.Duration) time.Duration { // since the stream was opened
			return since + time.Duration(float64(since)*drift)
		}
		opening := time.Duration(rapid.IntRange(0, int(time.Second)).Draw(t, "opening takes"))
		zero := time.Unix(1, 0)
		c := startClock(zero.Add(opening))
		now := opening
		for range rapid.IntRange(1, 200).Draw(t, "frames") {
			pause := 2 * time.Second
			if rapid.IntRange(0, 9).Draw(t, "nothing is heard for long") == 0 {
				pause = time.Hour
			}
			sent := now + time.Duration(rapid.IntRange(0, int(pause)).Draw(t, "pause"))
			now = sent + time.Duration(rapid.IntRange(0, int(time.Second)).Draw(t, "way"))
			c.heard(theirs(sent), zero.Add(now))
			// What counts was heard within two windows and a pause.
			slack := time.Duration(500e-6 * float64(3*clockWindow))
			is, taken := theirs(now), c.at(zero.Add(now))
			if taken > is+slack {
				t.Fatalf("%v after the opening it is taken for %v, and is %v", now, taken, is)
			}
			if behind := is - taken; behind > now-sent+slack {
				t.Fatalf("%v after the opening it is %v behind, the last frame took %v", now, behind, now-sent)
			}
		}
	})
}

// TestRemoteClockRecovers has the server's clock stand still for a while, as that of a
// virtual machine that is frozen. What was heard before is forgotten.
func TestRemoteClockRecovers(t *testing.T) {
	zero := time.Unix(1, 0)
	c := startClock(zero)
	const frozen = 5 * time.Second
	for s := range 60 {
		now := time.Duration(s) * time.Second
		theirs := now
		if s > 20 {
			theirs -= frozen
		}
		c.heard(theirs, zero.Add(now))
	}
	if got, want := c.at(zero.Add(time.Minute)), time.Minute-frozen; got != want {
		t.Errorf("taken for %v, is %v", got, want)
	}
}

// TestIdleStreamKeepsTheClock leaves a stream without work for an hour: its client asks for a
// sign of life often enough, so that the clocks can't get far apart.
func TestIdleStreamKeepsTheClock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := connected(t, (&road{}).client(t, nil))
		<-time.After(time.Hour)
		c.mu.Lock()
		heard := c.session.clock.zero.Add(c.session.clock.turned)
		c.mu.Unlock()
		if old := time.Since(heard); old > 2*clockWindow {
			t.Errorf("what it knows is %v old", old)
		}
	})
}

// TestSlowOpening opens a stream over a road that brings nothing back for a while. The
// client's first idea of the clock is late by as much, and is put right at once.
func TestSlowOpening(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := &road{}
		mend := r.block(&r.in)
		c := r.client(t, nil)
		<-time.After(3 * time.Second)
		mend()
		connected(t, c)
		synctest.Wait()
		done := newCollected(t)
		c.Propose(done.proposal("in time", time.Second))
		if a := done.next(); a.Outcome != Applied {
			t.Errorf("%v, %v", a.Outcome, a.Reason)
		}
	})
}
