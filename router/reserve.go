package router

import (
	"context"
	"time"

	"stockade/allocator"
)

// ReserveRequest asks for a reservation of all its lines or none.
type ReserveRequest struct {
	IdempotencyKey string        // "": the request can't be repeated safely
	BuyerID        string        // "": none; at most allocator.MaxBuyerLen bytes
	Reference      string        // kept and never read; at most allocator.MaxReferenceLen bytes
	Lines          []Line        // the same SKU twice is added up
	TTL            time.Duration // in whole milliseconds; 0: the SKU's default
	// Wait is how long to wait in line for units that come back, when there are
	// none: at most MaxWait, and no longer than the deadline allows. It is no part
	// of what a key stands for: a repetition may wait for another time.
	Wait time.Duration
}

// Reserved is a reservation after a successful request.
type Reserved struct {
	Reservation allocator.Reservation
	// Replayed: the key was seen before, and this is its first answer again. It
	// may have been this router that sent the command twice.
	Replayed bool
}

// ReserveOutcome is how one item of a batch ended: Err is as if it had been a
// request of its own.
type ReserveOutcome struct {
	Reserved
	Err error
}

// Reserve holds units. Refusals: every code that a reservation can be refused
// with, see package allocator.
func (r *Router) Reserve(ctx context.Context, req ReserveRequest) (Reserved, error) {
	c, err := r.reserve(&req)
	if err != nil {
		return Reserved{}, r.fail(opReserve, err)
	}
	return r.finish(ctx, c)
}

// finish has a command applied that answers with a reservation.
func (r *Router) finish(ctx context.Context, c command) (Reserved, error) {
	res, err := r.propose(ctx, c)
	if err != nil {
		return Reserved{}, err
	}
	if res.Replayed {
		r.metrics.replays.Inc()
	}
	return Reserved{Reservation: res.Reservation, Replayed: res.Replayed}, nil
}

// reserve encodes a request and finds its home. The error is an *Invalid, or a
// *Refusal that needs no shard.
func (r *Router) reserve(req *ReserveRequest) (command, error) {
	cmd, err := reserveCommand(req)
	if err != nil {
		return command{}, err
	}
	c := command{op: opReserve, cmd: cmd, wait: req.Wait, alone: req.IdempotencyKey == ""}
	c.free = c.alone && req.BuyerID == ""
	if c.free && c.wait == 0 {
		if err := r.edgeRefusal(cmd); err != nil {
			return c, err
		}
	}
	cmd.Key = r.hash.key(domainIdempotency, req.BuyerID, req.IdempotencyKey)
	cmd.KeyTime = keyTime(req.IdempotencyKey)
	cmd.Buyer = r.hash.buyer(req.BuyerID)
	cmd.Body = r.hash.fingerprint(newBody(domainIdempotency).
		text(cmd.BuyerID).text(cmd.Reference).number(int64(cmd.TTL)).lines(cmd.Lines))
	c.shard = r.home(req, cmd)
	return c, nil
}

// home is the one shard that decides a request: that of its buyer, so that all
// purchases of one buyer meet; else that of its key, so that repetitions meet;
// else any, preferably one that has the units.
func (r *Router) home(req *ReserveRequest, cmd *allocator.Reserve) allocator.ShardID {
	switch {
	case req.BuyerID != "":
		return r.hash.home(req.BuyerID, r.shards)
	case req.IdempotencyKey != "":
		return r.hash.home(req.IdempotencyKey, r.shards)
	}
	if shard, ok := r.richHome(cmd.Lines); ok {
		return shard
	}
	return r.hash.home(string(cmd.Key[:]), r.shards)
}

// reserveCommand checks and fills in what the client asked for.
func reserveCommand(req *ReserveRequest) (*allocator.Reserve, error) {
	lines, err := mergeLines(req.Lines)
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, &Invalid{Pointer: "/lines", Detail: "must have at least one line"}
	}
	ttl, err := checkTTL(req.TTL, 0)
	if err != nil {
		return nil, err
	}
	if req.Wait < 0 || req.Wait > MaxWait {
		return nil, &Invalid{Pointer: "/wait_ms", Detail: waitDetail}
	}
	if err := checkLen("/buyer_id", req.BuyerID, allocator.MaxBuyerLen); err != nil {
		return nil, err
	}
	if err := checkLen("/reference", req.Reference, allocator.MaxReferenceLen); err != nil {
		return nil, err
	}
	return &allocator.Reserve{TTL: ttl, BuyerID: req.BuyerID, Reference: req.Reference, Lines: lines}, nil
}

// Reservation looks a reservation up, as it is after everything answered before.
// Refusal: CodeReservationNotFound.
func (r *Router) Reservation(ctx context.Context, id allocator.ReservationID) (res allocator.Reservation, err error) {
	q, err := r.begin(ctx, opReservation, single)
	if err != nil {
		return res, err
	}
	defer func() { q.end(err) }()
	ctx = q.bounded(ctx)
	if int(id.Shard) >= r.shards {
		return res, notFound()
	}
	res, found, err := r.dispatch.Reservation(ctx, id)
	if err != nil {
		return res, asUnavailable(err)
	}
	if !found {
		return res, notFound()
	}
	return res, nil
}

// notFound refuses a reservation id that is nobody's.
func notFound() error { return &Refusal{Code: allocator.CodeReservationNotFound} }
