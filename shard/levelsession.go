package shard

import (
	"context"
	"errors"
	"slices"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/shardrpc"
)

const (
	// probeMemory is how many probes of a stream are remembered with the moment
	// of their arrival. A proof that is older than the oldest, half a second at
	// the usual pace, says nothing that anybody could use.
	probeMemory = 64

	// maxReplyRows bounds a reply, whose reports and their flows count one each.
	// A report has some 200 bytes and a flow 20, so that is 5 MB at the very
	// most. The rest follows in the next reply.
	maxReplyRows = 24 * 1024
)

var errTooManyLevels = errors.New("more SKUs are asked for than a stream of levels has room for")

// levelSession answers one stream of levels: from the replicas that lead, what
// has changed of the SKUs asked for, and as of when that is all.
//
// The latter is a proof and needs no clock. A leader of a later term needs the
// votes of a majority, each of which raises its voter's term before it is cast.
// So when a majority of voters are in this leader's term when asked at some
// moment, nobody else has led before that moment: whatever was acknowledged
// before was acknowledged here, after it was applied, or is older than this
// leader, who has applied that too. Whatever is read after the proof includes it.
//
// The answers of the other voters are those to this node's own probes
// (shardrpc.Levels). Moments are numbers in the order of events in this process.
//
// Like every shardrpc.LevelStream it is not safe for concurrent use.
type levelSession struct {
	node    *Node
	skus    map[allocator.SKU]bool
	changes int // of skus
	probes  [probeMemory]probe
	count   uint64 // probes that came
	told    map[allocator.ShardID]*toldShard
}

// probe is one that arrived.
type probe struct {
	number  uint64
	arrived shardrpc.Moment
}

// toldShard is what the subscriber knows of a shard that was in the last reply.
type toldShard struct {
	marks    map[allocator.SKU]allocator.LevelMark
	progress raftfsm.Progress // of the state before it was last read through
	changes  int              // of the session's SKUs, then
	complete bool             // it was read to the end
	alone    bool             // there is one voter, this node
}

func newLevelSession(n *Node) *levelSession {
	return &levelSession{node: n, skus: make(map[allocator.SKU]bool), told: make(map[allocator.ShardID]*toldShard)}
}

// Close implements shardrpc.LevelStream.
func (s *levelSession) Close() {}

// Poll implements shardrpc.LevelStream. It does not wait for anything.
func (s *levelSession) Poll(_ context.Context, r shardrpc.LevelsRequest) (shardrpc.LevelsReply, error) {
	reply := shardrpc.LevelsReply{Probe: r.Probe}
	if err := s.subscribe(r); err != nil {
		return reply, err
	}
	replicas := s.node.all()
	if len(replicas) == 0 { // the node still opens
		return reply, nil
	}
	s.arrived(probe{r.Probe, s.node.levels.Moment()})
	told := make(map[allocator.ShardID]*toldShard, len(s.told))
	room := maxReplyRows
	alone := true
	for _, r := range replicas {
		if r == nil {
			continue
		}
		if term, ok := r.votingTerm(); ok {
			reply.Terms = append(reply.Terms, shardrpc.ShardTerm{Shard: r.shard, Term: term})
		}
		if levels, shard, ok := s.shard(r, &room); ok {
			reply.Shards = append(reply.Shards, levels)
			told[r.shard] = shard
			alone = alone && shard.alone
		}
	}
	s.told = told // a shard that is not in a reply comes with all SKUs when it is again
	// Who only asks for terms does so because he is asked himself. If that made
	// others ask in turn, it would never end.
	if len(s.skus) > 0 && !alone {
		s.node.levels.KeepProving()
	}
	return reply, nil
}

