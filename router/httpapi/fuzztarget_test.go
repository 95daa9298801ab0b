package httpapi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

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
		if a := newHarness(t).send(r); a.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s %s: %d %s", method, target, a.StatusCode, a.body)
		}
	})
}
