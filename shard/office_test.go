package shard

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// heldHome is a shard whose log keeps what is submitted until the test lets it go.
type heldHome struct {
	*simShard
	inLog chan *shardrpc.Proposal
}

func (h *heldHome) submit(p *shardrpc.Proposal) { h.inLog <- p }

// TestUnknownStaysUnknownWhenLeadershipEnds: the office ends while a parked
// proposal is in the log again. Nobody knows whether it will be applied, so nobody
// may say that nothing was done; its answer is the log's, and comes once.
func TestUnknownStaysUnknownWhenLeadershipEnds(t *testing.T) {
	for name, outcome := range map[string]func(*simShard, *shardrpc.Proposal) shardrpc.Response{
		"unknown": func(s *simShard, _ *shardrpc.Proposal) shardrpc.Response {
			return shardrpc.Response{Outcome: shardrpc.Unknown, Reason: shardrpc.ReasonLeadershipLost, Shard: s.shard}
		},
		"applied": func(s *simShard, p *shardrpc.Proposal) shardrpc.Response { return s.apply(p) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c := newSimCluster(t, ctx, 1, 1)
				c.create(t, "hot", 0)
				home := &heldHome{c.shards[0], make(chan *shardrpc.Proposal, 1)}
				pulls := newPuller(ctx, home, c, (*shardrpc.Levels)(nil), newPullMetrics(prometheus.NewRegistry()))
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					pulls.run()
				}()
				answers := make(chan shardrpc.Response, 2)
				pulls.receive(&shardrpc.Proposal{
					Command: reserve(1, "hot", 1).AppendTo(nil), Deadline: time.Now().Add(time.Minute), WaitUntil: time.Now().Add(time.Minute),
					Done: func(r shardrpc.Response) { answers <- r },
				}, false)
				home.do(t, &allocator.Restock{Key: allocator.Key{3}, SKU: "hot", Quantity: 1}, time.Minute)
				p := <-home.inLog
				cancel()
				<-ended
				synctest.Wait()
				if len(answers) != 0 {
					t.Fatalf("answered while it was in the log: %+v", <-answers)
				}
				want := outcome(c.shards[0], p)
				p.Done(want)
				if got := <-answers; got.Outcome != want.Outcome || got.Reason != want.Reason {
					t.Errorf("%+v, not %+v", got, want)
				}
				if synctest.Wait(); len(answers) != 0 {
					t.Errorf("answered twice: %+v", <-answers)
				}
			})
		})
	}
}

// slowLevels know nothing, and take as long as the test lets them.
type slowLevels struct {
	*shardrpc.Levels
	asked chan struct{}
	let   chan struct{}
	on    atomic.Bool
}

func (l *slowLevels) Want(allocator.SKU) {
	if l.on.Load() {
		l.asked <- struct{}{}
		<-l.let
	}
}

// TestAppliedIsSeenAmongOtherNews: something is applied while the puller is busy,
// and other news is there when it looks up. The line whose bucket changed is gone
// on with all the same.
func TestAppliedIsSeenAmongOtherNews(t *testing.T) {
	for n := range 20 {
		bubble.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := newSimCluster(t, ctx, 1, uint64(n))
			c.create(t, "hot", 0)
			home := &heldHome{c.shards[0], make(chan *shardrpc.Proposal, 1)}
			levels := &slowLevels{asked: make(chan struct{}), let: make(chan struct{})}
			pulls := newPuller(ctx, home, c, levels, newPullMetrics(prometheus.NewRegistry()))
			go pulls.run()
			pulls.receive(&shardrpc.Proposal{
				Command: reserve(1, "hot", 1).AppendTo(nil), Deadline: time.Now().Add(time.Minute), WaitUntil: time.Now().Add(time.Minute),
				Done: func(shardrpc.Response) {},
			}, false)
			synctest.Wait()
			levels.on.Store(true)
			<-levels.asked // the puller is busy with a look
			c.shards[0].apply(&shardrpc.Proposal{
				Command: (&allocator.Restock{Key: allocator.Key{3}, SKU: "hot", Quantity: 1}).AppendTo(nil), Deadline: time.Now().Add(time.Minute),
			})
			pulls.signal()
			levels.on.Store(false)
			levels.let <- struct{}{}
			began := time.Now()
			<-home.inLog
			if took := time.Since(began); took > 0 {
				t.Errorf("served after %v", took)
			}
		})
	}
}
