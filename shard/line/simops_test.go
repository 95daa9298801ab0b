package line

import (
	"fmt"
	"time"

	"stockade/allocator"
	"stockade/shard/rebalance"
)

// What is asked of a simulated cluster beside reservations: deposits, corrections of
// the count, pauses, and what becomes of a reservation later. Their commands enter the
// log as they come; what is short of units there waits in line like a reservation.
// Like all requests they are repeated, and their answers get lost.

// task is what an order asks for that is no reservation.
type task struct {
	what  string
	got   func(r allocator.Result) // it was applied, once more perhaps
	told  func(r allocator.Result) // and the client knows; nil: that is the end of it
	acted bool                     // got notes: it has had its effect

	committed time.Time // when the last of its attempts that was proposed is applied
}

// Keys of different kinds of requests differ in their first byte.
const (
	reserves = 1
	tasks    = 2
)

func (o *order) keyOf(kind byte) allocator.Key {
	return allocator.Key{kind, byte(o.no), byte(o.no >> 8)}
}

// refusals are the answers that say that nothing was done.
var refusals = map[string]bool{"refused": true, "paused": true, "limited": true}

// broughtBy are the commands that may put units on sale. A transfer does not: they were
// for sale before.
var broughtBy = map[allocator.Kind]bool{
	allocator.KindConfirm: true, allocator.KindCancel: true, allocator.KindReturn: true,
	allocator.KindRestock: true, allocator.KindAdjust: true,
}

// ask makes an order of a task. The command may need its key.
func (w *world) ask(h *home, t *task, command func(key allocator.Key) allocator.Command) *order {
	o := &order{no: len(w.orders) + 1, home: h, task: t}
	o.command = command(o.keyOf(tasks)).AppendTo(nil)
	w.orders = append(w.orders, o)
	w.open++
	return o
}

// comes has a task come in.
func (o *order) comes(in time.Duration) {
	w := o.home.w
	w.after(in, o.name(o.task.what), func() {
		o.came, o.begun, o.deadline = w.now, w.now, w.now.Add(w.plan.patience)
		o.home.receive(o)
	})
}

// commit draws how long an order's command takes through the log. Attempts of one task are
// in it in the order in which they are proposed: those of an earlier office are applied
// before a later one serves, or never. Of a reservation there is one attempt at a time.
func (o *order) commit() time.Duration {
	w := o.home.w
	in := w.hop()
	if o.task == nil {
		return in
	}
	in = max(in, o.task.committed.Sub(w.now))
	o.task.committed = w.now.Add(in)
	return in
}

// isTold ends a task that the log has an answer for, or has it asked again because the
// answer gets lost.
func (o *order) isTold(r allocator.Result) {
	w := o.home.w
	switch {
	case o.answer != "":
	case o.left:
		o.end("nobody waits for it")
	case w.rand.Float64() < w.plan.drop/2:
		w.happened.unknown++
		o.retry()
	default:
		if o.task.told != nil {
			o.task.told(r)
		}
		if o.desk != nil && r.Code == allocator.CodeOK && !r.Replayed {
			w.happened.fetched++
		}
		o.end("served")
	}
}

// isShort notes what a command needs that is short, and tells whether a SKU has no bucket
// here.
func (o *order) isShort(r allocator.Result) (blind bool) {
	o.needs, blind = Needs(o.command, &r)
	return blind
}

// acted tells whether an order has had its effect.
func (o *order) acted() bool {
	if o.task != nil {
		return o.task.acted
	}
	return o.reservation != (allocator.ReservationID{})
}

// sometime draws when something is done about stock: while orders come in, or while
// they wait and holds end.
func (w *world) sometime() time.Duration {
	in := w.upTo(w.plan.spread * 2)
	if w.rand.IntN(2) == 0 {
		in += w.upTo(max(w.plan.ttl, w.plan.wait/2))
	}
	return in
}

