// Package shardrpc is the contract between nodes: what one may ask of a shard
// on another node, how the answer tells what happened, and the client that
// finds a shard's leader.
//
// A proposal has three outcomes: applied, not applied, unknown. Whoever calls
// must treat unknown as "may be applied, now or later": the only safe next
// step is the same command again.
//
// From the bottom up:
//
//   - contract.go: Node, and what one asks of it;
//   - frame.go: proposals and answers as bytes, many in a frame;
//   - server.go and client.go: a Node served over gRPC, and one on the other
//     side. Proposals travel on one stream per pair of nodes; what is added while
//     a frame is being sent forms the next, in both directions;
//   - directory.go: which node leads which shard, as far as is known;
//   - dispatch.go: a command brought to its leader, wherever that is, until the
//     deadline; gather.go: the same for reads;
//   - levels.go: what all shards have of some SKUs, kept fresh by asking for what
//     has changed; levelspoll.go asks, levelsboard.go puts the answers together.
//
// Only the Dispatcher repeats anything. Everything below it says what it knows
// and leaves it at that.
package shardrpc
