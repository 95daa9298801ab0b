package shard

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// memWires makes pipes on which what is sent takes a while, and stops while one
// of the hosts is paused, without an end: as if its process had got SIGSTOP, or
// the packets were lost. The zero value has no delay; nil makes plain pipes.
type memWires struct {
	delay time.Duration
	done  sync.WaitGroup // two per pipe

	mu     sync.Mutex
	paused map[string]chan struct{} // closed when the host goes on
}

// raftOf names what a host sends and gets on streams of Raft, to be paused alone.
func raftOf(host string) string { return "raft of " + host }

// pause stops what a host sends and gets, or lets it go on.
func (w *memWires) pause(host string, stop bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused == nil {
		w.paused = make(map[string]chan struct{})
	}
	switch gate := w.paused[host]; {
	case stop && gate == nil:
		w.paused[host] = make(chan struct{})
	case !stop && gate != nil:
		close(gate)
		delete(w.paused, host)
	}
}

// gate is closed when host goes on; nil: it is not paused.
func (w *memWires) gate(host string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.paused[host]; g != nil {
		return g
	}
	return nil
}

// resume lets all hosts go on.
func (w *memWires) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, gate := range w.paused {
		close(gate)
	}
	clear(w.paused)
}

// pipe connects two hosts.
func (w *memWires) pipe(from, to string) (near, far net.Conn) {
	if w == nil {
		return net.Pipe()
	}
	near, inner := net.Pipe()
	outer, far := net.Pipe()
	wire := &memWire{wires: w, hosts: []string{from, to}}
	w.done.Go(func() { wire.carry(inner, outer) })
	w.done.Go(func() { wire.carry(outer, inner) })
	return near, far
}

// memWire is one pipe, in both directions.
type memWire struct {
	wires *memWires
	hosts []string
	raft  atomic.Bool // its first bytes told that Raft uses it
}

// packet is what was sent at once.
type packet struct {
	data []byte
	due  time.Time
}

// carry moves what comes in at one end to the other until either is closed.
func (w *memWire) carry(in, out net.Conn) {
	const underWay = 4096
	packets := make(chan packet, underWay)
	go func() {
		defer close(packets)
		buffer := make([]byte, 64<<10)
		for {
			n, err := in.Read(buffer)
			if n > 0 {
				packets <- packet{bytes.Clone(buffer[:n]), time.Now().Add(w.wires.delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range packets {
		if bytes.HasPrefix(p.data, []byte(peerMagic)) {
			w.raft.Store(true)
		}
		<-time.After(time.Until(p.due))
		w.wait()
		if _, err := out.Write(p.data); err != nil {
			break
		}
	}
	_, _ = in.Close(), out.Close()
	for range packets { // the reader may wait for room
	}
}

// wait waits until neither host is paused.
func (w *memWire) wait() {
	for _, host := range w.hosts {
		if gate := w.wires.gate(host); gate != nil {
			<-gate
		}
		if gate := w.wires.gate(raftOf(host)); gate != nil && w.raft.Load() {
			<-gate
		}
	}
}
