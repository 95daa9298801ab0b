package shard

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

const (
	// maxParked bounds the proposals that wait for stock at one shard: a few
	// hundred bytes each, and more could not be served within a deadline.
	maxParked = 16_384

	// gatherTimeout bounds one look at the other shards. A shard that does not
	// answer within it counts as unreachable for this round.
	gatherTimeout = 250 * time.Millisecond

	// arrivalTimeout bounds the wait for units that a giver has sent. They
	// can't be lost, only late; the next round sees them as in transit.
	arrivalTimeout = 250 * time.Millisecond

	// A round that changed nothing is repeated after a pause that grows
	// between these bounds, with jitter so that two homes fall out of step.
	minPause = time.Millisecond
	maxPause = 50 * time.Millisecond

	// leastRound is the time a round gets however soon somebody's deadline is.
	leastRound = 5 * time.Millisecond
)

// stockFinder is what a puller needs of the rest of the cluster.
type stockFinder interface {
	// Propose sends a command to the leader of its shard.
	Propose(p *shardrpc.Proposal)
	// Gather reports sku from every shard, and names those that did not answer.
	Gather(ctx context.Context, sku allocator.SKU) (allocator.Cut, []allocator.ShardID)
}

// homeShard is what a puller needs of the shard it pulls for.
type homeShard interface {
	id() allocator.ShardID
	shards() int // of the cluster
	// submit proposes a command here, without pulling.
	submit(p *shardrpc.Proposal)
	// bucket tells whether this shard knows sku, and the sum of units that ever
	// came in from other shards.
	bucket(sku allocator.SKU) (known bool, received allocator.Quantity)
	// applied is closed when the next batch has been applied.
	applied() <-chan struct{}
}

// A puller finds units for the proposals of one shard that came up short
// ("parked" proposals), while this node leads the shard.
//
// For each SKU that is short it works in rounds: look at all shards, refuse
// what the whole cluster can't serve, pull for the rest from the richest
// shards, wait for the units, propose again. A refusal stands on a complete
// and consistent cut taken after the proposal was parked, so no unit that is
// anywhere, or on its way, is overlooked.
//
// One goroutine per short SKU runs its rounds; it ends when the line is empty
// or ctx ends. park may be called from any goroutine and does not block.
type puller struct {
	ctx     context.Context // ends with the leadership
	home    allocator.ShardID
	shard   homeShard
	cluster stockFinder
	metrics *pullMetrics

	mu       sync.Mutex
	lines    map[allocator.SKU][]*parked // by arrival; an entry exists while a goroutine serves the SKU
	count    int                         // parked proposals, all lines
	arrivals uint64
}

// parked is a proposal that waits for stock.
type parked struct {
	proposal *shardrpc.Proposal
	refusal  allocator.Result   // what the last attempt said
	short    allocator.Shortage // the first SKU it lacks; the others show when this one is there
	arrival  uint64             // its place in line
	rounds   int                // that left it short
	since    time.Time
}

// roundResult is what a round achieved.
type roundResult struct {
	progress bool                // somebody was answered
	missing  []allocator.ShardID // shards that did not answer
}

func newPuller(ctx context.Context, home homeShard, c stockFinder, m *pullMetrics) *puller {
	return &puller{
		ctx: ctx, home: home.id(), shard: home, cluster: c, metrics: m,
		lines: make(map[allocator.SKU][]*parked),
	}
}

// park takes over a proposal whose result has shortages; it will call its Done.
func (pl *puller) park(p *shardrpc.Proposal, result []byte) {
	own := *p
	own.Command = slices.Clone(p.Command) // it may be a part of a large frame, which must not stay in memory
	w := &parked{proposal: &own, since: time.Now()}
	if !w.learn(result) {
		p.Done(shardrpc.Response{Outcome: shardrpc.Applied, Shard: pl.home, Result: result})
		return
	}
	pl.mu.Lock()
	if pl.count >= maxParked {
		pl.mu.Unlock()
		p.Done(notApplied(pl.home, shardrpc.ReasonOverloaded))
		return
	}
	pl.count++
	pl.arrivals++
	w.arrival = pl.arrivals
	pl.metrics.parked.Inc()
	pl.enqueue(w)
	pl.mu.Unlock()
}

