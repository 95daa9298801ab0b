package line

import (
	"fmt"
	"slices"
	"time"

	"stockade/allocator"
)

// What becomes of a simulated reservation: it is extended, confirmed in part or whole,
// canceled, returned. Beside the state each order keeps what its reservation must be by
// the commands that were applied, whether or not anybody heard of them.

// holding is a reservation by what was applied to it.
type holding struct {
	begun, until allocator.Millis // until: when it ends if it is not confirmed
	first        allocator.Millis // what until was at first
	lines        []allocator.Line // held or sold; after its end, what it was
	sold         bool
	canceled     bool
}

// holds notes a reservation as it is made.
func (o *order) holds(r allocator.Result) {
	v := &r.Reservation
	o.held = holding{begun: r.At, until: v.Expires, first: v.Expires, lines: slices.Clone(v.Lines)}
	if r.Replayed {
		o.home.w.wrong = o.name("is told of a reservation that was made before, and it was not")()
	}
	for _, l := range v.Lines {
		if limit := o.home.w.plan.limit; limit > 0 && o.buyer != (allocator.Buyer{}) && o.home.bought(o, l.SKU)+l.Quantity > limit {
			o.home.w.wrong = o.name("is more than its buyer may have")()
		}
	}
}

// status is what a reservation is at a moment.
func (h *holding) status(now allocator.Millis) allocator.Status {
	switch {
	case h.sold:
		return allocator.StatusConfirmed
	case h.canceled:
		return allocator.StatusCanceled
	case now >= h.until:
		return allocator.StatusExpired
	}
	return allocator.StatusReserved
}

// bought is what the buyer of an order holds and has of a SKU here, that order aside.
func (h *home) bought(o *order, sku allocator.SKU) (sum allocator.Quantity) {
	now := h.state.Now()
	for _, b := range h.w.orders {
		if b == o.base() || b.home != h || b.buyer != o.buyer || b.reservation == (allocator.ReservationID{}) {
			continue
		}
		if s := b.held.status(now); s == allocator.StatusReserved || s == allocator.StatusConfirmed {
			sum += unitsOf(b.held.lines, sku)
		}
	}
	return sum
}

// beyondLimit tells whether an order asks for more of a SKU than its buyer may have.
func (h *home) beyondLimit(o *order, sku allocator.SKU) bool {
	for _, n := range o.needs {
		if n.SKU == sku {
			return o.buyer != (allocator.Buyer{}) && h.bought(o, sku)+n.Quantity > h.w.plan.limit
		}
	}
	return false
}

func unitsOf(lines []allocator.Line, sku allocator.SKU) (sum allocator.Quantity) {
	for _, l := range lines {
		if l.SKU == sku {
			sum += l.Quantity
		}
	}
	return sum
}

// holds compares what is held and sold at a shard with its reservations.
func (w *world) holds(h *home) {
	reserved, committed := map[allocator.SKU]allocator.Quantity{}, map[allocator.SKU]allocator.Quantity{}
	for _, o := range w.orders {
		if o.home != h || o.reservation == (allocator.ReservationID{}) {
			continue
		}
		into := reserved
		switch o.held.status(h.state.Now()) {
		case allocator.StatusConfirmed:
			into = committed
		case allocator.StatusReserved:
		default:
			continue
		}
		for _, l := range o.held.lines {
			into[l.SKU] += l.Quantity
		}
	}
	for sku := range h.touched {
		if b := h.state.Level(sku); b.Reserved != reserved[sku] || b.Committed != committed[sku] {
			w.wrong = fmt.Sprintf("shard %d has %d of %s reserved and %d committed, by what was applied %d and %d",
				h.shard, b.Reserved, sku, b.Committed, reserved[sku], committed[sku])
		}
	}
}

// goesOn has a client do something with what it was served.
func (o *order) goesOn() {
	w := o.home.w
	hold := w.plan.ttl
	if w.plan.extend > 0 && w.rand.Float64() < w.plan.extend {
		for range 1 + w.rand.IntN(2) {
			o.extend(w.upTo(hold * 5 / 4))
		}
	}
	switch {
	case w.rand.Float64() < w.plan.cancel:
		o.cancel(w.upTo(50 * time.Millisecond))
	case w.rand.Float64() < w.plan.confirm:
		in := w.upTo(hold * 3 / 2)
		o.buy(in)
		if w.plan.giveBack > 0 && w.rand.Float64() < w.plan.giveBack {
			for range 1 + w.rand.IntN(2) {
				o.bringBack(in + w.upTo(50*time.Millisecond))
			}
		}
	}
}

// follows sends a command about an order's reservation.
func (o *order) follows(in time.Duration, t *task, command func(key allocator.Key) allocator.Command) {
	t.what += fmt.Sprintf(" order %d", o.base().no)
	next := o.home.w.ask(o.home, t, command)
	next.comes(in)
	next.repeats(in)
}

