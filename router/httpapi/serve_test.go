package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"stockade/router/api"
	"stockade/router/httpapi/openapitest"
)

// TestBodyLimits covers bodies at and over the limits, of announced and of
// unknown length.
func TestBodyLimits(t *testing.T) {
	for _, row := range []struct {
		path  string
		limit int
	}{
		{"/v1/reservations", maxBody},
		{"/v1/reservations/" + anID + "/confirm", maxBody},
		{"/v1/reservations/batch", maxBatchBody},
		{"/v1/actions/batch", maxBatchBody},
		{"/v1/skus/demo", maxBody},
	} {
		for _, chunked := range []bool{false, true} {
			for _, over := range []int{0, 1, row.limit} {
				h := newHarness(t)
				method := "POST"
				if row.path == "/v1/skus/demo" {
					method = "PUT"
				}
				r := httptest.NewRequest(method, row.path, bytes.NewReader(bytes.Repeat([]byte(" "), row.limit+over)))
				r.Header.Set(headerContentType, jsonType)
				if chunked {
					r.ContentLength = -1
				}
				p := h.send(r).problem(http.StatusBadRequest, codeInvalid)
				if tooLarge := strings.Contains(p.Detail, "over the limit"); tooLarge != (over > 0) || *p.Errors[0].Pointer != "" {
					t.Errorf("%s, %d bytes over, chunked %v: %s", row.path, over, chunked, p.Detail)
				}
			}
		}
	}
}

// brokenBody fails after some bytes.
type brokenBody struct{ io.Reader }

func (b brokenBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("the client went away")
	}
	return n, err
}

// TestBrokenBody covers a body that can't be read to its end.
func TestBrokenBody(t *testing.T) {
	h := newHarness(t)
	r := httptest.NewRequest(http.MethodPost, "/v1/reservations", brokenBody{strings.NewReader(oneDemo)})
	r.Header.Set(headerContentType, jsonType)
	h.checkBad(r, []string{""})
}

