package shard

import (
	"context"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// TestDeadStockIsNamed asks real nodes, through the dispatcher, for a unit that
// lies on a shard without a majority. The deadlines along the way must leave the
// home shard the time to say which shard is missing: an unknown outcome would be
// wrong, because nothing was done.
func TestDeadStockIsNamed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 4, 2, func(cfg *Config) { cfg.Replicas = 3 })
		c.startAll()
		defer c.stopAll()
		sku := allocator.SKU(skuOn(1, 2, "far"))
		c.leader(1)
		if res := c.apply(c.nodes["n1"], 1, putSKU(string(sku), 1).AppendTo(nil)); !res.Created {
			t.Fatal(res)
		}
		c.stop("n4") // shard 1 lives on n2, n3, n4; shard 0 on n1, n2, n3
		c.stop("n3")
		c.leader(0)
		<-time.After(3 * time.Second)
		for i := range 5 {
			cmd := &allocator.Reserve{Body: 1, Lines: []allocator.Line{{SKU: sku, Quantity: 1}}}
			cmd.Key[0], cmd.Key[1] = 7, byte(i)
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			r := c.nodes["n1"].Dispatcher().Do(ctx, 0, cmd.AppendTo(nil))
			cancel()
			if r.Outcome != shardrpc.NotApplied || r.Reason != shardrpc.ReasonStockUnreachable || r.Shard != 1 {
				t.Errorf("%v %v, shard %d", r.Outcome, r.Reason, r.Shard)
			}
		}
	})
}
