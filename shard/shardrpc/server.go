package shardrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"stockade/shard/shardrpc/internal/pb"
)

const (
	// keepaliveTime is after how much silence a connection is probed; gRPC
	// allows a client no less. Streams with work under way are probed sooner,
	// by empty frames.
	keepaliveTime = 10 * time.Second
	// keepaliveTimeout is how long the answer may take.
	keepaliveTimeout = 3 * time.Second
	// windowSize is the flow-control window: a few of the largest frames, so
	// that a stream never waits for a window update within a round trip.
	windowSize = 8 << 20
	// ioBufferSize is how much gRPC gathers for one system call.
	ioBufferSize = 128 * 1024
)

// Metadata that says which node and cluster one means to talk to, so that a
// stale address can't lead a command to another cluster.
const (
	headerNode    = "stockade-node"
	headerCluster = "stockade-cluster"
)

// ServerOptions are the options that a gRPC server for Register needs.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.InitialWindowSize(windowSize),
		grpc.InitialConnWindowSize(windowSize),
		grpc.ReadBufferSize(ioBufferSize),
		grpc.WriteBufferSize(ioBufferSize),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
	}
}

// Register serves node to other nodes. The server should be made with
// ServerOptions. m may be nil.
func Register(r grpc.ServiceRegistrar, node Node, m *Metrics) {
	m = m.orNone()
	pb.RegisterShardsServer(r, &server{
		node:     node,
		received: m.direction("request-received"),
		sent:     m.direction("response-sent"),
		late:     m.late,
	})
}

// server adapts a Node to gRPC.
type server struct {
	pb.UnimplementedShardsServer
	node           Node
	received, sent frameMetrics
	late           prometheus.Counter
}

// Propose serves one stream. gRPC runs it on a goroutine of its own, which
// reads; a second one writes, and ends before Propose returns.
func (s *server) Propose(stream pb.Shards_ProposeServer) error {
	self, err := s.checkPeer(stream.Context())
	if err != nil {
		return err
	}
	began := time.Now() // before the client can know of it
	if err := stream.SendHeader(metadata.Pairs(headerNode, string(self.Node), headerCluster, self.ClusterID)); err != nil {
		return err
	}
	a := &answers{began: began, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), sent: s.sent}
	ctx, cancel := context.WithCancel(stream.Context())
	written := make(chan struct{})
	go func() {
		defer close(written)
		a.write(ctx, stream)
	}()
	err = s.read(stream, a)
	a.close()
	cancel()
	<-written
	return err
}

// read takes frames in until the stream ends.
func (s *server) read(stream pb.Shards_ProposeServer, a *answers) error {
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.frame(stream.Context(), frame, a); err != nil {
			return err
		}
	}
}

// frame proposes what a frame holds. A damaged frame ends the stream; what came
// before the damage is proposed, and the client can't know, which it is told by
// the end of the stream.
func (s *server) frame(ctx context.Context, frame *pb.Frame, a *answers) error {
	if err := checkFrame(frame); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	arrived := time.Now()
	sent := a.began.Add(clockOf(frame))
	if sent.After(arrived) { // it can't be
		sent = arrived
	}
	r := reader{b: frame.GetItems()}
	count := 0
	for ; r.more(); count++ {
		item := r.request()
		if r.err != nil {
			break
		}
		open, err := a.admit(ctx, item.final)
		if err != nil {
			return err
		}
		if !open {
			a.add(item.id, Response{Outcome: NotApplied, Reason: ReasonOverloaded, Shard: item.shard})
			continue
		}
		s.propose(item, sent, arrived, a)
	}
	if count == 0 && r.err == nil {
		a.probe()
	}
	s.received.count(count)
	if r.err != nil {
		return status.Error(codes.InvalidArgument, r.err.Error())
	}
	return nil
}