// administer has things done about the stock of SKUs.
func (w *world) administer() {
	for range w.plan.restock {
		w.restock(w.skus[w.rand.IntN(len(w.skus))])
	}
	for range w.plan.adjust {
		w.adjust(w.skus[w.rand.IntN(len(w.skus))])
	}
	for range w.plan.pause {
		w.setPaused(w.skus[w.rand.IntN(len(w.skus))], true, w.upTo(w.plan.spread*2))
	}
}

func (w *world) anchor(sku allocator.SKU) *home {
	return w.homes[allocator.Anchor(sku, w.plan.shards)]
}

// counts is a task that changes what there is of a SKU, once.
func (w *world) counts(sku allocator.SKU, delta allocator.Quantity, happened *int) *task {
	t := &task{what: fmt.Sprintf("changes %s by %d", sku, delta)}
	t.got = func(r allocator.Result) {
		w.must(t.what, r, t.acted, allocator.CodeOK, allocator.CodeBelowReserved)
		if r.Code == allocator.CodeOK && !t.acted {
			t.acted = true
			w.onHand[sku] += delta
			*happened++
		}
	}
	return t
}

// must notes an answer of the log that is none of those that there may be. Once a command
// has had its effect there is but the first answer again.
func (w *world) must(what string, r allocator.Result, acted bool, codes ...allocator.Code) {
	ok := acted == r.Replayed
	for i, c := range codes {
		if r.Code == c && ok && (!acted || i == 0) {
			return
		}
	}
	w.wrong = fmt.Sprintf("the log says %v, again: %v, to what %s; done before: %v", r.Code, r.Replayed, what, acted)
}

// restock deposits units, and the anchor's leader gives other shards their part.
func (w *world) restock(sku allocator.SKU) {
	units := 1 + allocator.Quantity(w.rand.Int64N(int64(2*w.plan.quantity)))
	t, anchor := w.counts(sku, units, &w.happened.restocks), w.anchor(sku)
	count := t.got
	t.got = func(r allocator.Result) {
		count(r)
		if !r.Replayed && w.wrong == "" {
			anchor.spread(sku, units)
		}
	}
	in := w.sometime()
	o := w.ask(anchor, t, func(key allocator.Key) allocator.Command {
		return &allocator.Restock{Key: key, Body: 1, SKU: sku, Quantity: units}
	})
	o.comes(in)
	o.repeats(in)
}

// spread gives other shards their part of a deposit, as shard/spread.go does.
func (h *home) spread(sku allocator.SKU, units allocator.Quantity) {
	here := h.state.Level(sku).Available
	buckets := make([]rebalance.Bucket, h.w.plan.shards)
	if cut, _, ok := h.Cut(sku); ok {
		buckets = rebalance.Buckets(cut)
	}
	for i := range buckets {
		buckets[i].Shard = allocator.ShardID(i)
	}
	buckets[h.shard].Available = here
	for _, m := range rebalance.Spread(h.shard, min(units, here), buckets) {
		h.w.happened.spreads++
		out := (&allocator.TransferOut{SKU: sku, To: m.To, Quantity: m.Quantity}).AppendTo(nil)
		h.w.after(h.w.hop(), h.name("spreads a deposit"), func() {
			h.apply(out)
			h.pump()
		})
	}
}

// adjust corrects the count. Units that are missing for that are brought to the anchor.
func (w *world) adjust(sku allocator.SKU) {
	delta := 1 + allocator.Quantity(w.rand.Int64N(int64(w.plan.quantity)))
	happened := &w.happened.ups
	if w.rand.IntN(3) > 0 {
		delta, happened = -delta, &w.happened.downs
	}
	in := w.sometime()
	o := w.ask(w.anchor(sku), w.counts(sku, delta, happened), func(key allocator.Key) allocator.Command {
		return &allocator.Adjust{Key: key, Body: 1, SKU: sku, Delta: delta}
	})
	o.comes(in)
	o.repeats(in)
}

// pausedFor is how long a pause lasts, at most.
const pausedFor = 60 * time.Millisecond

