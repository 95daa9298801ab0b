package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/shardrpc"
)

// leaderTask runs beside the proposals on a replica that leads and is ready. ctx
// ends with the office; then it must return soon, because the next one begins
// only after all tasks of this one have returned.
type leaderTask func(ctx context.Context, r *replica)

// A replica is this node's copy of one shard: a Raft group's member with its
// stores, its state machine and its proposer.
//
// It is made in four steps. No replica of a node is written to before all of them
// were found whole, and none takes part in a group before all of them have their
// first log entry on disk: examineReplica reads what is on disk, open opens it,
// bootstrap writes the first entry of a new group, start joins the group. close
// undoes all.
//
// Goroutines, from start to close: govern acts on gained and lost leadership,
// heed takes Raft's notices, watch keeps who leads since when, learnTime asks for log
// time, the gate passes requests on; while a replica is rebuilt one more, see
// rebuild.go. The guard has one. All methods are safe for concurrent use after start.
type replica struct {
	shard allocator.ShardID
	self  raft.ServerID
	dir   string
	env   *environment
	log   *slog.Logger

	raftLog   *raftLogger
	store     *guard
	snapshots *snapshotStore
	fsm       *raftfsm.FSM
	clock     *raftfsm.LogClock
	proposer  *raftfsm.Proposer
	stock     *stock
	streams   *raftStreams
	trans     *groupTransport
	raft      *raft.Raft

	raftRef  atomic.Pointer[raft.Raft] // the same as raft, for what Raft calls before it is set
	hasState bool                      // something was on disk when it was opened
	barriers barrierQueue
	// wake tells that a batch was applied or a snapshot restored. Take the
	// channel of wake.next before looking at the state.
	wake   broadcast
	office office
	leads  leaderRecord
	// servedTerm is the last term in which the replica became ready. A later term
	// may be its own too, but then it is not ready in that one yet.
	servedTerm atomic.Uint64

	stop    context.CancelFunc
	stopped <-chan struct{} // closed by close
	done    sync.WaitGroup
}

// environment is what the replicas of a node share.
type environment struct {
	cfg     Config
	cluster *clusterInfo
	self    raft.ServerID
	port    *peerPort
	metrics *metrics
	tasks   []leaderTask
	others  stockFinder // the shards of the whole cluster
	levels  levelTable  // of the whole cluster
	pulls   *pullMetrics
	clock   raftfsm.Clock
	// statuses asks other nodes about themselves, and gives what was answered
	// before ctx ended.
	statuses func(ctx context.Context, nodes []shardrpc.NodeID) []shardrpc.Status
	fatal    func(error)
	led      func(shard allocator.ShardID, term uint64) // a replica here is ready to lead
}

// examineReplica finds what this node has of a shard and verifies what opening it
// would write to.
func examineReplica(env *environment, shard allocator.ShardID) (r *replica, err error) {
	dir := filepath.Join(env.cfg.DataDir, shardsDir, fmt.Sprintf("%04d", shard))
	log := env.cfg.Logger.With("shard", int(shard))
	r = &replica{
		shard: shard, self: env.self, dir: dir, env: env, log: log,
		raftLog: newRaftLogger(log), clock: raftfsm.NewLogClock(env.clock),
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the directory of shard %d: %w", shard, err)
	}
	// In this order: a damaged snapshot is found before the log is looked at.
	r.snapshots, err = openSnapshots(dir, r.raftLog, env.metrics.snapshots(shard), env.fatal)
	if err == nil {
		err = verifyUnopened(env.cfg.LogStore, dir, r.snapshots.last().index)
	}
	if err != nil {
		return nil, fmt.Errorf("shard %d: %w", shard, err)
	}
	return r, nil
}

// open opens the log and makes the state machine.
func (r *replica) open() error {
	if err := r.openStore(); err != nil {
		return fmt.Errorf("shard %d: %w", r.shard, err)
	}
	if err := r.makeFSM(); err != nil {
		return fmt.Errorf("shard %d: %w", r.shard, err)
	}
	return nil
}

// openStore opens the log and verifies what examineReplica has not.
func (r *replica) openStore() error {
	cfg := r.env.cfg
	how := cfg.logSettings()
	how.files = &timedFiles{how.files, r.env.metrics.syncs}
	store, err := openLogStore(how, r.dir, r.raftLog)
	if err != nil {
		return err
	}
	if err := r.verify(store, r.snapshots.last()); err != nil {
		return errors.Join(err, guardPanic(store.Close))
	}
	if err := r.snapshots.clean(); err != nil {
		return errors.Join(fmt.Errorf("clean up the snapshots in %s: %w", r.dir, err), guardPanic(store.Close))
	}
	r.snapshots.written = r.checkConflict
	r.store = newGuard(store, guardConfig{
		Dir: r.dir, Deadline: cfg.Timing.Write, Fatal: r.env.fatal, Settled: r.settled,
		Seconds: r.env.metrics.write.WithLabelValues(shardLabel(r.shard)),
	})
	return r.store.inRaft(func() (err error) {
		r.hasState, err = raft.HasExistingState(r.store, r.store, r.snapshots)
		return err
	})
}

