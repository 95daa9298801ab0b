package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

const (
	// maxHandshakes bounds the connections that have not said yet what they are:
	// a stranger can't make the node hold more.
	maxHandshakes = 256

	// maxAcceptPause bounds the pause after a failed Accept, for instance when
	// the process has too many open files.
	maxAcceptPause = time.Second
)

// peerPort is the one listener for all traffic between nodes. The first bytes
// of a connection tell what it is: gRPC, or a Raft stream, whose greeting says
// of which shard. Anything else is closed and counted.
//
// run accepts; each connection has a goroutine until its handshake is over.
// Methods may be called from any goroutine.
type peerPort struct {
	network  Network
	listener net.Listener
	rpc      *connQueue // gRPC connections, for a grpc.Server
	log      *slog.Logger
	metrics  *portMetrics

	identity  atomic.Pointer[portIdentity] // nil until the cluster has formed
	streams   []atomic.Pointer[raftStreams]
	conns     connSet
	strangers chan struct{} // a slot per handshake under way
	done      sync.WaitGroup
	closed    atomic.Bool
}

// portIdentity is what a greeting must name.
type portIdentity struct {
	cluster string
	self    raft.ServerID
	resolve func(shardrpc.NodeID) (addr string, ok bool)
}

// newPeerPort opens the port, and starts to accept.
func newPeerPort(cfg Config, m *portMetrics) (*peerPort, error) {
	l, err := cfg.Network.Listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("open the peer port: %w", err)
	}
	p := &peerPort{
		network: cfg.Network, listener: l, rpc: newConnQueue(l.Addr()), log: cfg.Logger, metrics: m,
		streams:   make([]atomic.Pointer[raftStreams], cfg.Shards),
		strangers: make(chan struct{}, maxHandshakes),
	}
	p.done.Go(p.run)
	return p, nil
}

// admit starts to let Raft streams in. It is called once, when it is
// known which cluster this is.
func (p *peerPort) admit(id portIdentity) { p.identity.Store(&id) }

// cluster is the id of the cluster; empty until it has formed.
func (p *peerPort) cluster() string {
	if id := p.identity.Load(); id != nil {
		return id.cluster
	}
	return ""
}

// attach routes the streams of a shard; nil ends that.
func (p *peerPort) attach(shard allocator.ShardID, s *raftStreams) { p.streams[shard].Store(s) }

// run accepts until the port is closed.
func (p *peerPort) run() {
	pause := time.Millisecond
	for {
		c, err := p.listener.Accept()
		if p.closed.Load() || errors.Is(err, net.ErrClosed) {
			if c != nil {
				_ = c.Close()
			}
			return
		}
		if err != nil {
			p.log.Warn("the peer port can't accept a connection", "error", err)
			time.Sleep(pause)
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = time.Millisecond
		p.begin(p.conns.add(c))
	}
}

// begin starts the handshake if there is a slot.
func (p *peerPort) begin(c net.Conn) {
	select {
	case p.strangers <- struct{}{}:
	default:
		p.metrics.refused.WithLabelValues("busy").Inc()
		_ = c.Close()
		return
	}
	p.done.Go(func() {
		defer func() { <-p.strangers }()
		if why := p.route(c); why != "" {
			p.metrics.refused.WithLabelValues(why).Inc()
			_ = c.Close()
		}
	})
}

// route reads what the connection is and hands it over; else it says why not.
func (p *peerPort) route(c net.Conn) (refused string) {
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout))
	var magic [len(peerMagic)]byte
	if _, err := io.ReadFull(c, magic[:]); err != nil {
		return "silent"
	}
	switch string(magic[:]) {
	case http2Magic:
		_ = c.SetDeadline(time.Time{})
		p.rpc.push(&replayConn{Conn: c, head: magic[:]})
		return ""
	case peerMagic:
		return p.routeStream(c)
	}
	p.log.Debug("a connection to the peer port speaks neither protocol", "from", c.RemoteAddr(), "first", fmt.Sprintf("%q", magic))
	return "unknown"
}

// routeStream answers a greeting.
func (p *peerPort) routeStream(c net.Conn) (refused string) {
	g, version, err := readGreeting(c)
	if err != nil {
		return "silent"
	}
	v, deliver := p.judge(g, version)
	if _, err := c.Write([]byte{byte(v)}); err != nil {
		return "silent"
	}
	if v != welcome {
		p.log.Debug("a stream to the peer port was refused", "from", c.RemoteAddr(), "why", verdicts[v])
		return "greeting"
	}
	_ = c.SetDeadline(time.Time{})
	deliver(c)
	return ""
}

// judge decides about a greeting, and where its stream goes.
func (p *peerPort) judge(g greeting, version byte) (verdict, func(net.Conn)) {
	id := p.identity.Load()
	switch {
	case version != peerVersion:
		return otherVersion, nil
	case id == nil || g.cluster != id.cluster:
		return otherCluster, nil
	case g.target != id.self:
		return otherNode, nil
	case int(g.shard) >= len(p.streams):
		return noReplica, nil
	}
	s := p.streams[g.shard].Load()
	if s == nil {
		return noReplica, nil
	}
	return welcome, s.accept
}

// dialRaft opens a stream to a shard's replica on another node.
func (p *peerPort) dialRaft(ctx context.Context, shard allocator.ShardID, target raft.ServerID) (net.Conn, error) {
	id := p.identity.Load()
	if id == nil || p.closed.Load() {
		return nil, net.ErrClosed
	}
	addr, ok := id.resolve(nodeOf(target))
	if !ok {
		return nil, fmt.Errorf("no address is known for node %q", nodeOf(target))
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	c, err := p.network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	g := greeting{shard: shard, cluster: id.cluster, target: target}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // nobody waits for the answer any more
	err = greet(c, g, deadline)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("stream to %s at %s: %w", target, addr, err)
	}
	return p.conns.add(c), nil
}

// dial opens a connection for gRPC.
func (p *peerPort) dial(ctx context.Context, addr string) (net.Conn, error) {
	if p.closed.Load() {
		return nil, net.ErrClosed
	}
	c, err := p.network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return p.conns.add(c), nil
}

// close ends the port and every connection that came or went through it.
func (p *peerPort) close() {
	if p.closed.Swap(true) {
		return
	}
	_ = p.listener.Close()
	_ = p.rpc.Close()
	p.conns.closeAll()
	p.done.Wait()
}

// replayConn gives back the bytes that were read to find out what it is.
type replayConn struct {
	net.Conn
	head []byte
}

// Read implements net.Conn.
func (c *replayConn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}
