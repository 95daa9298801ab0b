package router

import (
	"context"
	"fmt"
	"time"

	"stockade/allocator"
)

// PutSKURequest creates a SKU or replaces its policy.
type PutSKURequest struct {
	SKU         string
	Policy      allocator.Policy // Version and Paused are ignored
	OnHand      *int64           // units to create it with, 0 to allocator.MaxQuantity; nil: it must exist
	IfNoneMatch bool             // only create
	IfMatch     uint64           // only replace this version; 0: any
	Metadata    []byte           // canonical JSON, at most allocator.MaxMetadataLen bytes
	Key         string           // "": none
}

// PutResult is the answer to a PutSKURequest.
type PutResult struct {
	Created  bool
	Version  uint64 // of the policy
	Replayed bool   // the key was seen before; this is its first answer again
	Effect   Effect // of a new policy of a SKU that exists
}

// StockResult is the answer to a change of a SKU's count or state.
type StockResult struct {
	Version  uint64 // of the policy
	Replayed bool   // the key was seen before; this is its first answer again
	Effect   Effect // of a change of state
}

// PutSKU creates a SKU or replaces its policy, on its anchor; the latter returns
// when every shard goes by it, or says which do not yet. Refusals:
// CodeKeyReused, CodeSKUNotFound (no OnHand for a new one), CodeSKUExists (OnHand
// for an old one), CodePreconditionFailed, CodeBelowReserved (a higher safety
// stock), CodeQuantityLimitExceeded.
func (r *Router) PutSKU(ctx context.Context, req PutSKURequest) (PutResult, error) {
	cmd, err := r.putCommand(&req)
	if err != nil {
		return PutResult{}, r.fail(opPutSKU, err)
	}
	res, err := r.propose(ctx, r.administer(opPutSKU, cmd.SKU, cmd))
	put := PutResult{Created: res.Created, Version: res.Version, Replayed: res.Replayed}
	if err == nil && !put.Created {
		put.Effect = r.takeEffect(ctx, cmd.SKU, put.Version)
	}
	return put, err
}

// putCommand encodes a PUT. The error is an *Invalid.
func (r *Router) putCommand(req *PutSKURequest) (*allocator.PutSKU, error) {
	sku, err := checkSKU(req.SKU)
	if err != nil {
		return nil, err
	}
	if len(req.Metadata) > allocator.MaxMetadataLen {
		return nil, &Invalid{Pointer: "/metadata", Detail: fmt.Sprintf("must have at most %d bytes", allocator.MaxMetadataLen)}
	}
	cmd := &allocator.PutSKU{
		Key: r.hash.key(domainPut, req.SKU, req.Key),
		SKU: sku, Policy: req.Policy, HasOnHand: req.OnHand != nil,
		IfNoneMatch: req.IfNoneMatch, IfMatch: req.IfMatch, Metadata: req.Metadata,
	}
	cmd.Policy.Version, cmd.Policy.Paused = 0, false
	if req.OnHand != nil {
		if *req.OnHand < 0 || *req.OnHand > allocator.MaxQuantity {
			return nil, &Invalid{Pointer: "/on_hand", Detail: fmt.Sprintf("must be 0 to %d", allocator.MaxQuantity)}
		}
		cmd.OnHand = allocator.Quantity(*req.OnHand)
	}
	if err := checkPolicy(&cmd.Policy); err != nil {
		return nil, err
	}
	cmd.Body = r.hash.fingerprint(putBody(cmd))
	return cmd, nil
}

// checkPolicy checks what a command can carry.
func checkPolicy(p *allocator.Policy) error {
	quantities := []struct {
		pointer string
		value   allocator.Quantity
	}{
		{"/safety_stock", p.SafetyStock}, {"/max_per_reservation", p.MaxPerReservation}, {"/max_per_buyer", p.MaxPerBuyer},
	}
	for _, q := range quantities {
		if q.value < 0 || q.value > allocator.MaxQuantity {
			return &Invalid{Pointer: q.pointer, Detail: fmt.Sprintf("must be 0 to %d", allocator.MaxQuantity)}
		}
	}
	times := []struct {
		pointer      string
		value, limit allocator.Millis
	}{
		{"/default_ttl_seconds", p.DefaultTTL, allocator.MaxTTL}, {"/max_ttl_seconds", p.MaxTTL, allocator.MaxTTL},
		{"/sale_starts_at", p.SaleStarts, maxTime}, {"/sale_ends_at", p.SaleEnds, maxTime},
	}
	for _, t := range times {
		if t.value < 0 || t.value > t.limit {
			return &Invalid{Pointer: t.pointer, Detail: "is out of range"}
		}
	}
	if p.LateConfirm > allocator.LateConfirmReject {
		return &Invalid{Pointer: "/late_confirm", Detail: "must be retake or reject"}
	}
	return nil
}

