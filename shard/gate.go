package shard

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// A gate stands between a group's transport and Raft, and sees each request of the
// other replicas first. It makes up for what hashicorp/raft v1.8.0 does with some of
// them:
//
//   - Of entries that a request does not show Raft takes what it has itself for what
//     the leader has committed. See limitCommit.
//   - Entries that a snapshot has are unknown to it by their term. See skipPast.
//   - A snapshot is installed by whoever is sent one, also when he has all that is in
//     it and more. See needless.
//   - Votes are asked of everybody, also of a replica that is being rebuilt. See
//     rebuild.go.
//   - An entry that is none, or a configuration that can't be read, ends the process. See
//     checkEntries.
//
// The remedies are with who receives, so they hold whatever the sender is. The price is
// one more goroutine between the network and Raft's main loop.
type gate struct {
	out   chan raft.RPC
	votes *voteFilter // nil: votes are cast
	past  past
	log   *slog.Logger
}

// past is what a gate wants to know of its replica. Whatever is in it stays.
type past interface {
	term() uint64    // Raft's current one
	applied() uint64 // the last entry that is in the state
	first() uint64   // the first entry of the log; 0: it is empty
	// includes tells whether an entry that was committed is in the state or in the log.
	includes(index, term uint64) bool
}

// pass hands requests on to Raft until stopped is closed. The streams they come from
// must be closed as well.
func (g *gate) pass(in <-chan raft.RPC, stopped <-chan struct{}) {
	var answers sync.WaitGroup
	defer answers.Wait()
	for {
		var rpc raft.RPC
		select {
		case rpc = <-in:
		case <-stopped:
			return
		}
		if g.votes != nil && g.votes.withheld(rpc) {
			continue
		}
		switch req := rpc.Command.(type) {
		case *raft.AppendEntriesRequest:
			if err := checkEntries(req.Entries); err != nil {
				g.log.Warn("entries of another replica were refused", "leader", string(req.ID), "error", err)
				rpc.Respond(new(raft.AppendEntriesResponse), err)
				continue
			}
			limitCommit(req)
			g.skipPast(req)
		case *raft.InstallSnapshotRequest:
			if g.settle(stopped) && g.needless(req) {
				answers.Go(func() { decline(rpc, req.Term) })
				continue
			}
		}
		if !g.hand(rpc, stopped) {
			return
		}
	}
}

// checkEntries tells what is wrong with entries that no leader sends. Raft panics on them.
func checkEntries(entries []*raft.Log) error {
	for i, l := range entries {
		switch {
		case l == nil:
			return fmt.Errorf("entry %d of %d is none", i+1, len(entries))
		case l.Type > raft.LogConfiguration || l.Type == raft.LogAddPeerDeprecated || l.Type == raft.LogRemovePeerDeprecated:
			return fmt.Errorf("entry %d has type %d, which no version of Stockade writes", l.Index, l.Type)
		case l.Type == raft.LogConfiguration && !isConfiguration(l.Data):
			return fmt.Errorf("entry %d is no configuration", l.Index)
		}
	}
	return nil
}

// isConfiguration tells whether Raft can read a configuration: it panics on others.
func isConfiguration(data []byte) (ok bool) {
	defer func() { ok = recover() == nil }()
	raft.DecodeConfiguration(data)
	return
}

// hand gives Raft a request, unless stopped is closed before it takes it.
func (g *gate) hand(rpc raft.RPC, stopped <-chan struct{}) bool {
	select {
	case g.out <- rpc:
		return true
	case <-stopped:
		return false
	}
}

// settle waits until Raft is done with what it was handed: to a request without a command
// it only answers that it has none.
func (g *gate) settle(stopped <-chan struct{}) bool {
	answer := make(chan raft.RPCResponse, 1)
	if !g.hand(raft.RPC{RespChan: answer}, stopped) {
		return false
	}
	select {
	case <-answer:
		return true
	case <-stopped:
		return false
	}
}

// limitCommit has a request tell of no more committed entries than it shows this replica
// to share with the leader. Raft's follower takes all that it has, up to the leader's
// commit index, for committed, also what follows the last entry of the request: in a
// leader of an older term those are entries of its own that nobody else has. The Raft
// paper stops at the last new entry (figure 2, AppendEntries, step 5). The next request
// tells the rest.
func limitCommit(req *raft.AppendEntriesRequest) {
	req.LeaderCommitIndex = min(req.LeaderCommitIndex, req.PrevLogEntry+uint64(len(req.Entries)))
}

// skipPast takes out of a request what this replica has applied, when its log no longer
// has it. Raft would look there for the entry before those of the request, and refuse the
// request when a snapshot has that entry: also one that is repeated because its answer was
// lost, or whose entries are to take the place of what was never committed. It would be
// sent snapshots instead, for good. What is applied needs no proof: every leader of this
// term or a later one has it. Raft itself refuses what is of an older term.
func (g *gate) skipPast(req *raft.AppendEntriesRequest) {
	applied, first := g.past.applied(), g.past.first()
	if req.PrevLogEntry == 0 || req.PrevLogEntry > applied || first > 0 && req.PrevLogEntry >= first {
		return
	}
	req.PrevLogEntry, req.PrevLogTerm = 0, 0 // before the first entry of all
	req.Entries = slices.DeleteFunc(req.Entries, func(l *raft.Log) bool { return l.Index <= applied })
}

// needless tells whether a request brings a snapshot of what this replica has. One that
// was sent long ago arrives when a cut has healed or a stopped process goes on, after the
// leader has given it up and gone another way. Raft would set the state back to it and
// empty the log, with entries that this replica has acknowledged. The Raft paper has who
// knows the snapshot's last entry keep what follows, and agree (figure 13, step 6).
func (g *gate) needless(req *raft.InstallSnapshotRequest) bool {
	if req.Term < g.past.term() || !g.past.includes(req.LastLogIndex, req.LastLogTerm) {
		return false // Raft itself refuses what is of an older term
	}
	g.log.Info("a snapshot came of what this replica has; it is not installed", "index", req.LastLogIndex, "leader", string(req.ID))
	return true
}

// decline reads a snapshot to its end, where the next request begins, and agrees to it.
func decline(rpc raft.RPC, term uint64) {
	_, err := io.Copy(io.Discard, rpc.Reader)
	rpc.Respond(&raft.InstallSnapshotResponse{Term: term, Success: err == nil}, err)
}