// rejoin puts a proposal that is short again back to its place in line.
func (pl *puller) rejoin(w *parked, result []byte) {
	if !w.learn(result) {
		pl.answer(w, shardrpc.Response{Outcome: shardrpc.Applied, Shard: pl.home, Result: result})
		return
	}
	pl.mu.Lock()
	w.rounds++
	pl.enqueue(w)
	pl.mu.Unlock()
}

// enqueue inserts w by arrival and sees to it that somebody serves its SKU.
// pl.mu is held.
func (pl *puller) enqueue(w *parked) {
	line, served := pl.lines[w.short.SKU]
	at, _ := slices.BinarySearchFunc(line, w.arrival, func(o *parked, a uint64) int { return cmp.Compare(o.arrival, a) })
	pl.lines[w.short.SKU] = slices.Insert(line, at, w)
	if !served {
		go pl.serve(w.short.SKU)
	}
}

// learn reads what the last attempt lacked; false when it lacked nothing.
func (w *parked) learn(result []byte) bool {
	if err := allocator.DecodeResult(result, &w.refusal); err != nil || len(w.refusal.Shortages) == 0 {
		return false
	}
	w.short = w.refusal.Shortages[0]
	for _, short := range w.refusal.Shortages {
		if !short.Known {
			// What a line with an unknown SKU ends with comes before any lack of
			// stock: first find out whether there is such a SKU.
			w.short = short
			break
		}
	}
	return true
}

// take hands out the line of sku, and ends its service when it is empty.
func (pl *puller) take(sku allocator.SKU) []*parked {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	line := pl.lines[sku]
	if len(line) == 0 {
		delete(pl.lines, sku)
		return nil
	}
	pl.lines[sku] = nil
	return line
}

// serve runs the rounds of one SKU until nobody is left in its line.
func (pl *puller) serve(sku allocator.SKU) {
	var last roundResult
	for line := pl.take(sku); line != nil; line = pl.take(sku) {
		if !last.progress {
			pl.sleep(min(line[0].pause(), time.Until(firstDeadline(line))))
		}
		if line = pl.dropLate(line, last.missing); len(line) > 0 {
			last = pl.round(sku, line)
		}
	}
}

// pause is how long the proposal waits before its next round. It grows with the
// rounds that were for nothing, also from one SKU of a cart to the other, and is
// random, so that two homes that take units from each other fall out of step.
func (w *parked) pause() time.Duration {
	if w.rounds == 0 {
		return 0
	}
	longest := min(minPause<<min(w.rounds, 10), maxPause)
	return rand.N(longest)
}

// dropLate answers the proposals that can't wait any longer. missing are the
// shards that kept the last round from a verdict.
func (pl *puller) dropLate(line []*parked, missing []allocator.ShardID) []*parked {
	over := pl.ctx.Err() != nil
	now := time.Now()
	return slices.DeleteFunc(line, func(w *parked) bool {
		switch {
		case over:
			pl.answer(w, notApplied(pl.home, shardrpc.ReasonNotLeader))
		case now.Before(w.proposal.Deadline):
			return false
		case len(missing) > 0:
			pl.answer(w, notApplied(missing[0], shardrpc.ReasonStockUnreachable))
		default:
			pl.answer(w, notApplied(pl.home, shardrpc.ReasonDeadline))
		}
		return true
	})
}

