package raftfsm

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A queue behaves like a slice, under any order of operations.
func TestQueueAgainstASlice(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	limits := Limits{MaxBatchCommands: 7, MaxBatchBytes: 60}
	now := time.Now()
	var q queue
	var model []*Item
	for range 20_000 {
		switch kind := random.IntN(20); {
		case kind < 13:
			it := &Item{Command: make([]byte, 1+random.IntN(20))}
			if random.IntN(3) == 0 {
				it.Deadline = now.Add(time.Duration(1+random.IntN(500)) * time.Millisecond)
			}
			q.push(it)
			model = append(model, it)
		case kind < 16:
			now = now.Add(time.Duration(random.IntN(50)) * time.Millisecond)
			wantBatch, wantLate, rest := modelPop(model, &limits, now)
			batch, late := q.pop(&limits, now)
			if !slices.Equal(batch, wantBatch) || !slices.Equal(late, wantLate) {
				t.Fatalf("popped %d and %d late, want %d and %d", len(batch), len(late), len(wantBatch), len(wantLate))
			}
			model = rest
		case kind < 19:
			now = now.Add(time.Duration(random.IntN(50)) * time.Millisecond)
			wantLate, wantEarliest, rest := modelExpire(model, now)
			late, earliest := q.expire(now)
			if !slices.Equal(late, wantLate) || !earliest.Equal(wantEarliest) {
				t.Fatalf("expired %d with %v next, want %d with %v", len(late), earliest, len(wantLate), wantEarliest)
			}
			model = rest
		case random.IntN(20) == 0:
			if all := q.drain(); !slices.Equal(all, model) {
				t.Fatalf("drained %d items, want %d", len(all), len(model))
			}
			model = nil
		}
		bytes := 0
		for _, it := range model {
			bytes += len(it.Command)
		}
		if q.len() != len(model) || q.bytes != bytes {
			t.Fatalf("the queue says %d items with %d bytes, it has %d with %d", q.len(), q.bytes, len(model), bytes)
		}
	}
}

// modelPop is what pop does to a slice.
func modelPop(model []*Item, l *Limits, now time.Time) (batch, late, rest []*Item) {
	size := 0
	for len(model) > 0 && len(batch) < l.MaxBatchCommands {
		it := model[0]
		if it.late(now) {
			late = append(late, it)
		} else {
			if size += len(it.Command) + entryPrefixLen; size > l.MaxBatchBytes && len(batch) > 0 {
				break
			}
			batch = append(batch, it)
		}
		model = model[1:]
	}
	return batch, late, model
}

// modelExpire is what expire does to a slice.
func modelExpire(model []*Item, now time.Time) (late []*Item, earliest time.Time, rest []*Item) {
	for _, it := range model {
		if it.late(now) {
			late = append(late, it)
			continue
		}
		rest = append(rest, it)
		if !it.Deadline.IsZero() && (earliest.IsZero() || it.Deadline.Before(earliest)) {
			earliest = it.Deadline
		}
	}
	return late, earliest, rest
}

func TestQueueLetsGoOfWhatItGaveAway(t *testing.T) {
	var q queue
	for range 100 {
		q.push(&Item{})
	}
	q.pop(&Limits{MaxBatchCommands: 60, MaxBatchBytes: 1 << 20}, time.Now())
	q.push(&Item{})
	for i, it := range q.items[:cap(q.items)] {
		if inUse := i >= q.head && i < len(q.items); (it != nil) != inUse {
			t.Fatalf("place %d of %d to %d holds an item: %v", i, q.head, len(q.items), it != nil)
		}
	}
}
