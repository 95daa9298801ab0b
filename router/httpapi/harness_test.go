package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"stockade/allocator"
	"stockade/router/api"
)

// harness is both handlers over one fake router. Every answer that it fetches is
// held against the OpenAPI document.
type harness struct {
	t      *testing.T
	fake   *fakeRouter
	health *fakeHealth
	data   http.Handler
	ops    http.Handler
	reg    *prometheus.Registry
	log    *bytes.Buffer
}

// someMark is the mark of the harness's cluster, so that an id that is written or
// read without it is not found.
const someMark = allocator.IDMark(0xbeef)

func newHarness(t *testing.T) *harness {
	t.Helper()
	h := &harness{
		t: t, fake: newFakeRouter(), reg: prometheus.NewRegistry(), log: new(bytes.Buffer),
		health: &fakeHealth{started: true, ready: api.Readiness{Ready: true, Shards: []api.ShardReadiness{{Shard: 0, Ready: true}}}},
	}
	metrics := NewMetrics(h.reg)
	log := slog.New(slog.NewTextHandler(h.log, nil))
	var err error
	if h.data, err = NewData(DataConfig{Router: h.fake, Metrics: metrics, Log: log, IDs: someMark}); err != nil {
		t.Fatal(err)
	}
	page := promhttp.HandlerFor(h.reg, promhttp.HandlerOpts{})
	h.ops, err = NewOps(OpsConfig{Router: h.fake, Health: h.health, Metrics: metrics, MetricsPage: page, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// answer is an HTTP answer with its body read.
type answer struct {
	*http.Response
	t    *testing.T
	body []byte
}

// do sends a request to the port that has the path; a body goes as JSON unless a
// header says otherwise. Headers are "Name: value".
func (h *harness) do(method, target, body string, headers ...string) *answer {
	h.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	if body != "" {
		r.Header.Set(headerContentType, jsonType)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if name == headerContentType {
			r.Header.Del(name)
		}
		r.Header.Add(name, value)
	}
	return h.send(r)
}

// send serves a request and checks the answer against the OpenAPI document.
func (h *harness) send(r *http.Request) *answer {
	h.t.Helper()
	handler := h.ops
	if onData(r.URL.Path) {
		handler = h.data
	}
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, r)
	a := &answer{Response: rec.Result(), t: h.t, body: rec.Body.Bytes()}
	checkAnswer(h.t, r, a)
	return a
}

// onData tells whether a path belongs to the data port.
func onData(path string) bool {
	return path == "/v1/nodes" || strings.HasPrefix(path, "/v1/reservations") || strings.HasPrefix(path, "/v1/actions") ||
		strings.HasSuffix(path, "/availability")
}

// want checks the status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.StatusCode != status {
		a.t.Fatalf("status %d, want %d: %s", a.StatusCode, status, a.body)
	}
	return a
}

// decode reads the body strictly into v.
func (a *answer) decode(v any) {
	a.t.Helper()
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		a.t.Fatalf("decode %s: %v", a.body, err)
	}
}

// problem reads a problem and checks its code.
func (a *answer) problem(status int, code string) (p api.Problem) {
	a.t.Helper()
	a.want(status).decode(&p)
	if a.Header.Get(headerContentType) != api.ProblemType {
		a.t.Errorf("Content-Type %q", a.Header.Get(headerContentType))
	}
	if p.Code != code || p.Status != status || p.Type != "/problems/"+code {
		a.t.Fatalf("code %q, status %d, type %q; want %q, %d: %s", p.Code, p.Status, p.Type, code, status, a.body)
	}
	if p.Title == "" || !strings.HasSuffix(p.Detail, ".") {
		a.t.Errorf("a problem needs a title and sentences: %q, %q", p.Title, p.Detail)
	}
	return p
}

// reservation reads a reservation.
func (a *answer) reservation(status int) (r api.Reservation) {
	a.t.Helper()
	a.want(status).decode(&r)
	return r
}
