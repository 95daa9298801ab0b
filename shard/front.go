package shard

import (
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/shard/line"
	"stockade/shard/rebalance"
	"stockade/shard/shardrpc"
)

// What a leader decides before the log: who joins a line, who is refused at once,
// and how much of what another shard asks for is given. A refusal costs no log
// entry. Nothing here sells anything.

const (
	// scarceFor is how long after a refusal requests for a SKU are looked at
	// before they are proposed.
	scarceFor = time.Second
	// maxScarce bounds the SKUs that are remembered for that. The others are
	// refused by way of the log.
	maxScarce = 4096
)

// scarcity remembers SKUs that somebody was refused lately. The zero value is
// ready. It is guarded by the puller's mu.
type scarcity struct {
	until  map[allocator.SKU]time.Time
	latest time.Time
}

func (s *scarcity) add(sku allocator.SKU, now time.Time) {
	if s.until == nil || len(s.until) >= maxScarce {
		s.until = make(map[allocator.SKU]time.Time)
	}
	s.latest = now.Add(scarceFor)
	s.until[sku] = s.latest
}

func (s *scarcity) has(sku []byte, now time.Time) bool {
	return len(s.until) > 0 && now.Before(s.until[allocator.SKU(sku)])
}

// empty tells whether nothing is remembered any more.
func (s *scarcity) empty(now time.Time) bool {
	if now.After(s.latest) {
		clear(s.until)
	}
	return len(s.until) == 0
}

// previews lends the memory that a look ahead takes.
var previews = sync.Pool{New: func() any { return new(allocator.Preview) }}

// mark remembers that a SKU is scarce.
func (pl *puller) mark(sku allocator.SKU) {
	pl.levels.Want(sku)
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.scarce.add(sku, time.Now())
	pl.busy.Store(true)
}

// receive takes a reservation that need not enter the log now: because there is a
// line for a SKU of it, none of a SKU is left, or this shard has no bucket of one.
// It is false for all others.
func (pl *puller) receive(p *shardrpc.Proposal) bool {
	if allocator.CommandKind(p.Command) != allocator.KindReserve {
		return false
	}
	preview := previews.Get().(*allocator.Preview)
	defer previews.Put(preview)
	lined, scarce := pl.watched(preview, p.Command)
	if here := pl.allHere(preview, p.Command); here && !lined && !scarce {
		return false
	}
	f := pl.foresee(preview, p.Command)
	if f.outlook.Seen {
		return false // only the log has the first answer
	}
	switch code := f.outlook.Code; {
	case code == allocator.CodeInsufficientStock && pl.refuseNow(preview, p, f):
	case code == allocator.CodeInsufficientStock, code == allocator.CodeOK && lined:
		pl.admit(pl.arrival(preview.Lines(p.Command), p, f))
	case code == allocator.CodeSKUUnknown, code == allocator.CodeSKUNotFound:
		pl.askAnchor(preview, p, f)
	default:
		return false // there are units, or another reason against it, which the log explains
	}
	return true
}

// foresight is what a reservation would meet now.
type foresight struct {
	outlook allocator.Outlook
	now     allocator.Millis
	applied uint64        // commands, then
	unknown allocator.SKU // the first without a bucket here
}

// foresee looks at the applied state, and remembers which SKUs have a bucket here.
func (pl *puller) foresee(preview *allocator.Preview, command []byte) (f foresight) {
	var here []allocator.SKU
	pl.shard.read(func(s *allocator.State) {
		f.outlook, _ = preview.Reserve(s, command)
		f.now, f.applied = s.Now(), s.Applied()
		for sku := range preview.SKUs(command) {
			if s.Knows(sku) {
				here = append(here, allocator.SKU(sku))
			} else if f.unknown == "" {
				f.unknown = allocator.SKU(sku)
			}
		}
	})
	for _, sku := range here {
		pl.existence.learn(sku)
	}
	return f
}

// allHere tells whether all SKUs of a command are remembered to have buckets here.
// It counts what is asked for of those that are.
func (pl *puller) allHere(preview *allocator.Preview, command []byte) (all bool) {
	all = true
	for sku, units := range preview.SKUs(command) {
		if d := pl.existence.here(sku); d != nil {
			d.asked.Add(int64(units))
		} else {
			all = false
		}
	}
	return all
}

// rate is how many units of a SKU a second were asked for here lately.
func (pl *puller) rate(sku allocator.SKU) float64 {
	if d := pl.existence.here([]byte(sku)); d != nil {
		return d.rate(time.Since(pl.began))
	}
	return 0
}

// arrival is a reservation that was not proposed yet, as the desk takes it.
func (pl *puller) arrival(lines []allocator.Line, p *shardrpc.Proposal, f foresight) (*parked, line.Arrival) {
	a := line.Arrival{Needs: needsFor(lines), Blind: f.unknown != "", Parked: f.now}
	return &parked{proposal: keep(p), since: time.Now()}, a
}

