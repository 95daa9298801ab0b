package shard

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/shard/line"
	"stockade/shard/shardrpc"
)

const (
	// gatherTimeout bounds one look at the other shards. A shard that does not
	// answer within it counts as unreachable for this look.
	gatherTimeout = 250 * time.Millisecond

	// pullTimeout bounds one ask for units. If it is applied later, the units
	// arrive all the same, and the next look finds them.
	pullTimeout = 250 * time.Millisecond
)

// stockFinder is what a puller needs of the rest of the cluster.
type stockFinder interface {
	// Propose sends a command to the leader of its shard.
	Propose(p *shardrpc.Proposal)
	// Gather reports sku from every shard, and names those that did not answer. A
	// strong one is by leaders that are proven to lead, by a barrier each.
	Gather(ctx context.Context, sku allocator.SKU, strong bool) (allocator.Cut, []allocator.ShardID)
	anchors
}

// levelTable is what a puller knows of other shards without asking.
type levelTable interface {
	// Want has the levels of a SKU kept fresh for a while, if there is room.
	Want(sku allocator.SKU)
	// Wants tells whether they are.
	Wants(sku allocator.SKU) bool
	line.Levels
}

// homeShard is what a puller needs of the shard it pulls for.
type homeShard interface {
	id() allocator.ShardID
	shards() int // of the cluster
	// submit proposes a command here, without pulling.
	submit(p *shardrpc.Proposal)
	// read looks at the applied state.
	read(look func(*allocator.State))
	// applied is closed when the next batch has been applied.
	applied() <-chan struct{}
}

// A puller finds units for the proposals of one shard that came up short
// ("parked" proposals), while this node leads the shard. What is to be done is
// decided by a line.Desk; the puller does it.
//
// run is one goroutine, and each look at the shards is one more; all end with ctx.
// The other methods may be called from any goroutine and do not block.
type puller struct {
	home    allocator.ShardID
	shard   homeShard
	cluster stockFinder
	levels  levelTable
	metrics *pullMetrics
	wake    chan struct{} // the desk has something to do

	existence *existence
	began     time.Time
	ctx       context.Context

	// busy tells whether any line exists, or existed lately, so that the usual
	// case costs nothing.
	busy atomic.Bool

	// mu guards what follows. It is never held while a Done is called or the state
	// is changed; the desk reads the state under it.
	mu     sync.Mutex
	desk   *line.Desk
	parked map[line.ID]*parked
	scarce line.Scarcity
	over   bool // the office has ended
}

// parked is a proposal that waits for stock.
type parked struct {
	proposal *shardrpc.Proposal
	refusal  allocator.Result // what the last attempt said; zero: it was not proposed yet
	since    time.Time
	inLog    bool // it was proposed again, and the answer is not there yet
}

func newPuller(ctx context.Context, home homeShard, c stockFinder, levels levelTable, m *pullMetrics) *puller {
	pl := &puller{
		ctx: ctx, began: time.Now(), home: home.id(), shard: home, cluster: c, levels: levels, metrics: m,
		wake: make(chan struct{}, 1), parked: make(map[line.ID]*parked),
		existence: newExistence(ctx, home.shards(), c),
	}
	pl.desk = line.NewDesk(pl.home, home.shards(), pl)
	return pl
}

// Level implements line.Local.
func (pl *puller) Level(sku allocator.SKU) (r allocator.BucketReport) {
	pl.shard.read(func(s *allocator.State) { r = s.Level(sku) })
	return r
}

func (pl *puller) signal() {
	select {
	case pl.wake <- struct{}{}:
	default:
	}
}

// changed tells the puller that levels of other shards have changed.
func (pl *puller) changed(skus []allocator.SKU) {
	if !pl.busy.Load() {
		return
	}
	pl.mu.Lock()
	for _, sku := range skus {
		pl.desk.Changed(sku)
	}
	pl.mu.Unlock()
	pl.signal()
}

