package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stockade/router/api"
	"stockade/shard/bubble"
)

// fakeNodes are the nodes of a cluster as an http.RoundTripper: a test says how each
// request is answered. Requests for the list of nodes are answered from nodes.
type fakeNodes struct {
	mu    sync.Mutex
	takes time.Duration // that a request is on its way
	reply func(q *fakeRequest) fakeReply
	got   []*fakeRequest
	lists map[string]api.NodeList // by host; the others do not answer
	asked map[string]int          // for these, by host
}

// fakeRequest is what a node was asked.
type fakeRequest struct {
	host, method, path, key string
	timeout                 time.Duration
	keys                    []string // of its items
	body                    []byte
	n                       int // of the requests so far
}

type fakeReply struct {
	status     int
	retryAfter string
	body       any
	err        error
}

var errBroken = errors.New("the connection broke")

func refusedDial() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

// RoundTrip implements http.RoundTripper.
func (f *fakeNodes) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.URL.Path == "/v1/nodes" {
		f.mu.Lock()
		list, ok := f.lists[r.URL.Host]
		if f.asked == nil {
			f.asked = make(map[string]int)
		}
		f.asked[r.URL.Host]++
		f.mu.Unlock()
		if !ok {
			return nil, refusedDial()
		}
		return response(fakeReply{status: http.StatusOK, body: list})
	}
	q := &fakeRequest{host: r.URL.Host, method: r.Method, path: r.URL.RequestURI(), key: r.Header.Get("Idempotency-Key"), body: body}
	ms, _ := strconv.Atoi(r.Header.Get("X-Timeout-Ms"))
	q.timeout = time.Duration(ms) * time.Millisecond
	var items struct {
		Reservations []api.ReserveBatchItem
		Actions      []api.Action
	}
	if strings.HasSuffix(q.path, "/batch") {
		if err := json.Unmarshal(body, &items); err != nil {
			return nil, err
		}
		for _, it := range items.Reservations {
			q.keys = append(q.keys, it.IdempotencyKey)
		}
		for _, a := range items.Actions {
			q.keys = append(q.keys, a.ID)
		}
	} else {
		q.keys = []string{q.key}
	}
	f.mu.Lock()
	q.n = len(f.got)
	f.got = append(f.got, q)
	f.mu.Unlock()
	select {
	case <-time.After(f.takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return response(f.reply(q))
}

func response(a fakeReply) (*http.Response, error) {
	if a.err != nil {
		return nil, a.err
	}
	body, isText := a.body.(string)
	if !isText {
		encoded, err := json.Marshal(a.body)
		if err != nil {
			return nil, err
		}
		body = string(encoded)
	}
	r := &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader([]byte(body)))}
	if a.retryAfter != "" {
		r.Header.Set("Retry-After", a.retryAfter)
	}
	return r, nil
}

// requests are those that were sent so far.
func (f *fakeNodes) requests() []*fakeRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*fakeRequest(nil), f.got...)
}

// reserved answers every item with a reservation whose id is its key.
func reserved(q *fakeRequest) fakeReply {
	if !strings.HasSuffix(q.path, "/batch") {
		return fakeReply{status: http.StatusCreated, body: api.Reservation{ID: q.keys[0], Status: api.StatusReserved}}
	}
	var a api.BatchAnswer
	for _, key := range q.keys {
		a.Results = append(a.Results, api.BatchResult{Status: http.StatusCreated, Reservation: &api.Reservation{ID: key, Status: api.StatusReserved}})
	}
	return fakeReply{status: http.StatusOK, body: a}
}

func problem(status int, code string) fakeReply {
	return fakeReply{status: status, body: api.Problem{Status: status, Code: code, Detail: "it is so"}}
}

// failing gives the replies one after the other, then reservations.
func failing(replies ...fakeReply) func(*fakeRequest) fakeReply {
	return func(q *fakeRequest) fakeReply {
		if q.n < len(replies) {
			return replies[q.n]
		}
		return reserved(q)
	}
}

// inBubble runs a test in virtual time with a client of fake nodes.
func inBubble(t *testing.T, cfg Config, f *fakeNodes, test func(t *testing.T, c *Client)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		cfg.HTTP = &http.Client{Transport: f}
		if cfg.Nodes == nil {
			cfg.Nodes = []string{"n1:1"}
		}
		if f.lists == nil {
			cfg.FixedNodes = true
		}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		test(t, c)
	})
}
