package line

import (
	"fmt"
	"math/rand/v2"
	"time"

	"stockade/allocator"
	"stockade/shard/rebalance"
)

const (
	levelEvery = 10 * time.Millisecond  // how often a shard tells its levels, at the most
	levelLag   = 40 * time.Millisecond  // how late they may arrive, so that units overtake them
	pullLimit  = 250 * time.Millisecond // when an ask without an answer counts as one for nothing
)

// home is a shard with its leader: the state, the desk of the present office and
// a courier.
type home struct {
	w       *world
	shard   allocator.ShardID
	state   *allocator.State
	desk    *Desk
	skew    time.Duration // of its log time
	alarm   time.Time     // the next step that is planned
	pumping bool
	busy    map[allocator.ShardID]bool  // destinations with a delivery under way
	touched map[allocator.SKU]bool      // changed since the last check
	levels  map[allocator.ShardID]level // what others told
	journal journal
}

// level is what a shard told last.
type level struct {
	at      time.Time
	reports map[allocator.SKU]allocator.BucketReport
	marks   map[allocator.SKU]allocator.LevelMark
}

func newHome(w *world, shard allocator.ShardID) *home {
	st, err := allocator.New(allocator.Config{Shard: shard, Shards: w.plan.shards})
	if err != nil {
		w.t.Fatal(err)
	}
	h := &home{
		w: w, shard: shard, state: st, skew: w.upTo(20 * time.Millisecond), busy: map[allocator.ShardID]bool{},
		touched: map[allocator.SKU]bool{}, levels: map[allocator.ShardID]level{},
	}
	h.desk = NewDesk(shard, w.plan.shards, h)
	return h
}

// Level implements Local.
func (h *home) Level(sku allocator.SKU) allocator.BucketReport { return h.state.Level(sku) }

func (h *home) name(what string) func() string {
	return func() string { return fmt.Sprintf("shard %d %s", h.shard, what) }
}

func (h *home) logTime() allocator.Millis { return allocator.Millis(h.w.now.Add(h.skew).UnixMilli()) }

// must applies a command that can't fail.
func (h *home) must(cmd allocator.Command) allocator.Result {
	r := h.apply(cmd.AppendTo(nil))
	if r.Code != allocator.CodeOK {
		h.w.t.Fatalf("%+v: %v", cmd, r.Code)
	}
	return r
}

// apply applies a command and tells the desk and the courier.
func (h *home) apply(cmd []byte) (r allocator.Result) {
	h.begin()
	h.journal.add(cmd)
	available := h.available()
	out, err := h.state.Apply(cmd, nil)
	if allocator.CommandKind(cmd) == allocator.KindCancel {
		h.cameBack(available)
	}
	if err == nil {
		err = allocator.DecodeResult(out, &r)
	}
	if err != nil {
		h.w.t.Fatal(err)
	}
	for _, sku := range h.w.skus {
		h.touched[sku] = true
	}
	h.desk.Applied(h.state.LevelMark)
	h.deliver()
	return r
}

// receive takes an order as a leader does: into the line if there is one, else by
// way of the log.
func (h *home) receive(o *order) {
	if o.answer != "" {
		return
	}
	o.tries++
	lined := false
	for _, n := range o.needs {
		lined = lined || h.desk.Lined(n.SKU)
	}
	var p allocator.Preview
	if outlook, _ := p.Reserve(h.state, o.command); lined && !outlook.Seen {
		h.park(o, outlook.Code == allocator.CodeSKUUnknown)
		return
	}
	desk := h.desk
	h.w.after(h.w.hop(), o.name("is applied"), func() {
		if h.drops(desk) {
			o.retry()
			return
		}
		r := h.apply(o.command)
		o.got(r)
		switch {
		case len(r.Shortages) == 0:
			o.done(r)
		case desk != h.desk:
			o.retry()
		default:
			blind := false
			for _, s := range r.Shortages {
				blind = blind || !s.Known
			}
			h.park(o, blind)
		}
		h.pump()
	})
}