// subscribe changes which SKUs are asked for.
func (s *levelSession) subscribe(r shardrpc.LevelsRequest) error {
	if len(r.Add)+len(r.Drop) == 0 {
		return nil
	}
	s.changes++
	for _, sku := range r.Drop {
		delete(s.skus, sku)
		for _, told := range s.told {
			delete(told.marks, sku)
		}
	}
	for _, sku := range r.Add {
		s.skus[sku] = true
	}
	if len(s.skus) > shardrpc.MaxLevels {
		return errTooManyLevels
	}
	return nil
}

// arrived notes a probe.
func (s *levelSession) arrived(p probe) {
	s.probes[s.count%probeMemory] = p
	s.count++
}

// newest is the newest probe that arrived before a moment; 0: none.
func (s *levelSession) newest(before shardrpc.Moment) (number uint64) {
	for _, p := range s.probes {
		if p.arrived < before {
			number = max(number, p.number)
		}
	}
	return number
}

// shard tells what is new of one shard; false: this node does not lead it.
func (s *levelSession) shard(r *replica, room *int) (shardrpc.ShardLevels, *toldShard, bool) {
	levels := shardrpc.ShardLevels{Shard: r.shard}
	// The moment comes first: it is that of this replica's own term.
	now := s.node.levels.Moment()
	term, ok := r.servingTerm()
	if !ok {
		return levels, nil, false
	}
	voters := r.voters()
	proven := s.proven(leadership{r.shard, term, voters}, now)
	told := s.told[r.shard]
	if told == nil {
		told = &toldShard{marks: make(map[allocator.SKU]allocator.LevelMark)}
	}
	told.alone = len(voters) == 1
	levels.Changed = s.changed(r, told, room) // after the proof: it includes what was before that
	if told.complete {
		levels.AsOf = s.newest(proven)
	}
	s.node.metrics.levels.Add(float64(len(levels.Changed)))
	return levels, told, true
}

// leadership is what a leader believes.
type leadership struct {
	shard  allocator.ShardID
	term   uint64
	voters []shardrpc.NodeID
}

// proven is the latest moment before which nobody led the shard in a later term.
// now came before this node's own term was read. 0: there is none.
func (s *levelSession) proven(l leadership, now shardrpc.Moment) shardrpc.Moment {
	moments := make([]shardrpc.Moment, 0, len(l.voters))
	for _, id := range l.voters {
		if id == s.node.cfg.NodeID {
			moments = append(moments, now)
		} else if at, ok := s.node.levels.Agreed(id, l.shard, l.term); ok {
			moments = append(moments, at)
		}
	}
	majority := len(l.voters)/2 + 1
	if len(moments) < majority {
		return 0
	}
	slices.Sort(moments)
	return moments[len(moments)-majority]
}

// changed reads what the subscriber does not know yet. Without a change of the
// state or the SKUs there is nothing to read: what is acknowledged shows in the
// progress before.
func (s *levelSession) changed(r *replica, told *toldShard, room *int) (all []allocator.BucketReport) {
	progress := r.fsm.Progress()
	if told.complete && told.progress == progress && told.changes == s.changes {
		return nil
	}
	told.progress, told.changes, told.complete = progress, s.changes, true
	r.fsm.Read(func(st *allocator.State) {
		for sku := range s.skus {
			mark := st.LevelMark(sku)
			if last, ok := told.marks[sku]; ok && last == mark {
				continue
			}
			if *room <= 0 {
				told.complete = false
				return
			}
			report := st.Level(sku)
			report.Rate = r.stock.rate(sku)
			told.marks[sku] = mark
			all = append(all, report)
			*room -= 1 + len(report.Flows)
		}
	})
	return all
}

// servingTerm is the term in which this replica leads and is ready; false: it
// does not, as far as it knows.
func (r *replica) servingTerm() (uint64, bool) {
	term := r.term()
	return term, r.ready() && r.servedTerm.Load() == term
}

// votingTerm is the current term, with which this replica vouches that it has
// not voted in a later one. One that is being rebuilt can't: it has forgotten how
// it voted.
func (r *replica) votingTerm() (uint64, bool) {
	if r.trans.votesWithheld() {
		return 0, false
	}
	return r.term(), true
}
