package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
	"stockade/shard/shardrpc"
)

// badRequest is a request that is not what the endpoint takes.
type badRequest struct{ errs []api.FieldError }

// Error implements error.
func (e *badRequest) Error() string { return fmt.Sprintf("%d faults in the request", len(e.errs)) }

// unknownID is a reservation id that can't be read, so that no reservation has it.
type unknownID struct{ id string }

// Error implements error.
func (e *unknownID) Error() string { return "no reservation has the id " + strconv.Quote(e.id) }

// httpProblem is a request that did not get as far as an endpoint.
type httpProblem struct{ code, detail string }

// Error implements error.
func (e *httpProblem) Error() string { return e.detail }

// origin is where in a request an error belongs.
type origin struct {
	op      string // the operation
	pointer string // the item in a batch, as a JSON Pointer; "" for all of the body
	keyed   bool   // the request can be repeated
}

// describe turns an error into the document that is answered. unexpected is
// true when the error is a fault of the program, which the caller logs.
func (a *app) describe(err error, o origin) (p *api.Problem, wait time.Duration, unexpected bool) {
	if refused, ok := errors.AsType[*router.Refusal](err); ok { // nearly all requests of a sale end like this
		return a.refused(refused, o)
	}
	return a.describeOther(err, o)
}

// describeOther is describe for what is no refusal.
func (a *app) describeOther(err error, o origin) (p *api.Problem, wait time.Duration, unexpected bool) {
	var (
		bad         *badRequest
		invalid     *router.Invalid
		unavailable *router.Unavailable
		unknown     *router.UnknownOutcome
		missing     *unknownID
		early       *httpProblem
	)
	switch {
	case errors.As(err, &bad):
		return a.invalid(bad.errs), 0, false
	case errors.As(err, &unavailable):
		return a.unavailable(unavailable)
	case errors.As(err, &unknown):
		return a.unknown(unknown, o), 0, false
	case errors.As(err, &invalid):
		pointer := o.pointer + invalid.Pointer
		return a.invalid([]api.FieldError{{Pointer: &pointer, Detail: invalid.Detail}}), 0, false
	case errors.As(err, &missing):
		return a.problem(byOutcome[allocator.CodeReservationNotFound], "No reservation has the id "+
			strconv.Quote(missing.id)+": it is mistyped, or of another cluster. Check it."), 0, false
	case errors.As(err, &early):
		return a.problem(byCode[early.code], early.detail), 0, false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return a.unknown(nil, o), 0, false
	default:
		return a.internal(), 0, true
	}
}

// problem fills in what every problem of a row has.
func (a *app) problem(row *problem, detail string) *api.Problem {
	return &api.Problem{
		Type:      a.problemBase + "/problems/" + row.Code,
		Title:     row.Title,
		Status:    row.Status,
		Detail:    detail,
		Code:      row.Code,
		Retryable: row.Retryable,
	}
}

// internal is the answer to a fault of the program.
func (a *app) internal() *api.Problem {
	return a.problem(byCode[codeInternal],
		"Stockade made a mistake; its log has a line with this answer's Request-Id. Whether the request was done is not known.")
}

// invalid is the answer to a request that is not what the endpoint takes.
func (a *app) invalid(errs []api.FieldError) *api.Problem {
	detail := "The request has " + strconv.Itoa(len(errs)) + " faults; errors lists them."
	if len(errs) == 1 {
		detail = place(errs[0]) + " " + errs[0].Detail + "."
	}
	p := a.problem(byCode[codeInvalid], detail)
	p.Errors = errs
	return p
}

// place names the part of a request that a fault is in, at the start of a sentence.
func place(e api.FieldError) string {
	switch {
	case e.Header != "":
		return "The header " + e.Header
	case e.Parameter != "":
		return "The parameter " + e.Parameter
	case e.Pointer != nil && *e.Pointer != "":
		return *e.Pointer
	default:
		return "The body:"
	}
}

// refused is the answer to a refusal.
func (a *app) refused(r *router.Refusal, o origin) (p *api.Problem, wait time.Duration, unexpected bool) {
	row := (*problem)(nil)
	if int(r.Code) < len(byOutcome) {
		row = byOutcome[r.Code]
	}
	if row == nil { // an internal code left the cluster
		return a.internal(), 0, true
	}
	p = a.problem(row, a.refusalDetail(row, r, o))
	if r.Code == allocator.CodeReservationExpired && o.op == opReturn {
		p.Status = http.StatusConflict
	}
	if row.field != "" {
		pointer := o.pointer + row.field
		p.Errors = []api.FieldError{{Pointer: &pointer, Detail: p.Detail}}
	}
	a.showFacts(p, row.shows, r)
	return p, 0, false
}

