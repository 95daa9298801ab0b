package router

import (
	"context"
	"time"

	"stockade/allocator"
)

// SKUView is everything about one SKU. OnHand = Available + Reserved + Committed
// + InTransit + SafetyStock.
type SKUView struct {
	SKU         string
	OnHand      int64
	Available   int64
	Reserved    int64
	Committed   int64
	InTransit   int64
	SafetyStock int64 // units that are withheld; Policy.SafetyStock is what should be
	Buckets     []BucketView
	Policy      allocator.Policy
	Metadata    []byte
	Created     allocator.Millis
	Updated     allocator.Millis
	AsOf        time.Time // wall clock; nothing older than this is missing
}

// BucketView is the part of a SKU that one shard owns.
type BucketView struct {
	Shard     allocator.ShardID
	Available int64
	Reserved  int64
	Committed int64
}

// SKU shows one SKU as it was at one moment, all shards together. A strong view
// includes everything that was answered before. Refusal: CodeSKUNotFound.
func (r *Router) SKU(ctx context.Context, sku string, strong bool) (v SKUView, err error) {
	name, err := checkSKU(sku)
	if err != nil {
		return v, r.fail(opSKU, err)
	}
	q, err := r.begin(ctx, opSKU, single)
	if err != nil {
		return v, err
	}
	defer func() { q.end(err) }()
	ctx = q.bounded(ctx)
	asOf := r.now()
	all, err := r.exactCut(ctx, name, strong)
	if err != nil {
		return v, err
	}
	cut := all.Cut
	anchor := anchorReport(cut)
	if anchor == nil {
		return v, &Refusal{Code: allocator.CodeSKUNotFound, SKU: name}
	}
	v = viewCut(cut)
	v.SKU, v.AsOf = sku, asOf
	v.Policy, v.Metadata, v.Created, v.Updated = anchor.Policy, anchor.Metadata, anchor.Created, anchor.Updated
	return v, nil
}

// anchorReport finds the anchor's report; nil when the anchor does not know the
// SKU.
func anchorReport(cut allocator.Cut) *allocator.BucketReport {
	for i := range cut {
		if cut[i].Known && cut[i].Anchor {
			return &cut[i]
		}
	}
	return nil
}

// viewCut adds the shards up.
func viewCut(cut allocator.Cut) SKUView {
	v := SKUView{
		OnHand: int64(cut.OnHand()), Available: int64(cut.Available()), InTransit: int64(cut.InTransit()),
		Buckets: []BucketView{},
	}
	for i := range cut {
		b := &cut[i]
		if !b.Known {
			continue
		}
		v.Reserved += int64(b.Reserved)
		v.Committed += int64(b.Committed)
		v.SafetyStock += int64(b.Safety)
		v.Buckets = append(v.Buckets, BucketView{
			Shard: b.Shard, Available: int64(b.Available), Reserved: int64(b.Reserved), Committed: int64(b.Committed),
		})
	}
	return v
}

// Audit is the proof that no unit of a SKU was made or lost, with the figures it
// stands on.
type Audit struct {
	SKU       string
	View      SKUView                 // the sums
	Deposited int64                   // by creation, restock and adjustments, ever; View.OnHand must be the same
	Shards    allocator.Cut           // what each shard reported: flows, messages in transit, vectors, hashes
	Waiting   []int                   // beside Shards: how many requests stand in line there
	SoldOut   bool                    // no unit for sale nor on its way, and nobody in line
	Pairs     []allocator.PairBalance // what each shard sent to each other one
	Balanced  bool
	Problems  []string // what does not add up, in sentences; empty when balanced
	AsOf      time.Time
}

// Audit proves the conservation of one SKU's units, from strong reports of all
// shards that fit together exactly. Refusal: CodeSKUNotFound.
func (r *Router) Audit(ctx context.Context, sku string) (a Audit, err error) {
	name, err := checkSKU(sku)
	if err != nil {
		return a, r.fail(opAudit, err)
	}
	q, err := r.begin(ctx, opAudit, single)
	if err != nil {
		return a, err
	}
	defer func() { q.end(err) }()
	ctx = q.bounded(ctx)
	asOf := r.now()
	all, err := r.exactCut(ctx, name, true)
	if err != nil {
		return a, err
	}
	if !all.Known() {
		return a, &Refusal{Code: allocator.CodeSKUNotFound, SKU: name}
	}
	return auditCut(sku, all, asOf), nil
}

func auditCut(sku string, all reading, asOf time.Time) Audit {
	cut := all.Cut
	balance := cut.Balance()
	v := viewCut(cut)
	v.SKU, v.AsOf = sku, asOf
	if anchor := anchorReport(cut); anchor != nil {
		v.Policy, v.Metadata, v.Created, v.Updated = anchor.Policy, anchor.Metadata, anchor.Created, anchor.Updated
	}
	return Audit{
		SKU: sku, View: v, Deposited: int64(balance.Deposited), Shards: cut, Pairs: balance.Pairs,
		SoldOut: all.soldOut(), Waiting: all.waiting,
		Balanced: balance.Balanced, Problems: balance.Problems, AsOf: asOf,
	}
}
