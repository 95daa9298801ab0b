package raftfsm

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"stockade/allocator"
)

// A queue behaves like a naive one, under any order of operations: a list of what is
// urgent, and lists of the flows, in a list of turns.
func TestQueueAgainstAModel(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	limits := Limits{MaxBatchCommands: 7, MaxBatchBytes: 60}
	now := time.Now()
	var q queue
	var model modelQueue
	for range 20_000 {
		switch kind := random.IntN(20); {
		case kind < 13:
			it := &Item{Command: make([]byte, 1+random.IntN(20)), flow: random.IntN(5) - 1}
			if random.IntN(3) == 0 {
				it.Deadline = now.Add(time.Duration(1+random.IntN(500)) * time.Millisecond)
			}
			q.push(it)
			model.push(it)
		case kind < 16:
			now = now.Add(time.Duration(random.IntN(50)) * time.Millisecond)
			wantBatch, wantLate := model.pop(&limits, now)
			batch, late := q.pop(&limits, now)
			if !slices.Equal(batch, wantBatch) || !slices.Equal(late, wantLate) {
				t.Fatalf("popped %d and %d late, want %d and %d", len(batch), len(late), len(wantBatch), len(wantLate))
			}
		case kind < 19:
			now = now.Add(time.Duration(random.IntN(50)) * time.Millisecond)
			wantLate, wantEarliest := model.expire(now)
			late, earliest := q.expire(now)
			if !slices.Equal(late, wantLate) || !earliest.Equal(wantEarliest) {
				t.Fatalf("expired %d with %v next, want %d with %v", len(late), earliest, len(wantLate), wantEarliest)
			}
		case random.IntN(20) == 0:
			if all, want := q.drain(), model.drain(); !slices.Equal(all, want) {
				t.Fatalf("drained %d items, want %d", len(all), len(want))
			}
		}
		n, bytes := model.sizes()
		if q.len() != n || q.bytes != bytes {
			t.Fatalf("the queue says %d items with %d bytes, it has %d with %d", q.len(), q.bytes, n, bytes)
		}
		for flow := urgent; flow < 4; flow++ {
			if got, want := q.ahead(flow), model.ahead(flow); got != want {
				t.Fatalf("%d are said to be ahead of the next item of flow %d, there are %d", got, flow, want)
			}
		}
	}
}

// modelQueue has the flows in the order of their turns.
type modelQueue struct {
	urgent []*Item
	flows  [][]*Item
}

func (m *modelQueue) push(it *Item) {
	if it.flow == urgent {
		m.urgent = append(m.urgent, it)
		return
	}
	for i := range m.flows {
		if m.flows[i][0].flow == it.flow {
			m.flows[i] = append(m.flows[i], it)
			return
		}
	}
	m.flows = append(m.flows, []*Item{it})
}

// next is the list whose turn it is.
func (m *modelQueue) next() *[]*Item {
	if len(m.urgent) > 0 {
		return &m.urgent
	}
	if len(m.flows) > 0 {
		return &m.flows[0]
	}
	return nil
}

// take removes the first item of the list whose turn it is.
func (m *modelQueue) take() *Item {
	list := m.next()
	it := (*list)[0]
	*list = (*list)[1:]
	if it.flow != urgent {
		rest := m.flows[0]
		m.flows = m.flows[1:]
		if len(rest) > 0 {
			m.flows = append(m.flows, rest)
		}
	}
	return it
}

func (m *modelQueue) pop(l *Limits, now time.Time) (batch, late []*Item) {
	size := 0
	for m.next() != nil && len(batch) < l.MaxBatchCommands {
		it := (*m.next())[0]
		if it.late(now) {
			late = append(late, m.take())
			continue
		}
		if size += len(it.Command) + entryPrefixLen; size > l.MaxBatchBytes && len(batch) > 0 {
			break
		}
		batch = append(batch, m.take())
	}
	return batch, late
}

