package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestReturnsAreSoldAgain sells a SKU while three reservations in ten are given
// up: canceled, or left to expire. As long as somebody wants units the sale goes
// on, and it ends with every unit sold. How soon a returned unit is sold again is
// reported, not asserted: that is for docs/performance.md.
func TestReturnsAreSoldAgain(t *testing.T) {
	const stock, clients = 1_500, 48
	nodes := startNodes(t, 3, "--shards", "16")
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/hot", "", map[string]any{"on_hand": stock})
	r := &returns{stock: stock}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() { r.buy(t, nodes, c) })
	}
	wg.Wait()
	a := audit(t, nodes[0], "hot")
	if r.confirmed.Load() != stock || a.Committed != stock || a.Available != 0 || a.Reserved != 0 || a.InTransit != 0 {
		t.Errorf("%d confirmed; %+v", r.confirmed.Load(), a)
	}
	if n := counter(t, nodes, "stockade_shard_false_refusals_total"); n != 0 {
		t.Errorf("%.0f false refusals", n)
	}
	late := r.lateness()
	if len(late) < stock/10 {
		t.Fatalf("only %d units came back", len(late))
	}
	t.Logf("%d units came back and were sold again: p50 %v, p99 %v, at most %v later", len(late),
		late[len(late)/2].Round(time.Millisecond), late[len(late)*99/100].Round(time.Millisecond), late[len(late)-1].Round(time.Millisecond))
}

// returns is a sale in which units come back.
type returns struct {
	stock     int
	confirmed atomic.Int64

	mu    sync.Mutex
	sold  []time.Time // when units were reserved
	freed []time.Time // when units came back
}

// buy asks for one unit after the other, waiting in line for each, until all are
// sold for good.
func (r *returns) buy(t *testing.T, nodes []*process, client int) {
	rnd := rand.New(rand.NewPCG(uint64(client), 3))
	for n := 0; r.confirmed.Load() < int64(r.stock); n++ {
		fate := rnd.IntN(20)
		body := map[string]any{"sku": "hot", "quantity": 1, "wait_ms": 1000}
		if fate < 3 {
			body["ttl_seconds"] = 1
		}
		a, err := persist(nodes, client+n, "/v1/reservations", fmt.Sprintf("c%d-%d", client, n), body, startTimeout)
		if err != nil {
			t.Error(err)
			return
		}
		if a.status == http.StatusConflict {
			continue
		}
		if a.status != http.StatusCreated {
			t.Errorf("%d %s", a.status, a.body)
			return
		}
		var res reservation
		a.into(t, &res)
		r.note(&r.sold, time.Now())
		if !r.decide(t, nodes[n%len(nodes)], res, fate) {
			return
		}
	}
}

// decide leaves a reservation to expire, cancels it or confirms it.
func (r *returns) decide(t *testing.T, p *process, res reservation, fate int) bool {
	what := "/confirm"
	switch {
	case fate < 3:
		r.note(&r.freed, res.ExpiresAt)
		return true
	case fate < 6:
		what = "/cancel"
	}
	a, err := call(http.MethodPost, p.HTTP, "/v1/reservations/"+res.ID+what, "", nil)
	if err != nil || a.status != http.StatusOK {
		t.Errorf("%s: %v %d %s", what, err, a.status, a.body)
		return false
	}
	if what == "/cancel" {
		r.note(&r.freed, time.Now())
	} else {
		r.confirmed.Add(1)
	}
	return true
}

func (r *returns) note(list *[]time.Time, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*list = append(*list, at)
}

// lateness is how long after the n-th unit came back the n-th was sold beyond the
// stock, while there was demand for it. Units are all alike, so which one it was
// does not matter.
func (r *returns) lateness() (late []time.Duration) {
	slices.SortFunc(r.sold, time.Time.Compare)
	slices.SortFunc(r.freed, time.Time.Compare)
	first := r.sold[r.stock-1] // before, there was more than came back
	for i, sold := range r.sold[r.stock:] {
		if r.freed[i].After(first) {
			late = append(late, max(0, sold.Sub(r.freed[i])))
		}
	}
	slices.Sort(late)
	return late
}
