package shard

import (
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// spreadDeadline bounds the proposals of a spread. Whatever does not go through
// stays at the anchor, where pulls find it.
const spreadDeadline = 5 * time.Second

// spread sends each other shard an equal part of units of sku that were just
// deposited here. It is a head start and nothing more: a shard that gets no
// part pulls what it needs.
func spread(sku allocator.SKU, units allocator.Quantity, home allocator.ShardID, shards int, submit func(*shardrpc.Proposal)) {
	part := units / allocator.Quantity(shards)
	if part == 0 {
		return
	}
	deadline := time.Now().Add(spreadDeadline)
	for to := range shards {
		if allocator.ShardID(to) == home {
			continue
		}
		out := allocator.TransferOut{SKU: sku, To: allocator.ShardID(to), Quantity: min(part, allocator.MaxQuantity)}
		submit(&shardrpc.Proposal{
			Shard:    home,
			Command:  out.AppendTo(nil),
			Deadline: deadline,
			Final:    true,
			Done:     func(shardrpc.Response) {},
		})
	}
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
