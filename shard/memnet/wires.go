package memnet

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// underWay bounds the packets on one stream in one direction: more, and the sender
// waits, as it does for a full window.
const underWay = 4096

// Wires make pipes on which what is sent takes a while. They stop while one of the
// hosts is paused, without an end, as if its process had got SIGSTOP; and in one
// direction while a link is cut in that direction, as if its packets were lost and
// sent again. All methods are safe for concurrent use; those of a nil *Wires make
// plain pipes.
type Wires struct {
	delay func() time.Duration
	mark  []byte
	done  sync.WaitGroup // two per pipe

	mu     sync.Mutex
	closed map[string]chan struct{} // by what is stopped; closed when it goes on
}

// NewWires makes wires on which each packet takes what delay says; packets of one
// stream stay in order. Streams whose first bytes are mark can be paused alone, see
// PauseMarked; nil: none can.
func NewWires(delay func() time.Duration, mark []byte) *Wires {
	return &Wires{delay: delay, mark: mark, closed: make(map[string]chan struct{})}
}

// Pause stops what a host sends and gets, or lets it go on.
func (w *Wires) Pause(host string, stop bool) { w.stop("host "+host, stop) }

// PauseMarked does so with a host's marked streams alone.
func (w *Wires) PauseMarked(host string, stop bool) { w.stop("marked "+host, stop) }

// Cut stops what a host sends to another one, or lets it through again; the other
// direction works. What was sent meanwhile arrives then, if the stream still is.
func (w *Wires) Cut(from, to string, stop bool) { w.stop(link(from, to), stop) }

func link(from, to string) string { return "link " + from + " > " + to }

func (w *Wires) stop(what string, stop bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch gate := w.closed[what]; {
	case stop && gate == nil:
		w.closed[what] = make(chan struct{})
	case !stop && gate != nil:
		close(gate)
		delete(w.closed, what)
	}
}

// Resume lets everything go on.
func (w *Wires) Resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, gate := range w.closed {
		close(gate)
	}
	clear(w.closed)
}

// Wait waits until all pipes are closed.
func (w *Wires) Wait() { w.done.Wait() }

// gate is closed when what is stopped goes on; nil: it is not stopped.
func (w *Wires) gate(what string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.closed[what]; g != nil {
		return g
	}
	return nil
}

// shake waits until two hosts hear each other, which a new stream needs.
func (w *Wires) shake(ctx context.Context, from, to string) error {
	if w == nil {
		return nil
	}
	for _, what := range []string{link(from, to), link(to, from)} {
		if gate := w.gate(what); gate != nil {
			select {
			case <-gate:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// pipe connects two hosts.
func (w *Wires) pipe(from, to string) (near, far net.Conn) {
	if w == nil {
		return net.Pipe()
	}
	near, inner := net.Pipe()
	outer, far := net.Pipe()
	s := &stream{wires: w, hosts: []string{from, to}}
	w.done.Go(func() { s.carry(inner, outer, link(from, to)) })
	w.done.Go(func() { s.carry(outer, inner, link(to, from)) })
	return near, far
}

// stream is one pipe, in both directions.
type stream struct {
	wires  *Wires
	hosts  []string
	marked atomic.Bool
}

// packet is what was sent at once.
type packet struct {
	data []byte
	due  time.Time
}

// carry moves what comes in at one end to the other until either is closed.
func (s *stream) carry(in, out net.Conn, direction string) {
	packets := make(chan packet, underWay)
	go s.read(in, packets)
	for p := range packets {
		if s.wires.mark != nil && bytes.HasPrefix(p.data, s.wires.mark) {
			s.marked.Store(true)
		}
		<-time.After(time.Until(p.due))
		s.wait(direction)
		if _, err := out.Write(p.data); err != nil {
			break
		}
	}
	_, _ = in.Close(), out.Close()
	for range packets { // the reader may wait for room
	}
}

// read reads packets until the stream ends.
func (s *stream) read(in net.Conn, packets chan<- packet) {
	defer close(packets)
	buffer := make([]byte, 64<<10)
	for {
		n, err := in.Read(buffer)
		if n > 0 {
			packets <- packet{bytes.Clone(buffer[:n]), time.Now().Add(s.wires.delay())}
		}
		if err != nil {
			return
		}
	}
}

// wait waits until neither host is paused and the direction is not cut.
func (s *stream) wait(direction string) {
	if gate := s.wires.gate(direction); gate != nil {
		<-gate
	}
	for _, host := range s.hosts {
		if gate := s.wires.gate("host " + host); gate != nil {
			<-gate
		}
		if gate := s.wires.gate("marked " + host); gate != nil && s.marked.Load() {
			<-gate
		}
	}
}
