package httpapi

import (
	"errors"
	"net/http"
	"strconv"

	"stockade/router"
	"stockade/router/api"
)

// batch puts the answer to a batch together: the results of the items that
// could be decoded, in between those that could not.
type batch struct {
	c        *call
	field    string
	status   int // of an item that went well
	outcomes []router.ReserveOutcome
	n        int  // results so far
	logged   bool // a fault of the program was logged; one line a batch is enough
}

// refused gives the error of a batch that the router did not admit, so that
// nothing was done for any item: it is answered as a whole, with Retry-After.
func (b *batch) refused() error {
	var u *router.Unavailable
	if len(b.outcomes) > 0 && errors.As(b.outcomes[0].Err, &u) && u.Local {
		return u
	}
	return nil
}

// add appends the result of the next item: its faults, or the next outcome.
func (b *batch) add(errs []api.FieldError, o origin) {
	if errs != nil {
		b.result(router.ReserveOutcome{Err: &badRequest{errs: errs}}, o)
		return
	}
	outcome := b.outcomes[0]
	b.outcomes = b.outcomes[1:]
	b.result(outcome, o)
}

// addAction is add for an action, whose id may be mistyped.
func (b *batch) addAction(it *item[action]) {
	a := &it.value
	o := origin{op: actionOps[a.Op], keyed: a.Op != router.ActionReturn || a.Key != ""}
	if it.errs == nil && a.missing != nil {
		b.result(router.ReserveOutcome{Err: a.missing}, o)
		return
	}
	b.add(it.errs, o)
}

// result appends one result.
func (b *batch) result(outcome router.ReserveOutcome, o origin) {
	c := b.c
	if b.n == 0 {
		c.out = append(c.out[:0], `{"results":[`...)
	} else {
		c.out = append(c.out, ',')
	}
	o.pointer = "/" + b.field + "/" + strconv.Itoa(b.n)
	b.n++
	if outcome.Err == nil {
		c.app.metrics.items.WithLabelValues(c.route.op, codeOK).Inc()
		c.out = appendDone(c.out, b.status, c.app.ids, &outcome.Reserved)
		return
	}
	p, _, unexpected := c.app.describe(outcome.Err, o)
	if unexpected && !b.logged {
		b.logged = true
		c.app.log.Error("an item of a batch could not be answered", "operation", c.op(), "request_id", c.id,
			"item", b.n-1, "error", outcome.Err)
	}
	c.app.metrics.items.WithLabelValues(c.route.op, p.Code).Inc()
	c.out = appendFailed(c.out, p)
}

// send answers with the results.
func (b *batch) send() {
	b.c.out = append(b.c.out, `]}`...)
	b.c.write(http.StatusOK, jsonHeader)
}
