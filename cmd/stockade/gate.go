package main

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"stockade/router/api"
	"stockade/router/httpapi"
)

// startingCode is the problem that a gate answers with.
const startingCode = "not-ready"

// gate is the handler of a server that listens before there is anything to
// serve: a node may wait for others when it starts for the first time. Until it
// is opened it says so; probes see a process that lives and is not ready. It is
// safe for concurrent use.
type gate struct {
	behind atomic.Pointer[http.Handler]
}

// open lets requests through to h.
func (g *gate) open(h http.Handler) { g.behind.Store(&h) }

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := g.behind.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	w.Header().Set("Request-Id", httpapi.RequestID(r)) // every answer has one
	if r.URL.Path == "/livez" {
		w.Write([]byte("live\n"))
		return
	}
	e, _ := httpapi.Explain(startingCode)
	w.Header().Set("Content-Type", api.ProblemType)
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(api.Problem{ // a client that left can't be told
		Type: "/problems/" + e.Code, Title: e.Title, Status: http.StatusServiceUnavailable,
		Code: e.Code, Retryable: e.Retryable, Detail: "The node is still starting.",
	})
}
