package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/router/api"
	"stockade/shard/shardrpc"
)

// maxReadyLag is how many committed entries a replica may still have to apply
// and count as caught up. At the thousand entries a second that a shard makes
// under load this is half a second.
const maxReadyLag = 512

// health answers the probes of one process. It is safe for concurrent use.
type health struct {
	shards    int
	self      shardrpc.NodeID
	node      shardrpc.Node // nil for a router alone
	directory *shardrpc.Directory
	stopping  atomic.Bool

	mu    sync.Mutex
	since map[allocator.ShardID]time.Time // made when needed: when a shard was first seen not ready
}

// Live implements httpapi.Health. A node that can't go on ends the process by
// itself, so there is nothing else that a restart would mend.
func (h *health) Live() error { return nil }

// Started implements httpapi.Health. The health exists when the start is over.
func (h *health) Started() bool { return true }

// Ready implements httpapi.Health: a process is ready when every shard has a
// leader that it knows, and its own replicas are caught up and vote: whoever
// restarts one node after the other waits for this before the next.
func (h *health) Ready(ctx context.Context) api.Readiness {
	own := h.ownReplicas(ctx)
	r := api.Readiness{Ready: !h.stopping.Load()}
	for i := range h.shards {
		id := allocator.ShardID(i)
		s := h.shard(id, own[id])
		r.Ready = r.Ready && s.Ready
		r.Shards = append(r.Shards, s)
	}
	return r
}

// ownReplicas is what this process's replicas say of themselves.
func (h *health) ownReplicas(ctx context.Context) map[allocator.ShardID]*shardrpc.ShardStatus {
	if h.node == nil {
		return nil
	}
	status, err := h.node.Status(ctx)
	if err != nil {
		return nil
	}
	own := make(map[allocator.ShardID]*shardrpc.ShardStatus, len(status.Shards))
	for i := range status.Shards {
		own[status.Shards[i].Shard] = &status.Shards[i]
	}
	return own
}

// shard judges one shard; own is nil when there is no replica here.
func (h *health) shard(id allocator.ShardID, own *shardrpc.ShardStatus) api.ShardReadiness {
	missing, since := h.missing(id, own)
	h.mu.Lock()
	defer h.mu.Unlock()
	if missing == "" {
		delete(h.since, id)
		return api.ShardReadiness{Shard: int(id), Ready: true}
	}
	if since.IsZero() {
		since = h.firstSeen(id)
	}
	return api.ShardReadiness{Shard: int(id), Missing: missing, Since: api.TimeOf(since)}
}

// firstSeen is when a shard was first seen not ready. h.mu is held.
func (h *health) firstSeen(id allocator.ShardID) time.Time {
	if h.since == nil {
		h.since = make(map[allocator.ShardID]time.Time)
	}
	if h.since[id].IsZero() {
		h.since[id] = time.Now()
	}
	return h.since[id]
}

// missingElsewhere says what a shard without a replica here lacks. A leader that
// can't be reached is looked for anew: a router that nobody uses would not notice
// that another leads by now, or that nobody does.
func (h *health) missingElsewhere(id allocator.ShardID) (string, time.Time) {
	leader, node, ok := h.directory.Leader(id)
	if !ok {
		_, since := h.directory.Trouble(id)
		return "no leader is known", since
	}
	if c, remote := node.(interface{ Down() time.Time }); remote {
		if since := c.Down(); !since.IsZero() {
			h.directory.Refresh()
			return fmt.Sprintf("node %s, its last known leader, can't be reached", leader), since
		}
	}
	return "", time.Time{}
}

// missing says what a shard lacks, and since when if that is known.
func (h *health) missing(id allocator.ShardID, own *shardrpc.ShardStatus) (string, time.Time) {
	if own == nil {
		return h.missingElsewhere(id)
	}
	switch lag := own.CommitIndex - min(own.CommitIndex, own.AppliedIndex); {
	case own.Leader == "":
		// Requests date the same outage by the directory, which may have been told
		// earlier: a connection breaks before an election is missed.
		since := own.LeaderSince
		if _, failing := h.directory.Trouble(id); !failing.IsZero() && failing.Before(since) {
			since = failing
		}
		return "the replica here knows no leader", since
	case lag > maxReadyLag:
		return fmt.Sprintf("the replica here has %d of %d entries still to apply", lag, own.CommitIndex), time.Time{}
	case own.Leader == h.self && !own.Ready:
		return "the replica here leads and still applies what came before", own.LeaderSince
	case own.Rebuilding:
		return "the replica here is being rebuilt from the others and does not vote yet", time.Time{}
	}
	return "", time.Time{}
}