// park puts an order into the lines.
func (h *home) park(o *order, blind bool) {
	id, ok := h.desk.Park(Arrival{
		Needs: o.needs, Blind: blind, Parked: h.logTime(), At: h.w.now, Deadline: o.deadline, WaitUntil: o.wait,
	})
	if !ok {
		o.end("overloaded")
		return
	}
	o.id, o.desk = id, h.desk
	h.pump()
}

// pump does what the desk says, after the event at hand.
func (h *home) pump() {
	if h.pumping {
		return
	}
	h.pumping = true
	h.w.after(0, h.name("steps"), func() {
		h.pumping = false
		actions, next := h.desk.Step(h.w.now)
		for _, a := range actions {
			h.w.note(func() string { return fmt.Sprintf("    shard %d: %s", h.shard, describe(a)) })
			h.do(a)
		}
		if !next.IsZero() && (h.alarm.IsZero() || !h.alarm.After(h.w.now) || next.Before(h.alarm)) {
			h.alarm = next
			h.w.after(max(0, next.Sub(h.w.now)), h.name("is woken"), h.pump)
		}
	})
}

func describe(a Action) string {
	kinds := [...]string{Propose: "propose", Refuse: "refuse", Late: "late", Look: "look", Unsound: "unsound", Pull: "pull"}
	return fmt.Sprintf("%s %+v", kinds[a.Kind], a)
}

func (h *home) do(a Action) {
	switch a.Kind {
	case Propose:
		h.again(h.order(a.ID))
	case Refuse:
		h.refuse(h.order(a.ID), a)
	case Late:
		o := h.order(a.ID)
		o.end(fmt.Sprintf("late, missing %v", a.Missing))
	case Look:
		h.look(a.SKU)
	case Unsound:
		h.w.wrong = "a picture is unsound"
	case Pull:
		h.pull(a)
	}
}

// order finds who is behind an entry.
func (h *home) order(id ID) *order {
	for _, o := range h.w.orders {
		if o.desk == h.desk && o.id == id && o.answer == "" {
			return o
		}
	}
	h.w.t.Fatalf("shard %d: there is no entry %d", h.shard, id)
	return nil
}

// again proposes an order whose units are here.
func (h *home) again(o *order) {
	desk, id := h.desk, o.id
	h.w.after(h.w.hop(), o.name("is applied again"), func() {
		if h.drops(desk) {
			o.retry()
			return
		}
		r := h.apply(o.command)
		o.got(r)
		if desk != h.desk {
			o.retry() // the office ended: nobody knows
			return
		}
		if len(r.Shortages) > 0 {
			desk.Short(id, o.needs)
		} else {
			desk.Done(id)
			o.done(r)
		}
		h.pump()
	})
}

// refuse ends an order, and checks that there were too few units.
func (h *home) refuse(o *order, a Action) {
	if a.Unknown {
		h.w.wrong = fmt.Sprintf("order %d: %s is said to be unknown", o.no, a.SKU)
	}
	if stayed := h.w.stayed(a.SKU, o); stayed >= a.Quantity {
		h.w.wrong = fmt.Sprintf("order %d was refused %d units of %s, but there were %d all the time", o.no, a.Quantity, a.SKU, stayed)
	}
	o.refusal = string(a.SKU)
	o.end("refused")
}

// done ends an order that was served.
func (o *order) done(r allocator.Result) {
	if r.Code != allocator.CodeOK {
		o.home.w.t.Fatalf("order %d: %v", o.no, r.Code)
	}
	if o.answer == "" && o.home.w.rand.Float64() < o.home.w.plan.cancel {
		h := o.home
		cancel := (&allocator.Cancel{ID: r.Reservation.ID}).AppendTo(nil)
		h.w.after(h.w.upTo(50*time.Millisecond), o.name("is canceled"), func() {
			h.apply(cancel)
			h.pump()
		})
	} else if o.answer == "" && o.home.w.rand.Float64() < o.home.w.plan.confirm {
		o.home.w.after(o.home.w.upTo(o.home.w.plan.ttl*3/2), o.name("is confirmed"), o.buy)
	}
	o.end("served")
}

