package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// watchEvery is how often a leader is examined, transferLimit how long it
	// may say that it is handing over. A transfer that was interrupted in an
	// unlucky moment never ends, and the leader refuses everything
	// (hashicorp/raft issue 696).
	watchEvery    = 2 * time.Second
	transferLimit = 10 * time.Second

	// stuckLimit is how long a follower that answers may take no entries, and
	// alarmPause the time between two alarms about it.
	stuckLimit = 10 * time.Second
	alarmPause = time.Minute

	// A follower that is sent this many snapshots within this time is alarmed on.
	// It is slow, often cut off, or in a loop that conflict.go does not know.
	loopInstalls = 3
	loopSpan     = 10 * time.Minute
)

// Why a leader sounds an alarm about a follower; a label of a metric.
const (
	alarmStuck     = "stuck"     // it answers and takes no entries
	alarmSnapshots = "snapshots" // it needs one snapshot after the other
)

// guardOffice waits for the end of the office, and ends the node when the leader
// hangs in a transfer. Restarting the group alone would not be safe: Raft's
// goroutines of the transfer are not among those that its shutdown waits for,
// and one that lives on could act for the new instance's term.
func (r *replica) guardOffice(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	var watch transferWatch
	stuck := make(map[raft.ServerID]*stuckWatch)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			r.watchFollowers(stuck, now)
			if watch.overdue(now, r.transferring(ctx)) {
				r.env.fatal(fmt.Errorf("shard %d has been handing its leadership over for %v and serves nobody: "+
					"the node stops so that others take over; start it again", r.shard, transferLimit))
				return
			}
		}
	}
}

// transferWatch times a transfer. The zero value has seen none.
type transferWatch struct{ since time.Time }

// overdue notes whether a transfer is going on, and tells when it has been for
// too long.
func (w *transferWatch) overdue(now time.Time, transferring bool) bool {
	switch {
	case !transferring:
		w.since = time.Time{}
	case w.since.IsZero():
		w.since = now
	}
	return transferring && now.Sub(w.since) >= transferLimit
}

// watchFollowers sounds the alarm for followers that answer and take nothing
// (hashicorp/raft issue 612). The remedy is in human hands: the group goes on
// with the others.
func (r *replica) watchFollowers(watches map[raft.ServerID]*stuckWatch, now time.Time) {
	for id, lag := range r.lags() {
		w := watches[id]
		if w == nil {
			w = new(stuckWatch)
			watches[id] = w
		}
		answers := now.Sub(r.trans.lastHeard(id)) < watchEvery
		if w.alarm(now, followerState{lag: lag, matched: r.trans.matched(id), answers: answers}) {
			r.env.metrics.alarm(r.shard, id, alarmStuck)
			r.log.Error("a follower answers heartbeats and takes no entries: restart its node", "peer", nodeOf(id), "lag_entries", lag, "since", w.since)
		}
	}
}

// followerState is what the leader sees of a follower.
type followerState struct {
	lag, matched uint64
	answers      bool
}

// stuckWatch times a follower that does not move. The zero value has seen none.
type stuckWatch struct {
	since   time.Time // since when it stands still; zero: it does not
	matched uint64
	told    time.Time
}

// alarm notes how a follower does, and tells when somebody should know.
func (w *stuckWatch) alarm(now time.Time, s followerState) bool {
	if s.lag == 0 || !s.answers || s.matched != w.matched || w.since.IsZero() {
		w.matched, w.since = s.matched, now
		if s.lag == 0 || !s.answers {
			w.since = time.Time{}
		}
		return false
	}
	if now.Sub(w.since) < stuckLimit || now.Sub(w.told) < alarmPause {
		return false
	}
	w.told = now
	return true
}

// installWatch notes the snapshots that a follower was sent. The zero value has
// seen none.
type installWatch struct {
	recent []time.Time // the last ones, loopInstalls at most
	told   time.Time
}

// alarm notes an install, and tells when somebody should know.
func (w *installWatch) alarm(now time.Time) bool {
	w.recent = append(w.recent, now)
	if extra := len(w.recent) - loopInstalls; extra > 0 {
		w.recent = slices.Delete(w.recent, 0, extra)
	}
	if len(w.recent) < loopInstalls || now.Sub(w.recent[0]) > loopSpan || now.Sub(w.told) < alarmPause {
		return false
	}
	w.told = now
	return true
}

// transferring asks Raft whether it is handing the leadership over, by a change
// of configuration that is refused in any case because its index is not the
// current one.
func (r *replica) transferring(ctx context.Context) bool {
	const never = 1<<64 - 1
	result := make(chan error, 1)
	go func() { result <- r.raft.DemoteVoter(r.self, never, barrierTimeout).Error() }()
	select {
	case err := <-result:
		return errors.Is(err, raft.ErrLeadershipTransferInProgress)
	case <-ctx.Done():
		return false
	}
}