// extend has it held for some time from then on.
func (o *order) extend(in time.Duration) {
	w, b := o.home.w, o.base()
	ttl := 1 + allocator.Millis(w.upTo(max(w.plan.ttl*2, time.Second)).Milliseconds())
	t := &task{what: "extends"}
	t.got = func(r allocator.Result) {
		want := map[allocator.Status]allocator.Code{
			allocator.StatusReserved: allocator.CodeOK, allocator.StatusExpired: allocator.CodeReservationExpired,
			allocator.StatusCanceled: allocator.CodeReservationCanceled, allocator.StatusConfirmed: allocator.CodeReservationConfirmed,
		}[b.held.status(r.At)]
		w.must(t.what, r, false, want)
		if r.Code == allocator.CodeOK {
			t.acted = true
			b.held.until = max(b.held.until, r.At+ttl)
		}
		if r.Reservation.Expires != b.held.until {
			w.wrong = fmt.Sprintf("order %d ends at %d, by what was applied at %d", b.no, r.Reservation.Expires, b.held.until)
		}
	}
	t.told = func(r allocator.Result) {
		if r.Code == allocator.CodeOK {
			w.happened.extensions++
		}
	}
	o.follows(in, t, func(allocator.Key) allocator.Command { return &allocator.Extend{ID: b.reservation, TTL: ttl} })
}

// cancel gives it back.
func (o *order) cancel(in time.Duration) {
	w, b := o.home.w, o.base()
	t := &task{what: "cancels"}
	t.got = func(r allocator.Result) {
		switch b.held.status(r.At) {
		case allocator.StatusReserved:
			w.must(t.what, r, false, allocator.CodeOK)
			t.acted, b.held.canceled = true, true
		case allocator.StatusConfirmed:
			w.must(t.what, r, false, allocator.CodeReservationConfirmed)
		default:
			w.must(t.what, r, true, allocator.CodeOK)
		}
	}
	o.follows(in, t, func(allocator.Key) allocator.Command { return &allocator.Cancel{ID: b.reservation} })
}

// buy confirms what an order was served, or a part of it, perhaps after its hold ended.
func (o *order) buy(in time.Duration) {
	w, b := o.home.w, o.base()
	c := &allocator.Confirm{ID: b.reservation}
	if w.plan.part > 0 && w.rand.Float64() < w.plan.part {
		c.Lines = w.partOf(b.needs)
	}
	t := &task{what: "confirms"}
	t.got = func(r allocator.Result) {
		switch status := b.held.status(r.At); status {
		case allocator.StatusConfirmed:
			w.must(t.what, r, true, allocator.CodeOK)
			t.acted = true
			return
		case allocator.StatusCanceled:
			w.must(t.what, r, false, allocator.CodeReservationCanceled)
		case allocator.StatusExpired:
			w.must(t.what, r, false, allocator.CodeOK, allocator.CodeReservationExpired)
			if r.Code == allocator.CodeReservationExpired && len(r.Shortages) == 0 && !o.home.forbids(b, c) {
				w.wrong = fmt.Sprintf("order %d is not taken again, and nothing speaks against it", b.no)
			}
		default:
			w.must(t.what, r, false, allocator.CodeOK)
		}
		if r.Code == allocator.CodeOK {
			t.acted = true
			b.sold(c.Lines)
		}
	}
	t.told = func(r allocator.Result) {
		w.happened.confirms++
		b.confirmed = b.confirmed || r.Code == allocator.CodeOK
	}
	o.follows(in, t, func(allocator.Key) allocator.Command { return c })
}

// sold notes that so much of a reservation was confirmed; nil: all.
func (o *order) sold(lines []allocator.Line) {
	o.held.sold = true
	if len(lines) > 0 {
		o.home.w.happened.parts++
		for i := range o.held.lines {
			l := &o.held.lines[i]
			l.Quantity = unitsOf(lines, l.SKU)
		}
	}
}

// forbids tells whether anything but a lack of units speaks against a late confirmation.
func (h *home) forbids(o *order, c *allocator.Confirm) bool {
	lines := c.Lines
	if len(lines) == 0 {
		lines = o.held.lines
	}
	return slices.ContainsFunc(lines, func(l allocator.Line) bool {
		limited := h.w.plan.limit > 0 && o.buyer != (allocator.Buyer{}) && h.bought(o, l.SKU)+l.Quantity > h.w.plan.limit
		return limited || h.state.Level(l.SKU).Policy.Paused
	})
}

// partOf draws a part of what is needed; nil, which stands for all of it, rather than
// nothing.
func (w *world) partOf(needs []Need) (lines []allocator.Line) {
	for _, n := range needs {
		if q := allocator.Quantity(w.rand.Int64N(int64(n.Quantity) + 1)); q > 0 {
			lines = append(lines, allocator.Line{SKU: n.SKU, Quantity: q})
		}
	}
	return lines
}

// bringBack returns a part of what was sold, or all that is left of it. It may come before
// the confirmation, and ask for more than there is.
func (o *order) bringBack(in time.Duration) {
	w, b := o.home.w, o.base()
	back := w.partOf(b.needs)
	t := &task{what: "returns"}
	t.got = func(r allocator.Result) {
		switch {
		case t.acted:
			w.must(t.what, r, true, allocator.CodeOK)
			return
		case !b.held.sold:
			w.must(t.what, r, false, allocator.CodeReservationNotConfirmed)
			return
		case slices.ContainsFunc(back, func(l allocator.Line) bool { return l.Quantity > unitsOf(b.held.lines, l.SKU) }):
			w.must(t.what, r, false, allocator.CodeLinesExceedReservation)
			return
		}
		w.must(t.what, r, false, allocator.CodeOK)
		t.acted = true
		w.happened.returns++
		for i := range b.held.lines {
			l := &b.held.lines[i]
			if n := unitsOf(back, l.SKU); len(back) > 0 {
				l.Quantity -= n
			} else {
				l.Quantity = 0
			}
		}
	}
	o.follows(in, t, func(key allocator.Key) allocator.Command {
		return &allocator.Return{Key: key, Body: 1, ID: b.reservation, Lines: back}
	})
}