// TestOverTheWire runs a few requests over real connections: HEAD, chunked
// bodies, and the end of a connection after a body over the limit.
func TestOverTheWire(t *testing.T) {
	h := newHarness(t)
	server := httptest.NewServer(h.data)
	defer server.Close()
	post := func(body io.Reader) *http.Response {
		r, _ := http.NewRequest(http.MethodPost, server.URL+"/v1/reservations", body)
		r.Header.Set(headerContentType, "application/json; charset=UTF-8")
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if resp := post(io.MultiReader(strings.NewReader(oneDemo))); resp.StatusCode != http.StatusCreated {
		t.Errorf("chunked: %d", resp.StatusCode)
	}
	if resp := post(io.MultiReader(strings.NewReader(strings.Repeat(" ", maxBody+1)))); resp.StatusCode != http.StatusBadRequest || !resp.Close {
		t.Errorf("over the limit: %d, closed %v", resp.StatusCode, resp.Close)
	}
	resp, err := server.Client().Head(server.URL + "/v1/skus/demo/availability")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || resp.ContentLength < 50 || len(body) != 0 {
		t.Errorf("HEAD: %d, length %d, %q", resp.StatusCode, resp.ContentLength, body)
	}
}

// TestHead: HEAD answers as GET does, without the body.
func TestHead(t *testing.T) {
	h := newHarness(t)
	for _, path := range []string{"/v1/skus/demo/availability", "/v1/skus/demo", "/v1/cluster", "/readyz", "/openapi.json", "/problems"} {
		a := h.do("HEAD", path, "").want(http.StatusOK)
		if len(a.body) != 0 || a.Header.Get("Content-Length") == "0" {
			t.Errorf("%s: %q, %v", path, a.body, a.Header)
		}
	}
}

// TestNoRoute covers unknown paths and methods.
func TestNoRoute(t *testing.T) {
	h := newHarness(t)
	for _, path := range []string{"/", "/v1", "/v1/nothing", "/v1/reservations/a/b", "/v2/reservations", "//v1/reservations", "/console/"} {
		h.do("GET", path, "").problem(http.StatusNotFound, codeNoPath)
	}
	for path, allow := range map[string]string{
		"/v1/reservations": "POST", "/v1/reservations/" + anID: "GET, HEAD", "/v1/skus/demo": "GET, HEAD, PUT",
	} {
		r := httptest.NewRequest(http.MethodDelete, path, nil)
		handler := h.ops
		if onData(path) {
			handler = h.data
		}
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		a := &answer{Response: rec.Result(), t: t, body: rec.Body.Bytes()}
		a.problem(http.StatusMethodNotAllowed, codeMethod)
		if err := loadDoc().CheckBody("/components/responses/MethodNotAllowed", openapitest.Answer{Header: a.Header, Body: a.body}); err != nil {
			t.Error(err)
		}
		if a.Header.Get("Allow") != allow {
			t.Errorf("%s: Allow %q, want %q", path, a.Header.Get("Allow"), allow)
		}
	}
}

// TestRequestID: a sane id is taken over, anything else is replaced.
func TestRequestID(t *testing.T) {
	h := newHarness(t)
	for _, id := range []string{"a", "AZaz09-_.:/+=", strings.Repeat("x", 128)} {
		if a := h.do("GET", "/v1/cluster", "", "Request-Id: "+id); a.Header.Get(headerRequestID) != id {
			t.Errorf("%q became %q", id, a.Header.Get(headerRequestID))
		}
	}
	seen := make(map[string]bool)
	for _, id := range []string{"", "a b", "é", `"x"`, "<b>", "$(x)", strings.Repeat("x", 129)} {
		got := h.do("GET", "/v1/nothing", "", "Request-Id: "+id).Header.Get(headerRequestID)
		if got == id || len(got) < 20 || !saneID(got) || seen[got] {
			t.Errorf("%q became %q", id, got)
		}
		seen[got] = true
	}
	if a := h.do("GET", "/v1/cluster", "", "Request-Id: a", "Request-Id: b"); len(a.Header.Get(headerRequestID)) < 20 {
		t.Error("one of two ids was taken")
	}
}

// TestTimeout: the header becomes the deadline of the router's call.
func TestTimeout(t *testing.T) {
	h := newHarness(t)
	for header, want := range map[string]time.Duration{"": 2 * time.Second, "30000": 30 * time.Second, "500": 500 * time.Millisecond} {
		var headers []string
		if header != "" {
			headers = append(headers, "X-Timeout-Ms: "+header)
		}
		h.do("GET", "/v1/reservations/"+anID, "", headers...)
		if h.fake.deadline > want || h.fake.deadline < want-400*time.Millisecond {
			t.Errorf("%q: the deadline was %s away, want %s", header, h.fake.deadline, want)
		}
	}
}

// TestTimeOfAReservation: X-Timeout-Ms bounds a reservation with all its waiting.
// Without it the router adds the usual time to what the body asks for, so it gets
// no deadline; and the end of the connection ends the call all the same.
func TestTimeOfAReservation(t *testing.T) {
	h := newHarness(t)
	for _, path := range []string{"/v1/reservations", "/v1/reservations/batch"} {
		body := `{"sku":"demo","quantity":1,"wait_ms":25000}`
		if strings.HasSuffix(path, "batch") {
			body = `{"reservations":[` + body + `]}`
		}
		h.fake.deadline = 0
		h.do("POST", path, body).want(h.status(path))
		if h.fake.deadline != 0 || h.fake.last.Wait != 25*time.Second {
			t.Errorf("%s: a deadline in %v, waits for %v", path, h.fake.deadline, h.fake.last.Wait)
		}
		h.do("POST", path, body, "X-Timeout-Ms: 700").want(h.status(path))
		if d := h.fake.deadline; d <= 0 || d > 700*time.Millisecond || h.fake.last.Wait != 25*time.Second {
			t.Errorf("%s: a deadline in %v, waits for %v", path, d, h.fake.last.Wait)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.fake.failIfGone = true
		r := httptest.NewRequestWithContext(ctx, "POST", path, strings.NewReader(body))
		r.Header.Set(headerContentType, jsonType)
		if a := h.send(r); !strings.Contains(string(a.body), codeUnknownOutcome) {
			t.Errorf("%s: the client has gone, and the router was not told: %s", path, a.body)
		}
		h.fake.failIfGone = false
	}
}

// status is what a reservation or a batch is answered with.
func (h *harness) status(path string) int {
	if strings.HasSuffix(path, "batch") {
		return http.StatusOK
	}
	return http.StatusCreated
}

// TestPanic: a panic is answered 500, counted, and logged once with the request's id.
func TestPanic(t *testing.T) {
	h := newHarness(t)
	h.fake.panics = true
	h.do("POST", "/v1/reservations", oneDemo, "Request-Id: the-one").problem(http.StatusInternalServerError, codeInternal)
	log := h.log.String()
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, "request_id=the-one") || !strings.Contains(log, "operation=reserve") || !strings.Contains(log, "selling.go") {
		t.Errorf("log: %s", log)
	}
	if panics, inFlight := metric(t, h.reg, "stockade_http_panics_total"), metric(t, h.reg, "stockade_http_in_flight"); panics != 1 || inFlight != 0 {
		t.Errorf("%v panics counted, %v requests in flight", panics, inFlight)
	}
	h.fake.panics = false
	h.do("POST", "/v1/reservations", oneDemo).want(http.StatusCreated)
}

// metric reads a metric without labels.
func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestPanicAfterTheHeader: when half an answer is out, only the end of the
// connection can tell.
func TestPanicAfterTheHeader(t *testing.T) {
	reg := newRegistry()
	m := NewMetrics(reg)
	routes := []route{{method: "GET", path: "/half", op: "half", raw: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half"))
		panic("in the middle")
	})}}
	a := newApp(routes, m, slog.New(slog.DiscardHandler), "")
	defer func() {
		checkAbort(t, recover())
		if metric(t, reg, "stockade_http_in_flight") != 0 || metric(t, reg, "stockade_http_panics_total") != 1 {
			t.Error("the panic was not counted, or the request still is")
		}
	}()
	a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/half", nil))
}

