package shard

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/shardrpc"
)

const (
	// readyRetry is the pause between two attempts to become ready.
	readyRetry = 20 * time.Millisecond
	// readyPatience is after how long a leader that is not ready says why.
	readyPatience = time.Second

	// leaderPoll catches a change of leader whose notice was lost.
	leaderPoll = 500 * time.Millisecond
)

// office is what a replica knows of its own leadership. Raft's notices are read
// at once, so that Raft never waits, and only the newest is acted on; but each
// ends the office before it, so that "lost and won again" is not taken for
// "kept".
type office struct {
	ready atomic.Bool

	mu     sync.Mutex
	cancel context.CancelFunc   // ends the current office; nil: none
	won    chan context.Context // newest office not yet entered; capacity 1
}

func (o *office) init() { o.won = make(chan context.Context, 1) }

// change notes that an office was won or lost.
func (o *office) change(won bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready.Store(false)
	if o.cancel != nil {
		o.cancel()
		o.cancel = nil
	}
	select {
	case <-o.won: // superseded before it was entered
	default:
	}
	if won {
		var ctx context.Context
		ctx, o.cancel = context.WithCancel(context.Background())
		o.won <- ctx
	}
}

// setReady says that the office of ctx serves, unless it has ended.
func (o *office) setReady(ctx context.Context) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	o.ready.Store(true)
	return true
}

// heed takes Raft's notices until the replica is closed.
func (r *replica) heed(notices <-chan bool) {
	for {
		select {
		case won := <-notices:
			r.office.change(won)
		case <-r.stopped:
			r.office.change(false)
			return
		}
	}
}

// govern serves one office after the other until ctx ends.
func (r *replica) govern(ctx context.Context) {
	for {
		select {
		case office := <-r.office.won:
			r.serve(office)
		case <-ctx.Done():
			return
		}
	}
}

// serve makes use of an office until it ends: applies what came before, sets the
// clock, opens for proposals and runs the leader's tasks. It is watched from its
// first moment: a leader that hangs in a transfer of an office before never gets
// ready.
func (r *replica) serve(ctx context.Context) {
	term := r.raft.CurrentTerm()
	r.env.metrics.elections.WithLabelValues(shardLabel(r.shard)).Inc()
	began := time.Now()
	r.log.Info("won the election, applying what came before", "term", term)
	defer r.log.Info("no longer the leader", "term", term)
	r.proposer.Stop(raftfsm.CauseNotReady)
	ctx, end := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer r.proposer.Stop(raftfsm.CauseNotLeader) // before the tasks end: they may wait for it
	tasks.Go(func() {
		defer end() // also when the node is given up
		r.guardOffice(ctx)
	})
	if !r.prepare(ctx, term) {
		return
	}
	r.log.Info("leader", "term", term, "ready_after", time.Since(began))
	r.env.led(r.shard, term)
	for _, task := range r.env.tasks {
		tasks.Go(func() { task(ctx, r) })
	}
	<-ctx.Done()
}

// prepare makes the replica ready to lead in term. False: the office ended.
func (r *replica) prepare(ctx context.Context, term uint64) bool {
	complain := time.Now().Add(readyPatience)
	for {
		err := r.tryPrepare(ctx, term)
		if err == nil {
			r.servedTerm.Store(term)
			return r.office.setReady(ctx)
		}
		if now := time.Now(); now.After(complain) {
			r.log.Warn("elected, but not ready to lead; the shard serves nobody", "term", term, "why", err)
			complain = now.Add(10 * readyPatience)
		}
		timer := time.NewTimer(readyRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

func (r *replica) tryPrepare(ctx context.Context, term uint64) error {
	if err := r.barrier(ctx); err != nil {
		return err
	}
	if now := r.raft.CurrentTerm(); now != term || ctx.Err() != nil {
		return fmt.Errorf("the term is %d by now", now)
	}
	if err := r.setClock(ctx); err != nil {
		return err
	}
	return r.proposer.Start(term)
}

// leaderRecord is who leads, and since when.
type leaderRecord struct {
	mu    sync.Mutex
	node  shardrpc.NodeID
	since time.Time
}

func (l *leaderRecord) get() (shardrpc.NodeID, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node, l.since
}

func (l *leaderRecord) set(node shardrpc.NodeID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() || l.node != node {
		l.node, l.since = node, now
	}
}

// leaderless tells since when this node's replica of a shard knows no leader;
// zero: it knows one, or there is no replica here.
func (n *Node) leaderless(s allocator.ShardID) time.Time {
	if r := n.replica(s); r != nil {
		if leader, since := r.leader(); leader == "" {
			return since
		}
	}
	return time.Time{}
}

// watch keeps the record of the leader.
func (r *replica) watch(ctx context.Context) {
	changes := make(chan raft.Observation, 1) // a lost one is made up for by the poll
	observer := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.raft.RegisterObserver(observer)
	defer r.raft.DeregisterObserver(observer)
	ticker := time.NewTicker(leaderPoll)
	defer ticker.Stop()
	for {
		_, id := r.raft.LeaderWithID()
		r.leads.set(nodeOf(id), time.Now())
		select {
		case <-changes:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
