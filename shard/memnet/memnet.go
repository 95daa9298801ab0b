// Package memnet is a network in memory, for tests of nodes in virtual time
// (testing/synctest). Its streams are pipes: nothing waits for a socket, so a test
// sleeps only when everybody waits for time to pass.
//
// Hosts are names, and so are addresses. A test cuts hosts off, stops them, lets
// packets take their time, and cuts links in one direction only.
package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Network is a network. All methods are safe for concurrent use.
type Network struct {
	wires *Wires // nil: what is sent arrives at once

	mu        sync.Mutex
	listeners map[string]*listener
	conns     map[*conn]bool
	cut       map[string]bool // hosts that reach nobody and are reached by nobody
	limit     map[string]int  // by host: writes of so many bytes to it vanish; 0: none do
}

// New makes a network on which what is sent arrives at once.
func New() *Network { return NewOver(nil) }

// NewOver makes a network over wires.
func NewOver(w *Wires) *Network {
	return &Network{
		wires: w, listeners: map[string]*listener{}, conns: map[*conn]bool{}, cut: map[string]bool{}, limit: map[string]int{},
	}
}

// Wires are what the network runs over; nil: what is sent arrives at once.
func (n *Network) Wires() *Wires { return n.wires }

// Host is the network as one host sees it.
func (n *Network) Host(name string) *Host { return &Host{n, name} }

// Isolate cuts a host off, or connects it again. Open streams break.
func (n *Network) Isolate(host string, cut bool) {
	n.mu.Lock()
	n.cut[host] = cut
	var broken []*conn
	for c := range n.conns {
		if cut && (c.from == host || c.to == host) {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// Isolated tells whether a host is cut off.
func (n *Network) Isolated(host string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[host]
}

// Swallow has the network lose what is written to a host in pieces of at least
// limit bytes, with all that follows on the same stream; 0: nothing any more.
func (n *Network) Swallow(host string, limit int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.limit[host] = limit
}

// Break closes all streams between two hosts, as a middlebox that restarts does.
func (n *Network) Break(a, b string) {
	n.mu.Lock()
	var broken []*conn
	for c := range n.conns {
		if c.from == a && c.to == b || c.from == b && c.to == a {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// Host is one host's view of a network: what a node needs of one.
type Host struct {
	net  *Network
	name string
}

// Listen opens an address, which is usually the host's own name.
func (h *Host) Listen(addr string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.listeners[addr] != nil {
		return nil, fmt.Errorf("listen %s: address already in use", addr)
	}
	l := &listener{addr: address(addr), net: h.net, queue: make(chan net.Conn), done: make(chan struct{})}
	h.net.listeners[addr] = l
	return l, nil
}

// Dial connects to an address. Between hosts of which one does not hear the other
// it takes until ctx ends, or until they do.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if err := h.net.wires.shake(ctx, h.name, addr); err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	h.net.mu.Lock()
	l := h.net.listeners[addr]
	if l == nil || h.net.cut[h.name] || h.net.cut[addr] {
		h.net.mu.Unlock()
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	a, b := h.net.wires.pipe(h.name, addr)
	near := &conn{Conn: a, net: h.net, from: h.name, to: addr, peer: addr}
	far := &conn{Conn: b, net: h.net, from: h.name, to: addr, peer: h.name}
	h.net.conns[near], h.net.conns[far] = true, true
	h.net.mu.Unlock()
	select {
	case l.queue <- far:
		return near, nil
	case <-l.done:
	case <-ctx.Done():
	}
	return nil, errors.Join(fmt.Errorf("dial %s: connection refused", addr), near.Close(), far.Close())
}

// address is a net.Addr.
type address string

func (a address) Network() string { return "mem" }
func (a address) String() string  { return string(a) }

// listener is a net.Listener.
type listener struct {
	addr  address
	net   *Network
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, string(l.addr))
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

// conn is one end of a stream.
type conn struct {
	net.Conn
	net      *Network
	from, to string // who dialled whom
	peer     string // who reads what is written here
	lost     bool   // nothing gets through any more; net.mu
}

func (c *conn) Write(b []byte) (int, error) {
	c.net.mu.Lock()
	limit := c.net.limit[c.peer]
	c.lost = c.lost || limit > 0 && len(b) >= limit
	lost := c.lost
	c.net.mu.Unlock()
	if lost {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *conn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}
