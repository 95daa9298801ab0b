// Package raftfsm puts one shard's allocator behind Raft.
//
// It holds what stands between the two and nothing else:
//
//   - the log entry format (entry.go) and the snapshot format (snapshot.go),
//     both versioned and checksummed;
//   - FSM, the allocator as a raft.FSM (fsm.go);
//   - LogClock, which makes the stamps that are the allocator's only time
//     (clock.go);
//   - Proposer, which gathers commands into entries while others commit
//     (proposer.go), and tells for each command whether it was applied, was not
//     applied, or whether nobody can know (outcome.go).
//
// One FSM, one LogClock and one Proposer belong to one replica. Nodes, peers,
// stores and elections are the business of the package shard.
//
// Goroutines: a Proposer runs one that forms batches and one per entry in
// flight that waits for it; its two timers run their functions on goroutines
// of their own. FSM and LogClock start none: the FSM's methods run on Raft's.
package raftfsm
