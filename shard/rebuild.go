package shard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A replica whose directory was moved away, because it was damaged, comes back
// empty under its old name and is filled by the leader. Until it has again what
// it once acknowledged it must not vote: an empty replica would elect a leader
// that lacks committed entries, and an acknowledged reservation would be gone.
// So its votes are withheld, over restarts too, until it has caught up with a
// leader that has committed an entry of its own term, which implies everything
// committed before. With another replica down the group has no majority
// meanwhile; that is the price of a lost disk, and nothing is lost.
//
// One gap remains: the replica forgets for whom it voted. It is closed in
// practice by waiting for a leader in office; a new replica under a new name,
// added by a change of the group, has no such gap.
const (
	rebuildMarker = "rebuilding"

	// rebuildPoll is how often the progress is looked at.
	rebuildPoll = 200 * time.Millisecond
)

var errVotesWithheld = errors.New("this replica is being rebuilt and does not vote yet")

// markRebuild tells whether the replica is (still) to be rebuilt.
func (r *replica) markRebuild() (bool, error) {
	marker := filepath.Join(r.dir, rebuildMarker)
	_, err := os.Stat(marker)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || r.hasState {
		return false, ignoreMissing(err)
	}
	if err := writeDurably(marker, nil); err != nil {
		return false, fmt.Errorf("mark shard %d as being rebuilt: %w", r.shard, err)
	}
	return true, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rebuild waits until the replica has caught up, and lets it vote.
func (r *replica) rebuild(ctx context.Context) {
	r.log.Warn("this replica's log is empty: it is being rebuilt from the others, and does not vote until it has caught up")
	ticker := time.NewTicker(rebuildPoll)
	defer ticker.Stop()
	for !r.caughtUp() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
	err := os.Remove(filepath.Join(r.dir, rebuildMarker))
	if err == nil {
		err = syncDir(r.dir)
	}
	if err != nil {
		r.log.Error("the replica has caught up, but its mark can't be removed: it goes on without a vote", "error", err)
		return
	}
	r.trans.gate.votes.open.Store(true)
	r.log.Info("this replica has been rebuilt and votes again")
}

// caughtUp tells whether the log has all that the leader in office called
// committed, an entry of its own term included.
func (r *replica) caughtUp() bool {
	term, commit := r.trans.gate.votes.leaderCommit()
	if commit == 0 || term != r.raft.CurrentTerm() || r.raft.CommitIndex() < commit {
		return false
	}
	if r.snapshots.last() == (snapshotID{commit, term}) {
		return true // it came with a snapshot, and nothing was written since
	}
	var l raft.Log
	return r.store.GetLog(commit, &l) == nil && l.Term == term
}

// voteFilter refuses to vote until it is opened. It notes what the leader calls
// committed.
type voteFilter struct {
	open atomic.Bool

	mu     sync.Mutex
	term   uint64
	commit uint64
}

// withholdVotes puts the filter in place. It must be called before Raft starts.
func (t *groupTransport) withholdVotes() {
	t.gate.votes = new(voteFilter)
}

// votesWithheld tells whether the replica is still being rebuilt.
func (t *groupTransport) votesWithheld() bool {
	return t.gate.votes != nil && !t.gate.votes.open.Load()
}

// RequestVote implements raft.Transport. Whoever must not vote must not stand for
// election either: others that lack the same entries could elect it.
func (t *groupTransport) RequestVote(id raft.ServerID, a raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if t.votesWithheld() {
		return errVotesWithheld
	}
	return t.steadyTransport.RequestVote(id, a, req, resp)
}

// RequestPreVote implements raft.WithPreVote, for the same reason.
func (t *groupTransport) RequestPreVote(id raft.ServerID, a raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.votesWithheld() {
		return errVotesWithheld
	}
	return t.steadyTransport.RequestPreVote(id, a, req, resp)
}

// withheld answers a request for a vote. It notes the leader's progress.
func (v *voteFilter) withheld(rpc raft.RPC) bool {
	if v.open.Load() {
		return false
	}
	switch req := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		rpc.Respond(&raft.RequestVoteResponse{}, errVotesWithheld)
		return true
	case *raft.RequestPreVoteRequest:
		rpc.Respond(&raft.RequestPreVoteResponse{}, errVotesWithheld)
		return true
	case *raft.TimeoutNowRequest:
		rpc.Respond(&raft.TimeoutNowResponse{}, errVotesWithheld)
		return true
	case *raft.AppendEntriesRequest:
		v.note(req.Term, req.LeaderCommitIndex)
	}
	return false
}

func (v *voteFilter) note(term, commit uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if term > v.term {
		v.term, v.commit = term, 0
	}
	if term == v.term {
		v.commit = max(v.commit, commit)
	}
}

func (v *voteFilter) leaderCommit() (term, commit uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.term, v.commit
}
