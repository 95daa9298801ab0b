package shardrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"stockade/allocator"
	"stockade/shard/bubble"
)

// wire is a gRPC server for one node on in-memory connections, which a test can
// cut.
type wire struct {
	mu       sync.Mutex
	listener *bufconn.Listener
	server   *grpc.Server
	conns    []net.Conn
	refuse   bool
	metrics  *Metrics // of the server; may be nil
}

func serve(t *testing.T, node Node) *wire {
	t.Helper()
	w := &wire{}
	w.start(node)
	t.Cleanup(w.stop)
	return w
}

func (w *wire) start(node Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener = bufconn.Listen(1 << 20)
	w.server = grpc.NewServer(ServerOptions()...)
	Register(w.server, node, w.metrics)
	go func(s *grpc.Server, l net.Listener) { _ = s.Serve(l) }(w.server, w.listener)
}

func (w *wire) stop() {
	w.mu.Lock()
	s := w.server
	w.mu.Unlock()
	s.Stop()
}

func (w *wire) dial(ctx context.Context, _ string) (net.Conn, error) {
	w.mu.Lock()
	l, refuse := w.listener, w.refuse
	w.mu.Unlock()
	if refuse {
		return nil, errors.New("connection refused")
	}
	c, err := l.DialContext(ctx)
	if err == nil {
		w.mu.Lock()
		w.conns = append(w.conns, c)
		w.mu.Unlock()
	}
	return c, err
}

// cut breaks all connections; refuse keeps new ones from being made.
func (w *wire) cut(refuse bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = refuse
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// used tells whether anybody is connected.
func (w *wire) used() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns) > 0
}

func (w *wire) client(t *testing.T, id NodeID) *Client {
	t.Helper()
	c, _ := w.logged(t, id)
	return c
}

// logged makes a client whose lines of log come out of a channel, as far as they
// find room.
func (w *wire) logged(t *testing.T, id NodeID) (*Client, <-chan string) {
	t.Helper()
	lines := make(lineWriter, 100)
	c, err := NewClient(ClientConfig{
		Node: id, Cluster: "c1", Address: "memory", Dial: w.dial,
		Log: slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, lines
}

type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
	default:
	}
	return len(b), nil
}

// connected waits until the client has its stream.
func connected(t *testing.T, c *Client) *Client {
	t.Helper()
	waitFor(t, "the stream to open", func() bool { return c.reachable() == nil })
	return c
}

// waitFor looks again and again until something is so.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestProposalsTravelInBatches(t *testing.T) {
	node := &fakeNode{status: leads("n1", 1, 0)}
	c := connected(t, serve(t, node).client(t, "n1"))
	got := newCollected(t)
	const senders, each = 8, 500
	var wait sync.WaitGroup
	for s := range senders {
		wait.Go(func() {
			for i := range each {
				c.Propose(got.proposal(fmt.Sprintf("command %d of %d", i, s), 10*time.Second))
			}
		})
	}
	wait.Wait()
	results := make(map[string]bool)
	for range senders * each {
		r := got.next()
		if r.Outcome != Applied {
			t.Fatalf("got %+v", r)
		}
		results[string(r.Result)] = true
	}
	if len(results) != senders*each {
		t.Errorf("%d different results, want %d: answers were mixed up", len(results), senders*each)
	}
}

func TestProposalArrivesAsItWasSent(t *testing.T) {
	seen := make(chan *Proposal, 1)
	since := time.Now().Add(-time.Minute)
	node := &fakeNode{status: leads("n1", 1, 0), propose: func(p *Proposal) {
		seen <- p
		p.Done(Response{Outcome: NotApplied, Reason: ReasonNotLeader, Leader: "n2", Shard: p.Shard, Since: since})
	}}
	c := connected(t, serve(t, node).client(t, "n1"))
	got := newCollected(t)
	p := got.proposal("x", 5*time.Second)
	p.Shard, p.Final, p.Claims, p.WaitUntil = 17, true, []Claim{{99, 3}, {100, 1}}, p.Deadline.Add(-time.Millisecond)
	c.Propose(p)
	r := got.next()
	if r.Outcome != NotApplied || r.Reason != ReasonNotLeader || r.Leader != "n2" || r.Shard != 17 || since.Sub(r.Since).Abs() > time.Second {
		t.Errorf("got %+v", r)
	}
	there := <-seen
	if there.Shard != 17 || !there.Final || !slices.Equal(there.Claims, p.Claims) || there.WaitUntil.Sub(p.WaitUntil).Abs() > time.Second || string(there.Command) != "x" || there.Deadline.Sub(p.Deadline).Abs() > time.Second {
		t.Errorf("arrived as %+v", there)
	}
}

