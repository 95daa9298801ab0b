package shard

import (
	"slices"
	"time"

	"stockade/allocator"
	"stockade/shard/line"
	"stockade/shard/shardrpc"
)

// How proposals get into a line, and what is seen of it from outside.

// park takes over a proposal whose result has shortages; it will call its Done.
func (pl *puller) park(p *shardrpc.Proposal, result []byte) {
	w := &parked{proposal: keep(p), since: time.Now()}
	if err := allocator.DecodeResult(result, &w.refusal); err != nil || len(w.refusal.Shortages) == 0 {
		p.Done(shardrpc.Response{Outcome: shardrpc.Applied, Shard: pl.home, Result: result})
		return
	}
	needs, blind := line.Needs(p.Command, &w.refusal)
	pl.admit(w, line.Arrival{Needs: needs, Blind: blind, Parked: w.refusal.At})
}

// keep copies a proposal for a longer time: its command may be a part of a large
// frame, which must not stay in memory.
func keep(p *shardrpc.Proposal) *shardrpc.Proposal {
	own := *p
	own.Command = slices.Clone(p.Command)
	return &own
}

// admit hands a proposal to the desk, or refuses it when there are too many.
func (pl *puller) admit(w *parked, a line.Arrival) {
	a.At, a.Deadline, a.WaitUntil = w.since, w.proposal.Deadline, w.proposal.WaitUntil
	if reason := pl.enter(w, a); reason != shardrpc.ReasonNone {
		w.proposal.Done(notApplied(pl.home, reason))
		return
	}
	pl.metrics.parked.Inc()
	for _, n := range a.Needs {
		pl.levels.Want(n.SKU)
	}
	pl.signal()
}

// enter takes a proposal among those that are parked, or says why not.
func (pl *puller) enter(w *parked, a line.Arrival) shardrpc.Reason {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.over {
		return shardrpc.ReasonNotLeader
	}
	id, ok := pl.desk.Park(a)
	if !ok {
		return shardrpc.ReasonOverloaded
	}
	pl.parked[id] = w
	pl.busy.Store(true)
	return shardrpc.ReasonNone
}

// withLine counts who stands in line for a SKU and looks at something meanwhile:
// nobody joins or leaves the line until look returns.
func (pl *puller) withLine(sku allocator.SKU, look func()) (waiting int) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	look()
	return pl.desk.Waiting(sku)
}
