package shard

import (
	"context"
	"net"
	"time"
)

// Network is how a node listens on its peer port and reaches those of others.
// It is the one place where streams are made, so it is also where they are
// secured: a Network whose connections are TLS secures everything.
//
// Implementations are safe for concurrent use. Connections must support
// deadlines.
type Network interface {
	// Listen opens the peer port.
	Listen(addr string) (net.Listener, error)
	// Dial connects to a peer port. It gives up when ctx ends.
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// keepAlive finds connections to machines that vanished without a word.
const keepAlive = 5 * time.Second

// TCP is the Network of real nodes.
type TCP struct{}

// Listen implements Network.
func (TCP) Listen(addr string) (net.Listener, error) {
	return net.Listen("tcp", addr)
}

// Dial implements Network.
func (TCP) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: keepAlive}
	return d.DialContext(ctx, "tcp", addr)
}
