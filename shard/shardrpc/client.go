package shardrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"stockade/allocator"
	"stockade/shard/shardrpc/internal/pb"
)

const (
	// minRedial and maxRedial bound the pause between attempts to reach a node.
	// The longest is what a restarted node waits for its first request.
	minRedial = 50 * time.Millisecond
	// The longest is a part of the second in which units must stop being in transit
	// after a fault has gone.
	maxRedial = 250 * time.Millisecond
	// redialFactor and redialJitter keep many clients from coming in step.
	redialFactor = 1.6
	redialJitter = 0.2
	// openTimeout bounds one attempt to open a stream.
	openTimeout = 5 * time.Second
)

// ErrUnreachable is wrapped by what a Client's reads return while there is no
// stream to the node.
var ErrUnreachable = errors.New("the node can't be reached")

// ClientConfig says which node a Client talks to, and how.
type ClientConfig struct {
	// Node is whom to expect at Address. Another node there is not used.
	Node NodeID
	// Cluster is the expected cluster's id; empty: any.
	Cluster string
	// Address is given to Dial as it is; see Client.SetAddress.
	Address string
	// Dial opens a connection; nil: plain TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Credentials secure the connection; nil: none, or Dial did it.
	Credentials credentials.TransportCredentials
	// Metrics may be nil.
	Metrics *Metrics
	// Log may be nil. It gets a line when the node is reached or lost.
	Log *slog.Logger
}

// Client is a Node on the other side of a connection. It keeps one stream for
// proposals open, and opens it again when it breaks; while there is none,
// proposals end as NotApplied with ReasonUnreachable, and reads with
// ErrUnreachable, without waiting.
//
// Every proposal ends exactly once, at its deadline at the latest: as Unknown
// when it may have reached the node.
//
// A Client runs one goroutine that keeps the stream and reads from it, and
// while there is a stream one that writes and one that watches for silence.
// Close ends them. All methods are safe for concurrent use.
type Client struct {
	cfg            ClientConfig
	address        atomic.Pointer[string] // where the next connection goes
	conn           *grpc.ClientConn
	stub           pb.ShardsClient
	metrics        *Metrics
	sent, received frameMetrics
	log            *slog.Logger
	cancel         context.CancelFunc
	stopped        chan struct{} // closed when run has returned

	mu      sync.Mutex
	session *session  // nil while there is no stream
	down    time.Time // since when there is none
	nextID  uint64
}

// NewClient makes a client and begins to connect. The error says that the
// configuration is unusable, never that the node is not there.
func NewClient(cfg ClientConfig) (*Client, error) {
	ctx, cancel := context.WithCancel(context.Background())
	m := cfg.Metrics.orNone()
	c := &Client{
		cfg:     cfg,
		metrics: m, sent: m.direction("request-sent"), received: m.direction("response-received"),
		log: cfg.Log, cancel: cancel, stopped: make(chan struct{}), down: time.Now(),
	}
	c.address.Store(&cfg.Address)
	// gRPC looks nothing up: dial knows where the node is.
	conn, err := grpc.NewClient("passthrough:///"+string(cfg.Node), append(cfg.dialOptions(), grpc.WithContextDialer(c.dial))...)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to node %s at %s: %w", cfg.Node, cfg.Address, err)
	}
	c.conn, c.stub = conn, pb.NewShardsClient(conn)
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("peer", string(cfg.Node))
	go c.run(ctx)
	return c, nil
}

// dial opens a connection to where the node is now. gRPC's own idea of the address is
// not used.
func (c *Client) dial(ctx context.Context, _ string) (net.Conn, error) {
	if c.cfg.Dial == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", *c.address.Load())
	}
	return c.cfg.Dial(ctx, *c.address.Load())
}

// SetAddress tells where the node is from now on. A connection that works stays.
func (c *Client) SetAddress(address string) { c.address.Store(&address) }

func (cfg *ClientConfig) dialOptions() []grpc.DialOption {
	creds := cfg.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(windowSize),
		grpc.WithInitialConnWindowSize(windowSize),
		grpc.WithReadBufferSize(ioBufferSize),
		grpc.WithWriteBufferSize(ioBufferSize),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: minRedial, Multiplier: redialFactor, Jitter: redialJitter, MaxDelay: maxRedial,
			},
			MinConnectTimeout: openTimeout,
		}),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(), // repeating is decided in one place, the Dispatcher
	}
}

// Close ends what is under way and the connection, and waits for the client's
// goroutines. It may be called more than once.
func (c *Client) Close() error {
	c.cancel()
	err := c.conn.Close()
	<-c.stopped
	return err
}

// Propose implements Node.
func (c *Client) Propose(p *Proposal) {
	now := time.Now()
	if len(p.Command) > allocator.MaxCommandLen || p.Shard >= allocator.MaxShards {
		p.Done(Response{Outcome: NotApplied, Reason: ReasonInvalid, Shard: p.Shard})
		return
	}
	if p.Deadline.Sub(now) < time.Millisecond { // less than the format can tell
		p.Done(Response{Outcome: NotApplied, Reason: ReasonDeadline, Shard: p.Shard})
		return
	}
	if reason, since := c.enqueue(p, now); reason != ReasonNone {
		p.Done(Response{Outcome: NotApplied, Reason: reason, Shard: p.Shard, Since: since})
	}
}

