package router

import (
	"fmt"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// Refusal is a decision against the request. Nothing was changed.
type Refusal struct {
	Code allocator.Code // never CodeOK, never an internal code

	// SKU, Requested, Available and Limit explain it, as far as they apply.
	SKU       allocator.SKU
	Requested allocator.Quantity
	Available allocator.Quantity
	Limit     allocator.Quantity

	// Reservation is set when the refusal speaks of one that exists.
	Reservation allocator.Reservation
}

// Error says it in a sentence.
func (e *Refusal) Error() string {
	switch {
	case e.SKU != "" && (e.Requested != 0 || e.Available != 0):
		return fmt.Sprintf("refused: %s: %d of SKU %s asked for, %d available", e.Code, e.Requested, e.SKU, e.Available)
	case e.SKU != "":
		return fmt.Sprintf("refused: %s: SKU %s", e.Code, e.SKU)
	case e.Reservation.ID != allocator.ReservationID{}:
		return fmt.Sprintf("refused: %s: reservation %s", e.Code, e.Reservation.ID)
	}
	return "refused: " + e.Code.String()
}

// Unavailable says that nothing was done, because a shard could not be used or
// a queue was full. The same request may succeed later.
type Unavailable struct {
	Reason     shardrpc.Reason
	Shard      allocator.ShardID
	Since      time.Time     // since when the shard can't be used; zero: not known
	RetryAfter time.Duration // when it is worth trying again
	// Local: this router refused by itself, and no shard was asked.
	Local bool
	// Waiting, of Local: as many requests wait in line as this router takes. Those
	// that don't wait are not concerned.
	Waiting bool
}

// Error says it in a sentence.
func (e *Unavailable) Error() string {
	if e.Local {
		if e.Waiting {
			return "not done: this router has as many requests waiting in line as it takes"
		}
		if e.Reason == shardrpc.ReasonOverloaded {
			return "not done: this router has as many requests under way as it takes"
		}
		return "not done: the time for the request ran out before it was sent"
	}
	s := fmt.Sprintf("not done: shard %d can't be used: %s", e.Shard, e.Reason.Phrase())
	if !e.Since.IsZero() {
		s += ", since " + e.Since.UTC().Format(time.RFC3339Nano)
	}
	return s
}

// UnknownOutcome says that nobody knows whether the request was done. The same
// request with the same key tells.
type UnknownOutcome struct {
	Shard  allocator.ShardID
	Reason shardrpc.Reason
}

// Error says it in a sentence.
func (e *UnknownOutcome) Error() string {
	return fmt.Sprintf("the outcome is unknown: shard %d was asked and did not say: %s", e.Shard, e.Reason.Phrase())
}

// Invalid says that the request can't be expressed within the limits of package
// allocator. Nothing was done, and repeating it is of no use.
type Invalid struct {
	Pointer string // JSON Pointer into the body as the API spells it; "" for what is not in the body
	Detail  string // what it must be
}

// Error says it in a sentence.
func (e *Invalid) Error() string {
	if e.Pointer == "" {
		return "invalid request: " + e.Detail
	}
	return "invalid request: " + e.Pointer + " " + e.Detail
}

// retryAfter is when an unavailable shard is worth another try: an election
// takes about a second, and a queue that is full empties faster.
const retryAfter = time.Second

// unavailable is what the dispatcher's word means for the caller.
func unavailable(shard allocator.ShardID, reason shardrpc.Reason, since time.Time) *Unavailable {
	return &Unavailable{Shard: shard, Reason: reason, Since: since, RetryAfter: retryAfter}
}

// publicCode replaces or reports codes that never leave the cluster, should one
// come up.
func publicCode(c allocator.Code) (allocator.Code, error) {
	switch c {
	case allocator.CodeSKUUnknown:
		return allocator.CodeSKUNotFound, nil
	case allocator.CodeTransferGap, allocator.CodeOutboxFull: // a full outbox is unavailable, see decided
		return c, fmt.Errorf("a shard answered with the internal code %s", c)
	default:
		return c, nil
	}
}

// decided turns a response into a result, or into the error that it means.
func decided(r shardrpc.Response) (allocator.Result, error) {
	var res allocator.Result
	switch r.Outcome {
	case shardrpc.Applied:
	case shardrpc.NotApplied:
		return res, unavailable(r.Shard, r.Reason, r.Since)
	default:
		return res, &UnknownOutcome{Shard: r.Shard, Reason: r.Reason}
	}
	if err := allocator.DecodeResult(r.Result, &res); err != nil {
		return res, fmt.Errorf("read the result of shard %d: %w", r.Shard, err)
	}
	if res.Code == allocator.CodeOK {
		return res, nil
	}
	if res.Code == allocator.CodeOutboxFull {
		// Nothing was done: some shard has not taken its messages for long.
		return res, unavailable(r.Shard, shardrpc.ReasonOverloaded, time.Time{})
	}
	code, err := publicCode(res.Code)
	if err != nil {
		return res, err
	}
	return res, &Refusal{
		Code: code, SKU: res.SKU, Requested: res.Requested, Available: res.Available, Limit: res.Limit,
		Reservation: res.Reservation,
	}
}
