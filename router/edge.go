package router

import (
	"math/rand/v2"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// What a router decides by what it knows of the shards without asking them: which
// shard sells to somebody who does not care, and who is refused at once. Levels
// only choose and refuse; a sale is always the log's.
//
// Both are only for requests without key and buyer. With a buyer the home is the
// buyer's. With a key the request may be a repetition of one that was done: it
// must get its first answer again, which only the home shard has. That shard's
// leader refuses from memory too when there is none, so what a router could save
// is one call.

// Levels is what a router wants to know of the shards without asking them;
// *shardrpc.Levels is one, also a nil one.
type Levels interface {
	// Want has the levels of a SKU kept fresh for a while, if there is room.
	Want(sku allocator.SKU)
	// Cut gives the levels of all shards, if all are known, and the moment up to
	// which nothing is missing in them.
	Cut(sku allocator.SKU) (cut allocator.Cut, asOf time.Time, ok bool)
	// Left is how many units are for sale or on their way, by the same levels.
	Left(sku allocator.SKU) (units allocator.Quantity, ok bool)
	// SoldOut tells whether it is surely and freshly known that there are fewer
	// units for sale or on their way, in all shards together.
	SoldOut(sku allocator.SKU, units allocator.Quantity) bool
	// Stocked lists the shards that have units, the richest first.
	Stocked(sku allocator.SKU) []shardrpc.ShardStock
}

var _ Levels = (*shardrpc.Levels)(nil)

// edgeRefusal refuses a request when fewer units of a SKU of it are known to be
// anywhere, and nothing else could be the reason; nil: the shard decides.
func (r *Router) edgeRefusal(cmd *allocator.Reserve) error {
	var sold *allocator.Line
	for i := range cmd.Lines {
		if l := &cmd.Lines[i]; r.levels.SoldOut(l.SKU, l.Quantity) {
			sold = l
			break
		}
	}
	if sold == nil {
		return nil
	}
	for i := range cmd.Lines {
		if !r.onlyStockMatters(cmd.TTL, &cmd.Lines[i]) {
			return nil
		}
	}
	units, ok := r.levels.Left(sold.SKU)
	if !ok {
		return nil
	}
	r.metrics.edge.Inc()
	r.want(cmd.Lines)
	return &Refusal{
		Code: allocator.CodeInsufficientStock, SKU: sold.SKU,
		Requested: sold.Quantity, Available: max(0, min(units, sold.Quantity-1)),
	}
}

// onlyStockMatters tells whether a line would get past everything that comes
// before the question of stock, by the anchor's policy. This node's clock stands
// for log time here: around the opening and the end of a sale it may make the
// difference between two refusals, never between a refusal and a sale.
func (r *Router) onlyStockMatters(ttl allocator.Millis, l *allocator.Line) bool {
	cut, _, ok := r.levels.Cut(l.SKU)
	if !ok {
		return false
	}
	anchor := int(allocator.Anchor(l.SKU, r.shards))
	if anchor >= len(cut) || !cut[anchor].Known {
		return false
	}
	p := &cut[anchor].Policy
	now := allocator.Millis(r.now().UnixMilli())
	switch {
	case p.Paused, now < p.SaleStarts, p.SaleEnds != 0 && now >= p.SaleEnds:
		return false
	case p.MaxPerReservation != 0 && l.Quantity > p.MaxPerReservation:
		return false
	}
	return p.MaxTTL == 0 || ttl <= p.MaxTTL
}

// want has the levels of SKUs kept fresh.
func (r *Router) want(lines []allocator.Line) {
	for i := range lines {
		r.levels.Want(lines[i].SKU)
	}
}

// wantAfter is want for a request that a shard has answered. SKUs that do not
// exist are not wanted: anybody can make up as many as he likes.
func (r *Router) wantAfter(cmd allocator.Command, code allocator.Code) {
	reserve, ok := cmd.(*allocator.Reserve)
	if ok && code != allocator.CodeSKUNotFound && code != allocator.CodeSKUUnknown {
		r.want(reserve.Lines)
	}
}

// richHome draws a shard for a request that any may decide, by what they have of
// its scarcest SKU: each unit is as likely as any other. So buckets run empty at
// about the same time, and few units have to move. False: nothing is known.
func (r *Router) richHome(lines []allocator.Line) (allocator.ShardID, bool) {
	var stocked []shardrpc.ShardStock
	var need, least allocator.Quantity
	for i := range lines {
		all := r.levels.Stocked(lines[i].SKU)
		if sum := sumStock(all); sum > 0 && (stocked == nil || sum < least) {
			stocked, need, least = all, lines[i].Quantity, sum
		}
	}
	if stocked == nil {
		return 0, false
	}
	enough := 0 // the shards that need no other's units come first
	for enough < len(stocked) && stocked[enough].Available >= need {
		enough++
	}
	if enough > 0 {
		stocked = stocked[:enough]
	}
	return draw(stocked, rand.N(sumStock(stocked))), true
}

// draw gives the shard that has the unit with a number, counted from 0.
func draw(stocked []shardrpc.ShardStock, unit allocator.Quantity) allocator.ShardID {
	for _, s := range stocked {
		if unit -= s.Available; unit < 0 {
			return s.Shard
		}
	}
	return stocked[0].Shard
}

func sumStock(stocked []shardrpc.ShardStock) (sum allocator.Quantity) {
	for _, s := range stocked {
		sum += s.Available
	}
	return sum
}