// maxTime is the last moment that RFC 3339 can write: the end of the year 9999.
var maxTime = allocator.Millis(time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli())

func putBody(c *allocator.PutSKU) body {
	p := &c.Policy
	b := newBody(domainPut).text(string(c.SKU)).
		number(int64(p.SafetyStock)).number(int64(p.MaxPerReservation)).number(int64(p.MaxPerBuyer)).
		number(int64(p.DefaultTTL)).number(int64(p.MaxTTL)).number(int64(p.SaleStarts)).number(int64(p.SaleEnds)).
		number(int64(p.LateConfirm)).flags(p.Watch)
	return b.flags(c.HasOnHand, c.IfNoneMatch).number(int64(c.OnHand)).number(int64(c.IfMatch)).text(string(c.Metadata))
}

// Restock adds qty units to a SKU, at its anchor. Refusals: CodeKeyReused,
// CodeSKUNotFound, CodeQuantityLimitExceeded.
func (r *Router) Restock(ctx context.Context, sku string, qty int64, reference, key string) (StockResult, error) {
	name, err := checkSKU(sku)
	if err == nil && (qty < 1 || qty > allocator.MaxQuantity) {
		err = &Invalid{Pointer: "/quantity", Detail: quantityDetail}
	}
	if err == nil {
		err = checkLen("/reference", reference, allocator.MaxReferenceLen)
	}
	if err != nil {
		return StockResult{}, r.fail(opRestock, err)
	}
	return r.change(ctx, opRestock, name, &allocator.Restock{
		Key:  r.hash.key(domainRestock, sku, key),
		Body: r.hash.fingerprint(newBody(domainRestock).text(sku).number(qty).text(reference)),
		SKU:  name, Quantity: allocator.Quantity(qty), Reference: reference,
	})
}

// Adjust corrects the count of a SKU by delta, at its anchor. Refusals:
// CodeKeyReused, CodeSKUNotFound, CodeBelowReserved, CodeQuantityLimitExceeded.
func (r *Router) Adjust(ctx context.Context, sku string, delta int64, reason, key string) (StockResult, error) {
	name, err := checkSKU(sku)
	if err == nil && (delta == 0 || delta < -allocator.MaxQuantity || delta > allocator.MaxQuantity) {
		err = &Invalid{Pointer: "/delta", Detail: fmt.Sprintf("must be -%d to %d and not 0", allocator.MaxQuantity, allocator.MaxQuantity)}
	}
	if err == nil {
		err = checkLen("/reason", reason, allocator.MaxReferenceLen)
	}
	if err != nil {
		return StockResult{}, r.fail(opAdjust, err)
	}
	return r.change(ctx, opAdjust, name, &allocator.Adjust{
		Key:  r.hash.key(domainAdjust, sku, key),
		Body: r.hash.fingerprint(newBody(domainAdjust).text(sku).number(delta).text(reason)),
		SKU:  name, Delta: allocator.Quantity(delta), Reason: reason,
	})
}

// SetPaused stops or resumes the sale of a SKU. It returns when all shards have
// done so, or says which have not yet. Doing it again gives the same version.
// Refusal: CodeSKUNotFound.
func (r *Router) SetPaused(ctx context.Context, sku string, paused bool) (StockResult, error) {
	name, err := checkSKU(sku)
	if err != nil {
		return StockResult{}, r.fail(opPause, err)
	}
	res, err := r.change(ctx, opPause, name, &allocator.SetPaused{SKU: name, Paused: paused})
	if err == nil {
		res.Effect = r.takeEffect(ctx, name, res.Version)
	}
	return res, err
}

// change has a command applied by a SKU's anchor.
func (r *Router) change(ctx context.Context, op operation, sku allocator.SKU, cmd allocator.Command) (StockResult, error) {
	res, err := r.propose(ctx, r.administer(op, sku, cmd))
	return StockResult{Version: res.Version, Replayed: res.Replayed}, err
}

// administer is a command for the anchor of a SKU.
func (r *Router) administer(op operation, sku allocator.SKU, cmd allocator.Command) command {
	return command{op: op, shard: allocator.Anchor(sku, r.shards), cmd: cmd}
}
