package shard

import (
	"net"
	"sync"
)

// connSet keeps the open connections of one owner, so that all can be closed at
// once: raft's transport forgets the ones it accepted.
type connSet struct {
	mu     sync.Mutex
	open   map[*trackedConn]struct{}
	closed bool
}

// trackedConn leaves its set when it is closed.
type trackedConn struct {
	net.Conn
	set *connSet
}

// add tracks c and returns the connection to use instead. When the set is
// closed already, so is c.
func (s *connSet) add(c net.Conn) net.Conn {
	t := &trackedConn{Conn: c, set: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return t
	}
	if s.open == nil {
		s.open = make(map[*trackedConn]struct{})
	}
	s.open[t] = struct{}{}
	return t
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// closeAll closes every connection, and each that is added later.
func (s *connSet) closeAll() {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close()
	}
}

// connQueue is a net.Listener that is fed with connections by hand. Close makes
// Accept fail, and closes what nobody accepted.
type connQueue struct {
	addr  net.Addr
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// acceptBacklog is how many connections wait for Accept before more are closed.
const acceptBacklog = 64

func newConnQueue(addr net.Addr) *connQueue {
	return &connQueue{addr: addr, queue: make(chan net.Conn, acceptBacklog), done: make(chan struct{})}
}

// push hands a connection over. It does not block: one too many is closed.
func (q *connQueue) push(c net.Conn) {
	select {
	case <-q.done:
	default:
		select {
		case q.queue <- c:
			return
		default:
		}
	}
	_ = c.Close()
}

// Accept implements net.Listener.
func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-q.queue:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *connQueue) Close() error {
	q.once.Do(func() {
		close(q.done)
		for {
			select {
			case c := <-q.queue:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr implements net.Listener.
func (q *connQueue) Addr() net.Addr { return q.addr }
