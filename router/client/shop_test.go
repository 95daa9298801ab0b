package client_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"stockade/router/api"
)

// shop is a server with a little of the API, for the examples.
type shop struct {
	*httptest.Server
	mu    sync.Mutex
	stock map[string]int64
	held  map[string]*api.Reservation // by key and by id
}

func newShop(stock map[string]int64) *shop {
	s := &shop{stock: stock, held: make(map[string]*api.Reservation)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/reservations", func(w http.ResponseWriter, r *http.Request) {
		var q api.ReserveRequest
		if json.NewDecoder(r.Body).Decode(&q) == nil {
			a := s.reserve(r.Header.Get("Idempotency-Key"), &q)
			answer(w, a.Status, a)
		}
	})
	mux.HandleFunc("POST /v1/reservations/batch", func(w http.ResponseWriter, r *http.Request) {
		var q api.ReserveBatchRequest
		var a api.BatchAnswer
		if json.NewDecoder(r.Body).Decode(&q) == nil {
			for i := range q.Reservations {
				a.Results = append(a.Results, s.reserve(q.Reservations[i].IdempotencyKey, &q.Reservations[i].ReserveRequest))
			}
			answer(w, http.StatusOK, api.BatchResult{}, a)
		}
	})
	mux.HandleFunc("POST /v1/reservations/{id}/confirm", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		held := s.held[r.PathValue("id")]
		held.Status = api.StatusConfirmed
		answer(w, http.StatusOK, api.BatchResult{Reservation: held})
	})
	mux.HandleFunc("GET /v1/nodes", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, api.BatchResult{}, api.NodeList{ClusterID: "shop", Nodes: []api.NodeAddress{
			{ID: "n1", HTTP: strings.TrimPrefix(s.URL, "http://"), Alive: true},
		}})
	})
	s.Server = httptest.NewServer(mux)
	return s
}

func (s *shop) reserve(key string, q *api.ReserveRequest) api.BatchResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := s.stock[q.SKU]; left < q.Quantity {
		return api.BatchResult{Status: http.StatusConflict, Problem: &api.Problem{
			Status: http.StatusConflict, Code: "insufficient-stock", SKU: q.SKU, Available: &left,
		}}
	}
	s.stock[q.SKU] -= q.Quantity
	id := fmt.Sprintf("r-%d", len(s.held)/2+1)
	r := &api.Reservation{ID: id, Status: api.StatusReserved, Lines: []api.Line{{SKU: q.SKU, Quantity: q.Quantity}}}
	s.held[key], s.held[id] = r, r
	return api.BatchResult{Status: http.StatusCreated, Reservation: r}
}

// answer writes the reservation or problem of a result, or another document.
func answer(w http.ResponseWriter, status int, r api.BatchResult, other ...any) {
	var document any = r.Reservation
	if r.Problem != nil {
		document = r.Problem
	}
	if len(other) > 0 {
		document = other[0]
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(document) // a client that has gone needs no answer
}
