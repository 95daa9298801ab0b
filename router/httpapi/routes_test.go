package httpapi

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// newRegistry gives a registry for metrics that nobody reads.
func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

// allRoutes lists the routes of a port.
func allRoutes(data bool) []route {
	if data {
		return dataRoutes(newFakeRouter())
	}
	return opsRoutes(&OpsConfig{Router: newFakeRouter(), Health: &fakeHealth{}, MetricsPage: http.NotFoundHandler()})
}

// TestFindRoute covers how paths are matched.
func TestFindRoute(t *testing.T) {
	data := newRouteTable(allRoutes(true), NewMetrics(newRegistry()))
	ops := newRouteTable(allRoutes(false), NewMetrics(newRegistry()))
	for _, row := range []struct {
		table        *routeTable
		method, path string
		op, arg      string
		allow        string
	}{
		{data, "POST", "/v1/reservations", opReserve, "", ""},
		{data, "GET", "/v1/reservations", "", "", "POST"},
		{data, "POST", "/v1/reservations/", "", "", ""},
		{data, "POST", "/v1/reservations/batch", opReserveBatch, "", ""},
		{data, "GET", "/v1/reservations/r-1", opReservation, "r-1", ""},
		{data, "HEAD", "/v1/reservations/r-1", opReservation, "r-1", ""},
		{data, "DELETE", "/v1/reservations/r-1", "", "", "GET, HEAD"},
		{data, "POST", "/v1/reservations/r-1/confirm", opConfirm, "r-1", ""},
		{data, "POST", "/v1/reservations/r-1/confirm/", "", "", ""},
		{data, "GET", "/v1/reservations/r-1/return", "", "", "POST"},
		{data, "GET", "/v1/skus/a%3Ab/availability", opAvailability, "a:b", ""},
		{data, "GET", "/v1/skus/a%2Fb/availability", opAvailability, "a/b", ""},
		{data, "GET", "/v1/skus//availability", "", "", ""},
		{data, "GET", "/v1/skus/%zz/availability", "", "", ""},
		{data, "GET", "", "", "", ""},
		{data, "GET", "/", "", "", ""},
		{data, "GET", "v1/reservations/r-1", "", "", ""},
		{ops, "PUT", "/v1/skus/demo", opPutSKU, "demo", ""},
		{ops, "PATCH", "/v1/skus/demo", "", "", "GET, HEAD, PUT"},
		{ops, "GET", "/v1/skus/..", opSKU, "..", ""},
		{ops, "GET", "/debug/pprof/", opPprof, "", ""},
		{ops, "GET", "/debug/pprof/heap", opPprof, "", ""},
		{ops, "GET", "/debug/pprof", "", "", ""},
		{ops, "GET", "/problems", opProblems, "", ""},
		{ops, "GET", "/problems/overloaded", opProblem, "overloaded", ""},
	} {
		r, arg, allow := row.table.find(row.method, row.path)
		op := ""
		if r != nil {
			op = r.op
		}
		if op != row.op || arg != row.arg || allow != row.allow {
			t.Errorf("%s %s: %q %q %q, want %q %q %q", row.method, row.path, op, arg, allow, row.op, row.arg, row.allow)
		}
	}
}
