package httpapi

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"stockade/router/api"
)

// maxPooled is the largest buffer kept for the next request: a few big batches
// must not leave their memory with every pooled call.
const maxPooled = 256 << 10

// call is one request on its way through a handler. It is used by one goroutine.
type call struct {
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context // with the request's deadline
	app   *app
	route *route
	arg   string // the path's parameter
	id    string // Request-Id
	query url.Values
	errs  []api.FieldError // faults of headers and parameters
	keyed bool             // the request can be repeated: it has an idempotency key or is repeatable by nature
	doc   document
	body  []byte // as it was received
	out   []byte // the answer

	status int    // of the answer; 0 while there is none
	code   string // what the answer counts as in the metrics

	panicked bool
}

// calls keeps calls with their buffers for the next request.
var calls = sync.Pool{New: func() any { return new(call) }}

// newCall takes a call from the pool.
func newCall(w http.ResponseWriter, r *http.Request, a *app) *call {
	c := calls.Get().(*call)
	c.w, c.r, c.ctx, c.app, c.id = w, r, r.Context(), a, RequestID(r)
	c.status, c.code, c.doc.ids = 0, codeOK, a.ids
	c.keyed = r.Method == http.MethodGet || r.Method == http.MethodHead
	return c
}

// release puts the call back. Nothing may hold on to it.
func (c *call) release() {
	if cap(c.body) > maxPooled || cap(c.out) > maxPooled {
		return
	}
	c.w, c.r, c.ctx, c.app, c.route, c.query, c.errs, c.doc.errs = nil, nil, nil, nil, nil, nil, nil, nil
	c.arg, c.id = "", ""
	calls.Put(c)
}

// newRequestID makes an id that is not used a second time by accident.
func newRequestID() string {
	var b [32]byte
	id := strconv.AppendUint(b[:0], rand.Uint64()|1<<63, 36)
	return string(strconv.AppendUint(id, rand.Uint64()>>1|1<<62, 36))
}

// open reads the body and starts the document. It reports whether there is one
// to decode; if not, and one is needed, the fault is noted.
func (c *call) open(limit int, optional bool) bool {
	c.doc.errs = nil
	if !c.readBody(limit) {
		return false
	}
	if len(c.body) == 0 && optional {
		return false
	}
	c.doc.open(c.body)
	if len(c.body) > 0 {
		c.checkContentType()
	}
	return !c.doc.broken
}

// readBody reads all of the body, at most limit bytes of it. The limit holds
// for bodies of announced and of unknown length.
func (c *call) readBody(limit int) bool {
	c.body = c.body[:0]
	if c.r.ContentLength > int64(limit) {
		return c.tooLarge(limit)
	}
	for {
		if len(c.body) == cap(c.body) {
			c.body = append(c.body, 0)[:len(c.body)]
		}
		room := c.body[len(c.body):min(cap(c.body), limit+1)]
		n, err := c.r.Body.Read(room)
		c.body = c.body[:len(c.body)+n]
		switch {
		case len(c.body) > limit:
			return c.tooLarge(limit)
		case errors.Is(err, io.EOF):
			return true
		case err != nil:
			c.doc.fault("", "the body could not be read to its end")
			return false
		}
	}
}

// tooLarge refuses a body over the limit and what may follow on the connection.
func (c *call) tooLarge(limit int) bool {
	c.w.Header().Set("Connection", "close")
	c.doc.fault("", "the body is over the limit of "+strconv.Itoa(limit)+" bytes")
	return false
}

// checkContentType wants JSON in UTF-8 without a content coding.
func (c *call) checkContentType() {
	if coding := c.r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		c.badHeader("Content-Encoding", "is not supported: send the body as it is")
	}
	value, _ := c.header(headerContentType)
	if value == jsonType {
		return
	}
	media, params, err := mime.ParseMediaType(value)
	charset, given := params["charset"]
	if err != nil || media != jsonType || given && !strings.EqualFold(charset, "utf-8") {
		c.badHeader(headerContentType, "must be application/json")
	}
}

// faults gives everything that is wrong with the request, or nil.
func (c *call) faults() error {
	if len(c.errs) == 0 && len(c.doc.errs) == 0 {
		return nil
	}
	return &badRequest{errs: append(c.errs, c.doc.errs...)}
}