// verify looks whether log and newest snapshot are whole and fit together.
func (r *replica) verify(store logStore, newest snapshotID) error {
	if r.env.cfg.LogStore != LogStoreBolt { // examineReplica has verified that
		if err := errors.Join(verifyLog(store, r.dir, newest.index), verifyStable(store, r.dir)); err != nil {
			return err
		}
	}
	if err := verifyTerm(store, newest, r.dir); err != nil {
		return err
	}
	dropped, err := dropConflict(store, newest.index, newest.term)
	if dropped > 0 && err == nil {
		r.log.Warn("dropped log entries below the newest snapshot, or that conflict with it and were never committed", "entries", dropped, "snapshot_index", newest.index)
	}
	return err
}

// makeFSM makes the state machine, empty.
func (r *replica) makeFSM() (err error) {
	r.fsm, err = raftfsm.NewFSM(raftfsm.FSMConfig{
		ClusterID: r.env.cluster.ClusterID,
		Allocator: allocator.Config{
			Shard: r.shard, Shards: r.env.cluster.Shards,
			Retention:      allocator.Millis(r.env.cluster.RetentionMS),
			ExpiryPerStamp: expiryPerStamp,
		},
		Clock:     r.clock,
		Metrics:   raftfsm.NewMetrics(r.env.cfg.Metrics, r.shard),
		OnApplied: func(uint64) { r.wake.all() },
		Fatal:     r.env.fatal,
	})
	return err
}

// bootstrap writes the first entry of a new group. Every replica of the group
// writes the same, so it does not matter who comes first.
func (r *replica) bootstrap(first raft.Configuration) error {
	err := r.store.inRaft(func() error {
		conf := r.env.cfg.raftConfig(r.self, r.raftLog)
		return raft.BootstrapCluster(conf, r.store, r.store, r.snapshots, nil, first)
	})
	if err != nil {
		return fmt.Errorf("bootstrap shard %d: %w", r.shard, err)
	}
	r.hasState = true
	return nil
}

// start joins the group. A replica without state is being rebuilt: it had some
// once, and its votes are withheld until it has caught up.
func (r *replica) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.stopped = cancel, ctx.Done()
	rebuilding, err := r.markRebuild()
	if err != nil {
		return err
	}
	r.streams = newRaftStreams(r.env.port, r.shard, r.self)
	r.trans = newGroupTransport(r.streams, r.raftLog, r.env.metrics, r.log)
	r.trans.gate.past = r
	if rebuilding {
		r.trans.withholdVotes()
	}
	if err := r.startRaft(); err != nil {
		return fmt.Errorf("start shard %d: %w", r.shard, err)
	}
	r.proposer, err = raftfsm.NewProposer(raftfsm.ProposerConfig{
		Raft: r.raft, FSM: r.fsm, Limits: raftfsm.DefaultLimits(),
	})
	if err != nil {
		return fmt.Errorf("start shard %d: %w", r.shard, err)
	}
	r.stock = &stock{replica: r, cluster: r.env.others, levels: r.env.levels, metrics: r.env.pulls}
	r.done.Go(func() { r.govern(ctx) })
	r.done.Go(func() { r.watch(ctx) })
	r.done.Go(func() { r.learnTime(ctx) })
	r.done.Go(func() { r.trans.gate.pass(r.trans.steadyTransport.Consumer(), ctx.Done()) })
	if rebuilding {
		r.done.Go(func() { r.rebuild(ctx) })
	}
	r.env.port.attach(r.shard, r.streams)
	return nil
}

// startRaft starts Raft on what is on disk.
func (r *replica) startRaft() error {
	conf := r.env.cfg.raftConfig(r.self, r.raftLog)
	notices := make(chan bool, 1)
	conf.NotifyCh = notices
	r.office.init()
	r.done.Go(func() { r.heed(notices) })
	cache, err := raft.NewLogCache(r.env.cfg.Storage.CacheSize, r.store)
	if err != nil {
		return err
	}
	return r.store.inRaft(func() error {
		ra, err := raft.NewRaft(conf, strictFSM{r.fsm, r}, cache, r.store, r.snapshots, r.trans)
		r.raft = ra
		r.raftRef.Store(ra)
		return err
	})
}

// strictFSM is the state machine as Raft sees it. A snapshot that can't be
// restored ends the node: Raft would log it and fall back to an older one.
type strictFSM struct {
	*raftfsm.FSM
	replica *replica
}

