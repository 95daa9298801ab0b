package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"stockade/router/api"
)

// conn is one connection of the driver, to one node at a time. It is used by one
// goroutine. The driver's HTTP client is fasthttp because it shares processors with what
// it measures, and takes less of them than net/http.
type conn struct {
	clients []*fasthttp.HostClient // one for each node, each with one connection
	at      int                    // the node in use
	wait    []byte                 // the last request's time as a header
	body    []byte
	items   []Outcome // of the last reply
}

const (
	// answerSlack is how much longer than the server the driver waits.
	answerSlack = 500 * time.Millisecond
	// maxAnswer has room for the answer to a full batch.
	maxAnswer = 4 << 20
)

func newConn(nodes []string, worker int) *conn {
	c := &conn{at: worker % len(nodes)}
	for _, addr := range nodes {
		c.clients = append(c.clients, &fasthttp.HostClient{
			Addr: addr, DialDualStack: true, MaxConns: 1, MaxResponseBodySize: maxAnswer, NoDefaultUserAgentHeader: true,
			// Nothing is repeated behind the driver's back.
			MaxIdemponentCallAttempts: 1,
			RetryIfErr:                func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		})
	}
	return c
}

func (c *conn) close() {
	for _, client := range c.clients {
		client.CloseIdleConnections()
	}
}

// reply is what came back of one request.
type reply struct {
	items    []Outcome // of each reservation; valid until the next request
	id       string    // of the reservation, when one was made by a request of its own
	replayed bool
}

// all is a reply in which n items have the same outcome.
func (c *conn) all(n int, o Outcome) reply {
	c.items = c.items[:0]
	for range n {
		c.items = append(c.items, o)
	}
	return reply{items: c.items}
}

// post sends c.body with the time that it has, and reads the answer: what became of one
// reservation, or of n.
func (c *conn) post(path, key string, n int, left time.Duration) (r reply) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	client := c.clients[c.at]
	req.Header.SetMethod(fasthttp.MethodPost)
	req.SetRequestURI(path)
	req.SetHost(client.Addr)
	req.Header.SetContentType("application/json")
	c.wait = strconv.AppendInt(c.wait[:0], max(1, left.Milliseconds()), 10)
	req.Header.SetBytesV("X-Timeout-Ms", c.wait)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	req.SetBodyRaw(c.body)
	if err := client.DoTimeout(req, res, left+answerSlack); err != nil {
		c.at = (c.at + 1) % len(c.clients) // another node, next time
		return c.all(n, Unknown)
	}
	status := res.StatusCode()
	if n > 1 && status == fasthttp.StatusOK {
		return c.readItems(res.Body(), n)
	}
	r = c.all(n, refine(outcomeOf(status), res.Body()))
	if location := res.Header.Peek("Location"); r.items[0] == Accepted && len(location) > 0 {
		r.id = strings.TrimPrefix(string(location), pathReservations+"/")
		r.replayed = string(res.Header.Peek("Idempotent-Replayed")) == "true"
	}
	return r
}

const pathReservations = "/v1/reservations"

// insufficient marks the one refusal that counts as sold out.
var insufficient = []byte(`"code":"insufficient-stock"`)

// refine tells a SKU that is sold out from other refusals.
func refine(o Outcome, document []byte) Outcome {
	if o == Rejected && bytes.Contains(document, insufficient) {
		return SoldOut
	}
	return o
}

func outcomeOf(status int) Outcome {
	switch {
	case status/100 == 2:
		return Accepted
	case status == fasthttp.StatusTooManyRequests || status == fasthttp.StatusServiceUnavailable:
		return NotDone
	case status >= 500:
		return Unknown
	default:
		return Rejected
	}
}

// itemBegins is how an item of an answered batch begins. Nothing inside of an item does:
// a problem begins with its type, a reservation with its id.
var itemBegins = []byte(`{"status":`)

// readItems reads the outcomes of a batch without decoding it, which would cost the
// driver more than the batch costs the cluster. In an answer that does not have an
// outcome for each item all are unknown.
func (c *conn) readItems(body []byte, n int) reply {
	c.items = c.items[:0]
	_, rest, more := bytes.Cut(body, itemBegins)
	for more {
		var item []byte
		item, rest, more = bytes.Cut(rest, itemBegins)
		status, err := strconv.Atoi(string(item[:min(3, len(item))]))
		if err != nil {
			return c.all(n, Unknown)
		}
		c.items = append(c.items, refine(outcomeOf(status), item))
	}
	if len(c.items) != n {
		return c.all(n, Unknown)
	}
	return reply{items: c.items}
}

// writeReserve makes a body that asks for one reservation.
func (c *conn) writeReserve(lines []api.Line, ttl time.Duration) {
	c.body = appendReserve(c.body[:0], "", lines, ttl)
}

// writeBatch makes a body that asks for n reservations with keys of their own.
func (c *conn) writeBatch(n int, item func(i int) (key string, lines []api.Line), ttl time.Duration) {
	c.body = append(c.body[:0], `{"reservations":[`...)
	for i := range n {
		if i > 0 {
			c.body = append(c.body, ',')
		}
		key, lines := item(i)
		c.body = appendReserve(c.body, key, lines, ttl)
	}
	c.body = append(c.body, `]}`...)
}

// appendReserve writes an api.ReserveBatchItem. SKUs and keys of the driver need no
// escapes.
func appendReserve(b []byte, key string, lines []api.Line, ttl time.Duration) []byte {
	b = append(b, '{')
	if key != "" {
		b = append(append(append(b, `"idempotency_key":"`...), key...), `",`...)
	}
	if len(lines) == 1 {
		b = appendLine(b, &lines[0])
	} else {
		b = append(b, `"lines":[`...)
		for i := range lines {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendLine(append(b, '{'), &lines[i]), '}')
		}
		b = append(b, ']')
	}
	return fmt.Appendf(b, `,"ttl_seconds":%d}`, int64(ttl.Seconds()))
}

func appendLine(b []byte, l *api.Line) []byte {
	b = append(append(append(b, `"sku":"`...), l.SKU...), `","quantity":`...)
	return strconv.AppendInt(b, l.Quantity, 10)
}
