// Package allocator is the deterministic stock state machine of one shard.
//
// It is a pure function from (state, command) to (state, result): it reads no
// clock, draws no random number, starts no goroutine and touches no file,
// socket or log. Time and identity arrive inside the commands. Two replicas
// that apply the same commands hold the same state, byte for byte, and their
// rolling hashes prove it.
//
// The shape follows TigerBeetle's state machine (balances with pending, post
// and void; idempotent ids; outcomes as an ordered enum) and adds what a
// sharded stock count needs: buckets, and exactly-once transfers between them
// through an outbox and an inbox kept in the replicated state.
//
// A State is not safe for concurrent use. Whoever owns it serialises Begin and
// Apply, and keeps readers out while they run; a frozen view (Freeze) may be
// read from another goroutine without a lock.
package allocator
