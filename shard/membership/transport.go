package membership

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxStrangers bounds the connections that have not said yet what they are.
	maxStrangers = 64
	// strangerTimeout bounds how long each of them may take.
	strangerTimeout = 3 * time.Second
	// packetBacklog is how many packets wait to be looked at before more are dropped, as
	// the kernel drops them.
	packetBacklog = 1024
	// maxPacket bounds a packet: memberlist makes none above 1400 bytes, and with a label
	// and a seal it is not much longer.
	maxPacket = 4096
)

// transport is memberlist's own, with two differences: what comes from outside of the
// allowed networks goes no further, and a connection may be a greeting (greeting.go).
type transport struct {
	*memberlist.NetTransport
	allow   []netip.Prefix
	answer  func(net.Conn)
	metrics *metrics

	packets   chan *memberlist.Packet
	streams   chan net.Conn
	strangers chan struct{}
	closed    chan struct{}
	stopped   chan struct{} // the inner transport sends nothing more
	once      sync.Once
	done      sync.WaitGroup
}

// openTransport opens the port. answer is called with each connection that begins with
// the greeting's magic, which has been read; it closes the connection.
func openTransport(cfg *Config, answer func(net.Conn), log *gossipLog, m *metrics) (*transport, error) {
	addr, err := net.ResolveTCPAddr("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", cfg.Listen, err)
	}
	ip := addr.IP
	if ip == nil {
		ip = net.IPv4zero
	}
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{ip.String()}, BindPort: addr.Port, Logger: log.std()})
	if err != nil {
		return nil, fmt.Errorf("open the gossip port at %s (--gossip says where): %w", cfg.Listen, err)
	}
	t := &transport{
		NetTransport: inner, allow: cfg.Allow, answer: answer, metrics: m,
		packets: make(chan *memberlist.Packet, packetBacklog), streams: make(chan net.Conn),
		strangers: make(chan struct{}, maxStrangers), closed: make(chan struct{}), stopped: make(chan struct{}),
	}
	t.done.Go(t.run)
	return t, nil
}

func (t *transport) boundPort() int { return t.GetAutoBindPort() }

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() (err error) {
	t.once.Do(func() {
		close(t.closed)
		err = t.NetTransport.Shutdown() // it waits for its listeners, which wait for run
		close(t.stopped)
		t.done.Wait()
	})
	return err
}

// run passes on what may pass.
func (t *transport) run() {
	for {
		select {
		case p := <-t.NetTransport.PacketCh():
			t.packet(p)
		case c := <-t.NetTransport.StreamCh():
			t.stream(c)
		case <-t.stopped:
			return
		}
	}
}

func (t *transport) packet(p *memberlist.Packet) {
	if !t.allowed(p.From) {
		t.metrics.refused.WithLabelValues(refusedNetwork).Inc()
		return
	}
	if len(p.Buf) > maxPacket {
		t.metrics.refused.WithLabelValues(refusedOversize).Inc()
		return
	}
	// memberlist reads each packet into 64 KiB of its own, which would stay in memory for
	// as long as the packet waits: with all that may wait, 200 MB in a flood.
	p.Buf = slices.Clone(p.Buf)
	select {
	case t.packets <- p:
	default:
		t.metrics.refused.WithLabelValues(refusedBusy).Inc()
	}
}

func (t *transport) stream(c net.Conn) {
	why := refusedBusy
	if !t.allowed(c.RemoteAddr()) {
		why = refusedNetwork
	} else {
		select {
		case t.strangers <- struct{}{}:
			t.done.Go(func() {
				defer func() { <-t.strangers }()
				t.recognise(c)
			})
			return
		default:
		}
	}
	t.metrics.refused.WithLabelValues(why).Inc()
	_ = c.Close()
}

// recognise reads the first bytes of a connection and hands it on.
func (t *transport) recognise(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(strangerTimeout))
	var head [len(greetingMagic)]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.metrics.refused.WithLabelValues(refusedSilent).Inc()
		_ = c.Close()
		return
	}
	if string(head[:]) == greetingMagic {
		t.answer(c)
		return
	}
	_ = c.SetDeadline(time.Time{})
	select {
	case t.streams <- &replayConn{c, head[:]}:
	case <-t.closed:
		_ = c.Close()
	}
}

func (t *transport) allowed(from net.Addr) bool {
	if len(t.allow) == 0 {
		return true
	}
	addr, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return false
	}
	for _, p := range t.allow {
		if p.Contains(addr.Addr().Unmap()) {
			return true
		}
	}
	return false
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
