package router

import (
	"cmp"
	"context"
	"slices"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// statusPatience is how long a node may take to say how it is before it counts
// as not alive.
const statusPatience = time.Second

// ClusterView is the cluster as this router sees it, merged from what the nodes
// say of themselves.
type ClusterView struct {
	ClusterID string // "" when no node answers
	Nodes     []NodeView
	Shards    []ShardView
	// FailureTolerance is how many more nodes may fail, whichever they are,
	// without stopping a shard.
	FailureTolerance int
	Retention        time.Duration
}

// NodeView is one node. When it is not alive the rest is what it said last.
type NodeView struct {
	ID        shardrpc.NodeID
	HTTP      string
	Ops       string
	Peer      string
	Version   string
	Alive     bool // it answers now
	WallClock time.Time
}

// ShardView is one shard.
type ShardView struct {
	Shard        allocator.ShardID
	Leader       shardrpc.NodeID // "": none known
	LeaderSince  time.Time
	Term         uint64
	Voters       []shardrpc.NodeID
	CommitIndex  uint64        // the highest that a replica knows
	AppliedIndex uint64        // of the leader; of the most advanced replica when there is none
	Lag          uint64        // entries committed that the slowest replica which answers has not applied
	Alive        int           // voters whose nodes answer
	Replicas     []ReplicaView // those whose nodes answer, by node
}

// ReplicaView is a shard's replica on one node.
type ReplicaView struct {
	Node         shardrpc.NodeID
	AppliedIndex uint64
	Applied      uint64 // commands, ever
	Hash         uint64 // rolling hash after them: replicas that have applied as many have the same
}

// Cluster shows the nodes and the shards. It does not fail because nodes do: a
// node that does not answer within a second is shown as not alive.
func (r *Router) Cluster(ctx context.Context) (v ClusterView, err error) {
	q, err := r.begin(ctx, opCluster, single)
	if err != nil {
		return v, err
	}
	defer func() { q.end(err) }()
	ctx = q.bounded(ctx)
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	v = mergeStatuses(r.dispatch.Directory().Statuses(ctx), r.shards)
	v.Retention = r.retention
	return v, nil
}

// mergeStatuses makes one view of what all nodes say.
func mergeStatuses(all []shardrpc.MemberStatus, shards int) ClusterView {
	v := ClusterView{Nodes: []NodeView{}, Shards: make([]ShardView, shards)}
	alive := make(map[shardrpc.NodeID]bool)
	for _, m := range all {
		alive[m.Node] = m.Err == nil
		v.ClusterID = cmp.Or(v.ClusterID, m.Status.ClusterID)
		v.Nodes = append(v.Nodes, NodeView{
			ID: m.Node, HTTP: m.Status.HTTP, Ops: m.Status.Ops, Peer: m.Status.Peer,
			Version: m.Status.Version, Alive: m.Err == nil, WallClock: m.Status.WallClock,
		})
	}
	for i := range v.Shards {
		v.Shards[i] = mergeShard(allocator.ShardID(i), all, alive)
	}
	v.FailureTolerance = tolerance(v.Shards)
	return v
}

// claim is what one node says of one shard.
type claim struct {
	from   shardrpc.NodeID
	status *shardrpc.ShardStatus
}

// claims lists what the nodes that answer say of a shard, the most credible
// first: the highest term, and in it the leader's own word.
func claims(shard allocator.ShardID, all []shardrpc.MemberStatus) []claim {
	var list []claim
	for i := range all {
		if all[i].Err != nil {
			continue
		}
		for j := range all[i].Status.Shards {
			if s := &all[i].Status.Shards[j]; s.Shard == shard {
				list = append(list, claim{all[i].Node, s})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b claim) int {
		return cmp.Or(
			cmp.Compare(rank(b), rank(a)),
			cmp.Compare(b.status.Term, a.status.Term),
			cmp.Compare(b.status.AppliedIndex, a.status.AppliedIndex),
		)
	})
	return list
}

// rank puts those who know a leader before those who know none: a replica that
// is cut off may be in a higher term all alone.
func rank(c claim) int {
	if c.status.Leader != "" {
		return 1
	}
	return 0
}

func mergeShard(shard allocator.ShardID, all []shardrpc.MemberStatus, alive map[shardrpc.NodeID]bool) ShardView {
	v := ShardView{Shard: shard, Voters: []shardrpc.NodeID{}}
	list := claims(shard, all)
	if len(list) == 0 {
		return v
	}
	best := list[0].status
	v.Leader, v.LeaderSince, v.Term, v.AppliedIndex = best.Leader, best.LeaderSince, best.Term, best.AppliedIndex
	if !alive[v.Leader] {
		v.Leader = "" // the others have not noticed yet
	}
	v.Voters = slices.Clone(best.Voters)
	slices.Sort(v.Voters)
	slowest := best.AppliedIndex
	for _, c := range list {
		v.CommitIndex = max(v.CommitIndex, c.status.CommitIndex)
		v.Replicas = append(v.Replicas, ReplicaView{
			Node: c.from, AppliedIndex: c.status.AppliedIndex, Applied: c.status.Commands, Hash: c.status.StateHash,
		})
		slowest = min(slowest, c.status.AppliedIndex)
		if c.from == v.Leader {
			v.AppliedIndex = c.status.AppliedIndex
		}
	}
	slices.SortFunc(v.Replicas, func(a, b ReplicaView) int { return cmp.Compare(a.Node, b.Node) })
	v.Lag = v.CommitIndex - min(slowest, v.CommitIndex)
	for _, id := range v.Voters {
		if alive[id] {
			v.Alive++
		}
	}
	return v
}

// tolerance is how many nodes may fail before the first shard loses its
// majority; 0 when one has lost it already.
func tolerance(shards []ShardView) int {
	least := 0
	for i := range shards {
		spare := shards[i].Alive - (len(shards[i].Voters)/2 + 1)
		if i == 0 || spare < least {
			least = spare
		}
	}
	return max(least, 0)
}
