package shardrpc

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stockade/allocator"
)

const (
	// refreshInterval is the least time between two rounds of asking all nodes
	// who leads. An election takes hundreds of milliseconds, so 20 more don't
	// show, and 50 small requests a second to a node don't either.
	refreshInterval = 20 * time.Millisecond
	// refreshPatience is how long a round waits for the slowest node before the
	// next round may begin without it.
	refreshPatience = 100 * time.Millisecond
	// statusTimeout bounds one question to one node.
	statusTimeout = time.Second
)

// DirectoryConfig configures a Directory.
type DirectoryConfig struct {
	Shards  int      // of the cluster
	Metrics *Metrics // may be nil
	// Leaderless tells since when a shard's replica in this process knows no
	// leader; zero: it knows one, or there is no replica here. It may be nil.
	Leaderless func(allocator.ShardID) time.Time
}

// Directory knows the nodes, and who leads which shard. It learns from hints in
// answers and, when a leader is unknown, from asking all nodes in the
// background, at a bounded rate. What it knows may be out of date: only the
// node itself decides whether it leads.
//
// It runs one goroutine, and one for each question to a node, until Close. All
// methods are safe for concurrent use.
type Directory struct {
	metrics *Metrics
	unled   func(allocator.ShardID) time.Time // DirectoryConfig.Leaderless, never nil
	made    time.Time
	cancel  context.CancelFunc
	stopped chan struct{} // closed when run has returned
	wake    chan struct{} // a leader is wanted

	worked []atomic.Int64 // by shard: the last success, in nanoseconds since made

	mu      sync.RWMutex
	members map[NodeID]*member
	routes  []route // by shard
}

// member is a node with what it said last. Guarded by Directory.mu.
type member struct {
	node   Node
	asking bool // a question is under way
	status Status
	err    error // of the last question; nil before the first
}

// route is what is known of one shard. Guarded by Directory.mu.
type route struct {
	leader NodeID    // empty: unknown
	term   uint64    // the highest term with a leader that a status told; never goes down
	since  time.Time // the first failure since the last success; zero: none
	reason Reason    // of the last failure
}

// NewDirectory makes a directory without members.
func NewDirectory(cfg DirectoryConfig) *Directory {
	ctx, cancel := context.WithCancel(context.Background())
	d := &Directory{
		metrics: cfg.Metrics.orNone(),
		unled:   cfg.Leaderless,
		made:    time.Now(),
		cancel:  cancel,
		stopped: make(chan struct{}),
		wake:    make(chan struct{}, 1),
		worked:  make([]atomic.Int64, cfg.Shards),
		members: make(map[NodeID]*member),
		routes:  make([]route, cfg.Shards),
	}
	if d.unled == nil {
		d.unled = func(allocator.ShardID) time.Time { return time.Time{} }
	}
	go d.run(ctx)
	return d
}

// Close stops the background work. The directory keeps what it knows.
func (d *Directory) Close() {
	d.cancel()
	<-d.stopped
}

// Shards is the number of shards of the cluster.
func (d *Directory) Shards() int { return len(d.routes) }

// SetMember adds a node or replaces how it is asked, and has it asked who leads.
func (d *Directory) SetMember(id NodeID, node Node) {
	d.mu.Lock()
	d.members[id] = &member{node: node}
	d.mu.Unlock()
	d.Refresh()
}

// RemoveMember forgets a node.
func (d *Directory) RemoveMember(id NodeID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.members, id)
	for i := range d.routes {
		if d.routes[i].leader == id {
			d.routes[i].leader = ""
		}
	}
}

// Member gives a node by its name.
func (d *Directory) Member(id NodeID) (Node, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m, ok := d.members[id]
	if !ok {
		return nil, false
	}
	return m.node, true
}

