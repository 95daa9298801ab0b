package shardrpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"stockade/shard/shardrpc/internal/pb"
)

const (
	// probeInterval is how often a stream with work under way and nothing heard
	// is probed.
	probeInterval = 250 * time.Millisecond
	// silenceLimit is how long such a stream may stay silent before it is given
	// up: about as long as an election, so that what it carries can still be
	// done by the next leader within the usual deadline. Even a busy machine is
	// seldom silent for so long.
	silenceLimit = 1500 * time.Millisecond
)

// idleProbes is after how many looks a stream without work is probed.
const idleProbes = int(clockWindow / 2 / probeInterval)

// errSilent ends a stream whose other side says nothing.
var errSilent = errors.New("no sign of life")

// session is one stream's life. Fields without a remark are guarded by the
// Client's mutex.
type session struct {
	wake    chan struct{} // constant; something to write
	packer  packer
	pending *pending[call]
	clock   remoteClock
	heard   atomic.Bool // something came in since the last look; not guarded
	quiet   int         // looks since then
}

// call is a proposal under way.
type call struct {
	p     *Proposal
	frame uint64 // the frame that carries it
}

// settled is a proposal with its answer, ready for Done.
type settled struct {
	p *Proposal
	r Response
}

// run keeps a stream open until ctx ends.
func (c *Client) run(ctx context.Context) {
	defer close(c.stopped)
	pause := minRedial
	for ctx.Err() == nil {
		opened, err := c.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		c.metrics.connects.WithLabelValues(connectResult(opened)).Inc()
		if opened {
			pause = minRedial
			c.log.Warn("lost the stream to a node", "error", err)
		} else {
			c.log.Debug("can't open a stream to a node", "address", *c.address.Load(), "error", err)
		}
		sleep(ctx, pause/2+rand.N(pause))
		pause = min(2*pause, maxRedial)
	}
}

func connectResult(opened bool) string {
	if opened {
		return "broken"
	}
	return "failed"
}

// serve opens a stream and serves it until it breaks.
func (c *Client) serve(ctx context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := c.open(ctx, cancel)
	if err != nil {
		return false, err
	}
	c.metrics.connects.WithLabelValues("opened").Inc()
	c.log.Info("opened a stream to a node", "address", *c.address.Load())
	s := c.begin()
	var helpers sync.WaitGroup
	helpers.Go(func() { c.write(ctx, stream, s) })
	helpers.Go(func() { c.watch(ctx, cancel, s) })
	err = c.receive(stream, s)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	c.detach()
	cancel(err)
	helpers.Wait() // nothing more is handed to the stream
	c.end(s)
	return true, err
}