// run does what the desk says until ctx ends; then it answers whoever is left.
func (pl *puller) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	hot := time.NewTicker(hotEvery)
	defer hot.Stop()
	var applied <-chan struct{}
	for {
		// It is got before the state is looked at, and kept until it is closed, whatever
		// else happens meanwhile: so no change is missed.
		if applied == nil {
			applied = pl.shard.applied()
		}
		actions, next := pl.step()
		for _, a := range actions {
			pl.do(a)
		}
		if pl.idle() {
			applied = nil
		}
		timer.Reset(untilNext(next))
		select {
		case <-pl.ctx.Done():
			pl.end()
			return
		case <-applied:
			applied = pl.shard.applied()
			pl.look()
		case <-pl.wake:
		case <-timer.C:
		case <-hot.C:
			pl.watchHot()
		}
	}
}

// watchHot has the levels of those SKUs kept fresh that are anchored here and sell
// fast, for the leveller.
func (pl *puller) watchHot() {
	now := time.Since(pl.began)
	for _, sku := range pl.existence.hot(pl.home, hotRate, now) {
		pl.levels.Want(sku)
	}
}

func untilNext(next time.Time) time.Duration {
	if next.IsZero() {
		return time.Hour // until something happens
	}
	return time.Until(next)
}

// step asks the desk what is to be done.
func (pl *puller) step() ([]line.Action, time.Time) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	return pl.desk.Step(time.Now())
}

// idle tells whether there is no line.
func (pl *puller) idle() bool {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	empty := pl.desk.Len() == 0
	if empty && pl.scarce.Empty(time.Now()) {
		pl.busy.Store(false)
	}
	return empty
}

// look tells the desk which buckets have changed here.
func (pl *puller) look() {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.shard.read(func(s *allocator.State) { pl.desk.Applied(s.LevelMark) })
}

// end answers everybody when the office is over: the next leader can pull. Those
// whose command is in the log are answered by it: it may be applied yet.
func (pl *puller) end() {
	var left []*parked
	pl.mu.Lock()
	pl.over = true
	for id, w := range pl.parked {
		if !w.inLog {
			left = append(left, w)
			delete(pl.parked, id)
		}
	}
	pl.mu.Unlock()
	for _, w := range left {
		pl.answer(w, notApplied(pl.home, shardrpc.ReasonNotLeader))
	}
}

// do carries out one action of the desk.
func (pl *puller) do(a line.Action) {
	switch a.Kind {
	case line.Propose:
		pl.again(a.ID)
	case line.Refuse:
		pl.refuse(a)
	case line.Late:
		pl.late(a)
	case line.Look:
		pl.takePicture(a.SKU)
	case line.Pull:
		pl.pull(a)
	case line.Unsound:
		pl.metrics.falseRefusals.Inc()
	}
}

// take removes a proposal from those that are parked; nil: it is not.
func (pl *puller) take(id line.ID) *parked {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	w := pl.parked[id]
	delete(pl.parked, id)
	return w
}

// again proposes a command whose units are here.
func (pl *puller) again(id line.ID) {
	pl.mu.Lock()
	w := pl.parked[id]
	if w != nil {
		w.inLog = true
	}
	pl.mu.Unlock()
	if w == nil {
		return // the office has ended
	}
	p := *w.proposal
	p.Final = true
	p.Done = func(r shardrpc.Response) { pl.decided(id, w, r) }
	pl.shard.submit(&p)
}

// decided takes the outcome of a command that was proposed again.
func (pl *puller) decided(id line.ID, w *parked, r shardrpc.Response) {
	if r.Outcome == shardrpc.Applied && allocator.ResultHasShortages(r.Result) {
		if pl.shortAgain(id, w, r.Result) {
			return
		}
		r = notApplied(pl.home, shardrpc.ReasonNotLeader) // nothing was taken, and the next leader can pull
	}
	pl.mu.Lock()
	mine := pl.parked[id] == w
	delete(pl.parked, id)
	pl.desk.Done(id)
	pl.mu.Unlock()
	if mine {
		pl.answer(w, r)
	}
	pl.signal()
}

