// Package line decides what becomes of proposals that their home shard can't
// serve from its own buckets: in which order they are served, what to pull from
// other shards for them, when to refuse, and whose units another shard may take.
//
// A proposal that is short is parked. There is a line for each SKU, in order of
// arrival; a cart stands in the lines of all its SKUs. Whoever comes while there
// is a line joins it, so nobody overtakes. In each line the desk goes through
// the entries in order and gives out, on paper, first the units that are here and
// then those that are anywhere: an entry whose units are all here is proposed
// again; one whose units are elsewhere has them pulled; one for which there are
// not enough units anywhere is refused, or, if it is willing to wait, stays and
// keeps nothing from those behind it.
//
// Two shards that each hold what the other needs must not swap units for ever.
// The rule is wound-wait (Rosenkrantz, Stearns and Lewis, 1978, for locks of
// distributed transactions): a shard keeps the units that its own older entries
// need and yields the others, so the oldest entry of the whole cluster always
// gets what there is. Ages are log times; ties go to the lower shard number.
//
// The package is a step machine: events go in, actions come out as data. It reads
// no clock, starts no goroutine and does no I/O, so it can be simulated. Nothing
// here guards a promise: the log decides every sale. But a refusal is final,
// which is why it needs a complete and consistent picture of all shards.
package line
