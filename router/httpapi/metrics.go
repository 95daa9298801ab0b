package httpapi

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// opNone counts requests that no route answers.
const opNone = "none"

// Metrics counts what the handlers do. One Metrics serves all handlers of a
// process. Its labels are bounded: operations are the routes', codes the rows of
// the table of problems.
type Metrics struct {
	requests *prometheus.CounterVec
	items    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
}

// NewMetrics registers the metrics. It panics when they are registered already,
// which is a fault of the wiring.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_http_requests_total",
			Help: "HTTP requests answered, by operation, HTTP status and problem code (ok: none; client-gone: it left before).",
		}, []string{"operation", "status", "code"}),
		items: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_http_batch_items_total",
			Help: "Items of batches answered, by operation and problem code (ok: none).",
		}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "stockade_http_request_duration_seconds",
			Help:    "Time from the arrival of a request's header to the end of its answer, by operation.",
			Buckets: []float64{.00025, .0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4, 30},
		}, []string{"operation"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stockade_http_in_flight",
			Help: "HTTP requests that are being answered now.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_http_panics_total",
			Help: "Panics in HTTP handlers, each answered with 500 and logged.",
		}),
	}
	reg.MustRegister(m.requests, m.items, m.seconds, m.inFlight, m.panics)
	return m
}

// A client that went away before its answer counts as this in metrics, with the
// status that nginx has made usual. Nobody is ever told.
const (
	statusClientGone = 499
	codeClientGone   = "client-gone"
)

// done counts an answered request.
func (m *Metrics) done(r *route, status int, code string, took time.Duration) {
	op := opNone
	if r != nil {
		op = r.op
		r.seconds.Observe(took.Seconds())
	}
	m.requests.WithLabelValues(op, statusLabel(status), code).Inc()
}

// statusLabel writes a status without allocating for the common ones.
func statusLabel(status int) string {
	switch status {
	case 200:
		return "200"
	case 201:
		return "201"
	case 409:
		return "409"
	default:
		return strconv.Itoa(status)
	}
}