// shortAgain puts a proposal back to its place in line; false when its result
// can't be read, or the office has ended.
func (pl *puller) shortAgain(id line.ID, w *parked, result []byte) bool {
	var refusal allocator.Result
	if allocator.DecodeResult(result, &refusal) != nil {
		return false
	}
	needs, _ := line.Needs(w.proposal.Command, &refusal)
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.over || pl.parked[id] != w {
		return false
	}
	w.refusal, w.inLog = refusal, false
	pl.desk.Short(id, needs)
	pl.signal()
	return true
}

// refuse answers a proposal for which there are not enough units anywhere. If the
// log has something else to say to it by now, it gets that instead: the first
// answer to its key, or a refusal that comes before this one.
func (pl *puller) refuse(a line.Action) {
	w := pl.take(a.ID)
	if w == nil {
		return
	}
	if !pl.onlyShort(w.proposal.Command) {
		pl.last(w, a)
		return
	}
	pl.refused(w, &w.refusal, a)
}

// refused answers a proposal that there are too few units for it in all shards. last is
// what this shard alone said to it.
func (pl *puller) refused(w *parked, last *allocator.Result, a line.Action) {
	pl.metrics.refused.Inc()
	pl.mark(a.SKU)
	pl.left(w)
	pl.finish(w.proposal, pl.finalRefusal(last, a))
}

// onlyShort tells whether nothing but a lack of units speaks against a command now.
func (pl *puller) onlyShort(command []byte) bool {
	var p allocator.Preview
	var o allocator.Outlook
	reserve := false
	pl.shard.read(func(s *allocator.State) { o, reserve = p.Reserve(s, command) })
	return line.OnlyShort(o, reserve)
}

// last proposes a command that is to be refused once more. If all that the log has to say
// is that units of the same SKU are missing here, the refusal stands; if it is short of
// others by now, that is looked into anew.
func (pl *puller) last(w *parked, a line.Action) {
	p := *w.proposal
	p.Final = true
	p.Done = func(r shardrpc.Response) {
		var refusal allocator.Result
		switch {
		case r.Outcome != shardrpc.Applied || !allocator.ResultHasShortages(r.Result) || allocator.DecodeResult(r.Result, &refusal) != nil:
			pl.answer(w, r)
		case slices.ContainsFunc(refusal.Shortages, func(s allocator.Shortage) bool { return s.SKU == a.SKU }):
			pl.refused(w, &refusal, a)
		default:
			pl.left(w)
			pl.park(w.proposal, r.Result)
		}
	}
	pl.shard.submit(&p)
}

// finalRefusal is the answer of the whole cluster where the shard alone could
// only say that it is short.
func (pl *puller) finalRefusal(last *allocator.Result, a line.Action) allocator.Result {
	r := *last
	if r.Code == allocator.CodeOK { // it was never proposed
		r.Code = allocator.CodeInsufficientStock
		pl.shard.read(func(s *allocator.State) { r.At = s.Now() })
	}
	if a.Unknown && (r.Code == allocator.CodeSKUUnknown || r.Code == allocator.CodeInsufficientStock) {
		r.Code = allocator.CodeSKUNotFound
	} else if r.Code == allocator.CodeSKUUnknown {
		r.Code = allocator.CodeInsufficientStock
	}
	r.SKU, r.Requested, r.Available = a.SKU, a.Quantity, a.Units
	r.Shortages = nil
	return r
}

// late answers a proposal whose time is over: with the shard that kept it from a
// verdict, if one did.
func (pl *puller) late(a line.Action) {
	w := pl.take(a.ID)
	switch {
	case w == nil:
	case len(a.Missing) > 0:
		pl.answer(w, notApplied(a.Missing[0], shardrpc.ReasonStockUnreachable))
	default:
		pl.answer(w, notApplied(pl.home, shardrpc.ReasonDeadline))
	}
}

