// Package shard is a node: one process's replicas of the cluster's shards, and
// everything they need of each other.
//
// Open makes a Node in this order, and each part has its files:
//
//   - the data directory and who this node is (identity, files);
//   - the peer port, which Raft and RPC share (peerport, handshake, conns,
//     transport);
//   - the cluster, formed once by the initial nodes (formation, cluster), who
//     must find the node where they look for it (reach);
//   - a replica of each shard that is placed here: log store and snapshots
//     (logstore, guard, conflict, snapshots), Raft (replica), and what follows
//     from leading (leadership).
//
// How it ends is in closing.
//
// A leader also moves stock (stock): it pulls units for requests that come up
// short (pull, park) as package line decides, refuses what nobody has (front,
// existence), delivers its outbox (delivery), spreads deposits (spread) and moves
// units ahead of need (leveller). What other nodes and the router may ask is in
// serve, barrier and levelsession; the words for it are in package shardrpc.
//
// Nothing here sells anything: that is package allocator, which package raftfsm
// replicates.
package shard
