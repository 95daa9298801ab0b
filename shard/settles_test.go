package shard

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
	"stockade/shard/simdisk"
)

// TestRefusalSettlesARequest repeats a request whose time was over while its command was
// in the log, behind a cancellation. What is applied then has nothing left, and a
// refusal of the repetition would be followed by a reservation that nobody knows of.
func TestRefusalSettlesARequest(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		// The followers' disks are slow, the leader's is not: its Raft is never away
		// writing, so that an entry is applied as soon as it is committed.
		slow, leader := time.Duration(0), shardrpc.NodeID("")
		var mu sync.Mutex
		c := newTestCluster(t, 3, 1, nil)
		c.each = func(cfg *Config) {
			id := cfg.NodeID
			cfg.Files = simdisk.New(1, func() time.Duration {
				mu.Lock()
				defer mu.Unlock()
				if id == leader {
					return 0
				}
				return slow
			})
		}
		c.startAll()
		defer c.stopAll()
		n := c.leader(0)
		propose := func(cmd allocator.Command, within time.Duration) <-chan shardrpc.Response {
			answer := make(chan shardrpc.Response, 2)
			n.Propose(&shardrpc.Proposal{
				Command: cmd.AppendTo(nil), Deadline: time.Now().Add(within),
				Done: func(r shardrpc.Response) { answer <- r },
			})
			return answer
		}
		ask := func(number int) allocator.Result {
			t.Helper()
			return resultOf(t, <-propose(reserve(number, "hot", 1), time.Minute))
		}
		c.apply(n, 0, putSKU("hot", 2).AppendTo(nil))
		held, back := ask(1), ask(2)
		if r := ask(3); r.Code != allocator.CodeInsufficientStock { // from now on repetitions are looked at before the log
			t.Fatalf("of two units three are sold: %v", r.Code)
		}
		c.apply(n, 0, (&allocator.Cancel{ID: back.Reservation.ID}).AppendTo(nil))

		synctest.Wait() // both followers have it
		mu.Lock()
		slow, leader = 300*time.Millisecond, n.ID()
		mu.Unlock()
		other := propose(reserve(4, "hot", 1), time.Minute)
		<-time.After(10 * time.Millisecond) // it is in an entry of its own
		propose(&allocator.Cancel{ID: held.Reservation.ID}, time.Minute)
		first := propose(reserve(5, "hot", 1), 400*time.Millisecond)
		early := propose(reserve(5, "hot", 1), time.Minute)
		if r := resultOf(t, <-other); r.Code != allocator.CodeOK {
			t.Fatalf("the unit that came back: %v", r.Code)
		}
		if r := <-first; r.Outcome != shardrpc.Unknown {
			t.Fatalf("answered %v while its command is in the log", r.Outcome)
		}
		again := propose(reserve(5, "hot", 1), time.Minute)
		foreign := reserve(5, "hot", 2)
		foreign.Body++
		if r := resultOf(t, <-propose(foreign, time.Minute)); r.Code != allocator.CodeKeyReused {
			t.Errorf("another request with its key: %v", r.Code)
		}
		for name, answer := range map[string]<-chan shardrpc.Response{"before the first is answered": early, "after that": again} {
			if r := resultOf(t, <-answer); r.Code != allocator.CodeOK || !r.Replayed {
				t.Errorf("the repetition %s: %v, replayed: %v", name, r.Code, r.Replayed)
			}
		}
		var left allocator.BucketReport
		n.replica(0).fsm.Read(func(s *allocator.State) { left = s.Bucket("hot") })
		if left.Available != 0 || left.Reserved != 2 {
			t.Errorf("%d left, %d reserved", left.Available, left.Reserved)
		}
	})
}

// TestRepetitionOutlivesTheFirst has a repetition join a request that waits in line and
// whose time is over first. Its own is not: it waits on, and gets what comes back.
func TestRepetitionOutlivesTheFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1, 1, nil)
		c.startAll()
		defer c.stopAll()
		n := c.leader(0)
		c.apply(n, 0, putSKU("hot", 1).AppendTo(nil))
		held := c.apply(n, 0, reserve(1, "hot", 1).AppendTo(nil))
		wait := func(within time.Duration) <-chan shardrpc.Response {
			answer := make(chan shardrpc.Response, 2)
			at := time.Now().Add(within)
			n.Propose(&shardrpc.Proposal{
				Command: reserve(2, "hot", 1).AppendTo(nil), Deadline: at, WaitUntil: time.Now().Add(time.Minute),
				Done: func(r shardrpc.Response) { answer <- r },
			})
			return answer
		}
		first, again := wait(100*time.Millisecond), wait(time.Minute)
		if r := <-first; r.Outcome != shardrpc.NotApplied {
			t.Errorf("the first: %v, though its time is over", r.Outcome)
		}
		synctest.Wait()
		c.apply(n, 0, (&allocator.Cancel{ID: held.Reservation.ID}).AppendTo(nil))
		if r := resultOf(t, <-again); r.Code != allocator.CodeOK {
			t.Errorf("the repetition: %v", r.Code)
		}
	})
}

// resultOf reads the result of what was applied.
func resultOf(t *testing.T, r shardrpc.Response) (res allocator.Result) {
	t.Helper()
	if r.Outcome != shardrpc.Applied {
		t.Fatalf("outcome %v, reason %v", r.Outcome, r.Reason)
	}
	if err := allocator.DecodeResult(r.Result, &res); err != nil {
		t.Fatal(err)
	}
	return res
}
