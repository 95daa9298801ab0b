package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stockade/router/api"
)

// fakeCluster has both ports of a cluster in one server, with one bucket a SKU. It can be
// told to be wrong in each way that a proof must notice.
type fakeCluster struct {
	*httptest.Server
	fault string // oversell, forget, duplicate, strand, unbalanced, replay

	mu    sync.Mutex
	skus  map[string]*api.Audit
	keys  map[string]*api.Reservation
	byID  map[string]*api.Reservation
	calls int
	least time.Duration // that a request said that it has; 0: none did
	stall chan struct{} // while it is open nobody is answered; nil: everybody is
}

func newFakeCluster(t *testing.T, fault string) *fakeCluster {
	f := &fakeCluster{fault: fault, skus: make(map[string]*api.Audit), keys: make(map[string]*api.Reservation), byID: make(map[string]*api.Reservation)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/cluster", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, api.Cluster{ClusterID: "fake", Nodes: []api.Node{
			{ID: "n1", HTTP: strings.TrimPrefix(f.URL, "http://"), Alive: true, Version: "test"}, {ID: "n2", HTTP: "127.0.0.1:1"},
		}, Shards: make([]api.Shard, 2)})
	})
	mux.HandleFunc("PUT /v1/skus/{sku}", func(w http.ResponseWriter, r *http.Request) {
		var q api.PutSKURequest
		if json.NewDecoder(r.Body).Decode(&q) == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			sku := r.PathValue("sku")
			f.skus[sku] = &api.Audit{SKU: sku, Balanced: fault != "unbalanced", Sums: api.Sums{OnHand: *q.OnHand, Available: *q.OnHand}}
			write(w, http.StatusCreated, struct{}{})
		}
	})
	mux.HandleFunc("POST /v1/skus/{sku}/restock", func(w http.ResponseWriter, r *http.Request) {
		var q api.RestockRequest
		if json.NewDecoder(r.Body).Decode(&q) == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			sku := f.skus[r.PathValue("sku")]
			sku.OnHand, sku.Available = sku.OnHand+q.Quantity, sku.Available+q.Quantity
			write(w, http.StatusOK, struct{}{})
		}
	})
	mux.HandleFunc("GET /v1/skus/{sku}/audit", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		write(w, http.StatusOK, f.skus[r.PathValue("sku")])
	})
	f.sell(mux)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// sell adds the data port.
func (f *fakeCluster) sell(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/reservations", func(w http.ResponseWriter, r *http.Request) {
		var q api.ReserveRequest
		if json.NewDecoder(r.Body).Decode(&q) == nil {
			f.note(r.Header.Get("X-Timeout-Ms"))
			f.wait()
			a := f.reserve(r.Header.Get("Idempotency-Key"), &q)
			if a.Problem != nil {
				write(w, a.Status, a.Problem)
				return
			}
			w.Header().Set("Location", "/v1/reservations/"+a.Reservation.ID)
			write(w, a.Status, a.Reservation)
		}
	})
	mux.HandleFunc("POST /v1/reservations/batch", func(w http.ResponseWriter, r *http.Request) {
		var q api.ReserveBatchRequest
		if json.NewDecoder(r.Body).Decode(&q) == nil {
			var a api.BatchAnswer
			for i := range q.Reservations {
				a.Results = append(a.Results, f.reserve(q.Reservations[i].IdempotencyKey, &q.Reservations[i].ReserveRequest))
			}
			write(w, http.StatusOK, a)
		}
	})
	mux.HandleFunc("POST /v1/reservations/{id}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		held := f.byID[r.PathValue("id")]
		for _, l := range held.Lines {
			sku := f.skus[l.SKU]
			sku.Reserved -= l.Quantity
			if r.PathValue("verb") == "confirm" {
				sku.Committed += l.Quantity
			} else {
				sku.Available += l.Quantity
			}
		}
		write(w, http.StatusOK, held)
	})
}

// note takes the time that a request says it has.
func (f *fakeCluster) note(timeout string) {
	ms, err := strconv.Atoi(timeout)
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := time.Duration(ms) * time.Millisecond; err == nil && (f.least == 0 || d < f.least) {
		f.least = d
	}
}

func (f *fakeCluster) leastTime() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.least
}

func (f *fakeCluster) wait() {
	f.mu.Lock()
	stall := f.stall
	f.mu.Unlock()
	if stall != nil {
		<-stall
	}
}

// reserve is right unless it is told to be wrong.
func (f *fakeCluster) reserve(key string, q *api.ReserveRequest) api.BatchResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	if held := f.keys[key]; held != nil && f.fault != "duplicate" {
		return api.BatchResult{Status: http.StatusCreated, Reservation: held, Replayed: true}
	}
	lines := q.Lines
	if q.SKU != "" {
		lines = []api.Line{{SKU: q.SKU, Quantity: q.Quantity}}
	}
	for _, l := range lines {
		sku := f.skus[l.SKU]
		if left := sku.Available; left < l.Quantity && f.fault != "oversell" || f.fault == "strand" && left <= 3 {
			return api.BatchResult{Status: http.StatusConflict, Problem: &api.Problem{Type: "/problems/x", Status: http.StatusConflict, Code: "insufficient-stock"}}
		}
	}
	f.calls++
	for _, l := range lines {
		if sku := f.skus[l.SKU]; f.fault != "forget" || f.calls%10 != 0 {
			sku.Available -= l.Quantity
			sku.Reserved += l.Quantity
		}
	}
	held := &api.Reservation{ID: fmt.Sprintf("r-%d", f.calls), Status: api.StatusReserved, Lines: lines}
	f.keys[key], f.byID[held.ID] = held, held
	if q.TTLSeconds <= int64(shortHold/time.Second) {
		time.AfterFunc(time.Duration(q.TTLSeconds)*time.Second, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, l := range lines {
				f.skus[l.SKU].Reserved -= l.Quantity
				f.skus[l.SKU].Available += l.Quantity
			}
		})
	}
	return api.BatchResult{Status: http.StatusCreated, Reservation: held}
}

func write(w http.ResponseWriter, status int, document any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(document) // a client that has gone needs no answer
}

// config is a short run against the fake.
func (f *fakeCluster) config(workload string) Config {
	c := Default()
	c.Ops, c.Workload, c.Connections, c.Warmup, c.Duration, c.Repeat, c.Seed = f.URL, workload, 4, 0, 300*time.Millisecond, 0.2, 7
	return c
}
