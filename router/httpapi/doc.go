// Package httpapi is the public HTTP contract: it turns requests into calls of
// the router and the router's answers into documents, and decides nothing about
// stock.
//
// NewData gives the selling API, NewOps the administration API with probes,
// metrics, the OpenAPI document and the pages that explain problems. What both
// do for every request stands in serve.go; which paths there are in
// routes_data.go and routes_ops.go; what can be wrong with a request in body.go,
// document.go and params.go; which problem is answered with which status in
// problems.go.
//
// The handlers are safe for concurrent use, start no goroutine and keep nothing
// of a request after they return.
package httpapi
