// Package membership finds the nodes and stand-alone routers of a cluster, tells which of
// them are alive, and spreads small facts about them: addresses, zone, version, whether
// one is draining, and which node leads which shard. It is hashicorp/memberlist (SWIM,
// Das and others 2002, with Lifeguard) behind an immutable View.
//
// It decides nothing. Who belongs to the cluster is agreed on elsewhere, and so is who
// leads a shard: a member that is thought dead is only tried last, and a leader that was
// told of here is asked whether it leads.
//
// # Who is who
//
// A member's name in memberlist is its id with the moment of its start, so identity is
// not address: a node that comes back elsewhere is a new name, and the later start of an
// id counts. A member that does not belong to the cluster is not taken in: a node whose
// id is not among the cluster's, or that comes with another data directory, or with
// other fixed settings.
//
// # The greeting
//
// memberlist drops what carries another cluster's label, or what it can't decrypt,
// without an answer. So whoever joins says hello first, on the same port: it is told
// which cluster is there, and why it would be refused. A router learns the id of the
// cluster in this way. What is told is no secret.
package membership