// round looks at all shards once and does what follows from it. Every member
// of line is answered or back in line when it returns.
func (pl *puller) round(sku allocator.SKU, line []*parked) roundResult {
	// Whoever must be answered first still is, with the shard that kept us.
	ctx, cancel := context.WithDeadline(pl.ctx, firstDeadline(line))
	defer cancel()
	look, stop := context.WithTimeout(ctx, gatherTimeout)
	cut, missing := pl.cluster.Gather(look, sku)
	stop()

	refused := 0
	switch {
	case len(missing) == 0 && cut.Consistent():
		line, refused = pl.refuse(cut, cut.Known(), line)
	case pl.nowhere(cut, sku):
		line, refused = pl.refuse(cut, false, line)
	}
	if len(line) == 0 {
		return roundResult{progress: true}
	}
	here := cut.Of(pl.home)
	if !worthRepeating(here, line) && !pl.pull(ctx, sku, cut, missingHere(here, line)) {
		pl.back(line)
		return roundResult{progress: refused > 0, missing: missing}
	}
	// Units that came and went before anybody could be served are no progress:
	// two homes could swap them for ever, in step.
	served := pl.again(line)
	return roundResult{progress: refused+served > 0, missing: missing}
}

// firstDeadline is when a round must end for the most urgent of the line.
func firstDeadline(line []*parked) time.Time {
	first := line[0].proposal.Deadline
	for _, w := range line[1:] {
		if w.proposal.Deadline.Before(first) {
			first = w.proposal.Deadline
		}
	}
	if least := time.Now().Add(leastRound); first.Before(least) {
		return least
	}
	return first
}

// worthRepeating tells whether the first in line may be served by what is here
// by now.
func worthRepeating(here *allocator.BucketReport, line []*parked) bool {
	return here != nil && here.Known && (!line[0].short.Known || here.Available >= line[0].short.Requested)
}

// nowhere tells whether there is no such SKU. Its anchor alone knows that, and no
// other shard needs to answer.
func (pl *puller) nowhere(cut allocator.Cut, sku allocator.SKU) bool {
	anchor := cut.Of(allocator.Anchor(sku, pl.shard.shards()))
	return anchor != nil && !anchor.Known && !cut.Known()
}

// refuse answers those whom all shards together can't serve, and returns the
// others. The cut is complete and consistent, or the SKU is not known.
func (pl *puller) refuse(cut allocator.Cut, known bool, line []*parked) (rest []*parked, refused int) {
	units := cut.Units()
	for _, w := range line {
		if known && (!w.short.Known || units >= w.short.Requested) {
			rest = append(rest, w)
			continue
		}
		refused++
		pl.answer(w, shardrpc.Response{
			Outcome: shardrpc.Applied,
			Shard:   pl.home,
			Result:  finalRefusal(w, known, units).AppendTo(nil),
		})
	}
	return rest, refused
}

// finalRefusal is the answer of the whole cluster where the shard alone could
// only say that it is short.
func finalRefusal(w *parked, known bool, units allocator.Quantity) allocator.Result {
	r := w.refusal
	if r.Code == allocator.CodeSKUUnknown && !known {
		r.Code = allocator.CodeSKUNotFound
	}
	r.SKU, r.Requested, r.Available = w.short.SKU, w.short.Requested, units
	r.Shortages = nil
	return r
}

// missingHere is how many units the line needs beyond what is here already.
func missingHere(here *allocator.BucketReport, line []*parked) (need allocator.Quantity) {
	for _, w := range line {
		need += w.short.Requested
	}
	if here != nil {
		need -= here.Available
	}
	return max(need, 0)
}

// pull asks the richest shards for need units, and waits until what they
// granted has arrived. When nobody has any and the SKU is unknown here, its
// anchor is asked to make it known. It tells whether anything changed here.
func (pl *puller) pull(ctx context.Context, sku allocator.SKU, cut allocator.Cut, need allocator.Quantity) bool {
	givers, open := pl.givers(cut, need)
	if len(givers) == 0 {
		return false
	}
	began := time.Now()
	deadline, _ := ctx.Deadline()
	if most := began.Add(gatherTimeout); most.Before(deadline) {
		deadline = most
	}
	_, before := pl.shard.bucket(sku)
	answers := make(chan shardrpc.Response, len(givers))
	for _, g := range givers {
		out := allocator.TransferOut{SKU: sku, To: pl.home, Quantity: min(need, allocator.MaxQuantity), Share: true, Open: open}
		need = max(need-g.Available, 0)
		pl.cluster.Propose(&shardrpc.Proposal{
			Shard:    g.Shard,
			Command:  out.AppendTo(nil),
			Deadline: deadline,
			Final:    true,
			Once:     true, // a repetition would move more units than needed
			Done:     func(r shardrpc.Response) { answers <- r },
		})
	}
	var granted allocator.Quantity
	for range givers {
		granted += grantOf(<-answers)
	}
	if granted == 0 && !open {
		return false
	}
	arrived := pl.await(ctx, func() bool {
		known, received := pl.shard.bucket(sku)
		return known && received >= before+granted
	})
	pl.metrics.pulls.Observe(time.Since(began).Seconds())
	return arrived
}