func TestNothingIsSentWithoutAStream(t *testing.T) {
	w := &wire{refuse: true}
	w.start(&fakeNode{})
	defer w.stop()
	c := w.client(t, "n1")
	got := newCollected(t)
	c.Propose(got.proposal("x", time.Second))
	if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonUnreachable || r.Since.IsZero() {
		t.Errorf("got %+v", r)
	}
	if _, err := c.Buckets(t.Context(), BucketsRequest{SKU: "a"}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a read: %v", err)
	}
}

func TestProposalsOutOfBoundsAreNotSent(t *testing.T) {
	c := connected(t, serve(t, &fakeNode{status: leads("n1", 1, 0)}).client(t, "n1"))
	got := newCollected(t)
	big := got.proposal("big", time.Second)
	big.Command = make([]byte, allocator.MaxCommandLen+1)
	c.Propose(big)
	if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonInvalid {
		t.Errorf("too long: %+v", r)
	}
	c.Propose(got.proposal("late", 0))
	if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonDeadline {
		t.Errorf("too late: %+v", r)
	}
}

// TestBrokenStreamLeavesUnknowns: what was sent and not answered is unknown, at
// once and not at the deadline; afterwards the client comes back by itself.
func TestBrokenStreamLeavesUnknowns(t *testing.T) {
	arrived := make(chan *Proposal, 10)
	node := &fakeNode{status: leads("n1", 1, 0), propose: func(p *Proposal) { arrived <- p }}
	w := serve(t, node)
	c := connected(t, w.client(t, "n1"))
	got := newCollected(t)
	for i := range 3 {
		c.Propose(got.proposal(fmt.Sprint(i), time.Minute))
	}
	var held []*Proposal
	for range 3 {
		held = append(held, <-arrived)
	}
	w.cut(true)
	for range 3 {
		if r := got.next(); r.Outcome != Unknown || r.Reason != ReasonUnreachable {
			t.Errorf("got %+v", r)
		}
	}
	for _, p := range held { // the node does not know that nobody listens
		p.Done(Response{Outcome: Applied})
	}
	w.cut(false)
	connected(t, c)
	c.Propose(got.proposal("again", time.Minute))
	(<-arrived).Done(Response{Outcome: Applied})
	if r := got.next(); r.Outcome != Applied {
		t.Errorf("after the break: %+v", r)
	}
}

// TestUnsentItemsAreNotApplied cuts a session whose second frame was never handed
// to the stream.
func TestUnsentItemsAreNotApplied(t *testing.T) {
	c := &Client{down: time.Now()}
	s := &session{wake: make(chan struct{}, 1)}
	s.pending = newPending[call](func() {})
	c.session = s
	got := newCollected(t)
	sent, unsent := got.proposal("sent", time.Minute), got.proposal("unsent", time.Minute)
	c.Propose(sent)
	s.packer.take()
	c.Propose(unsent)
	c.detach()
	c.end(s)
	outcomes := map[Outcome]int{}
	for range 2 {
		r := got.next()
		if r.Reason != ReasonUnreachable {
			t.Errorf("got %+v", r)
		}
		outcomes[r.Outcome]++
	}
	if outcomes[Unknown] != 1 || outcomes[NotApplied] != 1 {
		t.Errorf("got %v, want one of each", outcomes)
	}
}

func TestUnansweredProposalsEndAtTheirDeadline(t *testing.T) {
	node := &fakeNode{status: leads("n1", 1, 0), propose: func(*Proposal) {}}
	c := connected(t, serve(t, node).client(t, "n1"))
	got := newCollected(t)
	began := time.Now()
	c.Propose(got.proposal("x", 50*time.Millisecond))
	if r := got.next(); r.Outcome != Unknown || r.Reason != ReasonDeadline {
		t.Errorf("got %+v", r)
	}
	if d := time.Since(began); d < 50*time.Millisecond {
		t.Errorf("ended after %v, before its deadline", d)
	}
}

