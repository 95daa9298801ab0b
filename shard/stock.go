package shard

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/line"
	"stockade/shard/shardrpc"
)

// stock is what a leader does beside committing: it finds units for those that
// come up short, delivers the outbox and spreads deposits. There is one per
// replica; it works while the replica leads.
//
// run is one goroutine; the other methods are safe for concurrent use.
type stock struct {
	replica *replica
	cluster stockFinder
	levels  levelTable
	metrics *pullMetrics

	attempts line.Attempts[*shardrpc.Proposal] // of requests from outside, see request
	refused  line.Refusals[uint64]             // of them, by requestOf, in the present office
	pulls    atomic.Pointer[puller]            // nil: out of office
	moves    atomic.Pointer[leveller]          // nil: out of office
}

// run is the leader task: it serves until ctx ends, which is with the office.
func (s *stock) run(ctx context.Context) {
	pulls := newPuller(ctx, s, s.cluster, s.levels, s.metrics)
	s.pulls.Store(pulls)
	defer s.pulls.Store(nil)
	s.moves.Store(newLeveller(s.replica.shard, s.shards(), s.cluster, s.levels, s.metrics))
	defer s.moves.Store(nil)
	var pulling sync.WaitGroup
	pulling.Go(pulls.run)
	defer pulling.Wait()
	defer s.refused.Forget()
	newCourier(s.replica.shard, s, s.cluster, s.replica.log).run(ctx)
}

// propose takes a proposal from outside. Its answer is the whole cluster's: a
// result with shortages is parked until units come or nobody has any. A request of
// which another attempt is under way here gets that one's answer.
func (s *stock) propose(p *shardrpc.Proposal) {
	pulls := s.pulls.Load()
	if key, ok := request(p); ok {
		switch s.attempts.Enter(key, p, func(o *shardrpc.Proposal) bool { return bytes.Equal(o.Command, p.Command) }) {
		case line.Joined:
			return
		case line.Foreign:
			s.told(p, final(p.Shard, allocator.Result{Code: allocator.CodeKeyReused}))
			return
		}
		if pulls != nil && s.serves() {
			if result, settled := s.settled(p); settled {
				go s.settle(p, result)
				return
			}
			if !confirmation(p.Command) && s.received(pulls, p) {
				return
			}
		}
	} else if len(p.Claims) > 0 {
		s.give(pulls, p)
		return
	}
	s.enter(p)
}

// received tells whether a reservation need not enter the log now, and sees to it.
func (s *stock) received(pulls *puller, p *shardrpc.Proposal) bool {
	lined, minds := pulls.minds(p)
	return minds && pulls.receive(s.own(p), lined)
}

// enter hands a proposal from outside to the log.
func (s *stock) enter(p *shardrpc.Proposal) {
	s.commit(p, func(r shardrpc.Response) {
		if r.Outcome == shardrpc.Applied {
			if s.parked(p, r.Result) {
				return
			}
			s.spreadDeposit(p.Command, r.Result)
		}
		s.answer(p, r)
	})
}

// serves tells whether this replica leads and is ready. Attempts that end as unknown
// because its office is over end after that: whoever comes then is for the next leader
// to judge, who has applied, or never will, what was in the log.
func (s *stock) serves() bool {
	_, ok := s.replica.servingTerm()
	return ok
}

// request gives the key by which attempts of a request from outside meet; false: they need
// not. It is for what can be refused for lack of units and done when some have come back:
// reservations, and confirmations, which take their units again when they are late.
func request(p *shardrpc.Proposal) (key allocator.Key, ok bool) {
	if p.Final {
		return key, false
	}
	return requestKey(p.Command)
}

func requestKey(command []byte) (key allocator.Key, ok bool) {
	if key, ok = allocator.ReserveKey(command); ok || !confirmation(command) {
		return key, ok
	}
	binary.LittleEndian.PutUint64(key[:8], maphash.Bytes(commands, command))
	binary.LittleEndian.PutUint64(key[8:], maphash.Bytes(halves, command))
	return key, true
}

func confirmation(command []byte) bool {
	return allocator.CommandKind(command) == allocator.KindConfirm
}

// commands name requests in the refusals, and with halves confirmations among attempts.
var commands, halves = maphash.MakeSeed(), maphash.MakeSeed()

func requestOf(p *shardrpc.Proposal) uint64 { return maphash.Bytes(commands, p.Command) }

// settled gives the refusal of a request that was refused after this attempt of it began.
func (s *stock) settled(p *shardrpc.Proposal) (result []byte, ok bool) {
	if p.Begun.IsZero() || !s.refused.Some() {
		return nil, false
	}
	return s.refused.Of(requestOf(p), p.Begun, time.Now())
}

// settle gives an attempt the refusal of its request, unless another attempt was made after
// all: before this office, or by another leader. Who joined it may have begun later.
func (s *stock) settle(p *shardrpc.Proposal, refusal []byte) {
	ctx, cancel := context.WithDeadline(context.Background(), p.Deadline)
	defer cancel()
	switch err := s.replica.barrier(ctx); {
	case err != nil:
		s.answer(p, notApplied(p.Shard, shardrpc.ReasonNotReady))
	case s.seen(p):
		s.enter(p)
	default:
		key, _ := request(p)
		more := s.attempts.Answered(key)
		p.Done(shardrpc.Response{Outcome: shardrpc.Applied, Shard: p.Shard, Result: refusal})
		for _, m := range more {
			s.propose(m)
		}
	}
}