// showFacts puts into the document what the refusal knows and the row shows.
func (a *app) showFacts(p *api.Problem, s shows, r *router.Refusal) {
	if s&showSKU != 0 {
		p.SKU = string(r.SKU)
	}
	counts := r.SKU != "" // a refusal without a SKU has no quantities either
	unit := allocator.Quantity(1)
	if r.Code == allocator.CodeTTLLimitExceeded {
		unit = 1000 // the shard counts time in milliseconds, the API in seconds
	}
	if s&showRequested != 0 && counts {
		p.Requested = count(r.Requested / unit)
	}
	if s&showAvailable != 0 && counts {
		p.Available = count(r.Available)
	}
	if s&showLimit != 0 && counts {
		p.Limit = count(r.Limit / unit)
	}
	if s&showReservation != 0 && r.Reservation.ID != (allocator.ReservationID{}) {
		reservation := reservationView(a.ids, &r.Reservation)
		p.Reservation = &reservation
	}
}

// count gives a pointer to a quantity as the API has it.
func count[Q ~int64](q Q) *int64 {
	n := int64(q)
	return &n
}

// unavailable is the answer to a request that was not done because a shard, or
// a place in a queue, could not be had.
func (a *app) unavailable(u *router.Unavailable) (p *api.Problem, wait time.Duration, unexpected bool) {
	if u.Local {
		return a.refusedHere(u), u.RetryAfter, false
	}
	shard := int(u.Shard)
	where := "Shard " + strconv.Itoa(shard)
	switch u.Reason {
	case shardrpc.ReasonInvalid:
		return a.internal(), 0, true
	case shardrpc.ReasonOverloaded:
		p = a.problem(byCode[codeOverloaded], where+" has as much work waiting as it takes. Nothing was done: retry after a pause.")
	case shardrpc.ReasonStockUnreachable:
		p = a.problem(byCode[codeStockUnreachable], where+" may hold the missing units and can't be asked"+since(u.Since)+
			". Nothing was done: retry, or ask for fewer units.")
	default:
		p = a.problem(byCode[codeShardUnavailable], where+" can't be used"+since(u.Since)+": "+u.Reason.Phrase()+
			". Nothing was done: retry after a pause.")
	}
	p.Shard, p.Since = &shard, api.TimeOf(u.Since)
	return p, u.RetryAfter, false
}

// refusedHere is the answer to a request that the router itself refused.
func (a *app) refusedHere(u *router.Unavailable) *api.Problem {
	if u.Reason == shardrpc.ReasonDeadline {
		return a.problem(byCode[codeDeadline], "The time for the request ran out before it was sent to a shard. Nothing was done: retry with more time.")
	}
	if u.Waiting {
		return a.problem(byCode[codeOverloaded], "As many requests wait in line at this node as it takes. Nothing was done: retry after a pause, or without wait_ms.")
	}
	return a.problem(byCode[codeOverloaded], "This node has as many requests under way as it takes. Nothing was done: retry after a pause.")
}

// since says since when, if it is known.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + api.TimeOf(t).String()
}

// unknown is the answer when nobody knows what became of the request.
func (a *app) unknown(u *router.UnknownOutcome, o origin) *api.Problem {
	next := "Send the same request again, with the same Idempotency-Key if it had one, until another answer comes."
	if !o.keyed {
		next = "The request had no Idempotency-Key: sent again it may count twice."
	}
	if u == nil {
		return a.problem(byCode[codeUnknownOutcome], "The time for the request ran out while it was being done; whether it was is not known. "+next)
	}
	shard := int(u.Shard)
	p := a.problem(byCode[codeUnknownOutcome], "Shard "+strconv.Itoa(shard)+
		" was given the request and did not say what became of it. "+next)
	p.Shard = &shard
	return p
}

// retryAfter is a pause in whole seconds as the header wants it, at least one.
func retryAfter(wait time.Duration) string {
	return strconv.Itoa(int(math.Max(1, math.Ceil(wait.Seconds()))))
}