// givers picks whom to ask, richest first, until need is met. When nobody has
// a unit and the SKU is unknown here, that is the anchor, to open the bucket.
func (pl *puller) givers(cut allocator.Cut, need allocator.Quantity) (givers []allocator.BucketReport, open bool) {
	var here, anchor *allocator.BucketReport
	var rich []allocator.BucketReport
	for i := range cut {
		b := &cut[i]
		switch {
		case b.Shard == pl.home:
			here = b
		case b.Available > 0:
			rich = append(rich, *b)
		}
		if b.Anchor && b.Known {
			anchor = b
		}
	}
	slices.SortFunc(rich, func(a, b allocator.BucketReport) int {
		return cmp.Or(cmp.Compare(b.Available, a.Available), cmp.Compare(a.Shard, b.Shard))
	})
	for i := 0; i < len(rich) && need > 0; i++ {
		givers = append(givers, rich[i])
		need -= rich[i].Available
	}
	if len(givers) == 0 && anchor != nil && here != nil && !here.Known {
		return []allocator.BucketReport{*anchor}, true
	}
	return givers, false
}

// grantOf reads how many units an answered TransferOut sent. An unknown outcome
// counts as none: if it was applied, the units arrive all the same and the next
// round finds them.
func grantOf(r shardrpc.Response) allocator.Quantity {
	var res allocator.Result
	if r.Outcome != shardrpc.Applied || allocator.DecodeResult(r.Result, &res) != nil {
		return 0
	}
	return res.Granted
}

// await waits until something holds in this shard, or gives up.
func (pl *puller) await(ctx context.Context, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, arrivalTimeout)
	defer cancel()
	for {
		applied := pl.shard.applied() // before the look, so that no change is missed
		if holds() {
			return true
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return false
		}
	}
}

// again proposes the line once more, in order, and waits until all are answered
// or back in line. It tells how many were answered.
func (pl *puller) again(line []*parked) (served int) {
	var wait sync.WaitGroup
	var rejoined atomic.Int32
	wait.Add(len(line))
	for _, w := range line {
		p := *w.proposal
		p.Final = true
		p.Done = func(r shardrpc.Response) {
			defer wait.Done()
			if r.Outcome == shardrpc.Applied && allocator.ResultHasShortages(r.Result) {
				rejoined.Add(1)
				pl.rejoin(w, r.Result)
				return
			}
			pl.answer(w, r)
		}
		pl.shard.submit(&p)
	}
	wait.Wait()
	return len(line) - int(rejoined.Load())
}

// back puts the line back as it was.
func (pl *puller) back(line []*parked) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for _, w := range line {
		w.rounds++
		pl.enqueue(w)
	}
}

// answer ends a parked proposal.
func (pl *puller) answer(w *parked, r shardrpc.Response) {
	pl.mu.Lock()
	pl.count--
	pl.mu.Unlock()
	pl.metrics.parked.Dec()
	pl.metrics.waited.Observe(time.Since(w.since).Seconds())
	w.proposal.Done(r)
}

// sleep waits, but not beyond the end of the leadership.
func (pl *puller) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-pl.ctx.Done():
	}
}

// notApplied is the answer for a proposal that is not in the log.
func notApplied(shard allocator.ShardID, reason shardrpc.Reason) shardrpc.Response {
	return shardrpc.Response{Outcome: shardrpc.NotApplied, Reason: reason, Shard: shard}
}
