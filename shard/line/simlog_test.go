package line

import (
	"bytes"
	"slices"
	"time"

	"stockade/allocator"
)

// What the log of a simulated shard adds to its desk: log time and what it
// expires, commands of which nobody knows whether they are in it, and replicas
// that come from a snapshot and what follows it.

const (
	tickEvery    = 5 * time.Millisecond   // how often a leader looks what is due
	overtaken    = 100 * time.Millisecond // by how much, at most
	resendWithin = 200 * time.Millisecond // of a request that the network repeats
	insistWithin = 30 * time.Millisecond  // of a request whose connection breaks
)

// journal is a snapshot and the log after it.
type journal struct {
	snapshot []byte // empty: none was taken yet
	entries  []journalEntry
}

// journalEntry is a stamp, or a command.
type journalEntry struct {
	stamp   allocator.Millis
	command []byte
}

func (j *journal) add(command []byte) {
	j.entries = append(j.entries, journalEntry{command: bytes.Clone(command)})
}

// begin stamps the next entry, which expires what is due. It tells what there is then.
func (h *home) begin() []shelf {
	stamp, before := h.logTime(), h.shelves()
	h.journal.entries = append(h.journal.entries, journalEntry{stamp: stamp})
	if err := h.state.Begin(stamp); err != nil {
		panic(err)
	}
	after := h.shelves()
	h.cameBack(before, after)
	return after
}

// tick is an entry without a command.
func (h *home) tick() {
	h.begin()
	for _, sku := range h.w.skus {
		h.touched[sku] = true
	}
	h.desk.Applied(h.state.LevelMark)
	h.pump()
	h.w.after(tickEvery, h.name("ticks"), h.tick)
}

// shelf is what there is of one SKU here.
type shelf struct {
	available, taken allocator.Quantity // taken: held or sold
	paused           bool
}

// shelves is what there is here, of each SKU.
func (h *home) shelves() []shelf {
	all := make([]shelf, len(h.w.skus))
	for i, sku := range h.w.skus {
		b := h.state.Level(sku)
		all[i] = shelf{b.Available, b.Reserved + b.Committed, b.Policy.Paused}
	}
	return all
}

// cameBack counts units that were not for sale before. It is done when they are, not when
// somebody is told: a report of a later moment has them.
func (h *home) cameBack(before, after []shelf) {
	for i, sku := range h.w.skus {
		h.w.returned[sku] += max(0, after[i].available-before[i].available)
	}
}

// drops draws whether a command that an ended office proposed never gets into the log.
func (h *home) drops(office *Desk) bool {
	dropped := office != h.desk && h.w.rand.Float64() < h.w.plan.drop
	if dropped {
		h.w.happened.drops++
	}
	return dropped
}

// restart replaces the replica by one that is made from a snapshot, which may be of
// now, and the log. It must be the same. Its leader is a new one.
func (h *home) restart() {
	if h.w.rand.IntN(2) == 0 {
		h.snapshot()
	}
	before, replica := h.state, h.replay()
	if replica.Hash() != before.Hash() || replica.Applied() != before.Applied() || replica.Now() != before.Now() {
		h.w.wrong = "a replica from a snapshot and the log differs"
	}
	if err := replica.CheckInvariants(); err != nil {
		h.w.wrong = err.Error()
	}
	h.state = replica
	h.w.happened.restarts++
	h.elect()
}

func (h *home) snapshot() {
	var b bytes.Buffer
	if _, err := h.state.Freeze().WriteTo(&b); err != nil {
		panic(err)
	}
	h.journal = journal{snapshot: b.Bytes()}
}

// replay makes a replica from the journal.
func (h *home) replay() *allocator.State {
	st, err := allocator.New(h.state.Config())
	if len(h.journal.snapshot) > 0 {
		st, err = allocator.Restore(bytes.NewReader(h.journal.snapshot))
	}
	for _, e := range h.journal.entries {
		switch {
		case err != nil:
			panic(err)
		case e.command != nil:
			_, err = st.Apply(e.command, nil)
		default:
			err = st.Begin(e.stamp)
		}
	}
	if err != nil {
		panic(err)
	}
	return st
}

// got notes what an order's key got in the log: always the same reservation. A task
// keeps its own book.
func (o *order) got(r allocator.Result) {
	b, w := o.base(), o.home.w
	switch {
	case o.task != nil:
		acted := o.task.acted
		o.task.got(r)
		if !acted && o.task.acted && b.settled {
			w.wrong = o.name("was done, and its client was refused")()
		}
		return
	case r.Code != allocator.CodeOK:
		return
	case b.reservation == (allocator.ReservationID{}):
		if b.settled {
			w.wrong = o.name("has a reservation, and its client was refused")()
		}
		b.holds(r)
	case b.reservation != r.Reservation.ID:
		w.wrong = o.name("got a second reservation")()
	}
	b.reservation = r.Reservation.ID
}

