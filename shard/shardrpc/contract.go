package shardrpc

import (
	"context"
	"time"

	"stockade/allocator"
)

// NodeID names a node for ever; it is not its address.
type NodeID string

// Outcome is what is known about a proposal.
type Outcome uint8

const (
	// Applied: the command is committed and applied, and Result says with what.
	Applied Outcome = iota + 1
	// NotApplied: the command is not in the log and never will be by this call.
	NotApplied
	// Unknown: the command may or may not be applied, now or later.
	Unknown
)

// Reason says why a proposal was not applied, or why nobody knows. Values are
// part of the wire format.
type Reason uint8

const (
	ReasonNone Reason = iota
	// ReasonNotLeader: this node does not lead the shard; Leader may say who does.
	ReasonNotLeader
	// ReasonNotReady: the leader is new and still applies what came before it.
	ReasonNotReady
	// ReasonNoReplica: this node hosts no replica of the shard.
	ReasonNoReplica
	// ReasonOverloaded: a queue is at its bound.
	ReasonOverloaded
	// ReasonDeadline: the time ran out, before the proposal was made (NotApplied)
	// or while it was being committed (Unknown).
	ReasonDeadline
	// ReasonStopping: the node is shutting down.
	ReasonStopping
	// ReasonLeadershipLost: the leader lost its office while committing.
	ReasonLeadershipLost
	// ReasonStore: the log could not be written.
	ReasonStore
	// ReasonUnreachable: the connection failed, before the request was sent
	// (NotApplied) or after (Unknown).
	ReasonUnreachable
	// ReasonInvalid: the command could not be decoded. A bug, or another version.
	ReasonInvalid
	// ReasonStockUnreachable: a shard that may hold the missing units can't be
	// asked, so neither a sale nor a refusal is possible. Shard names it.
	ReasonStockUnreachable

	reasonEnd
)

// Response ends a proposal.
type Response struct {
	Outcome Outcome
	Reason  Reason
	Leader  NodeID            // with ReasonNotLeader: who leads, if known
	Shard   allocator.ShardID // with ReasonStockUnreachable: which shard is missing; else the shard asked
	Result  []byte            // with Applied: an encoded allocator.Result
	Since   time.Time         // with NotApplied, Unknown: since when the shard can't be used; zero: not known
}

// Proposal is one command on its way to a shard.
type Proposal struct {
	Shard allocator.ShardID
	// Command is encoded and must never change: an attempt that was given up
	// may still be under way after Done.
	Command []byte
	// Deadline bounds the whole way. A command that can't be proposed before it
	// is dropped as NotApplied.
	Deadline time.Time
	// Final asks for the result as it is, although it has shortages. Without it
	// the leader pulls stock from other shards before it refuses.
	Final bool
	// Once marks a command that is not safe to repeat. The dispatcher then takes
	// an unknown outcome as final instead of sending the command again. Nodes
	// ignore it.
	Once bool
	// Done is called exactly once, from any goroutine; it must not block.
	Done func(Response)
}

// BucketsRequest asks for what some shards know of one SKU.
type BucketsRequest struct {
	SKU    allocator.SKU
	Shards []allocator.ShardID
	Strong bool // after a barrier: includes everything answered before the request
}

// BucketAnswer is one shard's part of the answer: a report, or why there is none.
type BucketAnswer struct {
	Shard  allocator.ShardID
	Report *allocator.BucketReport // nil when the shard could not answer
	Reason Reason
	Leader NodeID
}

// ReservationRequest asks for one reservation, always after a barrier.
type ReservationRequest struct {
	ID allocator.ReservationID
}

// ReservationAnswer carries it.
type ReservationAnswer struct {
	Found       bool
	Reservation allocator.Reservation
	Reason      Reason // not ReasonNone: no answer
	Leader      NodeID
}

// SKUsRequest asks an anchor for its SKUs in order.
type SKUsRequest struct {
	Shard  allocator.ShardID
	Prefix string
	After  allocator.SKU // exclusive
	Limit  int
}

// SKUsAnswer carries them.
type SKUsAnswer struct {
	SKUs   []allocator.SKUSummary
	Reason Reason
	Leader NodeID
}

// ShardStatus is what a node knows of one shard.
type ShardStatus struct {
	Shard        allocator.ShardID
	Leader       NodeID    // empty: none known
	LeaderSince  time.Time // since when Leader has been what it is
	Ready        bool      // this node leads it and serves
	Term         uint64
	CommitIndex  uint64
	AppliedIndex uint64
	Voters       []NodeID
	LogTime      allocator.Millis // log time of the shard at the least; 0: this node does not know
	Rebuilding   bool             // the replica is being filled from the others and does not vote yet
}

// Status is what a node says of itself and its replicas.
type Status struct {
	Node      NodeID
	ClusterID string
	Version   string
	HTTP      string
	Ops       string
	Peer      string
	WallClock time.Time
	Shards    []ShardStatus
}

// Node is a node that can be asked, here or elsewhere. Implementations are safe
// for concurrent use.
type Node interface {
	// Propose sends a command to a shard led by this node. It does not block;
	// the answer comes through p.Done.
	Propose(p *Proposal)
	// Buckets reports one SKU from the shards that this node leads.
	Buckets(ctx context.Context, r BucketsRequest) ([]BucketAnswer, error)
	// Reservation looks a reservation up.
	Reservation(ctx context.Context, r ReservationRequest) (ReservationAnswer, error)
	// SKUs lists the SKUs anchored at a shard.
	SKUs(ctx context.Context, r SKUsRequest) (SKUsAnswer, error)
	// Status tells about the node.
	Status(ctx context.Context) (Status, error)
}
