package allocator

// Code is the business outcome of a command. The enum is closed. The order is
// the order of precedence: when several apply, the lowest refusal is answered.
// Values are part of the result format: never reuse one.
type Code uint8

// Outcomes. Those marked "internal" never leave the cluster.
const (
	CodeOK Code = iota
	// CodeKeyReused: the key stands for a request with another body.
	CodeKeyReused
	// CodeKeyExpired: the key tells its age and is older than the retention, so
	// whether it was used before can't be known any more.
	CodeKeyExpired
	// CodeReservationNotFound: no such reservation, or its retention is over.
	CodeReservationNotFound
	// CodeReservationCanceled: it was canceled before.
	CodeReservationCanceled
	// CodeReservationConfirmed: it was confirmed before.
	CodeReservationConfirmed
	// CodeReservationNotConfirmed: only confirmed reservations can be returned.
	CodeReservationNotConfirmed
	// CodeLinesExceedReservation: a line asks for more than is held, or for a
	// SKU that is not in the reservation.
	CodeLinesExceedReservation
	// CodeReservationExpired: too late. With Shortages, a transfer may mend it.
	CodeReservationExpired
	// CodeSKUNotFound: the anchor does not know the SKU.
	CodeSKUNotFound
	// CodeSKUUnknown (internal): this shard has no bucket of the SKU and is not
	// its anchor. Always with Shortages.
	CodeSKUUnknown
	// CodePreconditionFailed: If-Match or If-None-Match did not hold.
	CodePreconditionFailed
	// CodeSKUExists: on_hand was given for a SKU that exists.
	CodeSKUExists
	// CodeSKUPaused: the sale is paused.
	CodeSKUPaused
	// CodeSaleNotOpen: the sale has not begun or is over.
	CodeSaleNotOpen
	// CodeQuantityLimitExceeded: more than MaxPerReservation, or a deposit that
	// would lead beyond MaxOnHand.
	CodeQuantityLimitExceeded
	// CodeTTLLimitExceeded: longer than the SKU's MaxTTL.
	CodeTTLLimitExceeded
	// CodeBuyerLimitExceeded: more than MaxPerBuyer for this buyer.
	CodeBuyerLimitExceeded
	// CodeInsufficientStock: not enough units here. Always with Shortages.
	CodeInsufficientStock
	// CodeBelowReserved: an adjustment or a higher safety stock would need units
	// that are reserved or committed. Always with Shortages.
	CodeBelowReserved
	// CodeTransferGap (internal): the messages do not follow the last one taken.
	CodeTransferGap
	// CodeOutboxFull (internal): the outbox to that shard is at its bound.
	CodeOutboxFull

	codeEnd // one beyond the last
)

// codeNames spells codes as the API does.
var codeNames = [codeEnd]string{
	CodeOK:                      "ok",
	CodeKeyReused:               "idempotency-key-reused",
	CodeKeyExpired:              "idempotency-key-expired",
	CodeReservationNotFound:     "reservation-not-found",
	CodeReservationCanceled:     "reservation-canceled",
	CodeReservationConfirmed:    "reservation-confirmed",
	CodeReservationNotConfirmed: "reservation-not-confirmed",
	CodeLinesExceedReservation:  "lines-exceed-reservation",
	CodeReservationExpired:      "reservation-expired",
	CodeSKUNotFound:             "sku-not-found",
	CodeSKUUnknown:              "sku-unknown",
	CodePreconditionFailed:      "precondition-failed",
	CodeSKUExists:               "sku-exists",
	CodeSKUPaused:               "sku-paused",
	CodeSaleNotOpen:             "sale-not-open",
	CodeQuantityLimitExceeded:   "quantity-limit-exceeded",
	CodeTTLLimitExceeded:        "ttl-limit-exceeded",
	CodeBuyerLimitExceeded:      "buyer-limit-exceeded",
	CodeInsufficientStock:       "insufficient-stock",
	CodeBelowReserved:           "below-reserved",
	CodeTransferGap:             "transfer-gap",
	CodeOutboxFull:              "outbox-full",
}

// String gives the code as the API spells it.
func (c Code) String() string {
	if c < codeEnd {
		return codeNames[c]
	}
	return "invalid"
}

// Codes lists every code in order of precedence.
func Codes() []Code {
	all := make([]Code, codeEnd)
	for i := range all {
		all[i] = Code(i)
	}
	return all
}

// Result is what applying a command returned. Which fields are set depends on
// the command and the code.
type Result struct {
	Code     Code
	Replayed bool   // the key was seen before; this is the first answer again
	At       Millis // log time of the batch

	// Reservation is set for OK results of Reserve, Confirm, Cancel, Extend and
	// Return, and for refusals that speak of a reservation that exists.
	Reservation Reservation

	// SKU, Limit, Requested and Available explain a refusal: of which line, and
	// against what. Available is what this shard had, or what the buyer may
	// still take.
	SKU       SKU
	Limit     Quantity
	Requested Quantity
	Available Quantity

	// Shortages are the units missing here that a transfer could bring. A
	// result with shortages is not final: the home shard's leader pulls, and
	// proposes the command again.
	Shortages []Shortage

	// Version is the SKU's policy version after PutSKU, SetPaused, Restock, Adjust.
	Version uint64
	// Created: PutSKU created the SKU.
	Created bool
	// Granted is how many units a TransferOut sent.
	Granted Quantity
	// Through is the last message taken in (TransferIn) or forgotten (TransferAck).
	Through uint64
}

// Shortage says what a command needs of a SKU in this shard's bucket.
type Shortage struct {
	SKU       SKU
	Requested Quantity
	Available Quantity
	Known     bool // this shard has a bucket of the SKU
}