// Leader gives the node that is thought to lead shard. When there is none it
// begins to look for one and returns false.
func (d *Directory) Leader(shard allocator.ShardID) (NodeID, Node, bool) {
	id, node, ok := d.leader(shard)
	if !ok {
		d.Refresh()
	}
	return id, node, ok
}

func (d *Directory) leader(shard allocator.ShardID) (NodeID, Node, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if int(shard) >= len(d.routes) {
		return "", nil, false
	}
	id := d.routes[shard].leader
	m, ok := d.members[id]
	if id == "" || !ok {
		return "", nil, false
	}
	return id, m.node, true
}

// Learn takes a hint that leader leads shard. Hints to nodes that are not
// members are ignored.
func (d *Directory) Learn(shard allocator.ShardID, leader NodeID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.members[leader]; ok && int(shard) < len(d.routes) {
		d.routes[shard].leader = leader
	}
}

// LearnTerm takes the word of others that leader leads shard in a term. It counts if no
// node has told of that term itself, or a later one, and it is no more than a hint: what
// nodes say of themselves later counts whatever the term was said to be.
func (d *Directory) LearnTerm(shard allocator.ShardID, leader NodeID, term uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.members[leader]; !ok || int(shard) >= len(d.routes) || term <= d.routes[shard].term {
		return
	}
	d.routes[shard].leader = leader
}

// Forget drops node as the leader of shard, if it still counts as that.
func (d *Directory) Forget(shard allocator.ShardID, node NodeID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(shard) < len(d.routes) && d.routes[shard].leader == node {
		d.routes[shard].leader = ""
	}
}

