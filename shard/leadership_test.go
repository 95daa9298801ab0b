package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// hang occupies the log of a replica, as a disk does that does not answer, until
// the returned function is called.
func hang(r *replica) (release func()) {
	blocked := make(chan struct{})
	began := make(chan struct{})
	go r.store.write("write to the log", func() error {
		close(began)
		<-blocked
		return nil
	})
	<-began
	return sync.OnceFunc(func() { close(blocked) })
}

// Hazard: a leader with a hung disk keeps its leadership for ever (issues 503
// and 666). Without a deadline it still leads after a minute, and nobody sells;
// with it, the node ends itself and the others take over.
func TestLeaderWithAHungDisk(t *testing.T) {
	t.Run("without a deadline", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			c := newTestCluster(t, 3, 1, func(cfg *Config) { cfg.Timing.Write = time.Hour })
			c.startAll()
			defer c.stopAll()
			leader := c.leader(0)
			release := hang(leader.replica(0))
			defer release()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			command := putSKU("a", 1).AppendTo(nil)
			if r := leader.Dispatcher().Do(ctx, 0, command); r.Outcome == shardrpc.Applied {
				t.Fatal("it was applied without a disk")
			}
			if !leader.replica(0).leading() {
				t.Fatal("Raft has learned to step down: the deadline may be let go")
			}
			release()
			c.apply(leader, 0, command)
		})
	})
	t.Run("with it", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			c := newTestCluster(t, 3, 1, nil)
			c.startAll()
			defer c.stopAll()
			leader := c.leader(0)
			c.put(leader, 0, "before")
			release := hang(leader.replica(0))
			defer release()
			delete(c.nodes, string(leader.ID()))
			defer leader.Close(context.Background())
			began := time.Now()
			says(t, (<-leader.Fatal()).Error(), "can't write to the log", "did not answer for 10s")
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("it took %v", d)
			}
			next := c.leader(0)
			if d := time.Since(began); d > 13*time.Second {
				t.Errorf("the others took over after %v", d)
			}
			c.put(next, 0, "after")
			if !knows(next, 0, "before") {
				t.Error("what was acknowledged is gone")
			}
			release()
		})
	})
}

// Hazard: NotifyCh blocks Raft. Notices are taken whatever the rest does, only
// the newest office is entered, and each notice ends the office before it.
func TestNoticesNeverBlockRaft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		stopped := make(chan struct{})
		r := &replica{stopped: stopped}
		r.office.init()
		notices := make(chan bool)
		go r.heed(notices)
		for range 1000 {
			notices <- true
			notices <- false
			notices <- true
		}
		synctest.Wait()
		office := <-r.office.won // what govern would enter, had it not been busy
		if office.Err() != nil {
			t.Error("the newest office is over")
		}
		notices <- false
		synctest.Wait()
		if office.Err() == nil || r.office.setReady(office) {
			t.Error("an office that was lost goes on")
		}
		// Lost and won again is another office.
		notices <- true
		synctest.Wait()
		again := <-r.office.won
		if again == office || !r.office.setReady(again) || !r.office.ready.Load() {
			t.Error("the new office does not serve")
		}
		close(stopped)
		synctest.Wait()
		if again.Err() == nil || r.office.ready.Load() {
			t.Error("the office outlives the replica")
		}
	})
}

// On gaining leadership: first everything that was committed is applied, then
// the replica is ready. A restarted replica has its whole log to apply.
func TestReadyMeansApplied(t *testing.T) {
	const entries = 400
	c := newTestCluster(t, 1, 1, nil)
	c.startAll()
	n := c.leader(0)
	for i := range entries {
		c.putLarge(n, 0, fmt.Sprintf("sku-%d", i))
	}
	c.stopAll()
	c.startAll()
	defer c.stopAll()
	r := c.nodes["n1"].replica(0)
	for !r.ready() { // as tightly as possible
		if r.leading() && r.proposer == nil {
			t.Fatal("it leads before it has a proposer")
		}
	}
	for i := range entries {
		if !knows(c.nodes["n1"], 0, fmt.Sprintf("sku-%d", i)) {
			t.Fatalf("ready without sku-%d", i)
		}
	}
}

// Ready is for one term: a replica that has lost its office and won another is
// not made ready for the first.
func TestReadyForOneTerm(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		r := c.leader(0).replica(0)
		if err := r.tryPrepare(t.Context(), r.term()-1); err == nil {
			t.Error("it is ready for a term that is over")
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.tryPrepare(over, r.term()); err == nil {
			t.Error("it is ready for an office that is over")
		}
		check(t, r.tryPrepare(t.Context(), r.term()))
	})
}

