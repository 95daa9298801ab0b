package shardrpc

import (
	"context"
	"sync/atomic"
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
	// ReasonLate: the connection brought the request after its deadline.
	ReasonLate

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
	// Begun is when the client's request came in, or a little before: a refusal settles
	// all attempts that began before it. Zero: there can be no other attempt.
	Begun time.Time
	// Final asks for the result as it is, although it has shortages. Without it
	// the leader pulls stock from other shards before it refuses.
	Final bool
	// WaitUntil is how long the proposal waits in line for units that come back,
	// when there are none; zero: it is refused at once. Not after Deadline.
	WaitUntil time.Time
	// Claims, of a TransferOut that pulls units, is what they are for, oldest
	// first, at most MaxClaims. The giver keeps units that older claims of its own
	// need.
	Claims []Claim
	// Once marks a command that is not safe to repeat. The dispatcher then takes
	// an unknown outcome as final instead of sending the command again. Nodes
	// ignore it.
	Once bool
	// Left is set when nobody waits for the outcome any more: then the attempt under way
	// is the last one. It may be nil. Nodes ignore it.
	Left *atomic.Bool
	// Done is called exactly once, from any goroutine; it must not block.
	Done func(Response)
}

// Claim is the need of a parked proposal, and since when it has been parked, in
// log time of its home.
type Claim struct {
	Parked allocator.Millis
	Units  allocator.Quantity
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
	// Waiting is how many requests stand in the shard's line for the SKU, at the
	// moment of the report: parked until units come, or until they are refused.
	Waiting int
	Reason  Reason
	Leader  NodeID
}

// ExistRequest asks an anchor which SKUs exist.
type ExistRequest struct {
	Shard allocator.ShardID
	SKUs  []allocator.SKU // at most MaxSKUsPerRequest
}

// ExistAnswer carries it.
type ExistAnswer struct {
	Exist  []bool // as in the request
	Reason Reason // not ReasonNone: no answer
	Leader NodeID
}

// LevelsRequest asks what has changed of some SKUs since the last request on
// the same stream.
type LevelsRequest struct {
	Probe uint64          // numbers the requests of a stream, from 1 on
	Add   []allocator.SKU // from now on these too; their levels are in the answer
	Drop  []allocator.SKU // from now on no longer
}

// LevelsReply answers one LevelsRequest.
type LevelsReply struct {
	Probe  uint64 // of the request
	Shards []ShardLevels
	Terms  []ShardTerm // of every replica of the node, as of this answer
}

// ShardLevels is what has changed in a shard that the node leads. A shard that
// it leads since the last answer comes with all SKUs that are asked for.
type ShardLevels struct {
	Shard allocator.ShardID
	// AsOf is the newest probe of the stream at whose arrival the node surely led
	// the shard; 0: none. All that was answered by the shard before that probe was
	// sent is in the levels of this stream.
	AsOf    uint64
	Changed []allocator.BucketReport // as allocator.State.Level makes them
}

// ShardTerm is a replica's current term. A majority of voters with the term of a
// leader proves that nobody else has led since.
type ShardTerm struct {
	Shard allocator.ShardID
	Term  uint64
}

// LevelStream is one subscriber's stream of levels. It is not safe for concurrent
// use. After an error it is of no use any more.
type LevelStream interface {
	// Poll asks and waits for the answer, at most until ctx ends.
	Poll(ctx context.Context, r LevelsRequest) (LevelsReply, error)
	// Close ends the stream.
	Close()
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
	Commands     uint64           // applied since the shard began
	StateHash    uint64           // rolling hash after them: replicas with as many commands have the same
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
	// Exist tells which SKUs of an anchor exist.
	Exist(ctx context.Context, r ExistRequest) (ExistAnswer, error)
	// Levels opens a stream of levels.
	Levels(ctx context.Context) (LevelStream, error)
	// Status tells about the node.
	Status(ctx context.Context) (Status, error)
}