func TestAnotherNodeOrClusterIsNotUsed(t *testing.T) {
	for name, status := range map[string]Status{
		"another node":    {Node: "n2", ClusterID: "c1"},
		"another cluster": {Node: "n1", ClusterID: "c2"},
	} {
		c, refused := serve(t, &fakeNode{status: status}).logged(t, "n1")
		<-refused
		if _, err := c.Status(t.Context()); err == nil {
			t.Errorf("%s: its status was taken", name)
		}
		if c.reachable() == nil {
			t.Errorf("%s: a stream was opened", name)
		}
	}
}

// TestParkedProposalsDoNotStopTransfers opens more proposals on one stream than
// a server holds, none of which ends before units come. The surplus is refused at
// once, and a Final one behind them, which may bring the units, is taken.
func TestParkedProposalsDoNotStopTransfers(t *testing.T) {
	parked := make(chan *Proposal, maxClientPending)
	node := &fakeNode{status: leads("n1", 1, 0), propose: func(p *Proposal) {
		if p.Final {
			p.Done(Response{Outcome: Applied})
			return
		}
		parked <- p
	}}
	c := connected(t, serve(t, node).client(t, "n1"))
	const surplus = 1000
	waiting, transfer := newCollected(t), newCollected(t)
	for i := range maxStreamInFlight + surplus {
		p := waiting.proposal(fmt.Sprint(i), time.Minute)
		p.WaitUntil = time.Now().Add(time.Minute)
		c.Propose(p)
	}
	final := transfer.proposal("units", time.Minute)
	final.Final = true
	c.Propose(final)
	for range surplus {
		if r := waiting.next(); r.Outcome != NotApplied || r.Reason != ReasonOverloaded {
			t.Fatalf("one too many: %+v", r)
		}
	}
	if r := transfer.next(); r.Outcome != Applied {
		t.Fatalf("the transfer: %+v", r)
	}
	for range maxStreamInFlight {
		(<-parked).Done(Response{Outcome: Applied})
	}
	for range maxStreamInFlight {
		if r := waiting.next(); r.Outcome != Applied {
			t.Fatalf("one that was taken: %+v", r)
		}
	}
	again := transfer.proposal("one more", time.Minute)
	c.Propose(again)
	(<-parked).Done(Response{Outcome: Applied})
	if r := transfer.next(); r.Outcome != Applied {
		t.Fatalf("when there is room again: %+v", r)
	}
}

// TestAnswersNobodyTakesHoldTheReaderBack: a server whose answers are not taken
// reads on only when they are, or never when the stream ends.
func TestAnswersNobodyTakesHoldTheReaderBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := &answers{wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
		for i := range uint64(maxStreamBacklog) {
			if ok, err := a.admit(t.Context(), false); !ok || err != nil {
				t.Fatal(i, ok, err)
			}
			a.add(i, Response{Outcome: Applied})
		}
		admitted := make(chan error, 1)
		admit := func(ctx context.Context) {
			_, err := a.admit(ctx, true)
			admitted <- err
		}
		go admit(t.Context())
		synctest.Wait()
		if len(admitted) != 0 {
			t.Fatal("more was read than can be answered")
		}
		a.written(1)
		if err := <-admitted; err != nil {
			t.Fatal(err)
		}
		a.add(1, Response{Outcome: Applied})
		ctx, cancel := context.WithCancel(t.Context())
		go admit(ctx)
		synctest.Wait()
		cancel()
		if err := <-admitted; err == nil {
			t.Error("the stream is over, and more was admitted")
		}
	})
}

func TestClientBoundsWhatIsPending(t *testing.T) {
	c := &Client{}
	s := &session{wake: make(chan struct{}, 1)}
	s.pending = newPending[call](func() {})
	c.session = s
	for i := range maxClientPending {
		s.pending.entries[uint64(i)+1<<32] = waiting[call]{}
	}
	got := newCollected(t)
	c.Propose(got.proposal("one too many", time.Minute))
	if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonOverloaded {
		t.Errorf("got %+v", r)
	}
}

// TestSilentNodeIsGivenUp: a node that takes proposals and then says nothing, not
// even to probes, loses the stream well before the deadlines.
func TestSilentNodeIsGivenUp(t *testing.T) {
	hang := make(chan struct{})
	node := &fakeNode{status: leads("n1", 1, 0), propose: func(*Proposal) { <-hang }}
	w := serve(t, node)
	defer close(hang)
	c := connected(t, w.client(t, "n1"))
	got := newCollected(t)
	c.Propose(got.proposal("x", time.Minute))
	if r := got.next(); r.Outcome != Unknown || r.Reason != ReasonUnreachable {
		t.Errorf("got %+v", r)
	}
}