// enqueue hands p to the session, or says why not.
func (c *Client) enqueue(p *Proposal, now time.Time) (Reason, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.session
	if s == nil {
		return ReasonUnreachable, c.down
	}
	if len(s.pending.entries) >= maxClientPending && !p.Final {
		return ReasonOverloaded, time.Time{}
	}
	c.nextID++
	item := requestItem{id: c.nextID, shard: p.Shard, final: p.Final, claims: p.Claims, command: p.Command}
	begun := s.packer.open(item.size()).begun
	item.timeout = attemptDeadline(now, p.Deadline).Sub(begun)
	if !p.Begun.IsZero() {
		item.aged, item.age = true, begun.Sub(p.Begun)
	}
	if !p.WaitUntil.IsZero() {
		item.wait = p.WaitUntil.Sub(begun)
	}
	frame := pack(&s.packer, item)
	s.pending.add(c.nextID, p.Deadline, call{p, frame})
	signal(s.wake)
	return ReasonNone, time.Time{}
}

// Buckets implements Node, for at most MaxBucketsPerRequest shards.
func (c *Client) Buckets(ctx context.Context, r BucketsRequest) ([]BucketAnswer, error) {
	if err := c.reachable(); err != nil {
		return nil, err
	}
	m, err := c.stub.Buckets(ctx, bucketsRequestTo(r))
	if err != nil {
		return nil, c.failed("ask for buckets", err)
	}
	return bucketsReplyFrom(m)
}

// Reservation implements Node.
func (c *Client) Reservation(ctx context.Context, r ReservationRequest) (ReservationAnswer, error) {
	if err := c.reachable(); err != nil {
		return ReservationAnswer{}, err
	}
	m, err := c.stub.Reservation(ctx, reservationRequestTo(r))
	if err != nil {
		return ReservationAnswer{}, c.failed("ask for a reservation", err)
	}
	return reservationReplyFrom(m)
}

// SKUs implements Node, for at most MaxSKUsPerRequest rows.
func (c *Client) SKUs(ctx context.Context, r SKUsRequest) (SKUsAnswer, error) {
	if err := c.reachable(); err != nil {
		return SKUsAnswer{}, err
	}
	m, err := c.stub.SKUs(ctx, skusRequestTo(r))
	if err != nil {
		return SKUsAnswer{}, c.failed("ask for SKUs", err)
	}
	return skusReplyFrom(m)
}

// Exist implements Node, for at most MaxSKUsPerRequest SKUs.
func (c *Client) Exist(ctx context.Context, r ExistRequest) (ExistAnswer, error) {
	if err := c.reachable(); err != nil {
		return ExistAnswer{}, err
	}
	m, err := c.stub.Exist(ctx, existRequestTo(r))
	if err != nil {
		return ExistAnswer{}, c.failed("ask which SKUs exist", err)
	}
	return existReplyFrom(m)
}

// Levels implements Node.
func (c *Client) Levels(ctx context.Context) (LevelStream, error) {
	if err := c.reachable(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.stub.Levels(ctx)
	if err != nil {
		cancel()
		return nil, c.failed("ask for levels", err)
	}
	return &clientLevels{client: c, stream: stream, cancel: cancel}, nil
}

// clientLevels is a LevelStream over gRPC.
type clientLevels struct {
	client *Client
	stream pb.Shards_LevelsClient
	cancel context.CancelFunc
}

// Poll implements LevelStream. The end of ctx ends the stream, because an answer
// that nobody waits for would be taken for the next one's.
func (s *clientLevels) Poll(ctx context.Context, r LevelsRequest) (LevelsReply, error) {
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	if err := s.stream.Send(levelsRequestTo(r)); err != nil {
		return LevelsReply{}, s.client.failed("ask for levels", err)
	}
	m, err := s.stream.Recv()
	if err != nil {
		return LevelsReply{}, s.client.failed("ask for levels", err)
	}
	return levelsReplyFrom(m)
}

// Close implements LevelStream.
func (s *clientLevels) Close() { s.cancel() }

// Status implements Node. Other than the rest it does not need a stream.
func (c *Client) Status(ctx context.Context) (Status, error) {
	m, err := c.stub.Status(c.introduce(ctx), &pb.StatusRequest{})
	if err != nil {
		return Status{}, c.failed("ask for the status", err)
	}
	return statusReplyFrom(m)
}

// Down tells since when the node can't be reached; zero: it can, as far as is known.
func (c *Client) Down() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		return time.Time{}
	}
	return c.down
}

// reachable refuses reads while there is no stream: opening it proved that the
// right node is on the other side.
func (c *Client) reachable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return fmt.Errorf("node %s: %w", c.cfg.Node, ErrUnreachable)
	}
	return nil
}

func (c *Client) failed(what string, err error) error {
	return fmt.Errorf("%s of node %s: %w", what, c.cfg.Node, err)
}

// introduce says whom this client means to talk to.
func (c *Client) introduce(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, headerNode, string(c.cfg.Node), headerCluster, c.cfg.Cluster)
}
