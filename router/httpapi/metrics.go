package httpapi

import (
	"strconv"
	"sync"
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
			Name:                        "stockade_http_request_duration_seconds",
			Help:                        "Time from the arrival of a request's header to the end of its answer, by operation.",
			Buckets:                     []float64{.005, .05, .5},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
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
	if r == nil {
		m.requests.WithLabelValues(opNone, strconv.Itoa(status), code).Inc()
		return
	}
	r.seconds.Observe(took.Seconds())
	r.ended.counter(m.requests, ending{status, code}).Inc()
}

// ending is how a request ended.
type ending struct {
	status int
	code   string
}

// answerCounts counts the answers of one operation. It remembers their series, because
// finding one by three labels shows in a profile. It is safe for concurrent use.
type answerCounts struct {
	op string

	mu     sync.RWMutex
	series map[ending]prometheus.Counter // as many as there are codes
}

func newAnswerCounts(op string) *answerCounts {
	return &answerCounts{op: op, series: make(map[ending]prometheus.Counter)}
}

func (a *answerCounts) counter(all *prometheus.CounterVec, how ending) prometheus.Counter {
	a.mu.RLock()
	c, ok := a.series[how]
	a.mu.RUnlock()
	if ok {
		return c
	}
	c = all.WithLabelValues(a.op, strconv.Itoa(how.status), how.code)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.series[how] = c
	return c
}