// Hazard: Raft's VerifyLeader asks only whether others still follow, counts those
// who have no vote, and takes old answers. A barrier is an entry of the log: it
// passes when what was committed before is applied here, and not while the state
// machine is behind. (In real time: a mutex is held, which virtual time does not
// see.)
func TestBarrierMeansApplied(t *testing.T) {
	c := newTestCluster(t, 1, 1, nil)
	c.startAll()
	defer c.stopAll()
	n := c.leader(0)
	r := n.replica(0)
	began, release := make(chan struct{}), make(chan struct{})
	go r.fsm.Read(func(*allocator.State) { // nothing is applied meanwhile
		close(began)
		<-release
	})
	<-began
	before := r.raft.CommitIndex()
	put := make(chan raftfsm.Completion, 1)
	r.proposer.Submit(&raftfsm.Item{
		Command: putSKU("a", 1).AppendTo(nil), Deadline: time.Now().Add(time.Minute),
		Done: func(a raftfsm.Completion) { put <- a },
	})
	eventually(t, "the command is committed", func() bool { return r.raft.CommitIndex() > before })
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := r.barrier(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the barrier has passed what is not applied: %v", err)
	}
	soon, cancelSoon := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancelSoon()
	if err := r.tryPrepare(soon, r.term()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the replica is ready to lead without what is committed: %v", err)
	}
	close(release)
	check(t, r.barrier(context.Background()))
	if !knows(n, 0, "a") {
		t.Error("the barrier has passed without what was committed before")
	}
	<-put
}

// Who waits for a barrier shares it with everyone who came before it began.
func TestBarriersAreShared(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		r := c.leader(0).replica(0)
		release := hang(r) // so that the first barrier is under way when the others come
		before := r.raft.LastIndex()
		var waiters sync.WaitGroup
		for range 1000 {
			waiters.Go(func() {
				if err := r.barrier(context.Background()); err != nil {
					t.Errorf("barrier: %v", err)
				}
			})
		}
		synctest.Wait()
		release()
		waiters.Wait()
		if n := r.raft.LastIndex() - before; n > 3 {
			t.Errorf("1,000 waiters took %d entries", n)
		}
	})
}

func TestBarrierEndsWithItsContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		r := c.leader(0).replica(0)
		release := hang(r)
		defer release()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		if err := r.barrier(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A replica that does not lead can't give a barrier.
func TestBarrierOfAFollower(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		for _, n := range c.nodes {
			if n != leader && !errors.Is(n.replica(0).barrier(context.Background()), raft.ErrNotLeader) {
				t.Error("a follower gave a barrier")
			}
		}
	})
}

// Tasks run while the replica leads and is ready, and have returned before its
// next office begins.
func TestLeaderTasksFollowTheOffice(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		running := map[*Node]*atomic.Int32{}
		for _, n := range c.nodes {
			count := new(atomic.Int32)
			running[n] = count
			task := func(ctx context.Context, r *replica) {
				if count.Add(1) != 1 || !r.office.ready.Load() {
					t.Error("a task runs beside one of an older office, or before the replica is ready")
				}
				<-ctx.Done()
				count.Add(-1)
			}
			n.replica(0).env.tasks = []leaderTask{task} // nobody has been elected yet
		}
		for range 5 {
			leader := c.leader(0)
			eventually(t, "the task runs", func() bool { return running[leader].Load() == 1 })
			check(t, leader.replica(0).handOver(context.Background()))
			eventually(t, "the task has ended", func() bool { return running[leader].Load() == 0 })
		}
	})
}

// Raft is set up so that a replica that is removed does not shut down.
func TestRemovedReplicaStays(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		r := leader.replica(0)
		check(t, r.raft.RemoveServer(r.self, 0, time.Second).Error())
		delete(c.nodes, string(leader.ID()))
		c.leader(0)
		if s := r.raft.State(); s != raft.Follower {
			t.Errorf("the removed replica is %v", s)
		}
		c.nodes[string(leader.ID())] = leader
	})
}

// The leader and since when it leads are known on every node.
func TestLeaderIsKnown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 2, nil)
		began := time.Now()
		c.startAll()
		defer c.stopAll()
		for s := range 2 {
			leader := c.leader(allocator.ShardID(s))
			for _, n := range c.nodes {
				eventually(t, "the leader is known", func() bool {
					st := n.status().Shards[s]
					return st.Leader == leader.ID() && st.LeaderSince.After(began) && len(st.Voters) == 3 && st.CommitIndex > 0
				})
			}
		}
	})
}

// A leader that is not ready because the others don't tell their time serves
// nobody: its log time could be hours ahead.
func TestColdStartNeedsAMajority(t *testing.T) {
	for _, tt := range []struct {
		walls []time.Duration // of the others, relative to ours
		ok    bool
		want  time.Duration
	}{
		{nil, false, 0},
		{[]time.Duration{time.Hour}, true, 0},
		{[]time.Duration{-time.Minute}, true, -time.Minute},
		{[]time.Duration{-time.Minute, time.Hour}, true, -time.Minute},
	} {
		own := time.Unix(2_000_000_000, 0)
		got, err := lowestOf(append(offsets(own, tt.walls), own), 3)
		if (err == nil) != tt.ok || tt.ok && got != own.Add(tt.want) {
			t.Errorf("%v: %v, %v", tt.walls, got, err)
		}
	}
}

func offsets(own time.Time, by []time.Duration) (walls []time.Time) {
	for _, d := range by {
		walls = append(walls, own.Add(d))
	}
	return walls
}
