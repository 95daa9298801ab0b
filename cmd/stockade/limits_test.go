package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSaleWindowHoldsOnAllShards asks all shards through all nodes from before a
// sale opens until after it has closed. What was sold was sold within, to the
// millisecond of log time, on every shard.
func TestSaleWindowHoldsOnAllShards(t *testing.T) {
	const shards, clients = 16, 32
	nodes := startNodes(t, 3, "--shards", fmt.Sprint(shards))
	opens := time.Now().Add(1500 * time.Millisecond).Truncate(time.Millisecond)
	closes := opens.Add(700 * time.Millisecond)
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/drop", "", map[string]any{
		"on_hand": 1_000_000, "sale_starts_at": opens.UTC().Format(time.RFC3339Nano), "sale_ends_at": closes.UTC().Format(time.RFC3339Nano),
	})
	w := &window{opens: opens, closes: closes, sold: make(map[string]int)}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() { w.ask(t, nodes, c) })
	}
	wg.Wait()
	if w.early.Load() == 0 || w.late.Load() == 0 || len(w.sold) != shards {
		t.Errorf("%d refused before, %d after, sold by %d shards", w.early.Load(), w.late.Load(), len(w.sold))
	}
}

// window is a sale with a beginning and an end.
type window struct {
	opens, closes time.Time
	early, late   atomic.Int64 // refused
	mu            sync.Mutex
	sold          map[string]int // by shard, as ids spell it
}

// ask asks until the sale is over for this client.
func (w *window) ask(t *testing.T, nodes []*process, client int) {
	for n := 0; ; n++ {
		a, err := persist(nodes, client+n, "/v1/reservations", fmt.Sprintf("c%d-%d", client, n), map[string]any{"sku": "drop", "quantity": 1}, startTimeout)
		switch {
		case err != nil:
			t.Error(err)
			return
		case a.status == http.StatusCreated:
			var r reservation
			a.into(t, &r)
			if r.CreatedAt.Before(w.opens) || !r.CreatedAt.Before(w.closes) {
				t.Errorf("%s was sold at %v, outside of %v to %v", r.ID, r.CreatedAt, w.opens, w.closes)
			}
			w.mu.Lock()
			w.sold[strings.TrimPrefix(r.ID, "r-")[:4]]++
			w.mu.Unlock()
		case !strings.Contains(string(a.body), "sale-not-open"):
			t.Errorf("%d %s", a.status, a.body)
			return
		case time.Now().Before(w.closes):
			w.early.Add(1)
		case time.Now().After(w.closes.Add(300 * time.Millisecond)):
			w.late.Add(1)
			return
		}
	}
}

// TestBuyerLimitHoldsAcrossTheCluster has 60 buyers ask ten times each, all at
// once and through all nodes, for a SKU that nobody may buy more than 3 of.
func TestBuyerLimitHoldsAcrossTheCluster(t *testing.T) {
	const buyers, tries, limit = 60, 10, 3
	nodes := startNodes(t, 3, "--shards", "8")
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/rare", "", map[string]any{"on_hand": buyers * limit, "max_per_buyer": limit})
	got := make([]atomic.Int64, buyers)
	var wg sync.WaitGroup
	for n := range buyers * tries {
		wg.Go(func() {
			buyer := n % buyers
			body := map[string]any{"sku": "rare", "quantity": 1, "buyer_id": fmt.Sprintf("buyer-%d", buyer)}
			a, err := persist(nodes, n, "/v1/reservations", fmt.Sprintf("try-%d", n), body, startTimeout)
			switch {
			case err != nil:
				t.Error(err)
			case a.status == http.StatusCreated:
				got[buyer].Add(1)
			case !strings.Contains(string(a.body), "buyer-limit-exceeded"):
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	for buyer := range got {
		if n := got[buyer].Load(); n != limit {
			t.Errorf("buyer %d got %d", buyer, n)
		}
	}
	if a := audit(t, nodes[0], "rare"); a.Reserved != buyers*limit || a.Available != 0 || a.InTransit != 0 {
		t.Errorf("%+v", a)
	}
}

// TestLargeCarts has many carts of 32 SKUs compete for a few units of each, which
// lie on many shards: each gets all or nothing, and as many as there are units
// get all.
func TestLargeCarts(t *testing.T) {
	const lines, units, carts = 32, 6, 16
	nodes := startNodes(t, 3, "--shards", "8")
	var cart []any
	for i := range lines {
		sku := fmt.Sprintf("part-%d", i)
		must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/"+sku, "", map[string]any{"on_hand": units})
		cart = append(cart, map[string]any{"sku": sku, "quantity": 1})
	}
	if won := compete(t, nodes, carts, map[string]any{"lines": cart}); won != units {
		t.Errorf("%d carts were sold, not %d", won, units)
	}
	for i := range lines {
		if a := audit(t, nodes[i%3], fmt.Sprintf("part-%d", i)); a.Reserved != units || a.Available != 0 || a.InTransit != 0 {
			t.Errorf("part %d: %+v", i, a)
		}
	}
}