// checkAbort wants a handler to have ended its connection.
func checkAbort(t *testing.T, fault any) {
	t.Helper()
	if err, ok := fault.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		t.Errorf("recovered %v", fault)
	}
}

// TestAbort: a handler may end its connection, which is no fault.
func TestAbort(t *testing.T) {
	reg := newRegistry()
	m := NewMetrics(reg)
	routes := []route{{method: "GET", path: "/abort", op: "abort", raw: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	})}}
	var log bytes.Buffer
	defer func() {
		checkAbort(t, recover())
		if log.Len() != 0 || metric(t, reg, "stockade_http_panics_total") != 0 {
			t.Errorf("counted or logged: %q", &log)
		}
	}()
	newApp(routes, m, slog.New(slog.NewTextHandler(&log, nil)), "").ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/abort", nil))
}

// TestCrossOrigin: a page of another origin can't change anything.
func TestCrossOrigin(t *testing.T) {
	h := newHarness(t)
	h.do("POST", "/v1/skus/demo/pause", "", "Sec-Fetch-Site: cross-site").problem(http.StatusForbidden, codeCrossOrigin)
	h.do("POST", "/v1/skus/demo/pause", "", "Origin: https://evil.example").problem(http.StatusForbidden, codeCrossOrigin)
	if h.fake.calls != 0 {
		t.Error("a request of another origin reached the router")
	}
	h.do("POST", "/v1/skus/demo/pause", "", "Sec-Fetch-Site: same-origin").want(http.StatusOK)
	h.do("GET", "/v1/skus/demo", "", "Sec-Fetch-Site: cross-site").want(http.StatusOK)
}

