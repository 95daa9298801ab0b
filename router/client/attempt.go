package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"stockade/router/api"
)

const (
	// answerSlack is how much longer than the server the client waits, so that the
	// server's own words are seen and not our impatience.
	answerSlack = 500 * time.Millisecond
	// maxAnswer bounds an answer: a thousand carts of 32 lines have 4 MiB.
	maxAnswer = 16 << 20
)

// request is one HTTP request, before a node is chosen for it.
type request struct {
	method  string
	path    string
	key     string
	body    []byte
	timeout time.Duration // that the server has
}

// answer is what came back. Without an answer status is 0 and err says why.
type answer struct {
	status     int
	body       []byte
	retryAfter time.Duration
	err        error
	unsent     bool // the node could not even be connected to
}

// send makes an exchange for a call, and remembers whether the node answers. When the
// caller has gone that says nothing about the node.
func (c *Client) send(ctx context.Context, n *node, r *request) answer {
	a := c.exchange(ctx, n, r)
	switch {
	case a.status != 0:
		c.nodes.works(n)
	case ctx.Err() == nil:
		c.nodes.failed(n, time.Now())
		c.wake()
	}
	return a
}

// exchange sends a request to a node and reads the answer.
func (c *Client) exchange(ctx context.Context, n *node, r *request) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout+answerSlack)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, n.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return answer{err: fmt.Errorf("make the request: %w", err), unsent: true}
	}
	if r.body != nil {
		req.Header["Content-Type"] = []string{"application/json"}
	}
	if r.key != "" {
		req.Header["Idempotency-Key"] = []string{r.key}
	}
	req.Header["X-Timeout-Ms"] = []string{strconv.FormatInt(max(1, r.timeout.Milliseconds()), 10)}
	res, err := c.http.Do(req)
	if err != nil {
		var dial *net.OpError
		return answer{err: err, unsent: errors.As(err, &dial) && dial.Op == "dial"}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer{err: fmt.Errorf("read the answer: %w", err)}
	}
	a = answer{status: res.StatusCode, body: body}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		a.retryAfter = time.Duration(min(seconds, maxRetryAfter)) * time.Second
	}
	return a
}

// maxRetryAfter bounds the seconds that a server may name: longer than any call waits.
const maxRetryAfter = 3600

// verdict is what one attempt came to.
type verdict struct {
	kind       kind
	problem    *api.Problem
	retryAfter time.Duration // 0: the server names none
	err        error
	node       *node
}

type kind uint8

const (
	done      kind = iota // the answer is there
	refused               // the answer stands
	notDone               // nothing was done: again, later
	elsewhere             // nothing was done: again at once, at another node
	unknown               // it may have been done: again with the same key
)

// judge reads the kind of an answer by the API's contract, and its problem.
func (a *answer) judge(n *node) verdict {
	v := verdict{node: n, err: a.err, retryAfter: a.retryAfter}
	switch {
	case a.unsent:
		v.kind = elsewhere
		return v
	case a.status == 0:
		v.kind = unknown
		return v
	case a.status/100 == 2:
		v.kind = done
		return v
	}
	var p api.Problem
	if err := json.Unmarshal(a.body, &p); err != nil || p.Code == "" {
		// Something between us and a node has answered: what it knows is its status.
		p = api.Problem{Status: a.status, Code: "http-" + strconv.Itoa(a.status), Detail: fmt.Sprintf("%.200q", a.body)}
	}
	v.problem, v.kind = &p, kindOf(a.status)
	return v
}

// kindOf reads the kind of a status that is no success.
func kindOf(status int) kind {
	switch {
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return notDone
	case status >= 500:
		return unknown
	default:
		return refused
	}
}
