package client

import (
	"errors"
	"fmt"
	"time"

	"stockade/router/api"
)

// What a call that did not succeed did, for errors.Is. An error that is neither was
// refused by an answer that stands: see Code.
var (
	// ErrUnknown says that the request may have been done. Make the same call with
	// the same key again to learn what became of it; Error has the key.
	ErrUnknown = errors.New("the outcome is unknown")
	// ErrNothingDone says that nothing was done: the call can be made again, with
	// the same key or another one.
	ErrNothingDone = errors.New("nothing was done")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("the client is closed")
)

// Code is why a request was refused, as Problem.Code names it. It is an error so
// that errors.Is(err, InsufficientStock) tells.
type Code string

// Error implements error.
func (c Code) Error() string { return string(c) }

// The refusals that a business has to decide about.
const (
	BuyerLimitExceeded    Code = "buyer-limit-exceeded"
	IdempotencyKeyReused  Code = "idempotency-key-reused"
	InsufficientStock     Code = "insufficient-stock"
	QuantityLimitExceeded Code = "quantity-limit-exceeded"
	ReservationCanceled   Code = "reservation-canceled"
	ReservationConfirmed  Code = "reservation-confirmed"
	ReservationExpired    Code = "reservation-expired"
	ReservationNotFound   Code = "reservation-not-found"
	SaleNotOpen           Code = "sale-not-open"
	SKUNotFound           Code = "sku-not-found"
	SKUPaused             Code = "sku-paused"
)

// Error is why a call did not succeed.
type Error struct {
	Op       string        // what was called, such as "reserve"
	Problem  *api.Problem  // the last answer; nil when there was none
	Unknown  bool          // an attempt may have been done
	Final    bool          // the answer stands: the same call would be refused again
	Key      string        // the idempotency key that was used, if the call has one
	Attempts int           // requests that were sent for it
	Took     time.Duration // from the call to its end
	Node     string        // where the last attempt went; "" when none was made
	Err      error         // why there was no answer, or why it was given up; may be nil
}

// Error implements error.
func (e *Error) Error() string {
	if e.Final {
		return fmt.Sprintf("%s: %s: %s", e.Op, e.Problem.Code, e.Problem.Detail)
	}
	text := fmt.Sprintf("%s: %v after %d attempts in %v", e.Op, e.outcome(), e.Attempts, e.Took.Round(time.Millisecond))
	if e.Node != "" {
		text += ", the last at " + e.Node
	}
	if e.Problem != nil {
		text += fmt.Sprintf(": %s: %s", e.Problem.Code, e.Problem.Detail)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Unknown && e.Key != "" {
		text += "; repeat it with the key " + e.Key
	}
	return text
}

func (e *Error) outcome() error {
	if e.Unknown {
		return ErrUnknown
	}
	return ErrNothingDone
}

// Is compares with ErrUnknown, ErrNothingDone and codes.
func (e *Error) Is(target error) bool {
	if code, ok := target.(Code); ok {
		return e.Problem != nil && e.Problem.Code == string(code)
	}
	return !e.Final && target == e.outcome()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
