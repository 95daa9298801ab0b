package line

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"stockade/allocator"
	"stockade/shard/delivery"
	"stockade/shard/rebalance"
)

const (
	levelEvery = 10 * time.Millisecond  // how often a shard tells its levels, at the most
	levelLag   = 40 * time.Millisecond  // how late they may arrive, so that units overtake them
	pullLimit  = 250 * time.Millisecond // when an ask without an answer counts as one for nothing
)

// home is a shard with its leader: the state, and the desk, the courier, and the
// leveller of the present office.
type home struct {
	w       *world
	shard   allocator.ShardID
	state   *allocator.State
	desk    *Desk
	skew    time.Duration // of its log time
	alarm   time.Time     // the next step that is planned
	pumping bool
	courier *delivery.Courier
	carries time.Time // the next step of the courier that is planned
	moves   *rebalance.Leveller
	scarce  Scarcity
	under   Attempts[*order]            // of the replica, whoever leads it
	said    Refusals[allocator.Key]     // in the present office
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
		panic(err)
	}
	h := &home{
		w: w, shard: shard, state: st, skew: w.upTo(20 * time.Millisecond),
		touched: map[allocator.SKU]bool{}, levels: map[allocator.ShardID]level{},
	}
	h.takeOffice()
	return h
}

// takeOffice begins with nothing but what is applied.
func (h *home) takeOffice() {
	h.desk = NewDesk(h.shard, h.w.plan.shards, h)
	h.courier = delivery.NewCourier(h)
	h.moves = new(rebalance.Leveller)
	h.scarce = Scarcity{}
	h.said = Refusals[allocator.Key]{}
	h.alarm, h.carries = time.Time{}, time.Time{}
}

// Destinations implements delivery.Outbox.
func (h *home) Destinations() []allocator.ShardID { return h.state.Destinations() }

// Head implements delivery.Outbox.
func (h *home) Head(to allocator.ShardID, limit int) allocator.TransferIn {
	messages, first := h.state.Outbox(to, 0, limit)
	return allocator.TransferIn{From: h.shard, First: first, Messages: messages}
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
		panic(fmt.Sprintf("%+v: %v", cmd, r.Code))
	}
	return r
}

// apply applies a command and tells the desk and the courier.
func (h *home) apply(cmd []byte) (r allocator.Result) {
	before := h.begin()
	h.journal.add(cmd)
	out, err := h.state.Apply(cmd, nil)
	if err == nil {
		err = allocator.DecodeResult(out, &r)
	}
	if err != nil {
		panic(err)
	}
	after := h.shelves()
	if broughtBy[allocator.CommandKind(cmd)] {
		h.cameBack(before, after)
	}
	h.sells(before, after)
	for _, sku := range h.w.skus {
		h.touched[sku] = true
	}
	h.desk.Applied(h.state.LevelMark)
	h.carry()
	return r
}

// receive takes an order as a leader does: what need not enter the log now does
// not.
func (h *home) receive(o *order) {
	if o.answer != "" {
		return
	}
	o.tries++
	if o.task != nil { // only reservations are looked at before the log
		h.propose(o)
		return
	}
	if h.under.Enter(o.key, o, func(*order) bool { return true }) == Joined {
		return
	}
	o.entered = true
	if answer, ok := h.said.Of(o.key, o.begun, h.w.now); ok && !h.seen(o) {
		h.w.happened.overtaken++
		o.end(string(answer))
		return
	}
	if !h.watched(o) {
		h.propose(o)
		return
	}
	var p allocator.Preview
	outlook, _ := p.Reserve(h.state, o.command)
	switch Receive(outlook, h.lined(o)) {
	case ToLog:
		h.propose(o)
	case ToLine:
		h.park(o, false)
	case ToAnchor:
		h.askAnchor(o)
	case Short:
		short, left, ok := SoldOut(h, p.Lines(o.command), h.shard, h.state.Applied())
		if !ok || !o.wait.IsZero() {
			h.park(o, false)
			return
		}
		if left >= short.Quantity {
			h.w.wrong = fmt.Sprintf("order %d is refused %d of %s, with %d left", o.no, short.Quantity, short.SKU, left)
		}
		h.scarce.Add(short.SKU, h.w.now)
		h.w.happened.early++
		h.refused(o, Need(short), h.w.stayed(short.SKU, o))
	}
}

