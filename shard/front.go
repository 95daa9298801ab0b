package shard

import (
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/shard/line"
	"stockade/shard/shardrpc"
)

// What a leader does with proposals before the log, as the line's rules say.

// previews lends the memory that a look ahead takes.
var previews = sync.Pool{New: func() any { return new(allocator.Preview) }}

// mark remembers that a SKU is scarce.
func (pl *puller) mark(sku allocator.SKU) {
	pl.levels.Want(sku)
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.scarce.Add(sku, time.Now())
	pl.busy.Store(true)
}

// minds tells whether a reservation may not need to enter the log now: because there
// is a line for a SKU of it, one is scarce, or this shard has no bucket of one.
func (pl *puller) minds(p *shardrpc.Proposal) (lined, minds bool) {
	preview := previews.Get().(*allocator.Preview)
	defer previews.Put(preview)
	lined, scarce := pl.watched(preview, p.Command)
	return lined, !pl.allHere(preview, p.Command) || lined || scarce
}

// receive takes a reservation that need not enter the log now, and is false for all
// others. lined is what minds said. It keeps p.
func (pl *puller) receive(p *shardrpc.Proposal, lined bool) bool {
	preview := previews.Get().(*allocator.Preview)
	defer previews.Put(preview)
	f := pl.foresee(preview, p.Command)
	switch line.Receive(f.outlook, lined) {
	case line.ToLog:
		return false
	case line.ToAnchor:
		pl.askAnchor(preview, p, f)
	case line.Short:
		if !pl.refuseNow(preview, p, f) {
			pl.admit(pl.arrival(preview.Lines(p.Command), p, f))
		}
	case line.ToLine:
		pl.admit(pl.arrival(preview.Lines(p.Command), p, f))
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
	a := line.Arrival{Needs: line.NeedsFor(lines), Blind: f.unknown != "", Parked: f.now}
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
func (pl *puller) finish(p *shardrpc.Proposal, r allocator.Result) { p.Done(final(pl.home, r)) }

// final is an answer that no log entry stands for.
func final(home allocator.ShardID, r allocator.Result) shardrpc.Response {
	return shardrpc.Response{Outcome: shardrpc.Applied, Shard: home, Result: r.AppendTo(nil)}
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
		scarce = scarce || pl.scarce.Has(sku, now)
	}
	return lined, scarce
}

// refuseNow answers that there are not enough units in all shards together, if
// that is known and the request does not wait for some to come back.
func (pl *puller) refuseNow(preview *allocator.Preview, p *shardrpc.Proposal, f foresight) bool {
	if !p.WaitUntil.IsZero() {
		return false
	}
	short, left, ok := line.SoldOut(pl.levels, preview.Lines(p.Command), pl.home, f.applied)
	if !ok {
		return false
	}
	pl.metrics.refused.Inc()
	pl.mark(short.SKU)
	pl.finish(p, allocator.Result{
		Code: allocator.CodeInsufficientStock, At: f.now,
		SKU: short.SKU, Requested: short.Quantity, Available: left,
	})
	return true
}

// yield decides how much of what another shard asks for it gets. The answer is
// nil when there is nothing to give; else it is the command to propose.
func (pl *puller) yield(p *shardrpc.Proposal) *shardrpc.Proposal {
	cmd, err := allocator.DecodeCommand(p.Command)
	out, ok := cmd.(*allocator.TransferOut)
	if err != nil || !ok {
		return p // the proposer says what is wrong
	}
	ask := line.Asked{SKU: out.SKU, By: out.To, Open: out.Open, Rate: pl.rate(out.SKU), Claims: make([]line.Claim, len(p.Claims))}
	for i, c := range p.Claims {
		ask.Claims[i] = line.Claim(c)
	}
	if cut, _, ok := pl.levels.Cut(out.SKU); ok {
		if taker := cut.Of(out.To); taker != nil { // else the log refuses
			ask.ByRate = taker.Rate
		}
	}
	pl.mu.Lock()
	out.Quantity, ok = pl.desk.Give(ask)
	pl.mu.Unlock()
	if !ok {
		return nil
	}
	own := *p
	own.Command = out.AppendTo(nil)
	return &own
}
