package shard

import (
	"sync"
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
// line for a SKU of it, or none of a SKU is left. It is false for all others.
func (pl *puller) receive(p *shardrpc.Proposal) bool {
	if !pl.busy.Load() || allocator.CommandKind(p.Command) != allocator.KindReserve {
		return false
	}
	preview := previews.Get().(*allocator.Preview)
	defer previews.Put(preview)
	lined, scarce := pl.watched(preview, p.Command)
	if !lined && !scarce {
		return false
	}
	var outlook allocator.Outlook
	var now allocator.Millis
	pl.shard.read(func(s *allocator.State) {
		outlook, _ = preview.Reserve(s, p.Command)
		now = s.Now()
	})
	if outlook.Seen {
		return false // only the log has the first answer
	}
	switch outlook.Code {
	case allocator.CodeOK:
		if !lined {
			return false
		}
	case allocator.CodeInsufficientStock, allocator.CodeSKUUnknown:
	default:
		return false // refused for another reason, which the log explains
	}
	needs, sold := pl.needs(preview, p)
	if sold.SKU != "" && outlook.Code == allocator.CodeInsufficientStock && p.WaitUntil.IsZero() {
		pl.refuseNow(p, sold, now)
		return true
	}
	w := &parked{proposal: keep(p), since: time.Now()}
	pl.admit(w, line.Arrival{Needs: needs, Blind: outlook.Code == allocator.CodeSKUUnknown, Parked: now})
	return true
}

// watched tells whether there is a line for a SKU of a command, and whether one
// was refused lately.
func (pl *puller) watched(preview *allocator.Preview, command []byte) (lined, scarce bool) {
	now := time.Now()
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for sku := range preview.SKUs(command) {
		lined = lined || pl.desk.Lined(allocator.SKU(sku))
		scarce = scarce || pl.scarce.has(sku, now)
	}
	return lined, scarce
}

// needs lists what a reservation takes, and the first line that is known to be
// sold out everywhere.
func (pl *puller) needs(preview *allocator.Preview, p *shardrpc.Proposal) (needs []line.Need, sold line.Need) {
	for _, l := range preview.Lines(p.Command) {
		n := line.Need{SKU: l.SKU, Quantity: l.Quantity}
		needs = append(needs, n)
		if sold.SKU == "" && pl.levels.SoldOut(l.SKU, l.Quantity) {
			sold = n
		}
	}
	return needs, sold
}

// refuseNow answers that there are not enough units in all shards together.
func (pl *puller) refuseNow(p *shardrpc.Proposal, sold line.Need, now allocator.Millis) {
	pl.metrics.refused.Inc()
	pl.mark(sold.SKU)
	var units allocator.Quantity
	if cut, _, ok := pl.levels.Cut(sold.SKU); ok {
		units = min(cut.Units(), sold.Quantity-1)
	}
	r := allocator.Result{
		Code: allocator.CodeInsufficientStock, At: now,
		SKU: sold.SKU, Requested: sold.Quantity, Available: units,
	}
	p.Done(shardrpc.Response{Outcome: shardrpc.Applied, Shard: pl.home, Result: r.AppendTo(nil)})
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
	pl.mu.Lock()
	left := have.Available - pl.desk.Claim(out.SKU, p.Parked, out.To)
	pl.mu.Unlock()
	grant := rebalance.Grant(rebalance.Claim{Need: out.Quantity, Left: max(left, 0)})
	switch {
	case !have.Known, grant == 0 && !out.Open:
		return nil
	}
	out.Quantity = min(grant, allocator.MaxQuantity)
	own := *p
	own.Command = out.AppendTo(nil)
	return &own
}