// seen tells whether an order's key was used: then only the log has the answer.
func (h *home) seen(o *order) bool {
	var p allocator.Preview
	outlook, _ := p.Reserve(h.state, o.command)
	return outlook.Seen
}

// watched tells whether an order is looked at before it is proposed.
func (h *home) watched(o *order) bool {
	for _, n := range o.needs {
		if h.desk.Lined(n.SKU) || h.scarce.Has([]byte(n.SKU), h.w.now) || !h.state.Knows([]byte(n.SKU)) {
			return true
		}
	}
	return false
}

func (h *home) lined(o *order) bool {
	return slices.ContainsFunc(o.needs, func(n Need) bool { return h.desk.Lined(n.SKU) })
}

// askAnchor parks an order when the anchor of a SKU without a bucket here knows it,
// or does not answer.
func (h *home) askAnchor(o *order) {
	desk := h.desk
	i := slices.IndexFunc(o.needs, func(n Need) bool { return !h.state.Knows([]byte(n.SKU)) })
	if i < 0 {
		h.propose(o)
		return
	}
	sku := o.needs[i].SKU
	anchor := h.w.homes[allocator.Anchor(sku, h.w.plan.shards)]
	ask := h.w.hop()
	if h.w.lost() || h.w.dead[anchor.shard] {
		ask = pullLimit
	}
	h.w.after(ask, o.name("is asked about"), func() {
		if ask < pullLimit && !anchor.state.Knows([]byte(sku)) {
			h.w.wrong = fmt.Sprintf("the anchor of %s does not know it", sku)
		}
		h.w.after(h.w.hop(), o.name("may exist"), func() {
			if desk != h.desk {
				o.retry()
				return
			}
			h.park(o, true)
		})
	})
}