func (o *order) end(answer string) {
	if o.answer == "" {
		o.answer, o.took = answer, o.home.w.now.Sub(o.came)
		o.home.w.open--
	}
}

// retry has the client ask again.
func (o *order) retry() {
	o.desk = nil
	o.home.w.after(o.home.w.hop(), o.name("comes again"), func() {
		if !o.home.w.now.Before(o.deadline) {
			o.end("late")
			return
		}
		o.home.receive(o)
	})
}

// elect gives the shard another leader: a new desk. Who was in line asks again.
func (h *home) elect() {
	old := h.desk
	h.desk = NewDesk(h.shard, h.w.plan.shards, h)
	h.alarm = time.Time{}
	for _, o := range h.w.orders {
		if o.desk == old && o.answer == "" && old.entries[o.id] != nil && !old.entries[o.id].proposed {
			o.retry()
		}
	}
	h.pump()
}

// deliver sends what is in the outbox; each destination has one delivery under way.
func (h *home) deliver() {
	for _, to := range h.state.Destinations() {
		if h.busy[to] {
			continue
		}
		h.busy[to] = true
		messages, first := h.state.Outbox(to, 0, allocator.MaxMessages)
		in := (&allocator.TransferIn{From: h.shard, First: first, Messages: messages}).AppendTo(nil)
		h.send(h.w.homes[to], in)
	}
}

// send delivers, perhaps twice, and takes what comes back.
func (h *home) send(to *home, in []byte) {
	name := func() string { return fmt.Sprintf("units arrive at shard %d from shard %d", to.shard, h.shard) }
	if h.w.rand.Float64() < h.w.plan.repeat {
		h.w.after(h.w.upTo(100*time.Millisecond), name, func() { to.apply(in); to.pump() })
	}
	if h.w.lost() || h.w.dead[to.shard] {
		h.w.after(h.w.upTo(20*time.Millisecond), h.name("gives up a delivery"), func() { h.unbusy(to.shard) })
		return
	}
	h.w.after(h.w.hop(), name, func() {
		r := to.apply(in)
		to.pump()
		if h.w.lost() {
			h.w.after(h.w.upTo(20*time.Millisecond), h.name("gives up a delivery"), func() { h.unbusy(to.shard) })
			return
		}
		ack := (&allocator.TransferAck{To: to.shard, Through: r.Through}).AppendTo(nil)
		h.w.after(h.w.hop(), h.name("forgets what arrived"), func() { h.busy[to.shard] = false; h.apply(ack); h.pump() })
	})
}

func (h *home) unbusy(to allocator.ShardID) {
	h.busy[to] = false
	h.deliver()
}

// pull asks another shard, whose leader decides what it yields.
func (h *home) pull(a Action) {
	desk := h.desk
	answer := func(in time.Duration, units allocator.Quantity) {
		h.w.after(in, func() string { return fmt.Sprintf("shard %d is granted %d by shard %d", h.shard, units, a.Giver) }, func() {
			desk.Granted(h.w.now, a.SKU, a.Giver, units)
			h.pump()
		})
	}
	if h.w.lost() || h.w.dead[a.Giver] {
		answer(h.w.upTo(pullLimit), 0)
		return
	}
	giver := h.w.homes[a.Giver]
	h.w.after(h.w.hop(), func() string { return fmt.Sprintf("shard %d is asked by shard %d", a.Giver, h.shard) }, func() {
		have := giver.state.Level(a.SKU)
		grant, free := giver.desk.Yield(a.SKU, have.Available, h.shard, a.Claims)
		if grant > 0 && free > grant {
			grant = rebalance.Grant(rebalance.Asked{Need: grant, Left: free})
		}
		if !have.Known || grant == 0 && !a.Open {
			answer(h.w.hop(), 0)
			return
		}
		out := (&allocator.TransferOut{SKU: a.SKU, To: h.shard, Quantity: grant, Open: a.Open}).AppendTo(nil)
		h.w.after(h.w.hop(), func() string { return fmt.Sprintf("shard %d sends to shard %d", a.Giver, h.shard) }, func() {
			r := giver.apply(out)
			giver.pump()
			if r.Granted > 0 {
				h.w.moved[a.SKU]++
			}
			if h.w.lost() {
				answer(pullLimit, 0)
				return
			}
			answer(h.w.hop(), r.Granted)
		})
	})
}