// seen tells whether the key of a reservation was used, or a reservation that is to be sold
// is anything but expired.
func (s *stock) seen(p *shardrpc.Proposal) bool {
	if confirmation(p.Command) {
		return !s.expired(p)
	}
	preview := previews.Get().(*allocator.Preview)
	defer previews.Put(preview)
	var o allocator.Outlook
	s.read(func(st *allocator.State) { o, _ = preview.Reserve(st, p.Command) })
	return o.Seen
}

// expired tells whether the reservation of a confirmation has expired.
func (s *stock) expired(p *shardrpc.Proposal) bool {
	cmd, err := allocator.DecodeCommand(p.Command)
	confirm, ok := cmd.(*allocator.Confirm)
	if err != nil || !ok {
		return false
	}
	var r allocator.Reservation
	s.read(func(st *allocator.State) { r, ok = st.Reservation(confirm.ID) })
	return ok && r.Status == allocator.StatusExpired
}

// own is a proposal whose Done answers the attempts that joined it, too.
func (s *stock) own(p *shardrpc.Proposal) *shardrpc.Proposal {
	own := *p
	own.Done = func(r shardrpc.Response) { s.answer(p, r) }
	return &own
}

// answer answers a proposal from outside, and the attempts that joined it, and those that
// began before and come later if it is refused.
func (s *stock) answer(p *shardrpc.Proposal, r shardrpc.Response) {
	key, ok := request(p)
	if !ok {
		p.Done(r)
		return
	}
	s.note(p, r) // before others can enter
	more := s.attempts.Answered(key)
	p.Done(r)
	s.share(more, r)
}

// told answers one attempt of a request.
func (s *stock) told(p *shardrpc.Proposal, r shardrpc.Response) {
	s.note(p, r)
	p.Done(r)
}

// note remembers a refusal, of a confirmation if it was late: else nothing could change it.
func (s *stock) note(p *shardrpc.Proposal, r shardrpc.Response) {
	if r.Outcome != shardrpc.Applied || p.Begun.IsZero() || allocator.ResultCode(r.Result) == allocator.CodeOK ||
		confirmation(p.Command) && !s.expired(p) {
		return
	}
	s.refused.Note(requestOf(p), bytes.Clone(r.Result), time.Now())
}

// share gives attempts the answer to the one that they joined. A reservation the log
// tells them, and that it is there already. When nothing was done, because the time was
// over, say, they have time of their own, and are made themselves.
func (s *stock) share(attempts []*shardrpc.Proposal, r shardrpc.Response) {
	for _, p := range attempts {
		switch {
		case r.Outcome == shardrpc.NotApplied:
			s.propose(p)
		case r.Outcome == shardrpc.Applied && allocator.ResultCode(r.Result) == allocator.CodeOK:
			s.submit(p)
		default:
			s.told(p, r)
		}
	}
}

// levelsChanged tells the leader that levels of other shards have changed.
func (s *stock) levelsChanged(skus []allocator.SKU) {
	if pulls := s.pulls.Load(); pulls != nil {
		pulls.changed(skus)
	}
	if moves := s.moves.Load(); moves != nil {
		moves.changed(skus)
	}
}

// give answers another shard's ask for units.
func (s *stock) give(pulls *puller, p *shardrpc.Proposal) {
	if pulls == nil {
		p.Done(notApplied(p.Shard, shardrpc.ReasonNotLeader))
		return
	}
	if granted := pulls.yield(p); granted != nil {
		s.submit(granted)
		return
	}
	p.Done(shardrpc.Response{Outcome: shardrpc.Applied, Shard: p.Shard, Result: (&allocator.Result{}).AppendTo(nil)})
}

// rate is how many units of a SKU a second were asked for here lately.
func (s *stock) rate(sku allocator.SKU) float64 {
	if pulls := s.pulls.Load(); pulls != nil {
		return pulls.rate(sku)
	}
	return 0
}

// submit takes a proposal of this shard's own: its answer is the shard's.
func (s *stock) submit(p *shardrpc.Proposal) { s.commit(p, p.Done) }

// commit hands a command to the proposer.
func (s *stock) commit(p *shardrpc.Proposal, done func(shardrpc.Response)) {
	s.replica.proposer.Submit(&raftfsm.Item{
		Command:  p.Command,
		Deadline: p.Deadline,
		Done: func(c raftfsm.Completion) {
			if c.Outcome == raftfsm.Unknown && c.Cause == raftfsm.CauseDeadline {
				s.outlives(p.Command)
			}
			done(s.replica.response(c))
		},
		After: s.over,
	})
}

// outlives notes that a request is answered while its command is in the log.
func (s *stock) outlives(command []byte) {
	if key, ok := requestKey(command); ok {
		s.attempts.Outlives(key)
	}
}

