package httpapi

import (
	"strconv"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
)

// refusalDetail says in a sentence what was refused, why, and what to do.
func (a *app) refusalDetail(row *problem, r *router.Refusal, o origin) string {
	if row.shows&showReservation != 0 {
		return a.reservationDetail(row, r, o)
	}
	if r.SKU == "" {
		return row.What + " " + row.Do
	}
	if text := skuDetail(r, o); text != "" {
		return text
	}
	return "SKU " + string(r.SKU) + ": " + row.What + " " + row.Do
}

// reservationDetail is about a reservation that exists.
func (a *app) reservationDetail(row *problem, r *router.Refusal, o origin) string {
	if r.Reservation.ID == (allocator.ReservationID{}) {
		return row.What + " " + row.Do
	}
	ended := ""
	if r.Reservation.Ended != 0 {
		ended = " at " + api.Time(r.Reservation.Ended).String()
	}
	text := "Reservation " + a.ids.Format(r.Reservation.ID)
	switch r.Code {
	case allocator.CodeReservationCanceled:
		return text + " was canceled" + ended + ". " + row.Do
	case allocator.CodeReservationConfirmed:
		return text + " was confirmed" + ended + ". " + row.Do
	case allocator.CodeReservationExpired:
		return text + " expired at " + api.Time(r.Reservation.Expires).String() + lateDetail(r, o) + ". " + row.Do
	default:
		return text + " is " + r.Reservation.Status.String() + ". " + row.Do
	}
}

// lateDetail says why a late confirm did not take the units again.
func lateDetail(r *router.Refusal, o origin) string {
	if o.op != opConfirm || r.SKU == "" {
		return ""
	}
	return ", and of SKU " + string(r.SKU) + " there are " + units(r.Available) + " now, not the " + units(r.Requested) + " it held"
}

// units writes a number of units.
func units[Q ~int64](q Q) string { return strconv.FormatInt(int64(q), 10) }

// skuDetail is about a SKU and its quantities; "" when the row's own words do.
func skuDetail(r *router.Refusal, o origin) string {
	sku := "SKU " + string(r.SKU)
	switch r.Code {
	case allocator.CodeSKUNotFound:
		if o.op == opPutSKU {
			return "There is no " + sku + ". Give on_hand to create it."
		}
		return "There is no " + sku + ". Check the spelling, or create it first."
	case allocator.CodeLinesExceedReservation:
		return "A line asks for " + units(r.Requested) + " of " + sku + ", and the reservation has " + units(r.Available) +
			". Send lines that fit, or leave lines out for all of it."
	case allocator.CodeInsufficientStock:
		return sku + " has " + units(r.Available) + " units for sale, and " + units(r.Requested) +
			" were asked for. Ask for fewer; units come back when reservations end."
	case allocator.CodeBuyerLimitExceeded:
		return "A buyer may have " + units(r.Limit) + " units of " + sku + "; this one may take " + units(r.Available) +
			" more, and asked for " + units(r.Requested) + ". Ask for fewer, or cancel the buyer's open reservations."
	case allocator.CodeTTLLimitExceeded:
		return "A reservation of " + sku + " may be asked to hold for " + units(r.Limit/1000) + " seconds, not " + units(r.Requested/1000) +
			". Ask for less, and extend while the buyer is still there."
	case allocator.CodeQuantityLimitExceeded:
		if o.op != opReserve {
			return sku + " may have " + units(r.Limit) + " units in all; there is room for " + units(r.Available) + " more, not for " +
				units(r.Requested) + "."
		}
		return "One request may have " + units(r.Limit) + " units of " + sku + ", and " + units(r.Requested) +
			" were asked for. Ask for fewer."
	case allocator.CodeBelowReserved:
		return sku + " has " + units(r.Available) + " available units, and " + units(r.Requested) +
			" would have to be taken; the others are reserved or committed."
	default:
		return ""
	}
}
