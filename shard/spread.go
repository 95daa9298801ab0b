package shard

import (
	"time"

	"stockade/allocator"
	"stockade/shard/rebalance"
	"stockade/shard/shardrpc"
)

// spreadDeadline bounds the proposals of a spread. Whatever does not go through
// stays at the anchor, where pulls find it.
const spreadDeadline = 5 * time.Second

// spread sends other shards their part of units of sku that were just deposited
// here. It is a head start and nothing more: a shard that gets no part pulls what
// it needs.
func spread(sku allocator.SKU, units allocator.Quantity, home homeShard, levels levelTable) {
	var here allocator.BucketReport
	home.read(func(s *allocator.State) { here = s.Level(sku) })
	buckets := make([]rebalance.Bucket, home.shards())
	if cut, _, ok := levels.Cut(sku); ok {
		buckets = rebalance.Buckets(cut)
	}
	for i := range buckets {
		buckets[i].Shard = allocator.ShardID(i)
	}
	buckets[home.id()].Available = here.Available
	deadline := time.Now().Add(spreadDeadline)
	for _, m := range rebalance.Spread(home.id(), min(units, here.Available), buckets) {
		home.submit(&shardrpc.Proposal{
			Shard:    home.id(),
			Command:  transferOf(sku, m),
			Deadline: deadline,
			Final:    true,
			Done:     func(shardrpc.Response) {},
		})
	}
}

// transferOf is the command for a move, as far as one command reaches.
func transferOf(sku allocator.SKU, m rebalance.Move) []byte {
	out := allocator.TransferOut{SKU: sku, To: m.To, Quantity: min(m.Quantity, allocator.MaxQuantity)}
	return out.AppendTo(nil)
}

// deposit tells what a command put into stock, if it did.
func deposit(command, result []byte) (sku allocator.SKU, units allocator.Quantity) {
	switch allocator.CommandKind(command) {
	case allocator.KindPutSKU, allocator.KindRestock:
	default:
		return "", 0
	}
	var res allocator.Result
	if allocator.DecodeResult(result, &res) != nil || res.Code != allocator.CodeOK || res.Replayed {
		return "", 0
	}
	cmd, err := allocator.DecodeCommand(command)
	if err != nil {
		return "", 0
	}
	switch cmd := cmd.(type) {
	case *allocator.PutSKU:
		if res.Created {
			return cmd.SKU, cmd.OnHand - cmd.Policy.SafetyStock
		}
	case *allocator.Restock:
		return cmd.SKU, cmd.Quantity
	}
	return "", 0
}
