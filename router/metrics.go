package router

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
)

// operation names what a request asks for, as the metrics spell it.
type operation string

const (
	opReserve      operation = "reserve"
	opConfirm      operation = "confirm"
	opCancel       operation = "cancel"
	opExtend       operation = "extend"
	opReturn       operation = "return"
	opBatch        operation = "reserve-batch"
	opActions      operation = "actions-batch"
	opReservation  operation = "reservation"
	opAvailability operation = "availability"
	opPutSKU       operation = "put-sku"
	opSKU          operation = "sku"
	opSKUs         operation = "skus"
	opRestock      operation = "restock"
	opAdjust       operation = "adjust"
	opPause        operation = "pause"
	opAudit        operation = "audit"
	opCluster      operation = "cluster"
)

var operations = []operation{
	opReserve, opConfirm, opCancel, opExtend, opReturn, opBatch, opActions, opReservation, opAvailability,
	opPutSKU, opSKU, opSKUs, opRestock, opAdjust, opPause, opAudit, opCluster,
}

// Outcomes other than the codes of package allocator.
const (
	outcomeInvalid     = "invalid"
	outcomeUnavailable = "unavailable"
	outcomeUnknown     = "unknown"
	outcomeFault       = "fault"
)

// Metrics are a router's metrics. Labels are bounded: operations and outcomes
// are closed lists.
type Metrics struct {
	requests *prometheus.CounterVec
	inFlight prometheus.Gauge
	rounds   prometheus.Counter

	waiting   prometheus.Gauge
	edge      prometheus.Counter
	abandoned prometheus.Counter
	replays   prometheus.Counter

	byOp map[operation]*operationMetrics
}

// operationMetrics are one operation's series.
type operationMetrics struct {
	requests *prometheus.CounterVec // by outcome
	ok       prometheus.Counter     // the usual one, looked up once

	mu     sync.RWMutex
	series map[string]prometheus.Counter // of the other outcomes that there were
}

// NewMetrics makes the metrics and registers them with r. With a nil r they
// count for nobody. It panics when r has them already.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stockade_router_requests_total",
			Help: "Requests by operation and outcome; each item of a batch counts.",
		}, []string{"operation", "outcome"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stockade_router_requests_in_flight",
			Help: "Requests under way, a batch counting as its items.",
		}),
		rounds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_router_cut_rounds_total",
			Help: "Times that all shards were asked for a SKU, until their reports fitted together.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "stockade_router_requests_waiting",
			Help: "Requests that may wait in line for units to come back, and are not among those in flight.",
		}),
		edge: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_router_edge_refusals_total",
			Help: "Requests without key and buyer that were refused for lack of stock by levels alone; no shard was asked.",
		}),
		abandoned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_router_abandoned_reservations_total",
			Help: "Reservations without a key that were canceled, because their client had left before they were made.",
		}),
		replays: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stockade_router_replays_total",
			Help: "Requests that were answered with the first outcome of their key.",
		}),
		byOp: make(map[operation]*operationMetrics),
	}
	for _, op := range operations {
		m.byOp[op] = m.newOperation(op)
	}
	if r != nil {
		r.MustRegister(m.requests, m.inFlight, m.rounds, m.waiting, m.edge, m.abandoned, m.replays)
	}
	return m
}

func (m *Metrics) newOperation(op operation) *operationMetrics {
	requests := m.requests.MustCurryWith(prometheus.Labels{"operation": string(op)})
	return &operationMetrics{
		requests: requests,
		ok:       requests.WithLabelValues(allocator.CodeOK.String()),
		series:   make(map[string]prometheus.Counter),
	}
}

func (m *Metrics) operation(op operation) *operationMetrics { return m.byOp[op] }

// count notes that n requests ended with err.
func (o *operationMetrics) count(err error, n int) {
	if err == nil {
		o.ok.Add(float64(n))
		return
	}
	o.outcome(outcomeOf(err)).Add(float64(n))
}

// outcome is the series of an outcome. It is remembered: finding it by its label shows in
// a profile.
func (o *operationMetrics) outcome(name string) prometheus.Counter {
	o.mu.RLock()
	c, ok := o.series[name]
	o.mu.RUnlock()
	if ok {
		return c
	}
	c = o.requests.WithLabelValues(name)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.series[name] = c
	return c
}

// outcomeOf names how a request failed.
func outcomeOf(err error) string {
	if refusal, ok := errors.AsType[*Refusal](err); ok { // by far the most frequent
		return refusal.Code.String()
	}
	return outcomeOfOther(err)
}

func outcomeOfOther(err error) string {
	var (
		unavailable *Unavailable
		unknown     *UnknownOutcome
		invalid     *Invalid
	)
	switch {
	case errors.As(err, &unavailable):
		return outcomeUnavailable
	case errors.As(err, &unknown):
		return outcomeUnknown
	case errors.As(err, &invalid):
		return outcomeInvalid
	}
	return outcomeFault
}
