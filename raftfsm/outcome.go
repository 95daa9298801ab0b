package raftfsm

import (
	"errors"

	"github.com/hashicorp/raft"
)

// Outcome is what is known about a command after it was submitted.
type Outcome uint8

const (
	// Applied: the command is committed and applied; Completion.Result tells
	// with what.
	Applied Outcome = iota + 1
	// NotApplied: the command is not in the log and never will be through this
	// submission. It is safe to take it elsewhere.
	NotApplied
	// Unknown: the command may be applied, now or later. The only safe next step
	// is the same command again, to the same shard.
	Unknown

	outcomeEnd // one beyond the last
)

// outcomeNames spells outcomes as metrics do.
var outcomeNames = [outcomeEnd]string{
	Applied:    "applied",
	NotApplied: "not_applied",
	Unknown:    "unknown",
}

// String names the outcome as metrics spell it.
func (o Outcome) String() string {
	if o > 0 && o < outcomeEnd {
		return outcomeNames[o]
	}
	return "invalid_outcome"
}

// Cause says why a command was not applied, or why nobody knows.
type Cause uint8

const (
	// CauseNone goes with Applied.
	CauseNone Cause = iota
	// CauseNotLeader: this replica does not lead.
	CauseNotLeader
	// CauseNotReady: this replica leads, and still applies what came before.
	CauseNotReady
	// CauseOverloaded: a queue is at its bound, or Raft did not take the entry in
	// time.
	CauseOverloaded
	// CauseDeadline: the item's deadline passed, in the queue (NotApplied) or
	// while its entry was being committed (Unknown).
	CauseDeadline
	// CauseStopping: the node is shutting down.
	CauseStopping
	// CauseLeadershipLost: leadership went while the entry was being committed.
	CauseLeadershipLost
	// CauseStore: the log could not be written, or Raft failed in a way that this
	// build does not know.
	CauseStore
	// CauseInvalid: the command does not decode. It was not logged.
	CauseInvalid

	causeEnd // one beyond the last
)

// causeNames spells causes as metrics do.
var causeNames = [causeEnd]string{
	CauseNone:           "none",
	CauseNotLeader:      "not_leader",
	CauseNotReady:       "not_ready",
	CauseOverloaded:     "overloaded",
	CauseDeadline:       "deadline",
	CauseStopping:       "stopping",
	CauseLeadershipLost: "leadership_lost",
	CauseStore:          "store",
	CauseInvalid:        "invalid",
}

// String names the cause as metrics spell it.
func (c Cause) String() string {
	if c < causeEnd {
		return causeNames[c]
	}
	return "invalid_cause"
}

// The proposer's own reasons, as errors, so that classify sees them all.
var (
	errNotReady   = errors.New("new leader still applies earlier entries")
	errOverloaded = errors.New("proposal queue is full")
	errDeadline   = errors.New("deadline passed")
	errStopping   = errors.New("replica is stopping")
	errInvalid    = errors.New("command does not decode")
	errNoResult   = errors.New("state machine gave no result")
)

// verdict is what classify answers.
type verdict struct {
	outcome Outcome
	cause   Cause
}

// answer is one row of the table: what an error means for a command that was
// handed to Raft.
type answer struct {
	err     error
	outcome Outcome
	cause   Cause
}

// answers is the table of classify. Its three rows of NotApplied are the errors
// after which Raft has certainly not appended the entry. What the source of
// hashicorp/raft v1.8.0 says about the futures of Raft.Apply:
//
//   - ErrEnqueueTimeout comes from ApplyLog only, when the entry was not taken
//     from its channel in time (api.go, ApplyLog).
//   - ErrNotLeader is the answer of the follower's and the candidate's loop to
//     whatever arrives on applyCh (raft.go, runFollower and runCandidate), and
//     of the leader's loop to entries that arrive after its own removal was
//     committed, before dispatchLogs (raft.go, leaderLoop). Entries in flight get
//     ErrLeadershipLost instead (runLeader's clean-up). The remaining ErrNotLeader
//     belong to verify, configuration, restore and transfer requests.
//   - ErrLeadershipTransferInProgress is answered before dispatchLogs as well.
//
// Everything else may come after StoreLogs or after followers have the entry.
// ErrRaftShutdown in particular has three sources that can't be told apart:
// ApplyLog (nothing appended), processLogs and the future's ShutdownCh
// (committed, not yet applied). ErrAbortedByRestore says that the effects are
// gone from this replica, which is no promise about the group. An error of the
// log store leaves open what reached the disk, and a follower may have it.
//
// Rows are compared with ==, not errors.Is: Raft returns these errors bare, and
// an error of a store that wraps one of them is an error of the store.
var answers = []answer{
	{nil, Applied, CauseNone},

	{raft.ErrEnqueueTimeout, NotApplied, CauseOverloaded},
	{raft.ErrNotLeader, NotApplied, CauseNotLeader},
	{raft.ErrLeadershipTransferInProgress, NotApplied, CauseNotLeader},

	{raft.ErrLeadershipLost, Unknown, CauseLeadershipLost},
	{raft.ErrAbortedByRestore, Unknown, CauseLeadershipLost},
	{raft.ErrRaftShutdown, Unknown, CauseStopping},

	// Errors of the log store; others of its kind have no name here.
	{raft.ErrLogNotFound, Unknown, CauseStore},
	{raft.ErrIncompatibleLogStore, Unknown, CauseStore},

	// Raft.Apply never returns these; if a later version does, nothing is known.
	{raft.ErrLeader, Unknown, CauseStore},
	{raft.ErrNotVoter, Unknown, CauseStore},
	{raft.ErrNothingNewToSnapshot, Unknown, CauseStore},
	{raft.ErrUnsupportedProtocol, Unknown, CauseStore},
	{raft.ErrCantBootstrap, Unknown, CauseStore},
	{raft.ErrTransportShutdown, Unknown, CauseStore},
	{raft.ErrPipelineShutdown, Unknown, CauseStore},
	{raft.ErrPipelineReplicationNotSupported, Unknown, CauseStore},

	// The proposer's own.
	{errNotReady, Unknown, CauseNotReady},
	{errOverloaded, Unknown, CauseOverloaded},
	{errDeadline, Unknown, CauseDeadline},
	{errStopping, Unknown, CauseStopping},
	{errInvalid, Unknown, CauseInvalid},
	{errNoResult, Unknown, CauseStopping},
}

// classify is the only place that turns an error into an outcome. enqueued
// tells whether the command was handed to Raft.Apply; before that nothing can
// have happened to it. An error that is not in the table is unknown.
func classify(err error, enqueued bool) verdict {
	v := verdict{Unknown, CauseStore}
	for i := range answers {
		if answers[i].err == err { //nolint:errorlint // on purpose: see the table
			v = verdict{answers[i].outcome, answers[i].cause}
			break
		}
	}
	if !enqueued {
		v.outcome = NotApplied
	}
	return v
}

// refusal is the error that stands for a cause given to Proposer.Stop.
func refusal(c Cause) error {
	if c == CauseNotReady {
		return errNotReady
	}
	if c == CauseStopping {
		return errStopping
	}
	return raft.ErrNotLeader
}