// TestProblemBase: types are absolute when a base is configured.
func TestProblemBase(t *testing.T) {
	data, err := NewData(DataConfig{
		Router: newFakeRouter(), Metrics: NewMetrics(newRegistry()), Log: slog.New(slog.DiscardHandler), ProblemBase: "https://stock.example.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	data.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/nothing", nil))
	if !strings.Contains(rec.Body.String(), `"type":"https://stock.example.com/problems/path-not-found"`) {
		t.Errorf("got %s", rec.Body)
	}
}

// TestMissingParts: a handler without its parts is refused.
func TestMissingParts(t *testing.T) {
	if _, err := NewData(DataConfig{}); err == nil {
		t.Error("a data handler was made of nothing")
	}
	if _, err := NewOps(OpsConfig{}); err == nil {
		t.Error("an ops handler was made of nothing")
	}
}

// TestProbes covers the three probes.
func TestProbes(t *testing.T) {
	h := newHarness(t)
	for _, path := range []string{"/livez", "/readyz", "/startupz"} {
		h.do("GET", path, "").want(http.StatusOK)
	}
	var ready api.Readiness
	h.do("GET", "/readyz?verbose=1", "").want(http.StatusOK).decode(&ready)
	if !ready.Ready || len(ready.Shards) != 1 {
		t.Errorf("got %+v", ready)
	}
	h.health.live, h.health.started = errors.New("the disk can't be written"), false
	h.health.ready = api.Readiness{Shards: []api.ShardReadiness{
		{Shard: 0, Ready: true}, {Shard: 1, Missing: "no leader", Since: api.Time(fakeNow)}, {Shard: 2, Missing: "catching up"},
	}}
	if p := h.do("GET", "/livez", "").problem(http.StatusServiceUnavailable, codeNotLive); !strings.Contains(p.Detail, "the disk can't be written") {
		t.Errorf("detail %q", p.Detail)
	}
	h.do("GET", "/startupz", "").problem(http.StatusServiceUnavailable, codeNotReady)
	p := h.do("GET", "/readyz", "").problem(http.StatusServiceUnavailable, codeNotReady)
	if !strings.HasPrefix(p.Detail, "Shard 1: no leader since 2026-09-21T14:13:20.123Z, and 1 more.") || p.Shards != nil {
		t.Errorf("got %+v", p)
	}
	if p := h.do("GET", "/readyz?verbose=1", "").problem(http.StatusServiceUnavailable, codeNotReady); !slices.Equal(p.Shards, h.health.ready.Shards) {
		t.Errorf("got %+v", p)
	}
	h.health.ready = api.Readiness{}
	h.do("GET", "/readyz", "").problem(http.StatusServiceUnavailable, codeNotReady)
}

// TestOpsPages covers the handlers that write their answer themselves.
func TestOpsPages(t *testing.T) {
	h := newHarness(t)
	h.do("POST", "/v1/reservations", oneDemo).want(http.StatusCreated)
	h.do("POST", "/v1/reservations", `{}`).want(http.StatusBadRequest)
	page := string(h.do("GET", "/metrics", "").want(http.StatusOK).body)
	for _, line := range []string{
		`stockade_http_requests_total{code="ok",operation="reserve",status="201"} 1`,
		`stockade_http_requests_total{code="invalid-request",operation="reserve",status="400"} 1`,
		`stockade_http_request_duration_seconds_count{operation="reserve"} 2`,
		`stockade_http_in_flight 1`,
	} {
		if !strings.Contains(page, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	if problems, err := promlint.New(strings.NewReader(page)).Lint(); err != nil || len(problems) != 0 {
		t.Errorf("%v %v", problems, err)
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/symbol"} {
		if a := h.do("GET", path, "").want(http.StatusOK); len(a.body) == 0 {
			t.Errorf("%s is empty", path)
		}
	}
}

// TestClientGone: when the client leaves, the router's call ends with it.
func TestClientGone(t *testing.T) {
	h := newHarness(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := httptest.NewRequest(http.MethodGet, "/v1/reservations/"+anID, nil).WithContext(ctx)
	h.fake.failIfGone = true
	h.send(r).problem(http.StatusGatewayTimeout, codeUnknownOutcome)
}
