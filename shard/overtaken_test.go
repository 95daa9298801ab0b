package shard

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
	"stockade/shard/simdisk"
)

// TestRefusalSettlesEarlierAttempts refuses a request whose first attempt is still under
// way between nodes. It comes when a unit is there, and gets the refusal: its client was
// told. What began after the refusal is a new request.
func TestRefusalSettlesEarlierAttempts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1, 1, nil)
		c.startAll()
		defer c.stopAll()
		n := c.leader(0)
		attempt := attempts(t, n)
		c.apply(n, 0, putSKU("hot", 1).AppendTo(nil))
		held := attempt(reserve(1, "hot", 1), time.Now())
		begun := time.Now()
		<-time.After(time.Millisecond)

		for _, key := range []int{2, 2, 3} { // the first time by the log, then before it
			if r := attempt(reserve(key, "hot", 1), time.Now()); r.Code != allocator.CodeInsufficientStock {
				t.Fatalf("of one unit two are sold: %v", r.Code)
			}
		}
		c.apply(n, 0, (&allocator.Cancel{ID: held.Reservation.ID}).AppendTo(nil))
		if r := attempt(reserve(2, "hot", 1), begun); r.Code != allocator.CodeInsufficientStock || r.SKU != "hot" || r.Requested != 1 {
			t.Errorf("an attempt that began before the refusal: %+v", r)
		}
		made := func(what string, cmd allocator.Command, begun time.Time) allocator.ReservationID {
			t.Helper()
			r := attempt(cmd, begun)
			if r.Code != allocator.CodeOK || r.Replayed {
				t.Fatalf("%s: %v, replayed: %v", what, r.Code, r.Replayed)
			}
			return r.Reservation.ID
		}
		back := func(id allocator.ReservationID) { c.apply(n, 0, (&allocator.Cancel{ID: id}).AppendTo(nil)) }
		other := reserve(2, "hot", 1)
		other.Body++
		back(made("another request with its key", other, begun))
		back(made("a request that was not refused", reserve(4, "hot", 1), begun))

		again := made("one that began after the refusal", reserve(3, "hot", 1), time.Now())
		if r := attempt(reserve(3, "hot", 1), begun); r.Code != allocator.CodeOK || r.Reservation.ID != again {
			t.Errorf("an early attempt of what was made after all: %v", r.Code)
		}
	})
}

// attempts makes attempts of requests that began at some time, at a shard's leader.
func attempts(t *testing.T, n *Node) func(cmd allocator.Command, begun time.Time) allocator.Result {
	return func(cmd allocator.Command, begun time.Time) allocator.Result {
		t.Helper()
		answer := make(chan shardrpc.Response, 1)
		n.Propose(&shardrpc.Proposal{
			Command: cmd.AppendTo(nil), Deadline: time.Now().Add(time.Minute), Begun: begun,
			Done: func(r shardrpc.Response) { answer <- r },
		})
		return resultOf(t, <-answer)
	}
}

// TestRefusalSettlesEarlierConfirmations refuses a late confirmation for which there is no
// unit, while an earlier attempt of it is still under way. It arrives when one is back, and
// must not sell what its client believes to be lost.
func TestRefusalSettlesEarlierConfirmations(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1, 1, nil)
		c.startAll()
		defer c.stopAll()
		n := c.leader(0)
		attempt := attempts(t, n)
		c.apply(n, 0, putSKU("hot", 1).AppendTo(nil))
		confirm := &allocator.Confirm{ID: attempt(reserve(1, "hot", 1), time.Now()).Reservation.ID}
		<-time.After(2 * time.Second) // it has expired
		other := attempt(reserve(2, "hot", 1), time.Now())
		begun := time.Now()
		<-time.After(time.Millisecond)
		want := func(what string, code allocator.Code, begun time.Time) {
			t.Helper()
			if r := attempt(confirm, begun); r.Code != code {
				t.Errorf("%s: %v, want %v", what, r.Code, code)
			}
		}
		want("its unit is somebody else's", allocator.CodeReservationExpired, time.Now())
		c.apply(n, 0, (&allocator.Cancel{ID: other.Reservation.ID}).AppendTo(nil))
		want("an attempt that began before the refusal", allocator.CodeReservationExpired, begun)
		want("one that began after it", allocator.CodeOK, time.Now())
		want("an early attempt of what was done after all", allocator.CodeOK, begun)
	})
}

// TestConfirmationsMeet sends a late confirmation again while its refusal is on its way
// through the log, by an attempt that began before, and gives the unit back in between: both
// get the same answer.
func TestConfirmationsMeet(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const commit = 10 * time.Millisecond // of a disk
		c := newTestCluster(t, 3, 1, nil)
		c.each = func(cfg *Config) { cfg.Files = simdisk.New(1, func() time.Duration { return commit }) }
		c.startAll()
		defer c.stopAll()
		n := c.leader(0)
		attempt := attempts(t, n)
		answers := map[[2]allocator.Code]int{}
		for i := range 25 {
			sku := fmt.Sprintf("hot-%d", i)
			c.apply(n, 0, putSKU(sku, 1).AppendTo(nil))
			confirm := &allocator.Confirm{ID: attempt(reserve(1000+i, allocator.SKU(sku), 1), time.Now()).Reservation.ID}
			<-time.After(2 * time.Second) // it has expired
			other := attempt(reserve(2000+i, allocator.SKU(sku), 1), time.Now())
			begun := time.Now()
			<-time.After(time.Millisecond)
			var both [2]allocator.Code
			var under sync.WaitGroup
			under.Go(func() { both[1] = attempt(confirm, time.Now()).Code })
			<-time.After(time.Duration(i) * commit / 5)
			under.Go(func() { c.apply(n, 0, (&allocator.Cancel{ID: other.Reservation.ID}).AppendTo(nil)) })
			under.Go(func() { both[0] = attempt(confirm, begun).Code })
			under.Wait()
			if both[0] != both[1] {
				t.Errorf("the unit is back after %v: an earlier attempt is told %v, the later one %v", time.Duration(i)*commit/5, both[0], both[1])
			}
			answers[both]++
		}
		if len(answers) < 2 {
			t.Errorf("nothing depends on when the unit comes back: %v", answers)
		}
	})
}

// TestRefusedIsAskedForAgain asks again, knowing that it was refused, when a unit has come
// back: here, and through another node.
func TestRefusedIsAskedForAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		for i, n := range []string{"n1", "n2", "n3"} {
			node, sku := c.nodes[n], allocator.SKU(n)
			c.apply(leader, 0, putSKU(n, 1).AppendTo(nil))
			held := c.apply(leader, 0, reserve(10*i+1, sku, 1).AppendTo(nil))
			ask := func() allocator.Result {
				t.Helper()
				p := &shardrpc.Proposal{Command: reserve(10*i+2, sku, 1).AppendTo(nil), Deadline: time.Now().Add(time.Minute), Begun: time.Now()}
				return resultOf(t, node.Dispatcher().Await(t.Context(), p, nil))
			}
			if r := ask(); r.Code != allocator.CodeInsufficientStock {
				t.Fatalf("%s: of one unit two are sold: %v", n, r.Code)
			}
			c.apply(leader, 0, (&allocator.Cancel{ID: held.Reservation.ID}).AppendTo(nil))
			<-time.After(10 * time.Microsecond) // as exactly as an age travels
			if r := ask(); r.Code != allocator.CodeOK {
				t.Errorf("%s: the unit is back, and asked for again: %v", n, r.Code)
			}
		}
	})
}