// open opens a stream and waits until the other side has said who it is. Before
// that nothing is sent, so that a refused stream leaves no unknown outcomes.
func (c *Client) open(ctx context.Context, cancel context.CancelCauseFunc) (pb.Shards_ProposeClient, error) {
	timeout := time.AfterFunc(openTimeout, func() { cancel(context.DeadlineExceeded) })
	defer timeout.Stop()
	stream, err := c.stub.Propose(c.introduce(ctx), grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	header, err := stream.Header()
	if err != nil {
		return nil, err
	}
	if header == nil { // the stream ended without one; its error comes with Recv
		_, err := stream.Recv()
		return nil, errors.Join(ErrUnreachable, err)
	}
	return stream, c.recognise(header)
}

// recognise checks who answers. The server checks too; this side may be newer.
func (c *Client) recognise(header metadata.MD) error {
	self := Status{Node: c.cfg.Node, ClusterID: c.cfg.Cluster}
	if err := mismatch(header, NodeID(first(header, headerNode)), self); err != nil {
		return fmt.Errorf("another node answers at %s: %w", *c.address.Load(), err)
	}
	return nil
}

// begin makes proposals flow.
func (c *Client) begin() *session {
	s := &session{wake: make(chan struct{}, 1), clock: startClock(time.Now())}
	s.pending = newPending[call](func() { c.expire(s) })
	c.mu.Lock()
	defer c.mu.Unlock()
	s.packer.probe() // the answer tells the server's clock
	signal(s.wake)
	c.session = s
	return s
}

// detach stops the flow.
func (c *Client) detach() {
	c.mu.Lock()
	c.session = nil
	c.down = time.Now()
	c.mu.Unlock()
}

// end settles what the stream left behind. What was never handed to it is
// certainly not applied; of the rest nobody knows.
func (c *Client) end(s *session) {
	c.mu.Lock()
	taken := s.packer.taken
	left := s.pending.clear()
	since := c.down
	c.mu.Unlock()
	for _, w := range left {
		r := Response{Outcome: Unknown, Reason: ReasonUnreachable, Shard: w.p.Shard, Since: since}
		if w.frame > taken {
			r.Outcome = NotApplied
		}
		w.p.Done(r)
	}
}

// expire settles what is past its deadline. It may have reached the node, or
// still do so.
func (c *Client) expire(s *session) {
	c.mu.Lock()
	over := s.pending.due(time.Now())
	c.mu.Unlock()
	for _, w := range over {
		w.p.Done(Response{Outcome: Unknown, Reason: ReasonDeadline, Shard: w.p.Shard})
	}
}

// receive reads answers until the stream breaks.
func (c *Client) receive(stream pb.Shards_ProposeClient, s *session) error {
	var batch []settled
	for {
		frame, err := stream.Recv()
		if err != nil {
			return err
		}
		s.heard.Store(true)
		if err := checkFrame(frame); err != nil {
			return err
		}
		batch, err = c.settle(s, frame, batch[:0])
		c.received.count(len(batch))
		for _, d := range batch {
			d.p.Done(d.r)
		}
		clear(batch)
		if err != nil {
			return err
		}
	}
}

// settle finds the proposals that a frame answers. An answer to none is late:
// its proposal's deadline has passed.
func (c *Client) settle(s *session, frame *pb.Frame, batch []settled) ([]settled, error) {
	now := time.Now()
	r := reader{b: frame.GetItems()}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.clock.heard(clockOf(frame), now)
	for r.more() {
		item := r.response(now)
		if r.err != nil {
			break
		}
		if w, ok := s.pending.take(item.id); ok {
			batch = append(batch, settled{w.p, item.Response})
		}
	}
	return batch, r.err
}

// write sends frames until the stream ends.
func (c *Client) write(ctx context.Context, stream pb.Shards_ProposeClient, s *session) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		runtime.Gosched() // as in the server: let the frame fill
		for f, clock, ok := c.take(s); ok; f, clock, ok = c.take(s) {
			if stream.Send(f.message(clock)) != nil {
				return // the reader gets the reason
			}
			c.sent.count(f.count)
		}
	}
}

// watch gives the stream up when the other side is silent although it has work.
// It is apart from write, which may hang on such a stream.
func (c *Client) watch(ctx context.Context, cancel context.CancelCauseFunc, s *session) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for silent := time.Duration(0); silent < silenceLimit; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c.probe(s) {
			silent += probeInterval
		} else {
			silent = 0
		}
	}
	cancel(errSilent)
}

// probe tells whether the other side has work and has been silent since the
// last look. If so it gets an empty frame, which it answers at once; and now and then also
// without work, so that its clock stays known.
func (c *Client) probe(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.heard.Swap(false) {
		s.quiet = 0
		return false
	}
	s.quiet++
	silent := len(s.pending.entries) > 0
	if silent || s.quiet%idleProbes == 0 {
		s.packer.probe()
		signal(s.wake)
	}
	return silent
}

// take hands out a frame, and what the server's clock was when it was begun.
func (c *Client) take(s *session) (f packed, clock time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok = s.packer.take()
	return f, s.clock.at(f.begun), ok
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
