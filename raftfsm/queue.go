package raftfsm

import (
	"hash/maphash"
	"time"

	"stockade/allocator"
)

// flowCount is how many flows reservations are shared out to, by their first SKU. So
// many that few SKUs share one with a SKU that everybody wants; each takes 32 bytes.
const flowCount = 1024

// urgent is the flow of all that is no reservation. It goes first: a confirmation, a
// cancellation or a delivery ends work, and is bounded by the reservations before it.
const urgent = -1

// flowSeed keeps who names SKUs from choosing which of them share a flow.
var flowSeed = maphash.MakeSeed()

// flowOf is the flow of a command.
func flowOf(sku []byte) int {
	if sku == nil {
		return urgent
	}
	return int(maphash.Bytes(flowSeed, sku) % flowCount)
}

// queue holds the items that wait for an entry: what is urgent, first come first served,
// and reservations in flows that take turns, so that a crowd that wants one SKU delays
// nobody else (stochastic fairness queueing, McKenney 1990). In a flow it is first come
// first served. It is guarded by the proposer's lock.
type queue struct {
	urgent fifo[*Item]
	flows  []fifo[*Item] // made with the first item
	turns  fifo[int]     // flows that have items, in the order of their turns
	n      int
	bytes  int // of the commands
}

// len is the number of items.
func (q *queue) len() int { return q.n }

// push appends an item to its flow.
func (q *queue) push(it *Item) {
	q.n++
	q.bytes += len(it.Command)
	if it.flow == urgent {
		q.urgent.push(it)
		return
	}
	if q.flows == nil {
		q.flows = make([]fifo[*Item], flowCount)
	}
	f := &q.flows[it.flow]
	if f.len() == 0 {
		q.turns.push(it.flow)
	}
	f.push(it)
}

// ahead is how many items go before the next one of a flow, at most: those that are
// urgent, and in each turn up to its own one of every flow.
func (q *queue) ahead(flow int) int {
	if flow == urgent || q.flows == nil {
		return q.urgent.len()
	}
	own, flows := q.flows[flow].len(), q.turns.len()
	if own == 0 {
		flows++
	}
	return q.urgent.len() + min(q.n-q.urgent.len(), (own+1)*flows-1)
}

// pop takes items for a batch within the limits and always one if there is one.
// Items whose deadline has passed come back apart and do not count.
func (q *queue) pop(l *Limits, now time.Time) (batch, late []*Item) {
	size := 0
	for q.n > 0 && len(batch) < l.MaxBatchCommands {
		it := q.first()
		if it.late(now) {
			late = append(late, q.shift())
			continue
		}
		size += entryPrefixLen + len(it.Command)
		if size > l.MaxBatchBytes && len(batch) > 0 {
			break
		}
		if batch == nil {
			batch = make([]*Item, 0, min(q.n, l.MaxBatchCommands))
		}
		batch = append(batch, q.shift())
	}
	return batch, late
}

// first is the item whose turn it is; there is one.
func (q *queue) first() *Item {
	if q.urgent.len() > 0 {
		return q.urgent.first()
	}
	return q.flows[q.turns.first()].first()
}

// shift removes the first item. Its flow has its next turn after all others.
func (q *queue) shift() (it *Item) {
	if q.urgent.len() > 0 {
		it = q.urgent.shift()
	} else {
		flow := q.turns.shift()
		it = q.flows[flow].shift()
		if q.flows[flow].len() > 0 {
			q.turns.push(flow)
		}
	}
	q.n--
	q.bytes -= len(it.Command)
	return it
}

// expire removes the items whose deadline has passed. earliest is the first
// deadline among the others, zero if none has one.
func (q *queue) expire(now time.Time) (late []*Item, earliest time.Time) {
	keep := func(it *Item) bool {
		if it.late(now) {
			late = append(late, it)
			q.n--
			q.bytes -= len(it.Command)
			return false
		}
		earliest = sooner(earliest, it.Deadline)
		return true
	}
	q.urgent.filter(keep)
	q.turns.filter(func(flow int) bool {
		q.flows[flow].filter(keep)
		return q.flows[flow].len() > 0
	})
	return late, earliest
}

// drain removes everything.
func (q *queue) drain() []*Item {
	all := make([]*Item, 0, q.n)
	for q.n > 0 {
		all = append(all, q.shift())
	}
	*q = queue{}
	return all
}

// late tells whether the item's deadline has passed.
func (it *Item) late(now time.Time) bool {
	return !it.Deadline.IsZero() && !now.Before(it.Deadline)
}

// sooner returns the earlier of two deadlines; a zero one is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// fifoKept is how large an array an empty fifo keeps. A thousand flows that were long
// once must not hold on to what they took then.
const fifoKept = 1024

// fifo is a queue in a slice. It lets go of what it gave away.
type fifo[T any] struct {
	items []T // from head on
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) first() T { return f.items[f.head] }

func (f *fifo[T]) push(v T) {
	// Half of the array at least: else flows that take turns would move it for each item.
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 {
		f.compact()
	}
	f.items = append(f.items, v)
}

func (f *fifo[T]) shift() T {
	var none T
	v := f.items[f.head]
	f.items[f.head] = none
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > fifoKept {
			f.items = nil
		}
	}
	return v
}

// filter keeps what keep says, in its order.
func (f *fifo[T]) filter(keep func(T) bool) {
	f.compact()
	kept := f.items[:0]
	for _, v := range f.items {
		if keep(v) {
			kept = append(kept, v)
		}
	}
	clear(f.items[len(kept):])
	f.items = kept
}

// compact moves the items to the front of their array.
func (f *fifo[T]) compact() {
	n := copy(f.items, f.items[f.head:])
	clear(f.items[n:])
	f.items, f.head = f.items[:n], 0
}

// inspect tells whether a command may enter the log, and its flow. One that does not
// decode would stop every replica that applies it, and so would an audit with a wrong
// hash: only the leader itself makes audits.
func inspect(command []byte) (flow int, ok bool) {
	sku, err := allocator.InspectCommand(command)
	return flowOf(sku), err == nil && allocator.Kind(command[0]) != allocator.KindAudit
}
