package shard

import (
	"context"
	"net"
	"testing"
	"time"

	"stockade/shard/bubble"
)

// leadsTo decides by the addresses alone where that is possible.
func TestLeadsTo(t *testing.T) {
	for _, tc := range []struct {
		known, listens string
		want           bool
	}{
		{"10.0.0.1:8402", "10.0.0.1:8402", true},
		{"10.0.0.1:8402", "0.0.0.0:8402", true},
		{"10.0.0.1:8402", "[::]:8402", true},
		{"10.0.0.1:8402", ":8402", true},
		{"[::ffff:10.0.0.1]:8402", "10.0.0.1:8402", true},
		{"node-a:8402", "10.0.0.1:8402", true},
		{"localhost:8402", "127.0.0.1:8402", true},
		{"localhost:8402", "[::1]:8402", true},
		{"node-a:8402", "127.0.0.1:8402", false},
		{"10.0.0.1:8402", "127.0.0.1:8402", false},
		{"10.0.0.1:8402", "10.0.0.2:8402", false},
		{"10.0.0.1:8402", "0.0.0.0:8403", false},
		{"node-a:8402", "10.0.0.1:8403", false},
		{"10.0.0.1:8402", "nonsense", false},
		{"n1", "n1", true},
		{"n1", "n2", false},
	} {
		if got := leadsTo(tc.known, tc.listens); got != tc.want {
			t.Errorf("from %s to a port on %s: %v, want %v", tc.known, tc.listens, got, tc.want)
		}
	}
}

// translated is a network in which dialling some addresses arrives at others.
type translated struct {
	Network
	to map[string]string
}

// Dial implements Network.
func (n translated) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if to, ok := n.to[addr]; ok {
		addr = to
	}
	return n.Network.Dial(ctx, addr)
}

// A node that the others can't reach at the address they know does not start,
// neither the first time, when the cluster would form without ever hearing from
// it again, nor later.
func TestUnreachableNodeDoesNotStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		astray := c.config("n1")
		astray.Listen = "elsewhere"
		says(t, openErrors(t, time.Minute, astray)[0], `look for node "n1" at n1`, "its peer port is elsewhere", "connection refused", "--peer n1", "--initial-cluster")

		c.startAll()
		defer c.stopAll()
		c.stop("n1")
		astray.Initial = nil // as a later start may have it
		says(t, openErrors(t, time.Minute, astray)[0], `look for node "n1" at n1`, "its peer port is elsewhere", "--peer n1")

		astray.Network = translated{astray.Network, map[string]string{"n1": "n2"}}
		says(t, openErrors(t, time.Minute, astray)[0], `look for node "n1" at n1`, "another node answers there")
	})
}

// A port behind a translation of addresses is found by dialling it.
func TestTranslatedNodeStarts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		c.stop("n1")
		cfg := c.config("n1")
		cfg.Initial, cfg.Listen = nil, "behind"
		cfg.Network = translated{cfg.Network, map[string]string{"n1": "behind"}}
		n, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.nodes["n1"] = n
		if peer := n.status().Peer; peer != "n1" {
			t.Errorf("the node says that its peer address is %s, want n1", peer)
		}
	})
}
