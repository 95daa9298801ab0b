package httpapi

import (
	"context"
	"net/http"

	"stockade/allocator"
	"stockade/router"
)

// Limits of bodies: a cart with 32 lines and everything at its longest takes
// 5 KiB; a full batch of one-line reservations about 400 KiB.
const (
	maxBody      = 64 << 10
	maxBatchBody = 4 << 20
)

// selling are the operations of the data port.
type selling struct{ router Seller }

// reservation answers with a reservation.
func (c *call) reservation(status int, res *router.Reserved) {
	if res.Replayed {
		c.w.Header()[headerReplayed] = replayedHeader
	}
	c.out = appendReservation(c.out[:0], c.app.ids, &res.Reservation)
	c.write(status, jsonHeader)
}

// document answers with any other document.
func (c *call) document(status int, v any) {
	c.out = appendDocument(c.out[:0], v)
	c.write(status, jsonHeader)
}

// reserve is POST /v1/reservations.
func (s *selling) reserve(c *call) error {
	key := c.key()
	var req router.ReserveRequest
	if c.open(maxBody, false) {
		req = c.doc.reserve(false)
		c.doc.end()
	}
	if err := c.faults(); err != nil {
		return err
	}
	req.IdempotencyKey, c.keyed = key, key != ""
	res, err := s.router.Reserve(c.ctx, req)
	if err != nil {
		return err
	}
	c.w.Header()["Location"] = []string{"/v1/reservations/" + c.app.ids.Format(res.Reservation.ID)}
	c.reservation(http.StatusCreated, &res)
	return nil
}

// get is GET /v1/reservations/{id}.
func (s *selling) get(c *call) error {
	id, err := c.subject()
	if err != nil {
		return err
	}
	r, err := s.router.Reservation(c.ctx, id)
	if err != nil {
		return err
	}
	c.reservation(http.StatusOK, &router.Reserved{Reservation: r})
	return nil
}

// subject gives the reservation that a request without more to decode is about.
func (c *call) subject() (allocator.ReservationID, error) {
	c.keyed = true // what is done to a reservation can be repeated; return is the exception
	id, err := parseID(c.app.ids, c.arg)
	if err != nil {
		return id, err
	}
	return id, c.faults()
}

// confirm is POST /v1/reservations/{id}/confirm.
func (s *selling) confirm(c *call) error {
	c.key() // not needed; but one that is given must be well formed
	lines := c.optionalLines()
	id, err := c.subject()
	if err != nil {
		return err
	}
	res, err := s.router.Confirm(c.ctx, id, lines)
	return c.changed(&res, err)
}

// optionalLines reads a body that may be missing.
func (c *call) optionalLines() (lines []router.Line) {
	if c.open(maxBody, true) {
		lines = c.doc.onlyLines()
		c.doc.end()
	}
	return lines
}

// noBody reads a body that has nothing to say.
func (c *call) noBody() {
	if c.open(maxBody, true) {
		c.doc.nothing()
		c.doc.end()
	}
}

// changed answers with a reservation after a step, or passes the error on.
func (c *call) changed(res *router.Reserved, err error) error {
	if err != nil {
		return err
	}
	c.reservation(http.StatusOK, res)
	return nil
}

// cancel is POST /v1/reservations/{id}/cancel.
func (s *selling) cancel(c *call) error {
	c.key()
	c.noBody()
	id, err := c.subject()
	if err != nil {
		return err
	}
	res, err := s.router.Cancel(c.ctx, id)
	return c.changed(&res, err)
}

// extend is POST /v1/reservations/{id}/extend.
func (s *selling) extend(c *call) error {
	c.key()
	if !c.open(maxBody, false) {
		return c.faults()
	}
	ttl := c.doc.extend()
	c.doc.end()
	id, err := c.subject()
	if err != nil {
		return err
	}
	res, err := s.router.Extend(c.ctx, id, ttl)
	return c.changed(&res, err)
}

// giveBack is POST /v1/reservations/{id}/return.
func (s *selling) giveBack(c *call) error {
	key := c.key()
	lines := c.optionalLines()
	id, err := c.subject()
	if err != nil {
		return err
	}
	c.keyed = key != ""
	res, err := s.router.Return(c.ctx, id, lines, key)
	return c.changed(&res, err)
}

// availability is GET /v1/skus/{sku}/availability, on both ports.
func availability(c *call, ask func(ctx context.Context, sku string, strong bool) (router.Availability, error)) error {
	sku, strong := c.pathSKU(), c.strong()
	if err := c.faults(); err != nil {
		return err
	}
	a, err := ask(c.ctx, sku, strong)
	if err != nil {
		return err
	}
	c.document(http.StatusOK, availabilityView(&a))
	return nil
}

// reserveBatch is POST /v1/reservations/batch.
func (s *selling) reserveBatch(c *call) error {
	c.noKey("idempotency_key")
	var items []item[router.ReserveRequest]
	if c.open(maxBatchBody, false) {
		items = decodeBatch(&c.doc, "reservations", func(d *document) router.ReserveRequest { return d.reserve(true) })
		c.doc.end()
	}
	if err := c.faults(); err != nil {
		return err
	}
	requests := make([]router.ReserveRequest, 0, len(items))
	for i := range items {
		if items[i].errs == nil {
			requests = append(requests, items[i].value)
		}
	}
	b := batch{c: c, field: "reservations", status: http.StatusCreated}
	if len(requests) > 0 {
		b.outcomes = s.router.ReserveBatch(c.ctx, requests)
	}
	if err := b.refused(); err != nil {
		return err
	}
	for i := range items {
		b.add(items[i].errs, origin{op: opReserve, keyed: items[i].value.IdempotencyKey != ""})
	}
	b.send()
	return nil
}

// actions is POST /v1/actions/batch.
func (s *selling) actions(c *call) error {
	c.noKey("idempotency_key where it is a return")
	var items []item[action]
	if c.open(maxBatchBody, false) {
		items = decodeBatch(&c.doc, "actions", (*document).action)
		c.doc.end()
	}
	if err := c.faults(); err != nil {
		return err
	}
	actions := make([]router.Action, 0, len(items))
	for i := range items {
		if items[i].errs == nil && items[i].value.missing == nil {
			actions = append(actions, items[i].value.Action)
		}
	}
	b := batch{c: c, field: "actions", status: http.StatusOK}
	if len(actions) > 0 {
		b.outcomes = s.router.Actions(c.ctx, actions)
	}
	if err := b.refused(); err != nil {
		return err
	}
	for i := range items {
		b.addAction(&items[i])
	}
	b.send()
	return nil
}

// nodes is GET /v1/nodes.
func (s *selling) nodes(c *call) error {
	if err := c.faults(); err != nil {
		return err
	}
	view, err := s.router.Nodes(c.ctx)
	if err != nil {
		return err
	}
	c.document(http.StatusOK, nodesView(&view))
	return nil
}
