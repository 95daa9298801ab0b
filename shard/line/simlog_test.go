package line

import (
	"bytes"
	"time"

	"stockade/allocator"
)

// What the log of a simulated shard adds to its desk: log time and what it
// expires, commands of which nobody knows whether they are in it, and replicas
// that come from a snapshot and what follows it.

const (
	tickEvery    = 5 * time.Millisecond   // how often a leader looks what is due
	resendWithin = 200 * time.Millisecond // of a request that the network repeats
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

// begin stamps the next entry, which expires what is due.
func (h *home) begin() {
	stamp, available := h.logTime(), h.available()
	h.journal.entries = append(h.journal.entries, journalEntry{stamp: stamp})
	if err := h.state.Begin(stamp); err != nil {
		h.w.t.Fatal(err)
	}
	h.cameBack(available)
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

// available is what is for sale here, of each SKU.
func (h *home) available() []allocator.Quantity {
	units := make([]allocator.Quantity, len(h.w.skus))
	for i, sku := range h.w.skus {
		units[i] = h.state.Level(sku).Available
	}
	return units
}

// cameBack counts units that were not for sale before.
func (h *home) cameBack(before []allocator.Quantity) {
	for i, now := range h.available() {
		h.w.returned[h.w.skus[i]] += max(0, now-before[i])
	}
}

// drops draws whether a command that an ended office proposed never gets into the log.
func (h *home) drops(office *Desk) bool {
	return office != h.desk && h.w.rand.Float64() < h.w.plan.drop
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
	h.elect()
}

func (h *home) snapshot() {
	var b bytes.Buffer
	if _, err := h.state.Freeze().WriteTo(&b); err != nil {
		h.w.t.Fatal(err)
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
			h.w.t.Fatal(err)
		case e.command != nil:
			_, err = st.Apply(e.command, nil)
		default:
			err = st.Begin(e.stamp)
		}
	}
	if err != nil {
		h.w.t.Fatal(err)
	}
	return st
}

// got notes what an order's key got in the log: always the same reservation.
func (o *order) got(r allocator.Result) {
	if r.Code != allocator.CodeOK {
		return
	}
	if o.reservation != (allocator.ReservationID{}) && o.reservation != r.Reservation.ID {
		o.home.w.wrong = o.name("got a second reservation")()
	}
	o.reservation = r.Reservation.ID
}

// resend has an order's request arrive once more, whatever became of it.
func (o *order) resend() {
	o.got(o.home.apply(o.command))
	o.home.pump()
}

// buy confirms what an order was served, perhaps after its hold ended.
func (o *order) buy() {
	r := o.home.apply((&allocator.Confirm{ID: o.reservation}).AppendTo(nil))
	o.confirmed = r.Code == allocator.CodeOK
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
		r, found := o.home.state.Reservation(o.reservation)
		switch {
		case !found:
			return w.failed("order %d: its reservation is gone", o.no)
		case o.confirmed && r.Status != allocator.StatusConfirmed:
			return w.failed("order %d was confirmed, and is %v", o.no, r.Status)
		case r.Status == allocator.StatusExpired && r.Ended < r.Expires:
			return w.failed("order %d ended at %d, before its time, %d", o.no, r.Ended, r.Expires)
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
