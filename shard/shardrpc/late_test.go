package shardrpc

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"stockade/shard/bubble"
)

// road carries what a client sends, and what it gets, with holds on the way that lose
// nothing: as packets that are sent again until a link is mended.
type road struct {
	mu       sync.Mutex
	out, in  chan struct{} // closed when what is sent, or comes in, goes on; nil: it does
	received []string      // commands that the node got
	begun    []time.Time   // and when it was told that their requests came in
}

// block stops a direction until the function that it gives is called.
func (r *road) block(direction *chan struct{}) (mend func()) {
	gate := make(chan struct{})
	r.set(direction, gate)
	return func() {
		r.set(direction, nil)
		close(gate)
	}
}

func (r *road) set(direction *chan struct{}, gate chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*direction = gate
}

func (r *road) pass(direction *chan struct{}) {
	r.mu.Lock()
	gate := *direction
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (r *road) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.received...)
}

// traveller is a connection on a road.
type traveller struct {
	net.Conn
	road *road
}

func (c traveller) Write(b []byte) (int, error) {
	c.road.pass(&c.road.out)
	return c.Conn.Write(b)
}

func (c traveller) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.road.pass(&c.road.in)
	return n, err
}

// client connects a client over the road with a node that takes down what it gets, and
// applies it. metrics are the node's.
func (r *road) client(t *testing.T, metrics *Metrics) *Client {
	t.Helper()
	n := &fakeNode{status: leads("n1", 1), propose: func(p *Proposal) {
		r.mu.Lock()
		r.received, r.begun = append(r.received, string(p.Command)), append(r.begun, p.Begun)
		r.mu.Unlock()
		p.Done(Response{Outcome: Applied, Shard: p.Shard, Result: p.Command})
	}}
	w := &wire{metrics: metrics}
	w.start(n)
	t.Cleanup(w.stop)
	c, err := NewClient(ClientConfig{Node: "n1", Cluster: "c1", Address: "memory", Dial: func(ctx context.Context, a string) (net.Conn, error) {
		conn, err := w.dial(ctx, a)
		return traveller{conn, r}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestLateProposal has proposals arrive after their deadline, because a link was cut
// and the stream outlived it, or did not. Whoever sent them may have been told in the
// meantime, by somebody else, that nothing was done.
func TestLateProposal(t *testing.T) {
	for name, cut := range map[string]time.Duration{"the stream lives": 700 * time.Millisecond, "the stream is given up": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r, metrics := &road{}, NewMetrics(nil)
				c := connected(t, r.client(t, metrics))
				done := newCollected(t)
				c.Propose(done.proposal("before", time.Second))
				if a := done.next(); a.Outcome != Applied {
					t.Fatalf("before the cut: %v, %v", a.Outcome, a.Reason)
				}
				<-time.After(time.Minute) // a long time without any sign

				mend := r.block(&r.out)
				c.Propose(done.proposal("late", 500*time.Millisecond))
				if a := done.next(); a.Outcome != Unknown {
					t.Fatalf("on its way at its deadline: %v, %v", a.Outcome, a.Reason)
				}
				in := done.proposal("in time", 30*time.Second)
				in.Begun = time.Now().Add(-50 * time.Millisecond)
				c.Propose(in)
				<-time.After(cut - 500*time.Millisecond)
				mend()
				synctest.Wait()
				<-time.After(5 * time.Second)
				connected(t, c)
				c.Propose(done.proposal("after", time.Second))
				for range 2 {
					if a := done.next(); a.Outcome == NotApplied {
						t.Errorf("after the cut: %v, %v", a.Outcome, a.Reason)
					}
				}
				for i, command := range r.got() {
					if command == "late" {
						t.Errorf("a proposal was made %v after its deadline", cut-500*time.Millisecond)
					}
					if at := r.begun[i]; command == "in time" && (at.After(in.Begun) || in.Begun.Sub(at) > 10*time.Microsecond) {
						t.Errorf("a request came in at %v, and the node was told %v", in.Begun, at)
					}
				}
				if n := testutil.ToFloat64(metrics.late); cut < silenceLimit && n != 1 {
					t.Errorf("%v late proposals were counted, want 1", n)
				}
			})
		})
	}
}