// Restore implements raft.FSM.
func (f strictFSM) Restore(content io.ReadCloser) error {
	if err := f.FSM.Restore(content); err != nil {
		f.replica.store.fail(f.replica.snapshots.damage(filepath.Join(f.replica.dir, snapshotsDir), err))
	}
	return nil
}

// leading tells whether this replica is the leader by its own knowledge.
func (r *replica) leading() bool { return r.raft.State() == raft.Leader }

// ready tells whether this replica leads and has applied everything that was
// committed before.
func (r *replica) ready() bool { return r.office.ready.Load() && r.leading() }

// leader is the node that leads by the knowledge of this replica, empty if
// none is known, and since when that has been so.
func (r *replica) leader() (shardrpc.NodeID, time.Time) {
	return r.leads.get()
}

// term is Raft's current term; 0 while Raft is being opened.
func (r *replica) term() uint64 {
	if ra := r.raftRef.Load(); ra != nil {
		return ra.CurrentTerm()
	}
	return 0
}

// settled gives the last entry of the newest snapshot, and the last one that is committed
// as far as this replica knows; 0 while Raft is being opened.
func (r *replica) settled() (snapshot, commit uint64) {
	if ra := r.raftRef.Load(); ra != nil {
		commit = max(ra.CommitIndex(), ra.AppliedIndex())
	}
	return r.snapshots.last().index, commit
}

// applied implements past.
func (r *replica) applied() uint64 { return r.raft.AppliedIndex() }

// first implements past.
func (r *replica) first() uint64 {
	index, _ := r.store.FirstIndex() // an error but this ends the node
	return index
}

// includes implements past.
func (r *replica) includes(index, term uint64) bool {
	if r.applied() >= index {
		return true
	}
	var l raft.Log
	return r.store.GetLog(index, &l) == nil && l.Term == term
}

// voters are the nodes whose replicas vote.
func (r *replica) voters() []shardrpc.NodeID {
	var nodes []shardrpc.NodeID
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			nodes = append(nodes, nodeOf(s.ID))
		}
	}
	return nodes
}

// lags tells how many entries of the leader's log each follower has not
// acknowledged in this term. It means something on the leader only.
func (r *replica) lags() map[raft.ServerID]uint64 {
	last := r.raft.LastIndex()
	lags := make(map[raft.ServerID]uint64)
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		if s.ID != r.self {
			lags[s.ID] = last - min(last, r.trans.matched(s.ID))
		}
	}
	return lags
}

// status is what the replica tells about itself.
func (r *replica) status() shardrpc.ShardStatus {
	leader, since := r.leader()
	progress := r.fsm.Progress()
	return shardrpc.ShardStatus{
		Shard:        r.shard,
		Leader:       leader,
		LeaderSince:  since,
		Ready:        r.ready(),
		Term:         r.term(),
		CommitIndex:  r.raft.CommitIndex(),
		AppliedIndex: r.raft.AppliedIndex(),
		Voters:       r.voters(),
		LogTime:      r.logTime(),
		Rebuilding:   r.trans.votesWithheld(),
		Commands:     progress.Commands,
		StateHash:    progress.Hash,
	}
}

// handOver moves the leadership to another replica, if this one leads. It gives
// up when ctx ends.
func (r *replica) handOver(ctx context.Context) error {
	if r.raft == nil || !r.leading() || len(r.voters()) < 2 {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // Raft would not be waited for
	}
	future := r.raft.LeadershipTransfer()
	result := make(chan error, 1)
	go func() { result <- future.Error() }() // ends with the transfer's own timeout, or with Raft
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close ends the replica and closes its store. When ctx ends it waits no longer;
// the store is closed when Raft has ended, for Raft may still write.
func (r *replica) close(ctx context.Context) error {
	if r.stop != nil {
		r.stop()
	}
	if r.proposer != nil {
		r.proposer.Close()
	}
	r.raftLog.quiet()
	if r.trans != nil {
		_ = r.trans.Close() // first, so that no RPC is waited for
	}
	r.barriers.close(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.closeRaft() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		err := fmt.Errorf("shard %d did not shut down: %w", r.shard, context.Cause(ctx))
		if r.store == nil {
			return err
		}
		if hung := r.store.underWay(); hung != nil {
			err = fmt.Errorf("%w: %w", err, hung)
		}
		return err
	}
}

// closeRaft shuts Raft down, and closes the store when nobody writes any more.
func (r *replica) closeRaft() error {
	if r.raft != nil {
		_ = r.raft.Shutdown().Error() // it has none
	}
	r.done.Wait()
	if r.store == nil {
		return nil
	}
	return r.store.Close()
}