// look takes a picture: of the levels if they are fresh, else by asking.
func (h *home) look(sku allocator.SKU) {
	desk := h.desk
	if cut, asOf, ok := h.cut(sku); ok && h.w.now.Sub(asOf) <= MaxPictureAge {
		h.w.after(0, h.name("looks at levels"), func() {
			desk.Picture(sku, asOf, cut, nil, true)
			h.pump()
		})
		return
	}
	began, longest := h.w.now, time.Duration(0)
	reports := make([]*allocator.BucketReport, len(h.w.homes))
	for i, o := range h.w.homes {
		there := h.w.hop()
		for there < pullLimit && (h.w.dead[o.shard] || h.w.lost()) {
			there += 20 * time.Millisecond // it is asked again
		}
		longest = max(longest, min(there, pullLimit))
		if there >= pullLimit {
			continue
		}
		h.w.after(there, o.name("is looked at"), func() {
			r := o.state.Bucket(sku)
			reports[i] = &r
		})
	}
	h.w.after(longest+h.w.hop(), h.name("has looked"), func() {
		var cut allocator.Cut
		var missing []allocator.ShardID
		for i, r := range reports {
			if r == nil {
				missing = append(missing, allocator.ShardID(i))
			} else {
				cut = append(cut, *r)
			}
		}
		desk.Picture(sku, began, cut, missing, !h.w.plan.levels)
		h.pump()
	})
}

// cut puts the levels of all shards together.
func (h *home) cut(sku allocator.SKU) (cut allocator.Cut, asOf time.Time, ok bool) {
	asOf = h.w.now
	for i := range h.w.homes {
		l, ok := h.levels[allocator.ShardID(i)]
		if !ok {
			return nil, asOf, false
		}
		cut = append(cut, l.reports[sku])
		if l.at.Before(asOf) {
			asOf = l.at
		}
	}
	return cut, asOf, true
}

// tellLevels tells all shards what this one has, again and again.
func (h *home) tellLevels() {
	l := level{h.w.now, map[allocator.SKU]allocator.BucketReport{}, map[allocator.SKU]allocator.LevelMark{}}
	for _, sku := range h.w.skus {
		l.reports[sku], l.marks[sku] = h.state.Level(sku), h.state.LevelMark(sku)
	}
	for _, o := range h.w.homes {
		lag := h.w.hop()
		if h.w.rand.IntN(4) == 0 {
			lag += h.w.upTo(levelLag)
		}
		h.w.after(lag, h.name("has told levels"), func() {
			before := o.levels[h.shard]
			if before.at.After(l.at) {
				return
			}
			o.levels[h.shard] = l
			for _, sku := range h.w.skus {
				if before.marks[sku] != l.marks[sku] {
					o.desk.Changed(sku)
				}
			}
			o.pump()
		})
	}
	h.w.after(time.Millisecond+h.w.upTo(levelEvery), h.name("tells levels"), h.tellLevels)
}

// between draws a quantity.
func between(low, high allocator.Quantity) func(r *rand.Rand) allocator.Quantity {
	return func(r *rand.Rand) allocator.Quantity { return low + allocator.Quantity(r.Int64N(int64(high-low+1))) }
}
