package delivery

import (
	"slices"
	"testing"
	"time"

	"stockade/allocator"
)

// outbox has one message to each of some shards.
type outbox map[allocator.ShardID]uint64 // first sequence number

func (o outbox) Destinations() (to []allocator.ShardID) {
	for shard := range o {
		to = append(to, shard)
	}
	slices.Sort(to)
	return to
}

func (o outbox) Head(to allocator.ShardID, _ int) allocator.TransferIn {
	if o[to] == 0 {
		return allocator.TransferIn{}
	}
	return allocator.TransferIn{From: 9, First: o[to], Messages: []allocator.Message{{SKU: "a", Quantity: 1}}}
}

// sent lists where the sends go, acknowledgements as negative numbers.
func sent(sends []Send) (to []int) {
	for _, s := range sends {
		if s.Ack {
			to = append(to, -int(s.To))
		} else {
			to = append(to, int(s.To))
		}
	}
	return to
}

// TestOneStepAtATime for each destination: the message, its acknowledgement at home,
// and only then the next message.
func TestOneStepAtATime(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	box := outbox{1: 1, 2: 7, 3: 0}
	c := NewCourier(box)
	step := func(want ...int) {
		t.Helper()
		sends, next := c.Step(now)
		if got := sent(sends); !slices.Equal(got, want) || !next.IsZero() {
			t.Fatalf("sends %v, next at %v; want %v and nothing planned", got, next, want)
		}
	}
	step(1, 2)
	step()
	c.Taken(2, 7)
	step(-2)
	step()
	c.Acked(2)
	box[2] = 8
	step(2)
}

// TestPausesGrow while nobody takes what is sent, up to a bound; since when that is
// so is told, and one success forgets it.
func TestPausesGrow(t *testing.T) {
	began := time.UnixMilli(1_000_000)
	now := began
	c := NewCourier(outbox{1: 1})
	var pauses []time.Duration
	for range 8 {
		if sends, _ := c.Step(now); len(sends) != 1 {
			t.Fatalf("%v: sends %v", now.Sub(began), sent(sends))
		}
		since, long := c.Failed(now, 1)
		if since != began || long != (len(pauses) >= 5) {
			t.Errorf("after %v: failing since %v, for long: %v", pauses, since.Sub(began), long)
		}
		sends, next := c.Step(now)
		if len(sends) != 0 {
			t.Errorf("sends %v at once", sent(sends))
		}
		pauses = append(pauses, next.Sub(now))
		now = next
	}
	ms := time.Millisecond
	if want := []time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 100 * ms, 100 * ms, 100 * ms}; !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
	c.Step(now)
	c.Taken(1, 1)
	c.Step(now)
	c.Acked(1)
	c.Step(now)
	if since, _ := c.Failed(now, 1); since != now {
		t.Errorf("it fails since %v, want now", since)
	}
}
