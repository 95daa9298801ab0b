package httpapi

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/pprof"
)

// The operations of the ops port that are not administration.
const (
	opMetrics = "metrics"
	opOpenAPI = "openapi"
	opPprof   = "pprof"
)

// OpsConfig is what the handler of the ops port is made of. All fields but
// ProblemBase are required.
type OpsConfig struct {
	Router      Administrator
	Health      Health
	Metrics     *Metrics
	MetricsPage http.Handler // answers /metrics
	Log         *slog.Logger // gets faults of the program only, never a line per request
	// ProblemBase is put before /problems/{code} in the type of a problem; see
	// DataConfig.
	ProblemBase string
}

// NewOps gives the handler of the ops port: the administration API, the probes,
// /metrics, /openapi.json, the pages that explain problems, and /debug/pprof/.
// The error names what is missing in the configuration.
func NewOps(c OpsConfig) (http.Handler, error) {
	if c.Router == nil || c.Health == nil || c.Metrics == nil || c.MetricsPage == nil || c.Log == nil {
		return nil, errors.New("the ops handler needs a router, health, metrics, a metrics page and a log")
	}
	return newApp(opsRoutes(&c), c.Metrics, c.Log, c.ProblemBase), nil
}

// opsRoutes lists the routes of the ops port.
func opsRoutes(c *OpsConfig) []route {
	routes := (&administration{router: c.Router}).routes()
	routes = append(routes, (&probes{health: c.Health}).routes()...)
	routes = append(routes, problemRoutes()...)
	routes = append(routes,
		route{method: "GET", path: "/openapi.json", op: opOpenAPI, handle: openAPI},
		route{method: "GET", path: "/metrics", op: opMetrics, raw: c.MetricsPage},
	)
	return append(routes, pprofRoutes()...)
}

// pprofRoutes lists the profiler's pages.
func pprofRoutes() []route {
	return []route{
		{method: "GET", path: "/debug/pprof/cmdline", op: opPprof, raw: http.HandlerFunc(pprof.Cmdline)},
		{method: "GET", path: "/debug/pprof/profile", op: opPprof, raw: http.HandlerFunc(pprof.Profile)},
		{method: "GET", path: "/debug/pprof/symbol", op: opPprof, raw: http.HandlerFunc(pprof.Symbol)},
		{method: "POST", path: "/debug/pprof/symbol", op: opPprof, raw: http.HandlerFunc(pprof.Symbol)},
		{method: "GET", path: "/debug/pprof/trace", op: opPprof, raw: http.HandlerFunc(pprof.Trace)},
		{method: "GET", path: "/debug/pprof/*", op: opPprof, raw: http.HandlerFunc(pprof.Index)},
	}
}
