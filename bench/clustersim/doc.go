// Package clustersim runs whole clusters in virtual time, for its tests: real
// nodes with hashicorp/raft, its transport and raft-wal, the real router behind
// the real HTTP handlers, over a network in memory (shard/memnet), disks that
// forget what was not synced (shard/simdisk) and a clock per host that drifts and
// jumps. Clients sell meanwhile, and what they were told is held against what the
// cluster has in the end.
//
// A seed decides all draws. What it does not decide is in which order goroutines
// run that are ready at the same moment, so a failing seed may take some attempts
// to fail again; TestProtocol (shard/line) repeats a seed exactly.
package clustersim
