package raftfsm

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/shard/bubble"
)

// reserved is how many units the state holds.
func (r *rig) reserved() (units allocator.Quantity) {
	r.machine.Read(func(s *allocator.State) { units = s.Stats().Reserved })
	return units
}

// settle commits whatever is proposed for a while of virtual time.
func (r *rig) settle(d time.Duration) {
	r.raft.set(func(f *fakeRaft) { f.auto = true })
	time.Sleep(d)
	synctest.Wait()
	r.raft.set(func(f *fakeRaft) { f.auto = false })
}

// reserveAll applies reservations with a TTL and forgets the entries sent.
func (r *rig) reserveAll(ttl allocator.Millis, count int) {
	r.t.Helper()
	r.raft.set(func(f *fakeRaft) { f.auto = true })
	for n := range count {
		if c := r.submit(reserveFor(n, ttl), 0).wait(); c.Outcome != Applied {
			r.t.Fatalf("%+v", c)
		}
	}
	synctest.Wait()
	r.raft.set(func(f *fakeRaft) { f.auto, f.entries = false, nil })
}

func TestTickWhenSomethingIsDue(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.reserveAll(1000, 1)
		time.Sleep(time.Second - 1)
		r.want()
		time.Sleep(time.Nanosecond)
		r.want(0)
		if r.reserved() != 1 {
			t.Error("expired before the tick was committed")
		}
		time.Sleep(time.Second)
		r.want(0) // one tick in flight is enough
		r.commit(1)
		if r.reserved() != 0 {
			t.Error("the tick did not expire the reservation")
		}
	})
}

func TestNoTickWhenNothingIsDue(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		time.Sleep(24 * time.Hour)
		r.want()
	})
}

// An hour of an idle shard after some sales costs few entries: the expiry, and
// what the state asks for when retention ends.
func TestTicksAreFew(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.reserveAll(1000, 500)
		r.settle(time.Hour)
		if n := len(r.sent()); n < 1 || n > 10 {
			t.Errorf("%d ticks in an hour", n)
		}
		if r.reserved() != 0 {
			t.Errorf("%d units are still held", r.reserved())
		}
	})
}

// A stamp expires a bounded number. The rest needs other stamps: one tick for
// each millisecond, and not a spin within it.
func TestTicksFollowEachOtherWhileMoreIsDue(t *testing.T) {
	few := func(c *FSMConfig) { c.Allocator.ExpiryPerStamp = 10 }
	inRigOf(t, few, nil, func(r *rig) {
		r.reserveAll(1000, 100)
		start := time.Now()
		r.settle(time.Second - time.Nanosecond)
		r.want()
		r.settle(20 * time.Millisecond)
		if r.reserved() != 0 {
			t.Errorf("%d units are held %v after their end", r.reserved(), time.Since(start)-time.Second)
		}
		if n := len(r.sent()); n < 10 || n > 12 {
			t.Errorf("100 expiries, 10 a stamp, took %d ticks", n)
		}
	})
}

func TestCommandsDoTheWorkOfATick(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.reserveAll(1000, 1)
		time.Sleep(time.Second - 1)
		r.submit(reserve(1), 0)
		synctest.Wait()
		time.Sleep(time.Nanosecond)
		r.want(1) // the entry in flight was stamped a moment too early
		r.commit(1)
		r.want(1, 0)
		r.commit(1)
		if r.reserved() != 1 {
			t.Errorf("%d units are held, want the new one only", r.reserved())
		}
	})
}

func TestTickThatFailsIsTriedAgain(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.reserveAll(1000, 1)
		r.raft.set(func(f *fakeRaft) { f.refuse = raft.ErrLeadershipTransferInProgress })
		time.Sleep(time.Second + 10*tickRetry)
		r.want()
		r.raft.set(func(f *fakeRaft) { f.refuse = nil })
		time.Sleep(tickRetry)
		r.want(0)
		r.commit(1)
		if r.reserved() != 0 {
			t.Error("the reservation did not expire")
		}
	})
}

func TestNoTicksWithoutLeadership(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.reserveAll(1000, 1)
		r.Stop(CauseNotLeader)
		time.Sleep(time.Hour)
		r.want()
		r.start(2)
		r.want(0) // the opening of the term is the tick as well
		r.commit(1)
		if r.reserved() != 0 {
			t.Error("the reservation did not expire")
		}
	})
}

func TestTermIsOpenedWithAStamp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		r.raft.set(func(f *fakeRaft) { f.refuse = raft.ErrLeadershipTransferInProgress })
		r.start(1)
		r.want()
		r.raft.set(func(f *fakeRaft) { f.refuse = nil })
		time.Sleep(tickRetry)
		r.want(0) // it is tried again
		r.commit(1)
		if now := r.machine.Progress().Now; now != millis(testEpoch)+allocator.Millis(tickRetry/time.Millisecond) {
			t.Errorf("log time is %d", now)
		}
		r.stop()
	})
}

func TestStampsFollowLogTime(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		var stamps []allocator.Millis
		for n := range 5 {
			tk := r.submit(reserve(n), 0)
			r.commit(1)
			stamps = append(stamps, decodeResult(t, tk.wait().Result).At)
			time.Sleep(time.Second)
		}
		for i := 1; i < len(stamps); i++ {
			if stamps[i]-stamps[i-1] != 1000 {
				t.Errorf("stamps are %v", stamps)
			}
		}
	})
}

// Each checkpoint of the state is audited once, in the next entry, and the
// results still find their commands.
func TestAuditFollowsACheckpoint(t *testing.T) {
	inRig(t, func(l *Limits) { l.MaxInFlight = 1 }, func(r *rig) {
		for n := 0; !r.machine.Progress().HasCheckpoint; n++ {
			if n > 100_000 {
				t.Fatal("the state makes no checkpoints")
			}
			r.submit(reserve(n), 0)
			if n%1000 == 999 {
				r.commitAll()
			}
		}
		tk := r.submit(reserve(1_000_000), 0)
		r.commitAll()
		r.audits(1)
		if res := decodeResult(t, tk.wait().Result); res.Code != allocator.CodeOK || res.Reservation.ID.Seq == 0 {
			t.Errorf("the result behind an audit is %+v", res)
		}
		r.submit(reserve(1_000_001), 0)
		r.commitAll()
		r.audits(1)
	})
}

// audits checks how many audits were proposed, each first in its entry.
func (r *rig) audits(want int) {
	r.t.Helper()
	got := 0
	for _, data := range r.raft.entries {
		_, commands := decodeAll(r.t, data)
		for i, c := range commands {
			if allocator.Kind(c[0]) != allocator.KindAudit {
				continue
			}
			got++
			if i != 0 {
				r.t.Errorf("an audit is command %d of its entry", i)
			}
		}
	}
	if got != want {
		r.t.Errorf("%d audits were proposed, want %d", got, want)
	}
}
