package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"stockade/bench/fuzzing"
	"stockade/router/api"
)

// replier answers every request in the same way, as a node or as something between it and
// the client.
type replier struct {
	status     int
	retryAfter string
	body       []byte
}

// RoundTrip implements http.RoundTripper.
func (r *replier) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.URL.Host == "" {
		return nil, refusedDial() // as of a transport with a network
	}
	header := http.Header{}
	if r.retryAfter != "" {
		header.Set("Retry-After", r.retryAfter)
	}
	return &http.Response{StatusCode: r.status, Header: header, Body: io.NopCloser(bytes.NewReader(r.body))}, nil
}

// clientOf is a client of a node that answers so.
func clientOf(t *testing.T, r *replier) *Client {
	c, err := New(Config{Nodes: []string{"n1:1"}, FixedNodes: true, HTTP: &http.Client{Transport: r}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// The most that an answer may take: its body is read into a buffer that grows, and {} in
// a list is three bytes, and a struct in a list that grows. That took 42 bytes for each, and
// up to 22 KiB for the request itself.
const answerPerByte, answerAlways = 128, 256 << 10

// FuzzAnswer has calls read whatever is answered. Each call of a batch gets one verdict,
// with a reservation if it says that it is done, and a problem if it says that it is not.
func FuzzAnswer(f *testing.F) {
	results := func(r ...api.BatchResult) []byte { return document(f, api.BatchAnswer{Results: r}) }
	held := api.BatchResult{Status: http.StatusCreated, Reservation: &api.Reservation{ID: "r-1", Status: api.StatusReserved}}
	gone := api.BatchResult{Status: http.StatusConflict, Problem: &api.Problem{Status: http.StatusConflict, Code: "insufficient-stock"}}
	f.Add(http.StatusCreated, "", document(f, held.Reservation))
	f.Add(http.StatusOK, "", results(held, gone))
	f.Add(http.StatusOK, "", results(gone))
	f.Add(http.StatusOK, "", results(api.BatchResult{Status: http.StatusOK}, api.BatchResult{Status: http.StatusServiceUnavailable}))
	f.Add(http.StatusServiceUnavailable, "2", document(f, api.Problem{Status: http.StatusServiceUnavailable, Code: "overloaded"}))
	f.Add(http.StatusTooManyRequests, "-1", []byte(`{"code":""}`))
	f.Add(http.StatusServiceUnavailable, "9223372036", []byte(""))
	f.Add(http.StatusServiceUnavailable, "18446744074", []byte(""))
	f.Add(http.StatusBadGateway, "Fri, 27 Nov 2026 18:00:00 GMT", []byte("<html>\xff"))
	f.Add(http.StatusOK, "", []byte(`{"results":[`+strings.Repeat("{},", 5000)+`{}]}`))
	f.Add(http.StatusOK, "", []byte(`{"lines":[`+strings.Repeat("{},", 5000)+`{}]}`))
	f.Fuzz(func(t *testing.T, status int, retryAfter string, body []byte) {
		c := clientOf(t, &replier{status, retryAfter, body})
		for _, size := range []int{1, 2} {
			batch := make([]*item[api.Action], size)
			for i := range batch {
				batch[i] = &item[api.Action]{value: api.Action{Op: api.ActionCancel, ID: "r-1"}, deadline: time.Now().Add(time.Minute), answered: make(chan struct{})}
			}
			fuzzing.InProportion(t, body, answerPerByte, answerAlways, func() { c.actions.send(batch) })
			for _, it := range batch {
				<-it.answered
				checkVerdict(t, &it.verdict, it.result, status)
				if wait := (&call{c: c, attempts: 1}).wait(it.verdict); wait < 0 || wait < it.verdict.retryAfter {
					t.Errorf("Retry-After %q is a pause of %v", retryAfter, wait)
				}
			}
		}
	})
}

// checkVerdict checks what a call relies on.
func checkVerdict(t *testing.T, v *verdict, result *api.Reservation, status int) {
	t.Helper()
	switch {
	case v.kind == done && (status/100 != 2 || result == nil),
		v.kind == refused && v.problem == nil,
		v.kind == elsewhere,
		v.problem != nil && v.problem.Code == "" && status/100 != 2:
		t.Errorf("status %d is the verdict %+v with %+v", status, v, result)
	}
}

// document encodes a document as a node does.
func document(f *testing.F, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// The most that looking for nodes may take: each that is named is asked the same once,
// which takes some 10 KiB, and an address has 40 bytes.
const nodesPerByte, nodesAlways = 1024, 256 << 10

// FuzzNodes has the client ask which nodes there are. Whatever is answered, it goes on with
// nodes that can be asked.
func FuzzNodes(f *testing.F) {
	f.Add(document(f, api.NodeList{ClusterID: "c", Nodes: []api.NodeAddress{{ID: "a", HTTP: "h:1", Alive: true}, {ID: "b", HTTP: "0.0.0.0:1", Alive: true}, {ID: "c", HTTP: "[::1]:1", Alive: true}}}))
	f.Add([]byte(`{"nodes":[{"http":"n1:1","alive":true},{"http":":1","alive":true}]}`))
	f.Add([]byte(`{"nodes":[{"http":"x/y:1","alive":true},{"http":"\u0000:1","alive":true},{"http":"a@b:1","alive":true}]}`))
	f.Add([]byte(`{"nodes":[` + strings.Repeat("{},", 5000) + `{}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := clientOf(t, &replier{status: http.StatusOK, body: body})
		fuzzing.InProportion(t, body, nodesPerByte, nodesAlways, func() { c.learnNodes(context.Background()) })
		if len(c.Nodes()) == 0 {
			t.Errorf("%q leaves no node", body)
		}
		for _, base := range c.Nodes() {
			if u, err := url.Parse(base); err != nil || u.Scheme != "http" || u.Host == "" {
				t.Errorf("%q is the node %q", body, base)
			}
		}
	})
}
