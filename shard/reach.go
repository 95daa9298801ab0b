package shard

import (
	"context"
	"errors"
	"fmt"
	"net"

	"stockade/shard/shardrpc"
)

// A node whose peer port is not where the others look for it takes part by what
// it says and not by what it hears: it looks alive to itself, and no shard ever
// catches up on it. So a start looks before it goes on.
//
// The address that the others know need not be the one that the port listens
// on: the port may listen on all addresses of the machine, or behind a
// translation of addresses. Where the two can't be told to be the same, the node
// dials the former and sees whether it meets itself.

// known is the address by which the others know this node; empty when there are
// no others.
func (n *Node) known(formed *clusterInfo) string {
	size := len(n.cfg.Initial)
	if formed != nil {
		size = len(formed.Members)
	}
	if size < 2 {
		return ""
	}
	if formed != nil {
		return formed.addresses(n.cfg.Initial)[n.cfg.NodeID]
	}
	return n.cfg.address(n.cfg.NodeID)
}

// checkReach tells what is wrong when the others can't reach this node's peer
// port.
func (n *Node) checkReach(ctx context.Context, formed *clusterInfo) error {
	known, listens := n.known(formed), n.Addr()
	if known == "" || leadsTo(known, listens) {
		return nil
	}
	err := n.meetSelf(ctx, known)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("the other nodes look for node %q at %s, and its peer port is %s, where that does not lead (%w): start with --peer %s, or, if that address is old, with the new one in --initial-cluster on every node",
		n.cfg.NodeID, known, listens, err, known)
}

// errOtherAnswers says that some other process is where this node should be.
var errOtherAnswers = errors.New("another node answers there")

// meetSelf dials an address and expects this node to answer.
func (n *Node) meetSelf(ctx context.Context, addr string) error {
	in, err := n.formation.hello(ctx, n.cfg.Network, Peer{ID: n.cfg.NodeID, Addr: addr})
	if err != nil {
		return err
	}
	if shardrpc.NodeID(in.GetNodeId()) != n.cfg.NodeID || in.GetIncarnation() != n.dir.id.Incarnation {
		return errOtherAnswers
	}
	return nil
}

// leadsTo tells whether what is dialled at known arrives at a port that listens
// on the address listens, by the addresses alone. Names are not looked up; they
// are believed, unless the port is for this machine only.
func leadsTo(known, listens string) bool {
	if known == listens {
		return true
	}
	host, port, err := net.SplitHostPort(known)
	on, onPort, onErr := net.SplitHostPort(listens)
	if err != nil || onErr != nil || port != onPort {
		return false
	}
	at, ip := net.ParseIP(host), net.ParseIP(on)
	switch {
	case on == "" || ip.IsUnspecified():
		return true
	case at == nil && ip.IsLoopback():
		return host == "localhost"
	case at == nil:
		return true
	}
	return at.Equal(ip)
}

// listensEverywhere tells whether an address is one to listen on only: that of all
// addresses of the machine.
func listensEverywhere(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err != nil || host == "" || ip != nil && ip.IsUnspecified()
}
