// Package shard is a node: one process's replicas of the cluster's shards, and
// everything they need of each other.
//
// Open makes a Node in this order, and each part has its files:
//
//   - the data directory and who this node is (identity, files);
//   - the peer port, which Raft and RPC share (peerport, handshake, conns,
//     transport);
//   - the cluster, formed once by the initial nodes (formation, cluster);
//   - a replica of each shard that is placed here: log store and snapshots
//     (logstore, guard, snapshots), Raft (replica), and what follows from
//     leading (leadership).
//
// A leader also moves stock (stock): it pulls units for requests that come up
// short (pull), delivers its outbox (delivery) and spreads deposits (spread).
// What other nodes and the router may ask is in serve; the words for it are in
// package shardrpc.
//
// Nothing here decides about stock: that is package allocator, which package
// raftfsm replicates.
package shard
