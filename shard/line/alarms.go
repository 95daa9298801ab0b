package line

import (
	"container/heap"
	"time"
)

// alarm is a moment at which something is due: the end of an entry's time, or
// the next look for a line.
type alarm struct {
	at   time.Time
	id   ID
	line *queue // nil: it is an entry's
}

// alarms is a heap by time.
type alarms []alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a alarms) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *alarms) Push(x any) { *a = append(*a, x.(alarm)) }

// Pop implements heap.Interface.
func (a *alarms) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

func (d *Desk) setAlarm(a alarm) { heap.Push(&d.alarms, a) }

// ring deals with what is due.
func (d *Desk) ring(now time.Time) {
	for len(d.alarms) > 0 && !d.alarms[0].at.After(now) {
		a := heap.Pop(&d.alarms).(alarm)
		if a.line != nil {
			if d.lines[a.line.sku] == a.line {
				d.touch(a.line)
			}
			continue
		}
		if e := d.entries[a.id]; e != nil && !e.proposed {
			d.ringFor(e, now)
		}
	}
}

// ringFor gives up on an entry whose time is over, or ends its patience.
func (d *Desk) ringFor(e *entry, now time.Time) {
	if !now.Before(e.Deadline) {
		d.late(e)
		return
	}
	for i := range e.places {
		d.touch(e.places[i].queue)
	}
}

// nextAlarm is when the next one rings; zero: none will. Those of entries and
// lines that are gone are dropped on the way.
func (d *Desk) nextAlarm() time.Time {
	for len(d.alarms) > 0 {
		top := d.alarms[0]
		if top.line != nil && d.lines[top.line.sku] == top.line || d.entries[top.id] != nil {
			return top.at
		}
		heap.Pop(&d.alarms)
	}
	return time.Time{}
}