// takePicture tells the desk what all shards have of a SKU: from the levels if
// they are fresh, else by asking. A refusal needs leaders that are proven to lead:
// levels, or, when these have no room for the SKU, a barrier on each shard, which
// all who look at that moment share.
func (pl *puller) takePicture(sku allocator.SKU) {
	pl.levels.Want(sku)
	wanted := pl.levels.Wants(sku)
	if cut, asOf, ok := pl.levels.Cut(sku); ok && time.Since(asOf) <= line.UsefulPictureAge {
		var applied uint64
		pl.shard.read(func(s *allocator.State) { applied = s.Applied() })
		pl.picture(sku, asOf, cut, nil, line.Current(cut, pl.home, applied))
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(pl.ctx, gatherTimeout)
		defer cancel()
		began := time.Now()
		cut, missing := pl.cluster.Gather(ctx, sku, !wanted)
		pl.picture(sku, began, cut, missing, !wanted)
	}()
}

func (pl *puller) picture(sku allocator.SKU, asOf time.Time, cut allocator.Cut, missing []allocator.ShardID, final bool) {
	pl.mu.Lock()
	pl.desk.Picture(sku, asOf, cut, missing, final)
	pl.mu.Unlock()
	pl.signal()
}

// pull asks a shard for units.
func (pl *puller) pull(a line.Action) {
	began := time.Now()
	out := allocator.TransferOut{SKU: a.SKU, To: pl.home, Quantity: min(a.Quantity, allocator.MaxQuantity), Open: a.Open}
	pl.cluster.Propose(&shardrpc.Proposal{
		Shard:    a.Giver,
		Command:  out.AppendTo(nil),
		Deadline: began.Add(pullTimeout),
		Final:    true,
		Once:     true, // a repetition would move more units than needed
		Claims:   claimsOf(a),
		Done: func(r shardrpc.Response) {
			pl.metrics.pulls.Observe(time.Since(began).Seconds())
			pl.mu.Lock()
			pl.desk.Granted(time.Now(), a.SKU, a.Giver, grantOf(r))
			pl.mu.Unlock()
			pl.signal()
		},
	})
}

// All claims of a desk fit into a pull.
const _ = uint(shardrpc.MaxClaims - line.MaxClaims)

// claimsOf is what a pull is for, as other nodes read it. One for a bucket alone
// has an empty claim, which marks it as a pull.
func claimsOf(a line.Action) []shardrpc.Claim {
	if len(a.Claims) == 0 {
		return make([]shardrpc.Claim, 1)
	}
	claims := make([]shardrpc.Claim, len(a.Claims))
	for i, c := range a.Claims {
		claims[i] = shardrpc.Claim(c)
	}
	return claims
}

// grantOf reads how many units an answered TransferOut sent. An unknown outcome
// counts as none: if it was applied, the units arrive all the same and the next
// look finds them.
func grantOf(r shardrpc.Response) allocator.Quantity {
	var res allocator.Result
	if r.Outcome != shardrpc.Applied || allocator.DecodeResult(r.Result, &res) != nil {
		return 0
	}
	return res.Granted
}

// answer ends a parked proposal.
func (pl *puller) answer(w *parked, r shardrpc.Response) {
	pl.left(w)
	w.proposal.Done(r)
}

// left counts a proposal as parked no longer.
func (pl *puller) left(w *parked) {
	pl.metrics.parked.Dec()
	pl.metrics.waited.Observe(time.Since(w.since).Seconds())
}

// notApplied is the answer for a proposal that is not in the log.
func notApplied(shard allocator.ShardID, reason shardrpc.Reason) shardrpc.Response {
	return shardrpc.Response{Outcome: shardrpc.NotApplied, Reason: reason, Shard: shard}
}
