package httpapi

import (
	"errors"
	"log/slog"
	"net/http"

	"stockade/allocator"
	"stockade/router"
)

// The operations of the data port, as metrics and the OpenAPI document name them.
const (
	opReserve      = "reserve"
	opReserveBatch = "reserve_batch"
	opReservation  = "get_reservation"
	opConfirm      = "confirm"
	opCancel       = "cancel"
	opExtend       = "extend"
	opReturn       = "return"
	opActions      = "actions_batch"
	opAvailability = "availability"
	opNodes        = "nodes"
)

// actionOps names the operation that an action of a batch is.
var actionOps = map[router.ActionOp]string{
	router.ActionConfirm: opConfirm,
	router.ActionCancel:  opCancel,
	router.ActionExtend:  opExtend,
	router.ActionReturn:  opReturn,
}

// DataConfig is what the selling API is made of. All fields but ProblemBase and
// IDs are required.
type DataConfig struct {
	Router  Seller
	Metrics *Metrics
	Log     *slog.Logger // gets faults of the program only, never a line per request
	// ProblemBase is put before /problems/{code} in the type of a problem, such as
	// "https://stock.example.com". Empty gives relative references.
	ProblemBase string
	IDs         allocator.IDMark // of the cluster; the same on all its nodes and routers
}

// NewData gives the handler of the data port: the selling API and the pages that
// explain problems. The error names what is missing in the configuration.
func NewData(c DataConfig) (http.Handler, error) {
	if c.Router == nil || c.Metrics == nil || c.Log == nil {
		return nil, errors.New("the data handler needs a router, metrics and a log")
	}
	a := newApp(dataRoutes(c.Router), c.Metrics, c.Log, c.ProblemBase)
	a.ids = c.IDs
	return a, nil
}

// newApp puts a handler together.
func newApp(routes []route, m *Metrics, log *slog.Logger, problemBase string) *app {
	return &app{
		routes:      newRouteTable(routes, m),
		metrics:     m,
		log:         log,
		problemBase: problemBase,
		origins:     http.NewCrossOriginProtection(),
	}
}

// dataRoutes lists the routes of the data port.
func dataRoutes(r Seller) []route {
	s := &selling{router: r}
	const reservation = "/v1/reservations/{id}"
	return append([]route{
		{method: "POST", path: "/v1/reservations", op: opReserve, waits: true, handle: s.reserve},
		{method: "POST", path: "/v1/reservations/batch", op: opReserveBatch, waits: true, handle: s.reserveBatch},
		{method: "GET", path: reservation, op: opReservation, handle: s.get},
		{method: "POST", path: reservation + "/confirm", op: opConfirm, handle: s.confirm},
		{method: "POST", path: reservation + "/cancel", op: opCancel, handle: s.cancel},
		{method: "POST", path: reservation + "/extend", op: opExtend, handle: s.extend},
		{method: "POST", path: reservation + "/return", op: opReturn, handle: s.giveBack},
		{method: "POST", path: "/v1/actions/batch", op: opActions, handle: s.actions},
		{method: "GET", path: "/v1/skus/{sku}/availability", op: opAvailability, query: []string{"consistency"}, handle: func(c *call) error { return availability(c, r.Availability) }},
		{method: "GET", path: "/v1/nodes", op: opNodes, handle: s.nodes},
	}, problemRoutes()...)
}