// policy is what the anchor of a SKU says of its sale.
type policy struct {
	version   uint64
	paused    bool
	effective time.Time // since when all shards surely go by it; zero: maybe not all do
}

// setPaused pauses or resumes the sale of a SKU. A pause is resumed some time after all
// shards go by it. These requests have no key, so they are repeated only when nothing of
// them is under way: a pause that comes again after the sale was resumed is a new one.
func (w *world) setPaused(sku allocator.SKU, paused bool, in time.Duration) {
	t := &task{what: fmt.Sprintf("has the pause of %s be %v", sku, paused)}
	t.got = func(r allocator.Result) {
		was := w.policies[sku]
		want := was
		if was.paused != paused {
			want = policy{version: was.version + 1, paused: paused}
		}
		if r.Code != allocator.CodeOK || r.Version != want.version {
			w.wrong = fmt.Sprintf("the log says %v, version %d, to what %s; %d it should be", r.Code, r.Version, t.what, want.version)
		}
		w.policies[sku] = want
	}
	t.told = func(r allocator.Result) {
		w.open++ // until it is resumed
		w.takeEffect(sku, r.Version, func() {
			w.open--
			if paused {
				w.happened.pauses++
				w.setPaused(sku, false, w.upTo(pausedFor))
			}
		})
	}
	w.ask(w.anchor(sku), t, func(allocator.Key) allocator.Command {
		return &allocator.SetPaused{SKU: sku, Paused: paused}
	}).comes(in)
}

// takeEffect waits until all shards were seen to go by a version of a SKU's policy, in one
// look, as router/effect.go does. Nothing is sold after that while it is paused, and nobody
// is told that it is once it is resumed.
func (w *world) takeEffect(sku allocator.SKU, version uint64, then func()) {
	behind, longest := 0, time.Duration(0)
	for _, h := range w.homes {
		there := w.hop()
		longest = max(longest, there)
		lost := w.lost()
		w.after(there, h.name("is asked what it goes by"), func() {
			b := h.state.Level(sku)
			if lost || b.Known && b.Policy.Version < version || !b.Known && version > 1 {
				behind++
			}
		})
	}
	w.after(longest+w.hop(), func() string { return fmt.Sprintf("%d shards are behind version %d of %s", behind, version, sku) }, func() {
		if behind > 0 {
			w.takeEffect(sku, version, then)
			return
		}
		if p := w.policies[sku]; p.version == version && p.effective.IsZero() {
			p.effective = w.now
			w.policies[sku] = p
		}
		then()
	})
}

// sells looks whether anything was sold that is paused: here, or everywhere.
func (h *home) sells(before, after []shelf) {
	for i, sku := range h.w.skus {
		p := h.w.policies[sku]
		if after[i].taken > before[i].taken && (before[i].paused || p.paused && !p.effective.IsZero()) {
			h.w.wrong = fmt.Sprintf("shard %d sells %s, which is paused", h.shard, sku)
		}
	}
}

// denied ends an order that the log refuses for another reason than a lack of units, which
// must be one.
func (h *home) denied(o *order, r allocator.Result) {
	switch r.Code {
	case allocator.CodeSKUPaused:
		h.w.happened.paused++
		p := h.w.policies[r.SKU]
		if !h.state.Level(r.SKU).Policy.Paused || !p.paused && !p.effective.IsZero() && !o.came.Before(p.effective) {
			h.w.wrong = o.name(fmt.Sprintf("was told that %s is paused", r.SKU))()
		}
		h.deny(o, "paused")
	case allocator.CodeBuyerLimitExceeded:
		h.w.happened.limited++
		if !h.beyondLimit(o, r.SKU) {
			h.w.wrong = o.name(fmt.Sprintf("was told that its buyer has enough of %s", r.SKU))()
		}
		h.deny(o, "limited")
	default:
		panic(fmt.Sprintf("order %d: %v", o.no, r.Code))
	}
}