// over takes the end of a command that outlived its answer. It is what attempts of a
// reservation get that came meanwhile.
func (s *stock) over(it *raftfsm.Item, c raftfsm.Completion) {
	key, ok := requestKey(it.Command)
	if !ok {
		return
	}
	r := s.replica.response(c)
	short := r.Outcome == shardrpc.Applied && allocator.ResultHasShortages(r.Result)
	next, goesOn, more := s.attempts.Over(key, short)
	if goesOn && !s.parked(next, r.Result) {
		s.answer(next, r)
	}
	s.share(more, r)
}

// parked hands a proposal that came up short to the puller, if there is one.
func (s *stock) parked(p *shardrpc.Proposal, result []byte) bool {
	if p.Final || !allocator.ResultHasShortages(result) {
		return false
	}
	pulls := s.pulls.Load()
	if pulls == nil {
		// The office ended since: the next leader can pull, this one must not
		// refuse for the whole cluster.
		s.answer(p, notApplied(p.Shard, shardrpc.ReasonNotLeader))
		return true
	}
	pulls.park(s.own(p), result)
	return true
}

// spreadDeposit gives other shards their part of what a command put in.
func (s *stock) spreadDeposit(command, result []byte) {
	if sku, units := deposit(command, result); units > 0 {
		spread(sku, units, s, s.levels)
	}
}

// report tells what this shard has of a SKU, and how many stand in line for it at
// that moment.
func (s *stock) report(sku allocator.SKU) (r allocator.BucketReport, waiting int) {
	look := func() { s.read(func(st *allocator.State) { r = st.Bucket(sku) }) }
	if pulls := s.pulls.Load(); pulls != nil {
		waiting = pulls.withLine(sku, look)
		return r, waiting
	}
	look()
	return r, 0 // without an office nobody is let into a line
}

// id implements homeShard.
func (s *stock) id() allocator.ShardID { return s.replica.shard }

// shards implements homeShard.
func (s *stock) shards() int { return s.replica.env.cluster.Shards }

// read implements homeShard.
func (s *stock) read(look func(*allocator.State)) { s.replica.fsm.Read(look) }

// applied implements homeShard and outboxShard.
func (s *stock) applied() <-chan struct{} { return s.replica.wake.next() }

// Destinations implements delivery.Outbox.
func (s *stock) Destinations() (to []allocator.ShardID) {
	s.replica.fsm.Read(func(st *allocator.State) { to = st.Destinations() })
	return to
}

// Head implements delivery.Outbox.
func (s *stock) Head(to allocator.ShardID, limit int) (in allocator.TransferIn) {
	in.From = s.replica.shard
	s.replica.fsm.Read(func(st *allocator.State) { in.Messages, in.First = st.Outbox(to, 0, limit) })
	return in
}

// reasons says for each cause of the proposer what other nodes are told.
var reasons = map[raftfsm.Cause]shardrpc.Reason{
	raftfsm.CauseNone:           shardrpc.ReasonNone,
	raftfsm.CauseNotLeader:      shardrpc.ReasonNotLeader,
	raftfsm.CauseNotReady:       shardrpc.ReasonNotReady,
	raftfsm.CauseOverloaded:     shardrpc.ReasonOverloaded,
	raftfsm.CauseDeadline:       shardrpc.ReasonDeadline,
	raftfsm.CauseStopping:       shardrpc.ReasonStopping,
	raftfsm.CauseLeadershipLost: shardrpc.ReasonLeadershipLost,
	raftfsm.CauseStore:          shardrpc.ReasonStore,
	raftfsm.CauseInvalid:        shardrpc.ReasonInvalid,
}

// outcomes says it for outcomes.
var outcomes = map[raftfsm.Outcome]shardrpc.Outcome{
	raftfsm.Applied:    shardrpc.Applied,
	raftfsm.NotApplied: shardrpc.NotApplied,
	raftfsm.Unknown:    shardrpc.Unknown,
}

// response is a completion as other nodes read it.
func (r *replica) response(c raftfsm.Completion) shardrpc.Response {
	if c.Outcome == raftfsm.Applied {
		return shardrpc.Response{Outcome: shardrpc.Applied, Shard: r.shard, Result: c.Result}
	}
	resp := shardrpc.Response{Outcome: outcomes[c.Outcome], Reason: reasons[c.Cause], Shard: r.shard}
	leader, since := r.leader()
	if c.Cause == raftfsm.CauseNotLeader && leader != nodeOf(r.self) {
		resp.Leader = leader
	}
	if leader == "" {
		resp.Since = since
	}
	return resp
}

// serves tells whether this replica may answer for its shard, and if not, why
// and who else to ask.
func (r *replica) serves() (shardrpc.Reason, shardrpc.NodeID) {
	switch leader, _ := r.leader(); {
	case r.ready():
		return shardrpc.ReasonNone, ""
	case r.leading():
		return shardrpc.ReasonNotReady, ""
	case leader == nodeOf(r.self): // it was, until just now
		return shardrpc.ReasonNotLeader, ""
	default:
		return shardrpc.ReasonNotLeader, leader
	}
}
