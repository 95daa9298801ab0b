package shard

import (
	"io"
	"log/slog"
	"sync"

	"github.com/hashicorp/raft"
)

// A gate stands between a group's transport and Raft, and sees each request of the
// other replicas first. It makes up for what hashicorp/raft v1.8.0 does with three
// kinds of them:
//
//   - Of entries that a request does not show Raft takes what it has itself for what
//     the leader has committed. See limitCommit.
//   - A snapshot is installed by whoever is sent one, also when he has all that is in
//     it and more. See needless.
//   - Votes are asked of everybody, also of a replica that is being rebuilt. See
//     rebuild.go.
//
// The remedies are with who receives, so they hold whatever the sender is. The price is
// one more goroutine between the network and Raft's main loop.
type gate struct {
	out   chan raft.RPC
	votes *voteFilter // nil: votes are cast
	log   *slog.Logger

	// term is Raft's current term; includes tells whether an entry that was committed
	// is part of this replica's history. Both are set before pass is called.
	term     func() uint64
	includes func(index, term uint64) bool
}

// pass hands requests on to Raft until stopped is closed. The streams they come from
// must be closed as well.
func (g *gate) pass(in <-chan raft.RPC, stopped <-chan struct{}) {
	var answers sync.WaitGroup
	defer answers.Wait()
	for {
		select {
		case rpc := <-in:
			if g.votes != nil && g.votes.withheld(rpc) {
				continue
			}
			if g.needless(rpc) {
				answers.Go(func() { decline(rpc) })
				continue
			}
			limitCommit(rpc)
			select {
			case g.out <- rpc:
			case <-stopped:
				return
			}
		case <-stopped:
			return
		}
	}
}

// limitCommit has a request tell of no more committed entries than it shows this replica
// to share with the leader. Raft's follower takes all that it has, up to the leader's
// commit index, for committed, also what follows the last entry of the request: in a
// leader of an older term those are entries of its own that nobody else has. The Raft
// paper stops at the last new entry (figure 2, AppendEntries, step 5). The next request
// tells the rest.
func limitCommit(rpc raft.RPC) {
	if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
		req.LeaderCommitIndex = min(req.LeaderCommitIndex, req.PrevLogEntry+uint64(len(req.Entries)))
	}
}

// needless tells whether a request brings a snapshot of what this replica has. One that
// was sent long ago arrives when a cut has healed or a stopped process goes on, after the
// leader has given it up and gone another way. Raft would set the state back to it and
// empty the log, with entries that this replica has acknowledged. The Raft paper has who
// knows the snapshot's last entry keep what follows, and agree (figure 13, step 6).
func (g *gate) needless(rpc raft.RPC) bool {
	req, ok := rpc.Command.(*raft.InstallSnapshotRequest)
	if !ok || req.Term < g.term() || !g.includes(req.LastLogIndex, req.LastLogTerm) {
		return false // Raft itself refuses what is of an older term
	}
	g.log.Info("a snapshot came of what this replica has; it is not installed", "index", req.LastLogIndex, "leader", string(req.ID))
	return true
}

// decline reads a snapshot to its end, where the next request begins, and agrees to it.
func decline(rpc raft.RPC) {
	_, err := io.Copy(io.Discard, rpc.Reader)
	rpc.Respond(&raft.InstallSnapshotResponse{Term: rpc.Command.(*raft.InstallSnapshotRequest).Term, Success: err == nil}, err)
}
