package raftfsm

import "time"

// queue holds the items that wait for an entry, first come first served. It is
// guarded by the proposer's lock.
type queue struct {
	items []*Item // from head on
	head  int
	bytes int // of the commands
}

// len is the number of items.
func (q *queue) len() int { return len(q.items) - q.head }

// push appends an item.
func (q *queue) push(it *Item) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		q.compact()
	}
	q.items = append(q.items, it)
	q.bytes += len(it.Command)
}

// pop takes items for a batch within the limits and always one if there is one.
// Items whose deadline has passed come back apart and do not count.
func (q *queue) pop(l *Limits, now time.Time) (batch, late []*Item) {
	size := 0
	for q.len() > 0 && len(batch) < l.MaxBatchCommands {
		it := q.items[q.head]
		if it.late(now) {
			late = append(late, q.shift())
			continue
		}
		size += entryPrefixLen + len(it.Command)
		if size > l.MaxBatchBytes && len(batch) > 0 {
			break
		}
		if batch == nil {
			batch = make([]*Item, 0, min(q.len(), l.MaxBatchCommands))
		}
		batch = append(batch, q.shift())
	}
	return batch, late
}

// shift removes the first item.
func (q *queue) shift() *Item {
	it := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	q.bytes -= len(it.Command)
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return it
}

// expire removes the items whose deadline has passed. earliest is the first
// deadline among the others, zero if none has one.
func (q *queue) expire(now time.Time) (late []*Item, earliest time.Time) {
	q.compact()
	kept := q.items[:0]
	for _, it := range q.items {
		if it.late(now) {
			late = append(late, it)
			q.bytes -= len(it.Command)
			continue
		}
		kept = append(kept, it)
		earliest = sooner(earliest, it.Deadline)
	}
	clear(q.items[len(kept):])
	q.items = kept
	return late, earliest
}

// drain removes everything.
func (q *queue) drain() []*Item {
	all := q.items[q.head:]
	*q = queue{}
	return all
}

// compact moves the items to the front of their array.
func (q *queue) compact() {
	n := copy(q.items, q.items[q.head:])
	clear(q.items[n:])
	q.items, q.head = q.items[:n], 0
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
