package shard

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"stockade/allocator"
)

const (
	// rpcTimeout bounds one Raft RPC; it must outlast a follower's slowest write
	// (writeDeadline), or a slow disk would look like a broken connection. Raft
	// makes it longer for snapshots, by their size.
	rpcTimeout = 10 * time.Second

	// maxIdleConns is how many idle connections to one peer a group keeps:
	// heartbeats and entries have one each.
	maxIdleConns = 2

	// maxInFlight switches Raft's pipeline off: it can wedge a follower silently
	// (hashicorp/raft issue 612), and with whole batches it gains nothing.
	maxInFlight = 1
)

// raftStreams is the raft.StreamLayer of one group: the streams of one shard
// through the node's peer port.
type raftStreams struct {
	*connQueue
	port  *peerPort
	shard allocator.ShardID
	self  raft.ServerID
	conns connSet
	life  context.Context // ends with Close
	end   context.CancelFunc
}

// serverAddr is a server id in place of a network address.
type serverAddr raft.ServerID

func (a serverAddr) Network() string { return "stockade" }
func (a serverAddr) String() string  { return string(a) }

func newRaftStreams(port *peerPort, shard allocator.ShardID, self raft.ServerID) *raftStreams {
	s := &raftStreams{connQueue: newConnQueue(serverAddr(self)), port: port, shard: shard, self: self}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// accept takes a stream that a peer opened.
func (s *raftStreams) accept(c net.Conn) { s.push(s.conns.add(c)) }

// Dial implements raft.StreamLayer. The address is a server id. It gives up when the
// streams are closed: Raft waits for it in its shutdown.
func (s *raftStreams) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.life, timeout)
	defer cancel()
	c, err := s.port.dialRaft(ctx, s.shard, raft.ServerID(id))
	if err != nil {
		return nil, err
	}
	return s.conns.add(c), nil
}

// Close implements net.Listener. It also closes every stream, in both
// directions: the transport's own Close leaves the ones it accepted open, with
// a goroutine in each.
func (s *raftStreams) Close() error {
	s.port.attach(s.shard, nil)
	s.end()
	err := s.connQueue.Close()
	s.conns.closeAll()
	return err
}

// steadyTransport is Raft's network transport without its shortcut for
// heartbeats. The shortcut handles them on the transport's goroutine, which can
// raise the term under a main loop that acts as leader, and lets logs diverge
// (hashicorp/raft issue 695). Without a handler they go through the main loop
// like every other RPC.
type steadyTransport struct {
	*raft.NetworkTransport
}

// SetHeartbeatHandler implements raft.Transport by doing nothing; see above.
func (steadyTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// groupTransport is the transport of one group. Beside being steady it notes
// what followers acknowledge, has a gate before Raft (see gate.go), and can keep
// votes back (see rebuild.go).
type groupTransport struct {
	steadyTransport
	gate    *gate
	log     *slog.Logger
	shard   allocator.ShardID
	metrics *metrics

	mu       sync.Mutex
	match    map[raft.ServerID]acknowledged
	heard    map[raft.ServerID]time.Time // last answer to anything
	installs map[raft.ServerID]*installWatch
}

// acknowledged is the last entry a follower is known to have.
type acknowledged struct{ term, index uint64 }

func newGroupTransport(s *raftStreams, rl *raftLogger, m *metrics, log *slog.Logger) *groupTransport {
	return &groupTransport{
		steadyTransport: newTransport(s, rl), gate: &gate{out: make(chan raft.RPC), log: log}, log: log, shard: s.shard, metrics: m,
		match: make(map[raft.ServerID]acknowledged), heard: make(map[raft.ServerID]time.Time),
		installs: make(map[raft.ServerID]*installWatch),
	}
}

func newTransport(s *raftStreams, log hclog.Logger) steadyTransport {
	return steadyTransport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          s,
		MaxPool:         maxIdleConns,
		MaxRPCsInFlight: maxInFlight,
		Timeout:         rpcTimeout,
		Logger:          log,
	})}
}

// Consumer implements raft.Transport: it gives what the gate lets through.
func (t *groupTransport) Consumer() <-chan raft.RPC { return t.gate.out }

// AppendEntries implements raft.Transport.
func (t *groupTransport) AppendEntries(id raft.ServerID, a raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := t.inOffice(req.Term); err != nil {
		return err
	}
	err := t.steadyTransport.AppendEntries(id, a, req, resp)
	if err != nil || !resp.Success {
		return err
	}
	t.hear(id, time.Now())
	if req.PrevLogEntry > 0 { // a heartbeat names no entry
		t.note(id, acknowledged{req.Term, req.PrevLogEntry + uint64(len(req.Entries))})
	}
	return nil
}

var errOfficeOver = errors.New("the office that this was to be sent in is over")

// inOffice tells that a request of an office may be sent. Raft's goroutines that replicate
// outlive the office by a while, and read a log that the next leader is changing: a
// request with one entry from before the change and one from after it would have a
// follower that has not heard of that leader take what was never committed (hashicorp/raft
// pull 119). The term is set before the log is changed, and looked at after it was read.
func (t *groupTransport) inOffice(term uint64) error {
	if t.gate.past.term() != term {
		return errOfficeOver
	}
	return nil
}

func (t *groupTransport) hear(id raft.ServerID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard[id] = now
}

// lastHeard is when a follower last answered.
func (t *groupTransport) lastHeard(id raft.ServerID) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heard[id]
}

func (t *groupTransport) note(id raft.ServerID, a acknowledged) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.match[id]; a.term > old.term || a.term == old.term && a.index > old.index {
		t.match[id] = a
	}
}

// matched is the last entry that a follower acknowledged.
func (t *groupTransport) matched(id raft.ServerID) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.match[id].index
}

// InstallSnapshot implements raft.Transport. Only what the follower took counts:
// Raft also tries to send to one that is gone, again and again.
func (t *groupTransport) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.inOffice(req.Term); err != nil {
		return err
	}
	err := t.steadyTransport.InstallSnapshot(id, a, req, resp, data)
	if err != nil || !resp.Success {
		return err
	}
	t.note(id, acknowledged{req.Term, req.LastLogIndex})
	t.metrics.sent.WithLabelValues(shardLabel(t.shard), string(nodeOf(id))).Inc()
	if t.needsMany(id, time.Now()) {
		t.metrics.alarm(t.shard, id, alarmSnapshots)
		t.log.Error("a follower needs one snapshot after the other: look whether it is slow or often cut off; "+
			"if it is neither, move its replica away and start its node again", "peer", nodeOf(id), "snapshots", loopInstalls, "within", loopSpan)
	}
	return nil
}

// needsMany notes an install and tells when somebody should know.
func (t *groupTransport) needsMany(id raft.ServerID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.installs[id]
	if w == nil {
		w = new(installWatch)
		t.installs[id] = w
	}
	return w.alarm(now)
}
