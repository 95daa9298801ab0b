package client

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"stockade/router/api"
)

// The paths of the API that the methods use.
const (
	reservations = "/v1/reservations"
	actionsBatch = "/v1/actions/batch"
)

// Reserve holds units of one SKU, or of up to 32, all or none. The key makes the call
// repeatable, also by another process: the same key and request give the same
// reservation. With "" the call makes one, which is good for its own retries.
//
// Refusals: BuyerLimitExceeded, IdempotencyKeyReused, InsufficientStock,
// QuantityLimitExceeded, SaleNotOpen, SKUNotFound, SKUPaused. All errors are an *Error.
func (c *Client) Reserve(ctx context.Context, key string, r api.ReserveRequest) (held *api.Reservation, err error) {
	if key == "" {
		key = NewKey()
	}
	k := c.begin(ctx, "reserve", key)
	defer k.end()
	err = k.insist(func(k *call) (v verdict) {
		if r.WaitMS > 0 { // would hold up a batch
			v, held = k.waitInLine(&r)
		} else {
			v, held = c.reserves.do(k, api.ReserveBatchItem{IdempotencyKey: key, ReserveRequest: r})
		}
		return v
	})
	if err != nil {
		return nil, err
	}
	return held, nil
}

// ReserveAll makes many reservations at the same time, each on its own as Reserve does.
// There is a result for each, in order.
func (c *Client) ReserveAll(ctx context.Context, items []api.ReserveBatchItem) []ReserveResult {
	results := make([]ReserveResult, len(items))
	var wait sync.WaitGroup
	for i := range items {
		wait.Go(func() {
			results[i].Reservation, results[i].Err = c.Reserve(ctx, items[i].IdempotencyKey, items[i].ReserveRequest)
		})
	}
	wait.Wait()
	return results
}

// ReserveResult is how one reservation of many ended: one of both is nil.
type ReserveResult struct {
	Reservation *api.Reservation
	Err         error // an *Error
}

// Confirm sells what a reservation holds, or only some lines of it; the rest goes back
// on sale. It can be repeated.
//
// Refusals: ReservationCanceled, ReservationExpired, ReservationNotFound, and those of a
// SKU whose expired reservations may be confirmed late.
func (c *Client) Confirm(ctx context.Context, id string, lines ...api.Line) (*api.Reservation, error) {
	return c.act(ctx, api.Action{Op: api.ActionConfirm, ID: id, Lines: lines})
}

// Cancel puts what a reservation holds back on sale. It can be repeated, and succeeds
// too when the reservation has expired.
//
// Refusals: ReservationConfirmed, ReservationNotFound.
func (c *Client) Cancel(ctx context.Context, id string) (*api.Reservation, error) {
	return c.act(ctx, api.Action{Op: api.ActionCancel, ID: id})
}

// Extend lets a reservation live for so long from now, in whole seconds.
//
// Refusals: ReservationCanceled, ReservationConfirmed, ReservationExpired,
// ReservationNotFound.
func (c *Client) Extend(ctx context.Context, id string, ttl time.Duration) (*api.Reservation, error) {
	return c.act(ctx, api.Action{Op: api.ActionExtend, ID: id, TTLSeconds: int64(ttl / time.Second)})
}

// Return puts units of a confirmed reservation back on sale: some lines, or all that is
// left. The key makes the call repeatable; with "" it makes one.
//
// Refusals: IdempotencyKeyReused, ReservationNotFound, and those that name what stands
// against it.
func (c *Client) Return(ctx context.Context, key, id string, lines ...api.Line) (*api.Reservation, error) {
	if key == "" {
		key = NewKey()
	}
	return c.act(ctx, api.Action{Op: api.ActionReturn, ID: id, Lines: lines, IdempotencyKey: key})
}

func (c *Client) act(ctx context.Context, a api.Action) (r *api.Reservation, err error) {
	k := c.begin(ctx, string(a.Op), a.IdempotencyKey)
	defer k.end()
	err = k.insist(func(k *call) (v verdict) {
		v, r = c.actions.do(k, a)
		return v
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Reservation reads a reservation as it is after everything that was answered before.
//
// Refusal: ReservationNotFound.
func (c *Client) Reservation(ctx context.Context, id string) (*api.Reservation, error) {
	r := new(api.Reservation)
	return r, c.get(ctx, "reservation", reservations+"/"+url.PathEscape(id), r)
}

// Availability tells how many units of a SKU are for sale, as of a moment that the
// answer names.
//
// Refusal: SKUNotFound.
func (c *Client) Availability(ctx context.Context, sku string) (*api.Availability, error) {
	a := new(api.Availability)
	return a, c.get(ctx, "availability", availability(sku), a)
}

// StrongAvailability is Availability after everything that was answered before. It asks
// every shard.
func (c *Client) StrongAvailability(ctx context.Context, sku string) (*api.Availability, error) {
	a := new(api.Availability)
	return a, c.get(ctx, "availability", availability(sku)+"?consistency=strong", a)
}

func availability(sku string) string { return "/v1/skus/" + url.PathEscape(sku) + "/availability" }

// get reads a document. Reading changes nothing, so no outcome is unknown.
func (c *Client) get(ctx context.Context, op, path string, into any) error {
	k := c.begin(ctx, op, "")
	defer k.end()
	return k.insist(func(k *call) verdict {
		v, body := k.once(&request{method: http.MethodGet, path: path, timeout: k.left()})
		if v.kind == done {
			v.take(body, into)
		}
		if v.kind == unknown {
			v.kind = notDone
		}
		return v
	})
}

// waitInLine makes an attempt to reserve that may take long.
func (k *call) waitInLine(r *api.ReserveRequest) (verdict, *api.Reservation) {
	q, err := newPost(reservations, k.key, r)
	if err != nil {
		return verdict{kind: notDone, err: err}, nil
	}
	q.timeout = min(time.Until(k.deadline), k.c.attemptTimeout+time.Duration(r.WaitMS)*time.Millisecond)
	v, body := k.once(q)
	held := new(api.Reservation)
	if v.kind == done {
		v.take(body, held)
	}
	return v, held
}

// reserveLane makes requests of reservations.
type reserveLane struct{}

func (reserveLane) alone(it api.ReserveBatchItem) (*request, error) {
	return newPost(reservations, it.IdempotencyKey, &it.ReserveRequest)
}

func (reserveLane) together(items []api.ReserveBatchItem) (*request, error) {
	return newPost(reservations+"/batch", "", &api.ReserveBatchRequest{Reservations: items})
}

// actionLane makes requests of actions.
type actionLane struct{}

func (actionLane) alone(a api.Action) (*request, error) {
	var document any
	switch {
	case a.Op == api.ActionExtend:
		document = &api.ExtendRequest{TTLSeconds: a.TTLSeconds}
	case len(a.Lines) > 0: // of a confirmation or a return, which look the same
		document = &api.ConfirmRequest{Lines: a.Lines}
	}
	return newPost(reservations+"/"+url.PathEscape(a.ID)+"/"+string(a.Op), a.IdempotencyKey, document)
}

func (actionLane) together(actions []api.Action) (*request, error) {
	return newPost(actionsBatch, "", &api.ActionsRequest{Actions: actions})
}