// propose sends an order through the log.
func (h *home) propose(o *order) {
	desk := h.desk
	o.flying = true
	h.w.after(o.commit(), o.name("is applied"), func() {
		if h.drops(desk) {
			if !h.landed(o, desk, nil) {
				o.retry()
			}
			return
		}
		r := h.apply(o.command)
		o.got(r)
		if h.landed(o, desk, &r) {
			return
		}
		switch {
		case len(r.Shortages) == 0:
			o.done(r)
		case desk != h.desk:
			o.retry()
		default:
			h.park(o, o.isShort(r))
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
	panic(fmt.Sprintf("shard %d: there is no entry %d", h.shard, id))
}

// again proposes an order whose units are here.
func (h *home) again(o *order) {
	desk, id := h.desk, o.id
	o.flying = true
	h.w.after(o.commit(), o.name("is applied again"), func() {
		if h.drops(desk) {
			if !h.landed(o, desk, nil) {
				o.retry()
			}
			return
		}
		r := h.apply(o.command)
		o.got(r)
		if h.landed(o, desk, &r) {
			return
		}
		if desk != h.desk {
			o.retry() // the office ended: nobody knows
			return
		}
		if len(r.Shortages) > 0 {
			o.isShort(r)
			desk.Short(id, o.needs)
		} else {
			desk.Done(id)
			o.done(r)
		}
		h.pump()
	})
}

// refuse ends an order, or proposes it once more if the log has something else to
// say to it by now.
func (h *home) refuse(o *order, a Action) {
	if a.Unknown {
		h.w.wrong = fmt.Sprintf("order %d: %s is said to be unknown", o.no, a.SKU)
	}
	var p allocator.Preview
	stayed := h.w.stayed(a.SKU, o)
	if outlook, reserve := p.Reserve(h.state, o.command); OnlyShort(outlook, reserve) {
		h.scarce.Add(a.SKU, h.w.now)
		h.refused(o, Need{a.SKU, a.Quantity}, stayed)
		return
	}
	desk := h.desk
	o.flying = true
	h.w.after(o.commit(), o.name("is applied at last"), func() {
		if h.drops(desk) {
			if !h.landed(o, desk, nil) {
				o.retry()
			}
			return
		}
		r := h.apply(o.command)
		o.got(r)
		if h.landed(o, desk, &r) {
			return
		}
		if len(r.Shortages) > 0 {
			h.scarce.Add(a.SKU, h.w.now)
			h.refused(o, Need{a.SKU, a.Quantity}, stayed)
		} else {
			o.done(r)
		}
		h.pump()
	})
}

// refused ends an order without units, and checks that there were too few, that they
// are not lacking for another reason, and that nothing was done for its key. stayed is
// how many were there all the time until it was decided.
func (h *home) refused(o *order, n Need, stayed allocator.Quantity) {
	if o.answer == "" && o.base().acted() {
		h.w.wrong = o.name("was refused what its key has")()
	}
	if o.task == nil && h.state.Level(n.SKU).Policy.Paused {
		h.w.wrong = o.name(fmt.Sprintf("was refused for lack of %s, which is paused", n.SKU))()
	}
	if stayed >= n.Quantity {
		h.w.wrong = fmt.Sprintf("order %d was refused %d units of %s, but there were %d all the time", o.no, n.Quantity, n.SKU, stayed)
	}
	h.deny(o, "refused")
}

// deny ends an order with a refusal, which is the answer to all earlier attempts of it.
func (h *home) deny(o *order, answer string) {
	if o.task == nil {
		h.said.Note(o.key, []byte(answer), h.w.now)
	} else {
		h.w.happened.lacking++
	}
	o.end(answer)
}

// done ends an order that the log has an answer for.
func (o *order) done(r allocator.Result) {
	switch {
	case o.task != nil:
		o.isTold(r)
	case r.Code != allocator.CodeOK:
		o.home.denied(o, r)
	default:
		if o.answer == "" {
			o.goesOn()
		}
		o.end("served")
	}
}

func (o *order) end(answer string) {
	for _, m := range o.leave() {
		m.end(answer)
	}
	if refusals[answer] && !o.left {
		o.base().settled = true
	}
	if o.answer == "" {
		o.answer, o.took = answer, o.home.w.now.Sub(o.came)
		o.home.w.open--
	}
}

// leave gives the attempts that get the answer of this one.
func (o *order) leave() []*order {
	if !o.entered {
		return nil
	}
	o.entered = false
	return o.home.under.Answered(o.key)
}

// retry has the client ask again.
func (o *order) retry() {
	o.desk = nil
	for _, m := range o.leave() {
		m.retry()
	}
	if o.left {
		o.end("nobody waits for it")
		return
	}
	o.home.w.after(o.home.w.hop(), o.name("comes again"), func() {
		if !o.home.w.now.Before(o.deadline) {
			o.end("late")
			return
		}
		o.home.receive(o)
	})
}

// elect gives the shard another leader, with a new desk. Who was in line asks again.
func (h *home) elect() {
	old := h.desk
	h.takeOffice()
	for _, o := range h.w.orders {
		if o.desk == old && o.answer == "" && old.entries[o.id] != nil && !old.entries[o.id].proposed {
			o.retry()
		}
	}
	h.pump()
	h.carry()
}

// carry does what the courier says.
func (h *home) carry() {
	sends, next := h.courier.Step(h.w.now)
	for _, s := range sends {
		h.send(h.courier, s)
	}
	if !next.IsZero() && (!h.carries.After(h.w.now) || next.Before(h.carries)) {
		h.carries = next
		h.w.after(next.Sub(h.w.now), h.name("delivers again"), h.carry)
	}
}

// send takes one step of a delivery, the arrival perhaps twice, and says how it
// ended to the courier that asked for it, if that is still in office.
func (h *home) send(c *delivery.Courier, s delivery.Send) {
	at, name := h.w.homes[s.To], func() string { return fmt.Sprintf("units arrive at shard %d from shard %d", s.To, h.shard) }
	if s.Ack {
		at, name = h, func() string { return fmt.Sprintf("shard %d forgets what arrived at shard %d", h.shard, s.To) }
	}
	end := func(in time.Duration, what string, how func()) {
		h.w.after(in, h.name(what), func() {
			if c == h.courier {
				how()
				h.carry()
			}
		})
	}
	failed := func() { c.Failed(h.w.now, s.To) }
	if h.w.rand.Float64() < h.w.plan.repeat {
		h.w.after(h.w.upTo(100*time.Millisecond), name, func() { at.apply(s.Command); at.pump() })
	}
	if !s.Ack && (h.w.lost() || h.w.dead[s.To]) {
		end(h.w.upTo(20*time.Millisecond), "gives up a delivery", failed)
		return
	}
	h.w.after(h.w.hop(), name, func() {
		if s.Ack && c != h.courier && h.w.rand.Float64() < h.w.plan.drop {
			return
		}
		r := at.apply(s.Command)
		at.pump()
		switch {
		case h.w.lost(), r.Code != allocator.CodeOK:
			end(h.w.upTo(20*time.Millisecond), "gives up a delivery", failed)
		case s.Ack:
			end(0, "has delivered", func() { c.Acked(s.To) })
		default:
			end(h.w.hop(), "hears of an arrival", func() { c.Taken(s.To, r.Through) })
		}
	})
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
		grant, ok := giver.desk.Give(Asked{SKU: a.SKU, By: h.shard, Open: a.Open, Claims: a.Claims})
		if !ok {
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
	if cut, asOf, ok := h.Cut(sku); ok && h.w.now.Sub(asOf) <= UsefulPictureAge {
		h.w.after(0, h.name("looks at levels"), func() {
			desk.Picture(sku, asOf, cut, nil, Current(cut, h.shard, h.state.Applied()))
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

// Cut implements Levels.
func (h *home) Cut(sku allocator.SKU) (cut allocator.Cut, asOf time.Time, ok bool) {
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

// SoldOut implements Levels.
func (h *home) SoldOut(sku allocator.SKU, units allocator.Quantity) bool {
	cut, asOf, ok := h.Cut(sku)
	return ok && h.w.now.Sub(asOf) <= MaxPictureAge && cut.Final() && cut.Units() < units
}

// levelOut moves units of a SKU ahead of need.
func (h *home) levelOut(sku allocator.SKU) {
	cut, asOf, ok := h.Cut(sku)
	if !ok || h.w.now.Sub(asOf) > MaxPictureAge || allocator.Anchor(sku, h.w.plan.shards) != h.shard {
		return
	}
	moves := h.moves
	for _, m := range moves.Plan(sku, cut, asOf) {
		h.w.happened.levelled++
		giver := h.w.homes[m.From]
		out := (&allocator.TransferOut{SKU: sku, To: m.To, Quantity: m.Quantity}).AppendTo(nil)
		done := func() { moves.Moved(sku, h.w.now) }
		if h.w.lost() {
			h.w.after(pullLimit, h.name("gives up a move"), done)
			continue
		}
		h.w.after(h.w.hop()+h.w.hop(), giver.name("sends ahead of need"), func() {
			giver.apply(out)
			giver.pump()
			h.w.after(h.w.hop(), h.name("has moved units"), done)
		})
	}
}

// tellLevels tells all shards what this one has, again and again.
func (h *home) tellLevels() {
	l := level{h.w.now, map[allocator.SKU]allocator.BucketReport{}, map[allocator.SKU]allocator.LevelMark{}}
	for _, sku := range h.w.skus {
		r := h.state.Level(sku)
		r.Rate = h.w.rates[h.shard]
		l.reports[sku], l.marks[sku] = r, h.state.LevelMark(sku)
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
					o.levelOut(sku)
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