func (m *modelQueue) expire(now time.Time) (late []*Item, earliest time.Time) {
	filter := func(list []*Item) (rest []*Item) {
		for _, it := range list {
			if it.late(now) {
				late = append(late, it)
				continue
			}
			rest = append(rest, it)
			if !it.Deadline.IsZero() && (earliest.IsZero() || it.Deadline.Before(earliest)) {
				earliest = it.Deadline
			}
		}
		return rest
	}
	m.urgent = filter(m.urgent)
	var flows [][]*Item
	for _, f := range m.flows {
		if rest := filter(f); len(rest) > 0 {
			flows = append(flows, rest)
		}
	}
	m.flows = flows
	return late, earliest
}

func (m *modelQueue) drain() (all []*Item) {
	for m.next() != nil {
		all = append(all, m.take())
	}
	return all
}

func (m *modelQueue) sizes() (n, bytes int) {
	for _, list := range append([][]*Item{m.urgent}, m.flows...) {
		for _, it := range list {
			n, bytes = n+1, bytes+len(it.Command)
		}
	}
	return n, bytes
}

// ahead bounds what goes before the next item of a flow: in as many turns as it has
// items, and one more, one item of each other flow.
func (m *modelQueue) ahead(flow int) int {
	if flow == urgent {
		return len(m.urgent)
	}
	n, _ := m.sizes()
	flows, own := len(m.flows), 0
	for _, f := range m.flows {
		if f[0].flow == flow {
			own = len(f)
		}
	}
	if own == 0 {
		flows++
	}
	return len(m.urgent) + min(n-len(m.urgent), (own+1)*flows-1)
}

// What ahead says is never less than what really goes before, if nobody comes later.
func TestAheadIsABound(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 500 {
		var q queue
		for range random.IntN(60) {
			q.push(&Item{flow: random.IntN(6) - 1})
		}
		mine := &Item{flow: random.IntN(6) - 1}
		bound := q.ahead(mine.flow)
		q.push(mine)
		before := 0
		for q.shift() != mine {
			before++
		}
		if before > bound {
			t.Fatalf("%d went before, the bound was %d", before, bound)
		}
	}
}

func TestQueueLetsGoOfWhatItGaveAway(t *testing.T) {
	var q queue
	for range 100 {
		q.push(&Item{flow: 3})
	}
	q.pop(&Limits{MaxBatchCommands: 60, MaxBatchBytes: 1 << 20}, time.Now())
	q.push(&Item{flow: 3})
	f := &q.flows[3]
	for i, it := range f.items[:cap(f.items)] {
		if inUse := i >= f.head && i < len(f.items); (it != nil) != inUse {
			t.Fatalf("place %d of %d to %d holds an item: %v", i, f.head, len(f.items), it != nil)
		}
	}
}

// Reservations are told apart by their first SKU; everything else is urgent.
func TestFlows(t *testing.T) {
	reserveOf := func(skus ...allocator.SKU) []byte {
		r := allocator.Reserve{Key: key(1), Body: 1}
		for _, sku := range skus {
			r.Lines = append(r.Lines, allocator.Line{SKU: sku, Quantity: 1})
		}
		return r.AppendTo(nil)
	}
	a, ok := inspect(reserveOf("a", "b"))
	again, _ := inspect(reserveOf("a"))
	if !ok || a != again || a < 0 || a >= flowCount {
		t.Errorf("flows %d and %d", a, again)
	}
	for _, c := range []allocator.Command{
		&allocator.Confirm{ID: allocator.ReservationID{Seq: 1}}, &allocator.Cancel{ID: allocator.ReservationID{Seq: 1}}, &allocator.TransferAck{To: 1, Through: 1},
	} {
		if flow, ok := inspect(c.AppendTo(nil)); !ok || flow != urgent {
			t.Errorf("%T has flow %d, %v", c, flow, ok)
		}
	}
	if _, ok := inspect([]byte{0xff}); ok {
		t.Error("what is no command may enter the log")
	}
}
