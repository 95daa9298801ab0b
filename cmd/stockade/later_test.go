package main_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"stockade/bench/history"
)

// What the clients of a campaign do with a reservation later, and what happens to the
// stock meanwhile.

const (
	belowReserved = "below-reserved"

	// keepPace is between two changes of the stock, at most, and maxMissing how many units
	// one of them may take away.
	keepPace   = 2 * time.Second
	maxMissing = saleStock / 2

	busyCalls = 5000 // enough for all kinds of calls to be among them
)

// act sends a request about a reservation, now and then to two nodes at once.
func (b *buyer) act(call history.Call, kind history.Kind, body any, twice bool) history.Answer {
	call.Kind = kind
	path := "/v1/reservations/" + call.ID + "/" + string(kind)
	first := b.rand.IntN(len(b.c.nodes))
	var again sync.WaitGroup
	if twice {
		again.Go(func() { b.c.insist(first+1, call, path, body) })
	}
	got := b.c.insist(first, call, path, body)
	again.Wait()
	return got
}

// extend lets a reservation live so long from now on; 0: a day.
func (b *buyer) extend(call history.Call, ttl time.Duration) {
	if ttl == 0 {
		ttl = 24 * time.Hour
	}
	call.TTL = ttl
	b.act(call, history.Extend, map[string]any{"ttl_seconds": int(ttl.Seconds())}, false)
}

// takeBack returns what was sold, now and then in parts, and some returns sent twice at
// once.
func (b *buyer) takeBack(call history.Call) {
	sold := call.Units
	for left, part := sold, 1; left > 0; part++ {
		call.Op, call.Units = fmt.Sprintf("%s-return-%d", call.Key, part), 1+b.rand.IntN(left)
		var body any
		if call.Units < left || b.rand.IntN(2) == 0 { // without lines it is all that is left
			body = map[string]any{"lines": []map[string]any{{"sku": call.SKU, "quantity": call.Units}}}
		}
		got := b.act(call, history.Return, body, b.rand.IntN(4) == 0)
		if got.Outcome != history.Sold && got.Outcome != history.Returned {
			b.c.t.Errorf("return %d of %s: %s %s", call.Units, call.ID, got.Outcome, got.Code)
			return
		}
		left -= call.Units
	}
}

// restock changes the stock of the present sale until the campaign is over: some units are
// taken away, if they are not held, and brought back later. So there is never more than in
// the beginning, and clients compete for what there is.
func (c *campaign) restock() {
	r := rand.New(rand.NewPCG(c.seed, campaignClients+1))
	missing := map[string]int{}
	for n := 0; !c.over.Load() && !c.t.Failed(); n++ {
		<-time.After(time.Duration(r.Int64N(int64(keepPace))))
		long, brief := skusOf(c.sale.Load())
		sku := []string{long, brief}[r.IntN(2)]
		call := history.Call{Client: campaignClients, Kind: history.Adjust, Key: fmt.Sprintf("stock-%d", n), SKU: sku, Units: -1 - r.IntN(maxMissing)}
		body := map[string]any{"delta": call.Units, "reason": "count"}
		if missing[sku] > 0 {
			call.Kind, call.Units = history.Restock, missing[sku]
			body = map[string]any{"quantity": call.Units}
		}
		got := c.insist(r.IntN(len(c.nodes)), call, "/v1/skus/"+sku+"/"+string(call.Kind), body)
		if got.Outcome == history.Done {
			missing[sku] -= call.Units
		}
	}
}

// busy fails a campaign in which something was never done.
func (c *campaign) busy(report history.Report) {
	if report.Calls < busyCalls {
		return
	}
	for _, kind := range []history.Kind{history.Extend, history.Return, history.Restock, history.Adjust} {
		if report.Done[kind] == 0 {
			c.t.Errorf("of %d calls none was done of this kind: %s", report.Calls, kind)
		}
	}
}
