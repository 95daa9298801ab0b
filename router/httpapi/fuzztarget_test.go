package httpapi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"stockade/bench/fuzzing"
)

// The most that a handler may take, with its answer and what it logs: up to 41 KiB were
// measured, nearly all of it whatever the request.
const handlePerByte, handleAlways = 64, 1 << 20

// FuzzTarget sends requests with whatever path, query and headers. Each answer is one
// that the OpenAPI document has for its operation, and none is a fault of the server's.
func FuzzTarget(f *testing.F) {
	for _, seed := range [][2]string{
		{"GET", "/v1/skus?prefix=d&limit=5&cursor=MWE&with=available"},
		{"GET", "/v1/skus/demo"},
		{"GET", "/v1/skus/d%65mo/availability?consistency=strong"},
		{"GET", "/v1/skus/demo/audit"},
		{"POST", "/v1/skus/demo/pause"},
		{"POST", "/v1/skus//resume?x=%"},
		{"GET", "/v1/reservations/r-000g000000006st8"},
		{"POST", "/v1/reservations/R-000G000000006ST8/cancel"},
		{"GET", "/v1/nodes"},
		{"GET", "/v1/cluster"},
		{"GET", "/readyz?verbose"},
		{"GET", "/readyz?%ff=1"},
		{"DELETE", "/v1/../v1/skus/%2e%2e"},
	} {
		f.Add(seed[0], seed[1], "key-1", "500", `"1"`)
	}
	f.Fuzz(func(t *testing.T, method, target, key, timeout, match string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // net/http answers it
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Method, r.URL, r.RequestURI = method, u, target
		r.Header.Set(headerKey, key)
		r.Header.Set(headerTimeout, timeout)
		r.Header.Set(headerIfMatch, match)
		h, rec := newHarness(t), httptest.NewRecorder()
		handler := h.ops
		if onData(u.Path) {
			handler = h.data
		}
		input := []byte(method + target + key + timeout + match)
		fuzzing.InProportion(t, input, handlePerByte, handleAlways, func() { handler.ServeHTTP(rec, r) })
		a := &answer{Response: rec.Result(), t: t, body: rec.Body.Bytes()}
		checkAnswer(t, r, a)
		if a.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s %s: %d %s", method, target, a.StatusCode, a.body)
		}
	})
}

// FuzzAccept reads what claims to be the Accept header of a request for a page, and the
// request's id. A form is always chosen, and an id can be written anywhere.
func FuzzAccept(f *testing.F) {
	f.Add("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "r-1")
	f.Add("text/*;q=0.5, application/json; charset=utf-8; q=0.4", "")
	f.Add("text/html;q=NaN,text/plain;q=1e-400", "a\r\nb")
	f.Add(many(";"), many("x"))
	f.Add(many("*/*"), "r/2+=")
	f.Fuzz(func(t *testing.T, accept, id string) {
		r := httptest.NewRequest(http.MethodGet, "/problems", nil)
		r.Header["Accept"] = []string{accept}
		r.Header[headerRequestID] = []string{id}
		var form, taken string
		fuzzing.InProportion(t, []byte(accept+id), acceptPerByte, acceptAlways, func() {
			form, taken = (&call{r: r}).preferred(), RequestID(r)
		})
		if form != jsonType && form != htmlType && form != textType {
			t.Errorf("%q asks for %q", accept, form)
		}
		if taken == "" || len(taken) > maxRequestIDLen || strings.ContainsAny(taken, " \r\n\"'$`\\") {
			t.Errorf("the id %q is taken as %q", id, taken)
		}
	})
}

// The most that reading these headers may take: a copy, and a list of parts, each of which
// may be empty and is a string of sixteen bytes. That took 8 bytes for each.
const acceptPerByte, acceptAlways = 32, 32 << 10