// askAnchor finds out whether there is such a SKU at all; if there is, the
// reservation is parked until this shard has a bucket of it. When the anchor has
// not answered by the reservation's deadline, it is named.
func (pl *puller) askAnchor(preview *allocator.Preview, p *shardrpc.Proposal, f foresight) {
	w, a := pl.arrival(preview.Lines(p.Command), p, f)
	var answered atomic.Bool
	end := func(how func()) {
		if answered.CompareAndSwap(false, true) {
			how()
		}
	}
	late := time.AfterFunc(time.Until(p.Deadline), func() {
		end(func() {
			p.Done(notApplied(allocator.Anchor(f.unknown, pl.shard.shards()), shardrpc.ReasonStockUnreachable))
		})
	})
	asked := pl.existence.ask(f.unknown, func(exists bool) {
		late.Stop()
		end(func() {
			if exists {
				pl.admit(w, a)
			} else {
				pl.refuseUnknown(w.proposal, f)
			}
		})
	})
	if !asked {
		late.Stop()
		end(func() { p.Done(notApplied(pl.home, shardrpc.ReasonOverloaded)) })
	}
}

// refuseUnknown answers that there is no such SKU.
func (pl *puller) refuseUnknown(p *shardrpc.Proposal, f foresight) {
	pl.finish(p, allocator.Result{Code: allocator.CodeSKUNotFound, At: f.now, SKU: f.unknown})
}

// finish answers with a result that no log entry stands for: a refusal.
func (pl *puller) finish(p *shardrpc.Proposal, r allocator.Result) {
	p.Done(shardrpc.Response{Outcome: shardrpc.Applied, Shard: pl.home, Result: r.AppendTo(nil)})
}

// watched tells whether there is a line for a SKU of a command, and whether one
// was refused lately.
func (pl *puller) watched(preview *allocator.Preview, command []byte) (lined, scarce bool) {
	if !pl.busy.Load() {
		return false, false
	}
	now := time.Now()
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for sku := range preview.SKUs(command) {
		lined = lined || pl.desk.Lined(allocator.SKU(sku))
		scarce = scarce || pl.scarce.has(sku, now)
	}
	return lined, scarce
}

// refuseNow answers that there are not enough units in all shards together, if
// that is known and the request does not wait for some to come back.
func (pl *puller) refuseNow(preview *allocator.Preview, p *shardrpc.Proposal, f foresight) bool {
	if !p.WaitUntil.IsZero() {
		return false
	}
	for _, l := range preview.Lines(p.Command) {
		if !pl.levels.SoldOut(l.SKU, l.Quantity) {
			continue
		}
		cut, _, ok := pl.levels.Cut(l.SKU)
		if !ok || !pl.current(cut, f.applied) {
			return false
		}
		pl.metrics.refused.Inc()
		pl.mark(l.SKU)
		pl.finish(p, allocator.Result{
			Code: allocator.CodeInsufficientStock, At: f.now,
			SKU: l.SKU, Requested: l.Quantity, Available: min(cut.Units(), l.Quantity-1),
		})
		return true
	}
	return false
}

// current tells whether what was seen here after a number of commands is at least
// as new as what the levels know of this shard. If not, somebody else leads it by
// now, and a key that was not seen here may have been used there: who repeats it
// must not be refused.
func (pl *puller) current(cut allocator.Cut, applied uint64) bool {
	own := cut.Of(pl.home)
	return own != nil && own.Applied <= applied
}

// yield decides how much of what another shard asks for it gets. The answer is
// nil when there is nothing to give; else it is the command to propose.
func (pl *puller) yield(p *shardrpc.Proposal) *shardrpc.Proposal {
	cmd, err := allocator.DecodeCommand(p.Command)
	out, ok := cmd.(*allocator.TransferOut)
	if err != nil || !ok {
		return p // the proposer says what is wrong
	}
	have := pl.Level(out.SKU)
	claims := make([]line.Claim, len(p.Claims))
	for i, c := range p.Claims {
		claims[i] = line.Claim(c)
	}
	pl.mu.Lock()
	grant, free := pl.desk.Yield(out.SKU, have.Available, out.To, claims)
	pl.mu.Unlock()
	if grant > 0 && free > grant {
		grant = rebalance.Grant(pl.asked(out, grant, free))
	}
	if !have.Known || grant == 0 && !out.Open {
		return nil
	}
	out.Quantity = min(grant, allocator.MaxQuantity)
	own := *p
	own.Command = out.AppendTo(nil)
	return &own
}

// asked is an ask as the planner reads it: a need that is met, and what nobody here
// has a claim to.
func (pl *puller) asked(out *allocator.TransferOut, need, free allocator.Quantity) rebalance.Asked {
	c := rebalance.Asked{Need: need, Left: free, GiverRate: pl.rate(out.SKU)}
	if cut, _, ok := pl.levels.Cut(out.SKU); ok {
		if taker := cut.Of(out.To); taker != nil { // else the log refuses
			c.HomeRate = taker.Rate
		}
	}
	return c
}
