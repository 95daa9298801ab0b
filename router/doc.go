// Package router takes requests to sell and to administer stock, finds the shard
// that decides each, and brings back what it decided.
//
// A Router holds nothing that can be lost: every node has one, and one can run
// alone. The same request through two routers reaches the same shard under the
// same key, because both derive them from the cluster's secret; so whichever
// router sees a repetition, the first answer comes back.
//
// Errors are of four kinds, to be told apart with errors.As: *Invalid (mend the
// request), *Refusal (the shard decided so), *Unavailable (nothing was done) and
// *UnknownOutcome (send the same request with the same key again). Anything
// else is a fault of the program.
package router