// base is the order as it first came.
func (o *order) base() *order {
	if o.first != nil {
		return o.first
	}
	return o
}

// insist has the client ask again while the order is under way: the connection broke,
// or its time is over while its command is in the log, and nobody knows what becomes
// of it. From now on the first attempt's answer goes nowhere.
func (o *order) insist() {
	if o.answer != "" || o.settled { // its client knows
		return
	}
	w := o.home.w
	w.happened.insists++
	o.left = true
	if o.flying && w.rand.IntN(2) == 0 {
		if o.task == nil {
			o.home.under.Outlives(o.key)
		}
		o.outlived = true
		if o.desk == o.home.desk && o.desk.entries[o.id] != nil {
			o.desk.Done(o.id)
		}
		o.end("unknown")
	}
	again := &order{no: o.no, home: o.home, command: o.command, key: o.key, needs: o.needs, wait: o.wait, came: o.came, begun: w.now, deadline: o.deadline, buyer: o.buyer, task: o.task, first: o.base()}
	w.orders = append(w.orders, again)
	w.open++
	o.home.receive(again)
}

// isOvertaken has the client send the order again, because the connection broke, and that
// attempt arrive first. Who leads when the first one arrives is another one, maybe; then
// it is not sent on, because nobody waits for it.
func (o *order) isOvertaken() {
	w, office := o.home.w, o.home.desk
	way := w.upTo(overtaken)
	w.after(w.upTo(way), o.name("is sent again"), o.insist)
	w.after(way, o.name("is overtaken"), func() {
		switch {
		case o.home.desk != office:
			o.retry()
		case !w.now.Before(o.deadline):
			o.end("late")
		default:
			o.home.receive(o)
		}
	})
}

// landed takes the end of a command that outlived its attempt, in the log or not; false:
// its attempt is not answered yet. Who waits for the answer gets it, or goes on.
func (h *home) landed(o *order, office *Desk, r *allocator.Result) bool {
	o.flying = false
	if !o.outlived || o.task != nil {
		return o.outlived
	}
	next, goesOn, more := h.under.Over(o.key, r != nil && len(r.Shortages) > 0)
	switch {
	case goesOn && office == h.desk:
		next.entered = true
		h.park(next, false)
	case goesOn:
		next.entered = true
		next.retry()
	}
	for _, m := range more {
		if r == nil {
			m.retry()
		} else {
			m.done(*r)
		}
	}
	h.pump()
	return true
}

// resend has an order's request arrive once more, whatever became of it.
func (o *order) resend() {
	o.settled = false // it may come after everything
	o.home.w.happened.repeats++
	o.got(o.home.apply(o.command))
	o.home.pump()
}

// kept tells whether everything that was promised is in the states, and nothing
// else: one reservation for each key, confirmed ones confirmed, none ended early.
func kept(w *world) error {
	want := map[allocator.SKU]allocator.Quantity{}
	for _, o := range w.orders {
		if o.reservation == (allocator.ReservationID{}) {
			continue
		}
		w.happened.reservations++
		r, found := o.home.state.Reservation(o.reservation)
		switch {
		case !found:
			return w.failed("order %d: its reservation is gone", o.no)
		case o.confirmed && r.Status != allocator.StatusConfirmed:
			return w.failed("order %d was confirmed, and is %v", o.no, r.Status)
		case r.Status != o.held.status(o.home.state.Now()) || !slices.Equal(r.Lines, o.held.lines) || r.Expires != o.held.until:
			return w.failed("order %d is %+v, by what was applied %+v", o.no, r, o.held)
		case r.Status == allocator.StatusExpired && r.Ended < r.Expires:
			return w.failed("order %d ended at %d, before its time, %d", o.no, r.Ended, r.Expires)
		case r.Status == allocator.StatusExpired:
			w.happened.expiries++
		case r.Status == allocator.StatusReserved || r.Status == allocator.StatusConfirmed:
			for _, l := range r.Lines {
				want[l.SKU] += l.Quantity
			}
		}
	}
	for _, sku := range w.skus {
		var have allocator.Quantity
		for _, h := range w.homes {
			b := h.state.Bucket(sku)
			have += b.Reserved + b.Committed
		}
		if have != want[sku] {
			return w.failed("%d units of %s are held or sold, by orders %d", have, sku, want[sku])
		}
	}
	return nil
}
