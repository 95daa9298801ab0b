package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"stockade/allocator"
	"stockade/router/api"
)

// jsonType is the media type of bodies.
const jsonType = "application/json"

// Values of response headers that never change, so that setting them takes no
// memory. Nobody may write to them.
var (
	jsonHeader     = []string{jsonType}
	problemHeader  = []string{api.ProblemType}
	noStoreHeader  = []string{"no-store"}
	replayedHeader = []string{"true"}
)

// app is what a handler is made of: the routes, and what all of them share.
type app struct {
	routes      *routeTable
	metrics     *Metrics
	log         *slog.Logger
	problemBase string
	ids         allocator.IDMark // only the data port has reservations
	origins     *http.CrossOriginProtection
}

// ServeHTTP answers one request.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.metrics.inFlight.Inc()
	c := newCall(w, r, a)
	defer c.finish(time.Now())
	defer func() { c.rescue(recover()) }()
	a.serve(c)
}

// finish counts the answer and gives the call back.
func (c *call) finish(start time.Time) {
	m := c.app.metrics
	status, code := c.status, c.code
	if code == codeUnknownOutcome && errors.Is(c.r.Context().Err(), context.Canceled) {
		status, code = statusClientGone, codeClientGone // nobody was told, and nothing was wrong
	}
	m.done(c.route, status, code, time.Since(start))
	m.inFlight.Dec()
	if !c.panicked { // after a panic nobody knows who still holds the call
		c.release()
	}
}

// serve finds the route, runs it and answers.
func (a *app) serve(c *call) {
	var allow string
	if c.route, c.arg, allow = a.routes.find(c.r.Method, c.r.URL.EscapedPath()); c.route == nil {
		c.fail(noRoute(c, allow))
		return
	}
	if err := a.origins.Check(c.r); err != nil {
		c.fail(&httpProblem{codeCrossOrigin, "The request comes from a page of another origin: " + err.Error() + "."})
		return
	}
	if c.route.raw != nil {
		c.serveRaw()
		return
	}
	timeout, given := c.timeout()
	if given || !c.route.waits {
		ctx, cancel := context.WithTimeout(c.r.Context(), timeout)
		defer cancel()
		c.ctx = ctx
	}
	c.parseQuery()
	if err := c.route.handle(c); err != nil {
		c.fail(err)
	}
}

// noRoute says why no route answers.
func noRoute(c *call, allow string) error {
	if allow == "" {
		return &httpProblem{codeNoPath, "There is nothing at " + strconv.Quote(c.r.URL.Path) +
			" on this port. Selling is on the data port, administration on the ops port."}
	}
	c.w.Header().Set("Allow", allow)
	return &httpProblem{codeMethod, "The path takes " + allow + "."}
}

// rescue answers a request whose handler panicked, if it has no answer yet.
func (c *call) rescue(fault any) {
	if fault == nil {
		return
	}
	c.panicked = true
	if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler) // the handler's way to end a connection
	}
	c.app.metrics.panics.Inc()
	c.app.log.Error("a request handler panicked", "operation", c.op(), "request_id", c.id,
		"panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
	if c.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is out: only the connection can tell
	}
	c.writeProblem(c.app.internal(), 0)
}

// op names the operation.
func (c *call) op() string {
	if c.route == nil {
		return opNone
	}
	return c.route.op
}

// fail answers with a problem.
func (c *call) fail(err error) {
	p, wait, unexpected := c.app.describe(err, origin{op: c.op(), keyed: c.keyed})
	if unexpected {
		c.app.log.Error("a request could not be answered", "operation", c.op(), "request_id", c.id, "error", err)
	}
	c.writeProblem(p, wait)
}

// writeProblem writes a problem document.
func (c *call) writeProblem(p *api.Problem, wait time.Duration) {
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		c.w.Header().Set("Retry-After", retryAfter(wait))
	}
	c.code = p.Code
	c.out = appendProblem(c.out[:0], p)
	c.write(p.Status, problemHeader)
}

// selfMeasured is up to how long a body net/http tells its length by itself: it has 2,048
// bytes in hand when the handler returns.
const selfMeasured = 2000

// write sends what is in c.out.
func (c *call) write(status int, contentType []string) {
	c.status = status
	h := c.commonHeader()
	h[headerContentType] = contentType
	if len(c.out) > selfMeasured || c.r.Method == http.MethodHead {
		h["Content-Length"] = []string{strconv.Itoa(len(c.out))}
	}
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		c.w.Write(c.out)
	}
}

// commonHeader sets what every answer has.
func (c *call) commonHeader() http.Header {
	h := c.w.Header()
	h[headerRequestID] = []string{c.id}
	h["Cache-Control"] = noStoreHeader
	return h
}

// serveRaw runs a handler that writes its answer itself.
func (c *call) serveRaw() {
	c.commonHeader()
	rec := &recorder{ResponseWriter: c.w, call: c}
	c.route.raw.ServeHTTP(rec, c.r)
	if c.status == 0 {
		c.status = http.StatusOK
	}
}

// recorder notes the status that a raw handler answers with.
type recorder struct {
	http.ResponseWriter
	call *call
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	if r.call.status == 0 {
		r.call.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write notes that an answer is on its way.
func (r *recorder) Write(b []byte) (int, error) {
	if r.call.status == 0 {
		r.call.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
