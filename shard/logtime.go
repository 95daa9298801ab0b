package shard

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

const (
	// clockTimeout bounds one question for the clocks of other nodes.
	clockTimeout = time.Second
	// learnTimeEvery is how often a replica that does not know log time asks.
	learnTimeEvery = time.Second
)

// How a replica gets to know log time. The entries of the log give a lower
// bound, which is no use after a restart: on an idle shard the last stamp may be
// hours old. A node that was up all the while knows better, and tells.

// logTime is what this replica tells others: 0 while it does not know itself.
func (r *replica) logTime() allocator.Millis {
	if now, warm := r.clock.Reading(); warm {
		return now
	}
	return 0
}

// learnTime asks the leader until log time is known or ctx ends.
func (r *replica) learnTime(ctx context.Context) {
	ticker := time.NewTicker(learnTimeEvery)
	defer ticker.Stop()
	for r.logTime() == 0 {
		if leader, _ := r.leader(); leader != "" && leader != nodeOf(r.self) {
			r.hear(r.ask(ctx, []shardrpc.NodeID{leader}))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// setClock sees to it that a new leader knows log time: from itself, from any
// other replica that knows, else from the wall clocks of a majority.
func (r *replica) setClock(ctx context.Context) error {
	if r.logTime() != 0 {
		return nil
	}
	voters := r.voters()
	others := slices.DeleteFunc(slices.Clone(voters), func(n shardrpc.NodeID) bool { return n == nodeOf(r.self) })
	statuses := r.ask(ctx, others)
	if r.hear(statuses) {
		return nil
	}
	walls := []time.Time{r.env.clock.Wall()}
	for _, s := range statuses {
		if !s.WallClock.IsZero() {
			walls = append(walls, s.WallClock)
		}
	}
	lowest, err := lowestOf(walls, len(voters))
	if err != nil {
		return err
	}
	r.clock.ColdStart(lowest)
	return nil
}

// ask asks other nodes about themselves.
func (r *replica) ask(ctx context.Context, nodes []shardrpc.NodeID) []shardrpc.Status {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	return r.env.statuses(ctx, nodes)
}

// hear takes log time from those who know it, and tells whether anybody did.
// Each reading is a lower bound, so the highest counts.
func (r *replica) hear(statuses []shardrpc.Status) (heard bool) {
	for _, s := range statuses {
		for _, sh := range s.Shards {
			if sh.Shard == r.shard && sh.LogTime > 0 {
				r.clock.Observe(sh.LogTime, true)
				heard = true
			}
		}
	}
	return heard
}

// lowestOf is the lowest of some wall clocks, if they are a majority of the
// voters': one clock that is ahead then ends no hold early.
func lowestOf(walls []time.Time, voters int) (time.Time, error) {
	if need := voters/2 + 1; len(walls) < need {
		return time.Time{}, fmt.Errorf("%d of %d nodes told their time, %d are needed", len(walls), voters, need)
	}
	return slices.MinFunc(walls, time.Time.Compare), nil
}
