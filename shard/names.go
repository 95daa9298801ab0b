package shard

import (
	"strings"

	"github.com/hashicorp/raft"

	"stockade/shard/shardrpc"
)

// serverID names a node's replicas in Raft: node id, dot, the first digits of
// the incarnation. A node that lost its disk comes back under another name, so
// that votes and acknowledgements of its former life can't be counted for it.
//
// It also stands where Raft wants an address. Addresses are looked up when a
// stream is dialled, so a node may move without a change to any log.
func serverID(node shardrpc.NodeID, incarnation string) raft.ServerID {
	return raft.ServerID(string(node) + "." + incarnation[:incarnationPrefix])
}

// nodeOf gives the node of a server id; empty for an empty id.
func nodeOf(id raft.ServerID) shardrpc.NodeID {
	node, _, _ := strings.Cut(string(id), ".")
	return shardrpc.NodeID(node)
}
