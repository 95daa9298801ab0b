package shard

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// A follower may hold entries that were never committed, of a leader that lost
// its office. When its new leader's log reaches back to where the two part, Raft
// cuts them. When the leader sends a snapshot instead, Raft forgets to: it keeps
// what it has at the snapshot's last index, refuses every entry that follows the
// snapshot because the one before it is of another term, and is sent the
// snapshot again, as fast as it can be (hashicorp/raft issue 697). From outside
// Raft can't be helped while it runs: where its log ends is in its memory.
//
// So the node of such a follower stops when the snapshot is on disk, and at the
// next start, before Raft, the log is emptied. Both go by the one fact that makes
// the loop, an entry of another term at the index of the snapshot, and by nothing
// that a healthy replica could show. In particular not by the number of
// snapshots: a follower that is slow or often cut off may need one after the
// other, and to stop its node would only make it need the next one. That is
// alarmed on, by its leader (watch.go).

// checkConflict ends the node when the log has another entry where a snapshot
// that was just written ends. The goroutine that wrote it, Raft's main loop, ends
// here, so that nothing is cut meanwhile by which the conflict is known later.
func (r *replica) checkConflict(index, term uint64) {
	var l raft.Log
	if err := r.store.GetLog(index, &l); err != nil || l.Term == term {
		return // errors: there is no such entry; whatever else is wrong has ended the node
	}
	r.store.fail(fmt.Errorf("the log in %s holds entries that were never committed, and Raft can't cut them beside the snapshot "+
		"that the leader sent (entry %d is of term %d, the snapshot's of %d): the node stops; start it again, and they are dropped",
		r.dir, index, l.Term, term))
}

// dropConflict empties a log that does not agree with the newest snapshot, and
// tells how many entries that were. The log must have been verified: what looks
// like another term could be damage. A snapshot holds only what was committed. A
// history with another entry at its end is not the committed one, so nothing in
// it that follows was ever acknowledged; and what comes before is in the
// snapshot. Entries below the snapshot go as well when its last one is missing: they
// are left by a stop between the two steps of an install, and the wal takes nothing
// that does not follow them.
func dropConflict(s raft.LogStore, index, term uint64) (dropped uint64, err error) {
	err = guardPanic(func() error {
		first, last, err := bounds(s)
		if err != nil || first == 0 || first > index {
			return err
		}
		var l raft.Log
		err = s.GetLog(index, &l)
		switch {
		case errors.Is(err, raft.ErrLogNotFound):
			last = min(last, index)
		case err != nil || l.Term == term:
			return err
		}
		dropped = last - first + 1
		return s.DeleteRange(first, last)
	})
	if err != nil {
		err = fmt.Errorf("drop the entries that conflict with the snapshot up to entry %d: %w", index, err)
	}
	return dropped, err
}