// Succeeded notes that shard works.
func (d *Directory) Succeeded(shard allocator.ShardID) {
	if int(shard) < len(d.worked) {
		d.worked[shard].Store(int64(time.Since(d.made)))
	}
	if reason, since := d.failure(shard); reason == ReasonNone && since.IsZero() {
		return // the usual case, without the write lock
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(shard) < len(d.routes) {
		d.routes[shard].since, d.routes[shard].reason = time.Time{}, ReasonNone
	}
}

// Failed notes that shard could not be used for reason, since the moment given
// or, when that is zero or later, since the first failure after the last success.
func (d *Directory) Failed(shard allocator.ShardID, reason Reason, since time.Time) {
	now := time.Now()
	if since.IsZero() || since.After(now) {
		since = now
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(shard) >= len(d.routes) {
		return
	}
	r := &d.routes[shard]
	r.reason = reason
	if r.since.IsZero() || since.Before(r.since) {
		r.since = since
	}
}

// leaderless notes that nobody is known to lead shard. What went wrong before
// explains more, and is kept.
func (d *Directory) leaderless(shard allocator.ShardID) {
	reason, _ := d.failure(shard)
	if reason == ReasonNone {
		reason = ReasonNotLeader
	}
	d.Failed(shard, reason, time.Time{})
}

// Trouble tells why shard can't be used, and since when; zero: it can, as far as
// is known. The moment is the earliest that anybody here knows of, so that all
// who speak of an outage date it alike: that of a failed request, of a broken
// connection, or of the replica here that heard no leader any more. It is never
// before the last success: a connection may be broken, or a replica cut off, for
// an hour before that matters.
func (d *Directory) Trouble(shard allocator.ShardID) (Reason, time.Time) {
	reason, since := d.failure(shard)
	if since.IsZero() {
		return reason, since
	}
	if heard := d.unled(shard); !heard.IsZero() && heard.Before(since) {
		since = heard
	}
	if int(shard) < len(d.worked) {
		if worked := d.worked[shard].Load(); worked > 0 && since.Sub(d.made) < time.Duration(worked) {
			since = d.made.Add(time.Duration(worked))
		}
	}
	return reason, since
}

// failure is what was noted of a shard's failures.
func (d *Directory) failure(shard allocator.ShardID) (Reason, time.Time) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if int(shard) >= len(d.routes) {
		return ReasonNoReplica, time.Time{}
	}
	return d.routes[shard].reason, d.routes[shard].since
}

// Refresh has all nodes asked who leads, in the background and soon.
func (d *Directory) Refresh() { signal(d.wake) }

// MemberStatus is what a node says of itself, or why it says nothing.
type MemberStatus struct {
	Node   NodeID
	Status Status // the last one known
	Err    error  // nil: Status is fresh
}

// Statuses asks all nodes at once and waits for all answers, or until ctx ends.
// Nodes are in order of their names.
func (d *Directory) Statuses(ctx context.Context) []MemberStatus {
	ids := d.memberIDs()
	var wait sync.WaitGroup
	for _, id := range ids {
		wait.Go(func() { d.ask(ctx, id) })
	}
	wait.Wait()
	d.mu.RLock()
	defer d.mu.RUnlock()
	var all []MemberStatus
	for _, id := range ids {
		if m, ok := d.members[id]; ok {
			all = append(all, MemberStatus{Node: id, Status: m.status, Err: m.err})
		}
	}
	return all
}

// Members names the nodes, in order.
func (d *Directory) Members() []NodeID { return d.memberIDs() }

func (d *Directory) memberIDs() []NodeID {
	d.mu.RLock()
	defer d.mu.RUnlock()
	ids := make([]NodeID, 0, len(d.members))
	for id := range d.members {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, cmp.Compare[NodeID])
	return ids
}

// run asks all nodes whenever a leader is wanted, at a bounded rate.
func (d *Directory) run(ctx context.Context) {
	defer close(d.stopped)
	var questions sync.WaitGroup
	defer questions.Wait()
	for {
		select {
		case <-d.wake:
		case <-ctx.Done():
			return
		}
		d.refresh(ctx, &questions)
		sleep(ctx, refreshInterval)
	}
}

// refresh asks every node that is not being asked already.
func (d *Directory) refresh(ctx context.Context, questions *sync.WaitGroup) {
	d.metrics.refreshes.Inc()
	round, done := context.WithTimeout(ctx, refreshPatience)
	defer done()
	var this sync.WaitGroup
	for _, id := range d.memberIDs() {
		if !d.claim(id) {
			continue
		}
		this.Add(1)
		questions.Go(func() {
			defer this.Done()
			ctx, cancel := context.WithTimeout(ctx, statusTimeout)
			defer cancel()
			d.ask(ctx, id)
			d.release(id)
		})
	}
	go func() { this.Wait(); done() }()
	<-round.Done()
}

// claim begins a background question, unless one is under way.
func (d *Directory) claim(id NodeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.members[id]
	if !ok || m.asking {
		return false
	}
	m.asking = true
	return true
}

func (d *Directory) release(id NodeID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m, ok := d.members[id]; ok {
		m.asking = false
	}
}

// ask asks one node and keeps the answer.
func (d *Directory) ask(ctx context.Context, id NodeID) {
	d.mu.RLock()
	m, ok := d.members[id]
	d.mu.RUnlock()
	if !ok {
		return
	}
	status, err := m.node.Status(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.err = err; err != nil || d.members[id] != m { // failed, or replaced meanwhile
		return
	}
	m.status = status
	for i := range status.Shards {
		d.learnStatus(id, &status.Shards[i])
	}
}

// learnStatus takes what node id says of a shard. The newest term counts; within
// a term the leader's own word counts more than what the others heard. A node
// that knows no leader teaches nothing: its term may be that of an election
// which it can't win. d.mu is held.
func (d *Directory) learnStatus(id NodeID, s *ShardStatus) {
	if int(s.Shard) >= len(d.routes) || s.Term < d.routes[s.Shard].term {
		return
	}
	if _, ok := d.members[s.Leader]; !ok {
		return
	}
	r := &d.routes[s.Shard]
	if s.Term > r.term || r.leader == "" || (s.Ready && s.Leader == id) {
		r.leader = s.Leader
	}
	r.term = s.Term
}
