package httpapi

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"stockade/allocator"
	"stockade/router/api"
)

// badRow is a request that must be answered 400: where lists the places of the
// faults, as pointers, "header X" or "parameter x".
type badRow struct {
	name    string
	body    string
	where   []string
	headers []string
}

// TestBadReservation has a row for everything that can be wrong with the body or
// the headers of a reservation. Nothing of it may reach the router.
func TestBadReservation(t *testing.T) {
	long := strings.Repeat("x", 300)
	line := `{"sku":"demo","quantity":1}`
	rows := []badRow{
		{name: "empty body", body: "", where: []string{""}},
		{name: "blank body", body: "  ", where: []string{""}},
		{name: "not JSON", body: "sku=demo", where: []string{""}},
		{name: "an array", body: "[]", where: []string{""}},
		{name: "null", body: "null", where: []string{""}},
		{name: "cut off", body: `{"sku":"demo","quantity":`, where: []string{"/quantity"}},
		{name: "cut off in a name", body: `{"sku":"demo","quan`, where: []string{""}},
		{name: "trailing data", body: `{"sku":"demo","quantity":1}{}`, where: []string{""}},
		{name: "trailing garbage", body: `{"sku":"demo","quantity":1} x`, where: []string{""}},
		{name: "no comma", body: `{"sku":"demo" "quantity":1}`, where: []string{""}},
		{name: "unknown field", body: `{"sku":"demo","quantity":1,"colour":{"a":[1]}}`, where: []string{"/colour"}},
		{name: "unknown field in a line", body: `{"lines":[{"sku":"demo","quantity":1,"x":1}]}`, where: []string{"/lines/0/x"}},
		{name: "other case", body: `{"SKU":"demo","quantity":1}`, where: []string{"/SKU", "/sku"}},
		{name: "key twice", body: `{"sku":"demo","quantity":1,"sku":"mug"}`, where: []string{"/sku"}},
		{name: "key twice in a line", body: `{"lines":[{"sku":"demo","quantity":1,"quantity":2}]}`, where: []string{"/lines/0/quantity"}},
		{name: "key twice, escaped", body: `{"sku":"demo","quantity":1,"\u0073ku":"mug"}`, where: []string{"/sku"}},
		{name: "invalid UTF-8", body: "{\"sku\":\"demo\",\"quantity\":1,\"reference\":\"\xff\"}", where: []string{"/reference"}},
		{name: "half a surrogate", body: `{"sku":"demo","quantity":1,"reference":"\ud800"}`, where: []string{"/reference"}},
		{name: "byte order mark", body: "\ufeff{}", where: []string{""}},

		{name: "sku is a number", body: `{"sku":1,"quantity":1}`, where: []string{"/sku"}},
		{name: "sku is null", body: `{"sku":null,"quantity":1}`, where: []string{"/sku"}},
		{name: "sku is empty", body: `{"sku":"","quantity":1}`, where: []string{"/sku"}},
		{name: "sku has a space", body: `{"sku":"a b","quantity":1}`, where: []string{"/sku"}},
		{name: "sku is not ASCII", body: `{"sku":"é","quantity":1}`, where: []string{"/sku"}},
		{name: "sku too long", body: `{"sku":"` + long[:65] + `","quantity":1}`, where: []string{"/sku"}},
		{name: "sku is missing", body: `{"quantity":1}`, where: []string{"/sku"}},
		{name: "quantity is missing", body: `{"sku":"demo"}`, where: []string{"/quantity"}},
		{name: "quantity is a string", body: `{"sku":"demo","quantity":"1"}`, where: []string{"/quantity"}},
		{name: "quantity is null", body: `{"sku":"demo","quantity":null}`, where: []string{"/quantity"}},
		{name: "quantity 0", body: `{"sku":"demo","quantity":0}`, where: []string{"/quantity"}},
		{name: "quantity below 0", body: `{"sku":"demo","quantity":-1}`, where: []string{"/quantity"}},
		{name: "quantity too large", body: `{"sku":"demo","quantity":1000000001}`, where: []string{"/quantity"}},
		{name: "quantity beyond 64 bits", body: `{"sku":"demo","quantity":99999999999999999999}`, where: []string{"/quantity"}},
		{name: "quantity with a fraction", body: `{"sku":"demo","quantity":1.0}`, where: []string{"/quantity"}},
		{name: "quantity with an exponent", body: `{"sku":"demo","quantity":1e3}`, where: []string{"/quantity"}},
		{name: "quantity with a leading 0", body: `{"sku":"demo","quantity":01}`, where: []string{"/quantity", ""}},

		{name: "nothing", body: `{}`, where: []string{""}},
		{name: "both forms", body: `{"sku":"demo","quantity":1,"lines":[` + line + `]}`, where: []string{"/lines"}},
		{name: "half of both forms", body: `{"sku":"demo","lines":[` + line + `]}`, where: []string{"/lines"}},
		{name: "no lines", body: `{"lines":[]}`, where: []string{"/lines"}},
		{name: "33 lines", body: `{"lines":[` + strings.Repeat(line+",", 32) + line + `]}`, where: []string{"/lines"}},
		{name: "lines is an object", body: `{"lines":` + line + `}`, where: []string{"/lines"}},
		{name: "a line is a number", body: `{"lines":[7]}`, where: []string{"/lines/0"}},
		{name: "a line lacks its parts", body: `{"lines":[{}]}`, where: []string{"/lines/0/sku", "/lines/0/quantity"}},
		{name: "several lines are wrong", body: `{"lines":[` + line + `,{"sku":"","quantity":0},{"sku":"demo"}]}`,
			where: []string{"/lines/1/sku", "/lines/1/quantity", "/lines/2/quantity"}},
		{name: "a sum too large", body: `{"lines":[{"sku":"a","quantity":600000000},{"sku":"b","quantity":1},{"sku":"a","quantity":600000000}]}`,
			where: []string{"/lines/2/quantity"}},

		{name: "ttl 0", body: `{"sku":"demo","quantity":1,"ttl_seconds":0}`, where: []string{"/ttl_seconds"}},
		{name: "ttl too long", body: `{"sku":"demo","quantity":1,"ttl_seconds":2592001}`, where: []string{"/ttl_seconds"}},
		{name: "ttl is text", body: `{"sku":"demo","quantity":1,"ttl_seconds":"1h"}`, where: []string{"/ttl_seconds"}},
		{name: "buyer_id is empty", body: `{"sku":"demo","quantity":1,"buyer_id":""}`, where: []string{"/buyer_id"}},
		{name: "buyer_id too long", body: `{"sku":"demo","quantity":1,"buyer_id":"` + long[:129] + `"}`, where: []string{"/buyer_id"}},
		{name: "buyer_id is an object", body: `{"sku":"demo","quantity":1,"buyer_id":{}}`, where: []string{"/buyer_id"}},
		{name: "reference too long", body: `{"sku":"demo","quantity":1,"reference":"` + long[:256] + `"}`, where: []string{"/reference"}},
		{name: "waiting longer than allowed", body: `{"sku":"demo","quantity":1,"wait_ms":30001}`, where: []string{"/wait_ms"}},
		{name: "waiting backwards", body: `{"sku":"demo","quantity":1,"wait_ms":-1}`, where: []string{"/wait_ms"}},
		{name: "key in the body", body: `{"sku":"demo","quantity":1,"idempotency_key":"k"}`, where: []string{"/idempotency_key"}},
		{name: "all at once", body: `{"quantity":0,"buyer_id":1,"foo":[],"ttl_seconds":-1}`, headers: []string{"X-Timeout-Ms: 0"},
			where: []string{"header X-Timeout-Ms", "/quantity", "/buyer_id", "/foo", "/ttl_seconds", "/sku"}},

		{name: "no content type", body: `{"sku":"demo","quantity":1}`, headers: []string{"Content-Type: "}, where: []string{"header Content-Type"}},
		{name: "a form", body: `{"sku":"demo","quantity":1}`, headers: []string{"Content-Type: application/x-www-form-urlencoded"}, where: []string{"header Content-Type"}},
		{name: "another charset", body: `{"sku":"demo","quantity":1}`, headers: []string{"Content-Type: application/json; charset=latin1"}, where: []string{"header Content-Type"}},
		{name: "a broken type", body: `{"sku":"demo","quantity":1}`, headers: []string{"Content-Type: json;;"}, where: []string{"header Content-Type"}},
		{name: "a content coding", body: `{"sku":"demo","quantity":1}`, headers: []string{"Content-Encoding: gzip"}, where: []string{"header Content-Encoding"}},
	}
	for _, key := range []string{"", " ", "a b", "é", `"open`, `"`, `""`, `"a"b"`, `"a\b"`, `"a\`, `"a b"`, "\"a\";p=1", "x\x7f", long[:129], `"` + long[:129] + `"`} {
		rows = append(rows, badRow{name: "key " + key, body: line, headers: []string{"Idempotency-Key: " + key}, where: []string{"header Idempotency-Key"}})
	}
	rows = append(rows, badRow{name: "two keys", body: line, headers: []string{"Idempotency-Key: a", "Idempotency-Key: b"}, where: []string{"header Idempotency-Key"}})
	for _, ms := range []string{"", "0", "-1", "30001", "1.5", "1e3", "+5", "2s", "99999999999999999999"} {
		rows = append(rows, badRow{name: "timeout " + ms, body: line, headers: []string{"X-Timeout-Ms: " + ms}, where: []string{"header X-Timeout-Ms"}})
	}
	checkBadRows(t, "POST", "/v1/reservations", rows)
}

// checkBadRows sends each row and checks the places of its faults.
func checkBadRows(t *testing.T, method, path string, rows []badRow) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			h := newHarness(t)
			headers := slices.DeleteFunc(slices.Clone(row.headers), func(s string) bool { return s == "Content-Type: " })
			r := httptest.NewRequest(method, path, strings.NewReader(row.body))
			r.Header.Set(headerContentType, jsonType)
			for _, header := range row.headers {
				if strings.HasPrefix(header, "Content-Type: ") {
					r.Header.Del(headerContentType)
				}
			}
			for _, header := range headers {
				name, value, _ := strings.Cut(header, ": ")
				r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], value)
			}
			h.checkBad(r, row.where)
		})
	}
}

// checkBad sends a request that is answered 400 and reaches nothing.
func (h *harness) checkBad(r *http.Request, where []string) {
	h.t.Helper()
	p := h.send(r).problem(http.StatusBadRequest, codeInvalid)
	if got := places(h.t, p.Errors); !slices.Equal(got, where) {
		h.t.Errorf("faults at %q, want %q: %s", got, where, p.Detail)
	}
	if p.Retryable || h.fake.calls != 0 {
		h.t.Errorf("retryable %v, %d calls reached the router", p.Retryable, h.fake.calls)
	}
}

// places names where the faults are.
func places(t *testing.T, errs []api.FieldError) (all []string) {
	t.Helper()
	for _, e := range errs {
		if e.Detail == "" || strings.HasSuffix(e.Detail, ".") {
			t.Errorf("a fault needs a detail without a full stop: %q", e.Detail)
		}
		switch {
		case e.Header != "":
			all = append(all, "header "+e.Header)
		case e.Parameter != "":
			all = append(all, "parameter "+e.Parameter)
		default:
			all = append(all, *e.Pointer)
		}
	}
	return all
}

// anID is a well-formed id of a reservation that does not exist.
var anID = someMark.Format(allocator.ReservationID{Shard: 2, Seq: 99})

// TestBadRequests has rows for the other endpoints.
func TestBadRequests(t *testing.T) {
	at := "/v1/reservations/" + anID
	id := `"id":"` + anID + `"`
	for _, row := range []struct {
		name, method, path, body string
		where                    []string
		headers                  []string
	}{
		{"confirm: unknown field", "POST", at + "/confirm", `{"line":[]}`, []string{"/line"}, nil},
		{"confirm: no lines", "POST", at + "/confirm", `{"lines":[]}`, []string{"/lines"}, nil},
		{"confirm: trailing data", "POST", at + "/confirm", `{} {}`, []string{""}, nil},
		{"confirm: form", "POST", at + "/confirm", `{}`, []string{"header Content-Type"}, []string{"Content-Type: text/plain"}},
		{"confirm: bad key", "POST", at + "/confirm", ``, []string{"header Idempotency-Key"}, []string{"Idempotency-Key: a b"}},
		{"cancel: field", "POST", at + "/cancel", `{"reason":"x"}`, []string{"/reason"}, nil},
		{"cancel: array", "POST", at + "/cancel", `[]`, []string{""}, nil},
		{"cancel: parameter", "POST", at + "/cancel?force=1", ``, []string{"parameter force"}, nil},
		{"extend: empty", "POST", at + "/extend", ``, []string{""}, nil},
		{"extend: nothing", "POST", at + "/extend", `{}`, []string{"/ttl_seconds"}, nil},
		{"extend: too long", "POST", at + "/extend", `{"ttl_seconds":2592001}`, []string{"/ttl_seconds"}, nil},
		{"extend: unknown", "POST", at + "/extend", `{"ttl_seconds":1,"ttl":2}`, []string{"/ttl"}, nil},
		{"return: bad line", "POST", at + "/return", `{"lines":[{"sku":"demo","quantity":0}]}`, []string{"/lines/0/quantity"}, nil},
		{"return: bad key", "POST", at + "/return", ``, []string{"header Idempotency-Key"}, []string{`Idempotency-Key: "`}},
		{"get: parameter", "GET", at + "?verbose=1", ``, []string{"parameter verbose"}, nil},
		{"get: timeout", "GET", at, ``, []string{"header X-Timeout-Ms"}, []string{"X-Timeout-Ms: soon"}},
		{"availability: bad sku", "GET", "/v1/skus/a%20b/availability", ``, []string{"parameter sku"}, nil},
		{"availability: consistency", "GET", "/v1/skus/demo/availability?consistency=weak", ``, []string{"parameter consistency"}, nil},
		{"availability: consistency empty", "GET", "/v1/skus/demo/availability?consistency=", ``, []string{"parameter consistency"}, nil},
		{"availability: twice", "GET", "/v1/skus/demo/availability?consistency=strong&consistency=strong", ``, []string{"parameter consistency"}, nil},
		{"availability: unreadable", "GET", "/v1/skus/demo/availability?%zz", ``, []string{"parameter query"}, nil},

		{"batch: empty", "POST", "/v1/reservations/batch", ``, []string{""}, nil},
		{"batch: nothing", "POST", "/v1/reservations/batch", `{}`, []string{"/reservations"}, nil},
		{"batch: no items", "POST", "/v1/reservations/batch", `{"reservations":[]}`, []string{"/reservations"}, nil},
		{"batch: not an array", "POST", "/v1/reservations/batch", `{"reservations":{}}`, []string{"/reservations"}, nil},
		{"batch: too many", "POST", "/v1/reservations/batch", `{"reservations":[` + strings.Repeat(`{},`, 1000) + `{}]}`, []string{"/reservations"}, nil},
		{"batch: broken in an item", "POST", "/v1/reservations/batch", `{"reservations":[{"sku":"demo","quantity":0},{"sku":"demo",}]}`, []string{"/reservations/1"}, nil},
		{"batch: key twice in an item", "POST", "/v1/reservations/batch", `{"reservations":[{"sku":"demo","sku":"x"}]}`, []string{"/reservations/0/sku"}, nil},
		{"batch: key header", "POST", "/v1/reservations/batch", `{"reservations":[{"sku":"demo","quantity":1}]}`, []string{"header Idempotency-Key"}, []string{"Idempotency-Key: k"}},
		{"batch: unknown", "POST", "/v1/reservations/batch", `{"reservations":[{}],"all_or_nothing":true}`, []string{"/all_or_nothing"}, nil},
		{"actions: nothing", "POST", "/v1/actions/batch", `{}`, []string{"/actions"}, nil},
		{"actions: trailing data", "POST", "/v1/actions/batch", `{"actions":[{"op":"cancel",` + id + `}]}]`, []string{""}, nil},
		{"actions: key header", "POST", "/v1/actions/batch", `{"actions":[{"op":"cancel",` + id + `}]}`, []string{"header Idempotency-Key"}, []string{"Idempotency-Key: k"}},

		{"put: empty", "PUT", "/v1/skus/x", ``, []string{""}, nil},
		{"put: bad sku", "PUT", "/v1/skus/a%2Fb", `{"on_hand":1}`, []string{"parameter sku"}, nil},
		{"put: long sku", "PUT", "/v1/skus/" + strings.Repeat("a", 65), `{"on_hand":1}`, []string{"parameter sku"}, nil},
		{"put: unknown", "PUT", "/v1/skus/x", `{"on_hand":1,"price":2}`, []string{"/price"}, nil},
		{"put: ranges", "PUT", "/v1/skus/x", `{"on_hand":1000000001,"safety_stock":-1,"max_per_reservation":-1,"max_per_buyer":1000000001,"default_ttl_seconds":0,"max_ttl_seconds":2592001}`,
			[]string{"/on_hand", "/safety_stock", "/max_per_reservation", "/max_per_buyer", "/default_ttl_seconds", "/max_ttl_seconds"}, nil},
		{"put: types", "PUT", "/v1/skus/x", `{"on_hand":"1","late_confirm":true,"sale_starts_at":1,"sale_ends_at":"tomorrow","watch":1,"metadata":[]}`,
			[]string{"/on_hand", "/late_confirm", "/sale_starts_at", "/sale_ends_at", "/watch", "/metadata"}, nil},
		{"put: safety over on_hand", "PUT", "/v1/skus/x", `{"on_hand":5,"safety_stock":6}`, []string{"/safety_stock"}, nil},
		{"put: default over max ttl", "PUT", "/v1/skus/x", `{"on_hand":5,"default_ttl_seconds":61,"max_ttl_seconds":60}`, []string{"/default_ttl_seconds"}, nil},
		{"put: ends before it starts", "PUT", "/v1/skus/x", `{"on_hand":5,"sale_starts_at":"2026-01-01T00:00:00Z","sale_ends_at":"2026-01-01T00:00:00Z"}`, []string{"/sale_ends_at"}, nil},
		{"put: before 1970", "PUT", "/v1/skus/x", `{"on_hand":5,"sale_starts_at":"1969-12-31T23:59:59Z"}`, []string{"/sale_starts_at"}, nil},
		{"put: late_confirm", "PUT", "/v1/skus/x", `{"on_hand":5,"late_confirm":"maybe"}`, []string{"/late_confirm"}, nil},
		{"put: metadata too long", "PUT", "/v1/skus/x", `{"on_hand":5,"metadata":{"a":"` + strings.Repeat("x", 4096) + `"}}`, []string{"/metadata"}, nil},
		{"put: metadata key twice", "PUT", "/v1/skus/x", `{"on_hand":5,"metadata":{"a":1,"a":2}}`, []string{"/metadata/a"}, nil},
		{"put: If-Match bare", "PUT", "/v1/skus/demo", `{}`, []string{"header If-Match"}, []string{"If-Match: 3"}},
		{"put: If-Match weak", "PUT", "/v1/skus/demo", `{}`, []string{"header If-Match"}, []string{`If-Match: W/"3"`}},
		{"put: If-Match zero", "PUT", "/v1/skus/demo", `{}`, []string{"header If-Match"}, []string{`If-Match: "0"`}},
		{"put: If-Match list", "PUT", "/v1/skus/demo", `{}`, []string{"header If-Match"}, []string{`If-Match: "1", "2"`}},
		{"put: If-Match empty", "PUT", "/v1/skus/demo", `{}`, []string{"header If-Match"}, []string{`If-Match: "`}},
		{"put: If-None-Match tag", "PUT", "/v1/skus/demo", `{}`, []string{"header If-None-Match"}, []string{`If-None-Match: "3"`}},
		{"put: both conditions", "PUT", "/v1/skus/demo", `{}`, []string{"header If-None-Match"}, []string{`If-Match: "3"`, "If-None-Match: *"}},
		{"restock: no key", "POST", "/v1/skus/demo/restock", `{"quantity":1}`, []string{"header Idempotency-Key"}, nil},
		{"restock: no quantity", "POST", "/v1/skus/demo/restock", `{}`, []string{"/quantity"}, []string{"Idempotency-Key: k"}},
		{"restock: long reference", "POST", "/v1/skus/demo/restock", `{"quantity":1,"reference":"` + strings.Repeat("x", 256) + `","x":1}`, []string{"/reference", "/x"}, []string{"Idempotency-Key: k"}},
		{"adjust: zero", "POST", "/v1/skus/demo/adjust", `{"delta":0,"reason":"x"}`, []string{"/delta"}, nil},
		{"adjust: nothing", "POST", "/v1/skus/demo/adjust", `{}`, []string{"/delta", "/reason"}, nil},
		{"adjust: too much", "POST", "/v1/skus/demo/adjust", `{"delta":-1000000001,"reason":"","by":"me"}`, []string{"/delta", "/reason", "/by"}, nil},
		{"pause: field", "POST", "/v1/skus/demo/pause", `{"until":1}`, []string{"/until"}, nil},
		{"resume: bad sku", "POST", "/v1/skus/%20/resume", ``, []string{"parameter sku"}, nil},
		{"get sku: bad sku", "GET", "/v1/skus/%20", ``, []string{"parameter sku"}, nil},
		{"audit: bad sku", "GET", "/v1/skus/%20/audit", ``, []string{"parameter sku"}, nil},
		{"list: parameters", "GET", "/v1/skus?top=rate&prefix=%20&limit=0", ``, []string{"parameter top", "parameter prefix", "parameter limit"}, nil},
		{"list: limit", "GET", "/v1/skus?limit=1001", ``, []string{"parameter limit"}, nil},
		{"list: with", "GET", "/v1/skus?with=reserved", ``, []string{"parameter with"}, nil},
		{"cluster: parameter", "GET", "/v1/cluster?x=1", ``, []string{"parameter x"}, nil},
		{"nodes: parameter", "GET", "/v1/nodes?x=1", ``, []string{"parameter x"}, nil},
		{"readyz: verbose", "GET", "/readyz?verbose=2", ``, []string{"parameter verbose"}, nil},
		{"problems: parameter", "GET", "/problems?x=1", ``, []string{"parameter x"}, nil},
		{"openapi: parameter", "GET", "/openapi.json?x=1", ``, []string{"parameter x"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHarness(t)
			p := h.do(row.method, row.path, row.body, row.headers...).problem(http.StatusBadRequest, codeInvalid)
			if got := places(t, p.Errors); !slices.Equal(got, row.where) {
				t.Errorf("faults at %q, want %q: %s", got, row.where, p.Detail)
			}
			if h.fake.calls != 0 {
				t.Error("the request reached the router")
			}
		})
	}
}