// propose hands an item to the node. One that was sent too long ago is not made any
// more: nobody waits for it, and its client may have been told that nothing was done. What
// is final is the cluster's own, and welcome at any time.
func (s *server) propose(item requestItem, sent, arrived time.Time, a *answers) {
	if item.final {
		sent = arrived
	}
	deadline := sent.Add(item.timeout)
	switch {
	case item.timeout <= 0:
		a.add(item.id, Response{Outcome: NotApplied, Reason: ReasonDeadline, Shard: item.shard})
		return
	case !deadline.After(time.Now()):
		s.late.Inc()
		a.add(item.id, Response{Outcome: NotApplied, Reason: ReasonLate, Shard: item.shard})
		return
	}
	p := &Proposal{
		Shard:    item.shard,
		Command:  item.command,
		Deadline: deadline,
		Final:    item.final,
		Claims:   item.claims,
		Done:     func(r Response) { a.add(item.id, r) },
	}
	if item.aged {
		p.Begun = sent.Add(-item.age)
	}
	if item.wait > 0 {
		p.WaitUntil = sent.Add(item.wait)
	}
	s.node.Propose(p)
}

// checkFrame bounds a frame before its items are read.
func checkFrame(frame *pb.Frame) error {
	if frame.GetVersion() != frameVersion {
		return fmt.Errorf("%w %d", errVersion, frame.GetVersion())
	}
	if len(frame.GetItems()) > maxStreamMessage {
		return errNumber
	}
	return nil
}

// answers collects what completes on one stream, for its writer. All methods
// are safe for concurrent use.
type answers struct {
	sent  frameMetrics
	began time.Time     // when the stream did; the clock of its frames counts from here
	wake  chan struct{} // something to write, or closed
	room  chan struct{} // backlog went down

	mu      sync.Mutex
	packer  packer
	open    int  // proposals read from the stream and not answered
	backlog int  // answers that were not handed to the stream yet
	closed  bool // the stream is over: answers are dropped
}

// admit tells whether the stream may have one more proposal open. While its
// answers are not taken it waits, and does not read on.
func (a *answers) admit(ctx context.Context, final bool) (bool, error) {
	for {
		a.mu.Lock()
		if a.backlog < maxStreamBacklog {
			more := final || a.open < maxStreamInFlight
			a.open++ // also one that is refused: its answer counts it off again
			a.mu.Unlock()
			return more, nil
		}
		a.mu.Unlock()
		select {
		case <-a.room:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (a *answers) add(id uint64, r Response) {
	a.mu.Lock()
	a.open--
	if !a.closed {
		a.backlog++
		pack(&a.packer, toResponseItem(id, r, time.Now()))
	}
	a.mu.Unlock()
	signal(a.wake)
}

// probe answers an empty frame.
func (a *answers) probe() {
	a.mu.Lock()
	a.packer.probe()
	a.mu.Unlock()
	signal(a.wake)
}

func (a *answers) close() {
	a.mu.Lock()
	a.closed = true
	a.packer = packer{}
	a.mu.Unlock()
	signal(a.wake)
}

func (a *answers) take() (packed, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.packer.take()
}

// written says that so many answers were handed to the stream.
func (a *answers) written(count int) {
	a.mu.Lock()
	a.backlog -= count
	a.mu.Unlock()
	signal(a.room)
}

// write sends frames until ctx or the stream ends.
func (a *answers) write(ctx context.Context, stream pb.Shards_ProposeServer) {
	for {
		select {
		case <-a.wake:
		case <-ctx.Done():
			return
		}
		// Let those who are ready to add something do so first: frames get
		// fuller, and an idle machine loses nothing.
		runtime.Gosched()
		for f, ok := a.take(); ok; f, ok = a.take() {
			if stream.Send(f.message(time.Since(a.began))) != nil {
				return // the reader sees the same end of the stream
			}
			a.sent.count(f.count)
			a.written(f.count)
		}
	}
}

// signal wakes whoever waits on c, now or when it next looks.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// checkPeer refuses a caller who means another node or cluster, and tells who
// this node is.
func (s *server) checkPeer(ctx context.Context) (Status, error) {
	self, err := s.node.Status(ctx)
	if err != nil {
		return self, toStatus(err)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if err := mismatch(md, NodeID(first(md, headerNode)), self); err != nil {
		return self, status.Error(codes.FailedPrecondition, err.Error())
	}
	return self, nil
}

// mismatch compares whom the caller means, as far as it says, with who is here.
func mismatch(md metadata.MD, node NodeID, self Status) error {
	if node != "" && self.Node != "" && node != self.Node {
		return fmt.Errorf("this is node %q, not %q", self.Node, node)
	}
	cluster := first(md, headerCluster)
	if cluster != "" && self.ClusterID != "" && cluster != self.ClusterID {
		return fmt.Errorf("this is a node of cluster %q, not %q", self.ClusterID, cluster)
	}
	return nil
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
