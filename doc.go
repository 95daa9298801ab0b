// Package stockade is the root of the repository and has no code of its own.
//
// Stockade is a cluster that holds stock counts in memory, replicates them with
// Raft, and hands out reservations at flash-sale rates without overselling. The
// program is cmd/stockade. The packages, from the inside out: allocator (the
// deterministic stock state machine), raftfsm (its log and snapshots), shard (a
// node with its replicas), shard/shardrpc (the contract between nodes), router
// (from a request to its shard), router/httpapi (the HTTP API) and router/api
// (its JSON documents).
//
// The test in this directory checks the repository itself: which package may
// import which, comments, sizes and leftovers.
package stockade