// TestSlowNodeIsNotGivenUp: one that answers probes may take its time.
func TestSlowNodeIsNotGivenUp(t *testing.T) {
	node := &fakeNode{status: leads("n1", 1, 0), propose: func(p *Proposal) {
		time.AfterFunc(silenceLimit+2*probeInterval, func() { p.Done(Response{Outcome: Applied}) })
	}}
	c := connected(t, serve(t, node).client(t, "n1"))
	got := newCollected(t)
	c.Propose(got.proposal("x", time.Minute))
	if r := got.next(); r.Outcome != Applied {
		t.Errorf("got %+v", r)
	}
}

func TestReadsTravel(t *testing.T) {
	node := &fakeNode{
		status: leads("n1", 1, 0),
		reservation: func(r ReservationRequest) (ReservationAnswer, error) {
			return ReservationAnswer{Found: r.ID == fullReservation.ID, Reservation: fullReservation}, nil
		},
		skus: func(r SKUsRequest) (SKUsAnswer, error) {
			return SKUsAnswer{SKUs: []allocator.SKUSummary{{SKU: allocator.SKU(r.Prefix + "1")}}}, nil
		},
	}
	c := connected(t, serve(t, node).client(t, "n1"))
	buckets, err := c.Buckets(t.Context(), BucketsRequest{SKU: "a", Shards: []allocator.ShardID{3}})
	if err != nil || len(buckets) != 1 || buckets[0].Report.Shard != 3 {
		t.Errorf("Buckets: %+v, %v", buckets, err)
	}
	res, err := c.Reservation(t.Context(), ReservationRequest{ID: fullReservation.ID})
	if err != nil || !res.Found || res.Reservation.BuyerID != "buyer" {
		t.Errorf("Reservation: %+v, %v", res, err)
	}
	skus, err := c.SKUs(t.Context(), SKUsRequest{Prefix: "p", Limit: 10})
	if err != nil || len(skus.SKUs) != 1 || skus.SKUs[0].SKU != "p1" {
		t.Errorf("SKUs: %+v, %v", skus, err)
	}
	status, err := c.Status(t.Context())
	if err != nil || status.Node != "n1" || len(status.Shards) != 1 {
		t.Errorf("Status: %+v, %v", status, err)
	}
	node.buckets = func(BucketsRequest) ([]BucketAnswer, error) { return nil, errors.New("no luck") }
	if _, err := c.Buckets(t.Context(), BucketsRequest{SKU: "a"}); err == nil {
		t.Error("the error of a node was lost")
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	arrived := make(chan struct{}, 1)
	node := &fakeNode{status: leads("n1", 1, 0), propose: func(*Proposal) { arrived <- struct{}{} }}
	c := connected(t, serve(t, node).client(t, "n1"))
	got := newCollected(t)
	c.Propose(got.proposal("x", time.Minute))
	<-arrived
	_ = c.Close()
	if r := got.next(); r.Outcome != Unknown {
		t.Errorf("got %+v", r)
	}
	c.Propose(got.proposal("y", time.Minute))
	if r := got.next(); r.Outcome != NotApplied || r.Reason != ReasonUnreachable {
		t.Errorf("after Close: %+v", r)
	}
}

// TestMovedNodeIsDialledWhereItIs: a client finds a node that has moved, and one that
// works stays connected.
func TestMovedNodeIsDialledWhereItIs(t *testing.T) {
	node := &fakeNode{status: Status{Node: "n1", ClusterID: "c1"}}
	places := map[string]*wire{"old": serve(t, node), "new": serve(t, node)}
	c, err := NewClient(ClientConfig{Node: "n1", Cluster: "c1", Address: "old", Dial: func(ctx context.Context, address string) (net.Conn, error) {
		return places[address].dial(ctx, address)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	connected(t, c)
	c.SetAddress("new")
	if err := c.reachable(); err != nil {
		t.Errorf("the connection that worked is gone: %v", err)
	}
	places["old"].cut(true)
	waitFor(t, "the stream to break", func() bool { return c.reachable() != nil || places["new"].used() })
	connected(t, c)
}
