package shard

import (
	"fmt"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// What a node and the gossip tell each other. The gossip is outside: it finds nodes and
// decides nothing.

// Introduction is what the gossip has to know to tell who belongs to the cluster.
type Introduction struct {
	Incarnation string                     // of this node: the part that is no secret
	Fingerprint string                     // of what is fixed for the cluster, to be read by people
	Peer        string                     // where the others were told to find this node
	Nodes       map[shardrpc.NodeID]string // the incarnations of all nodes
	Peers       map[shardrpc.NodeID]string // the peer ports of the others, as the cluster was made
}

// Introduction is what this node tells of itself.
func (n *Node) Introduction() Introduction {
	in := Introduction{
		Incarnation: n.dir.id.Incarnation[:incarnationPrefix],
		Fingerprint: fmt.Sprintf("%d shards, a retention of %v, entries of format %d, snapshots of format %d",
			n.cluster.Shards, n.cfg.Retention, n.cluster.EntryFormat, n.cluster.SnapshotFormat),
		Peer:  n.advertised(),
		Nodes: make(map[shardrpc.NodeID]string),
		Peers: make(map[shardrpc.NodeID]string),
	}
	for _, m := range n.cluster.Members {
		in.Nodes[m.ID] = m.Incarnation[:incarnationPrefix]
		if m.ID != n.cfg.NodeID {
			in.Peers[m.ID] = m.Address
		}
	}
	return in
}

// Relocate says where another node's peer port is now. Connections that work stay. It
// tells whether that is news.
func (n *Node) Relocate(id shardrpc.NodeID, addr string) bool {
	if !n.peers.relocate(id, addr) {
		return false
	}
	n.log.Info("a node has moved", "peer", string(id), "address", addr)
	return true
}

// OnLead has f called with each shard that this node leads, and its term: now, and
// whenever it is ready to lead one. f must not block.
func (n *Node) OnLead(f func(shard allocator.ShardID, term uint64)) {
	n.onLead.Store(&f)
	for _, r := range n.all() {
		if r != nil && r.ready() {
			f(r.shard, r.servedTerm.Load())
		}
	}
}

func (n *Node) led(shard allocator.ShardID, term uint64) {
	if f := n.onLead.Load(); f != nil {
		(*f)(shard, term)
	}
}
