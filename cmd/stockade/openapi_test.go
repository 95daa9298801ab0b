package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"stockade/allocator"
	"stockade/router/httpapi/openapitest"
)

// live talks to a running cluster and holds every answer against the document
// that the cluster serves.
type live struct {
	t    *testing.T
	dev  *process
	doc  *openapitest.Document
	seen map[string]map[int]int // answers by operation and status
}

// want sends a request and wants a status and, of a problem, a code ("" for
// none). path is "METHOD /path/in/{the}/document"; arg replaces what is in braces.
// More of the request is in headers ("Name: value"); a body goes as JSON
// unless they say otherwise.
func (l *live) want(status int, code, path, arg, body string, headers ...string) answer {
	l.t.Helper()
	method, template, _ := strings.Cut(path, " ")
	target, query, _ := strings.Cut(template, "?")
	template = target
	if name, rest, ok := strings.Cut(target, "{"); ok {
		_, rest, _ = strings.Cut(rest, "}")
		target = name + arg + rest
	}
	if query != "" {
		target += "?" + query
	}
	a := l.send(method, target, body, headers)
	if a.status != status {
		l.t.Errorf("%s of %q %s: %d, not %d: %s", path, arg, body, a.status, status, a.body)
	}
	if code != "" && a.status == status {
		var p problem
		a.into(l.t, &p)
		if p.Code != code {
			l.t.Errorf("%s of %q %s: the code is %q, not %q: %s", path, arg, body, p.Code, code, a.body)
		}
	}
	if l.seen[method+" "+template] == nil {
		l.seen[method+" "+template] = make(map[int]int)
	}
	l.seen[method+" "+template][a.status]++
	if err := l.doc.Check(openapitest.Answer{Method: method, Path: template, Status: a.status, Header: a.header, Body: a.body}); err != nil {
		l.t.Error(err)
	}
	return a
}

// send sends a request to the port that the document gives its path.
func (l *live) send(method, target, body string, headers []string) answer {
	l.t.Helper()
	addr := l.dev.Ops
	if path, _, _ := strings.Cut(target, "?"); path == "/v1/nodes" || strings.HasPrefix(path, "/v1/reservations") || strings.HasPrefix(path, "/v1/actions") || strings.HasSuffix(path, "/availability") {
		addr = l.dev.HTTP
	}
	r, err := http.NewRequest(method, "http://"+addr+target, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := caller.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: b}
}

// reserve makes a reservation and gives its id.
func (l *live) reserve(body string) string {
	l.t.Helper()
	var r reservation
	l.want(201, "", "POST /v1/reservations", "", body).into(l.t, &r)
	return r.ID
}

// TestLiveAnswersMatchOpenAPI asks a real cluster for everything that its
// document describes, for successes and for the refusals that a client meets, and
// holds each answer against that document as it is served.
func TestLiveAnswersMatchOpenAPI(t *testing.T) {
	l := &live{t: t, dev: startDev(t, "--shards", "2", "--seed", "none"), seen: make(map[string]map[int]int)}
	l.doc = servedDocument(t, l.dev)
	l.adminSKUs()
	l.sell()
	l.finish()
	l.batches()
	l.lateConfirm()
	l.changeStock()
	l.lists()
	l.pages()
	l.everywhere()
	l.complete()
}

// servedDocument is the OpenAPI document that a process serves.
func servedDocument(t *testing.T, p *process) *openapitest.Document {
	t.Helper()
	doc, err := openapitest.Parse(must(t, http.StatusOK, http.MethodGet, p.Ops, "/openapi.json", "", nil).body)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// outages are statuses that this test need not meet: without a fault of the program
// or of a disk, a full queue or a lost majority they don't come. For 503 see
// TestNoQuorumIsSaid.
var outages = map[int]bool{500: true, 503: true, 504: true}

// complete wants that every operation and status of the document was met.
func (l *live) complete() {
	l.t.Helper()
	for path, item := range l.doc.Root["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method == "servers" {
				continue
			}
			name := strings.ToUpper(method) + " " + path
			for status := range op.(map[string]any)["responses"].(map[string]any) {
				var number int
				if err := json.Unmarshal([]byte(status), &number); err != nil {
					l.t.Fatal(err)
				}
				if l.seen[name][number] == 0 && !outages[number] {
					l.t.Errorf("%s was never answered with %d", name, number)
				}
			}
		}
	}
	l.t.Logf("answers by operation and status: %v", l.seen)
}

const (
	putSKU = "PUT /v1/skus/{sku}"
	getSKU = "GET /v1/skus/{sku}"
)

// nobodys is the id of a reservation that was not made.
var nobodys = allocator.ReservationID{Shard: 1, Seq: 1 << 30}.String()

func (l *live) adminSKUs() {
	policy := `{"on_hand":100,"safety_stock":5,"max_per_reservation":50,"max_per_buyer":10,"default_ttl_seconds":60,
		"max_ttl_seconds":3600,"late_confirm":"reject","metadata":{"color":"red"}}`
	created := l.want(201, "", putSKU, "a", policy, "If-None-Match: *")
	l.want(201, "", putSKU, "plain", `{"on_hand":50}`)
	l.want(200, "", putSKU, "plain", `{"max_per_reservation":40}`)
	l.want(200, "", putSKU, "a", strings.Replace(policy, `"on_hand":100,`, "", 1), "If-Match: "+created.header.Get("Etag"))
	l.want(412, "precondition-failed", putSKU, "a", `{}`, `If-Match: "999"`)
	l.want(412, "", putSKU, "a", policy, "If-None-Match: *")
	l.want(409, "sku-exists", putSKU, "a", policy)
	l.want(404, "sku-not-found", putSKU, "missing", `{"max_per_buyer":1}`)
	l.want(400, "invalid-request", putSKU, "a", `{"on_hand":-1,"nonsense":1}`)
	l.want(201, "", putSKU, "keyed", `{"on_hand":1}`, "Idempotency-Key: put")
	l.want(422, "idempotency-key-reused", putSKU, "keyed", `{"on_hand":2}`, "Idempotency-Key: put")
	l.want(200, "", getSKU, "a", "")
	l.want(200, "", getSKU+"?consistency=strong", "a", "")
	l.want(404, "sku-not-found", getSKU, "missing", "")
	l.want(400, "invalid-request", getSKU, "not%20a%20sku", "")
	l.want(201, "", putSKU, "closed", `{"on_hand":5,"sale_starts_at":"2999-01-01T00:00:00Z"}`)
	l.want(201, "", putSKU, "halted", `{"on_hand":5}`)
	for _, path := range []string{"POST /v1/skus/{sku}/pause", "POST /v1/skus/{sku}/resume", "POST /v1/skus/{sku}/pause"} {
		l.want(200, "", path, "halted", "")
		l.want(404, "sku-not-found", path, "missing", "")
		l.want(400, "invalid-request", path, "halted", `{"now":true}`)
	}
}

func (l *live) sell() {
	const reserve = "POST /v1/reservations"
	one := `{"sku":"a","quantity":1,"buyer_id":"ann","reference":"order 1","ttl_seconds":30}`
	l.want(201, "", reserve, "", one, "Idempotency-Key: k1")
	l.want(201, "", reserve, "", one, "Idempotency-Key: k1")
	l.want(422, "idempotency-key-reused", reserve, "", strings.Replace(one, `"quantity":1`, `"quantity":2`, 1), "Idempotency-Key: k1")
	l.want(201, "", reserve, "", `{"lines":[{"sku":"a","quantity":1},{"sku":"plain","quantity":2}]}`)
	l.want(400, "invalid-request", reserve, "", `{"sku":"a","quantity":0}`)
	l.want(400, "invalid-request", reserve, "", `{`)
	l.want(404, "sku-not-found", reserve, "", `{"sku":"missing","quantity":1}`)
	l.want(422, "idempotency-key-expired", reserve, "", one, "Idempotency-Key: 01890a5d-ac96-774b-bcce-b302099a8057") // of 2023
	l.want(400, "ttl-limit-exceeded", reserve, "", `{"sku":"a","quantity":1,"ttl_seconds":7200}`)
	for code, body := range map[string]string{
		"quantity-limit-exceeded": `{"sku":"a","quantity":51}`,
		"buyer-limit-exceeded":    `{"sku":"a","quantity":10,"buyer_id":"ann"}`,
		"sale-not-open":           `{"sku":"closed","quantity":1}`,
		"sku-paused":              `{"sku":"halted","quantity":1}`,
		"insufficient-stock":      `{"sku":"keyed","quantity":2}`,
	} {
		l.want(409, code, reserve, "", body)
	}
	const availability = "GET /v1/skus/{sku}/availability"
	l.want(200, "", availability, "a", "")
	l.want(200, "", availability+"?consistency=strong", "a", "")
	l.want(404, "sku-not-found", availability, "missing", "")
	l.want(400, "invalid-request", availability+"?consistency=weak", "a", "")
}

// finish takes reservations through their lives.
func (l *live) finish() {
	const (
		get      = "GET /v1/reservations/{id}"
		confirm  = "POST /v1/reservations/{id}/confirm"
		cancel   = "POST /v1/reservations/{id}/cancel"
		extend   = "POST /v1/reservations/{id}/extend"
		giveBack = "POST /v1/reservations/{id}/return"

		lines = `{"lines":[{"sku":"plain","quantity":1}]}`
		more  = `{"lines":[{"sku":"plain","quantity":9}]}`
		ttl   = `{"ttl_seconds":120}`
	)
	open, sold, gone := l.reserve(`{"sku":"plain","quantity":3}`), l.reserve(`{"sku":"plain","quantity":3}`), l.reserve(`{"sku":"plain","quantity":3}`)
	l.want(200, "", extend, open, ttl)
	l.want(409, "reservation-not-confirmed", giveBack, open, "")
	l.want(400, "lines-exceed-reservation", confirm, open, more)
	l.want(200, "", confirm, sold, `{"lines":[{"sku":"plain","quantity":2}]}`)
	l.want(200, "", confirm, sold, "")
	l.want(200, "", cancel, gone, "")
	l.want(200, "", cancel, gone, "")
	for _, id := range []string{open, sold, gone} {
		l.want(200, "", get, id, "")
	}
	l.want(409, "reservation-canceled", confirm, gone, "")
	l.want(409, "reservation-confirmed", cancel, sold, "")
	l.want(409, "reservation-confirmed", extend, sold, ttl)
	l.want(200, "", giveBack, sold, lines, "Idempotency-Key: back")
	l.want(422, "idempotency-key-reused", giveBack, sold, "", "Idempotency-Key: back")
	l.want(400, "lines-exceed-reservation", giveBack, sold, more)
	for path, body := range map[string]string{get: "", confirm: "", cancel: "", extend: ttl, giveBack: ""} {
		l.want(404, "reservation-not-found", path, nobodys, body)
	}
	for path, body := range map[string]string{confirm: `{"x":1}`, cancel: `{"x":1}`, extend: `{}`, giveBack: `[]`} {
		l.want(400, "invalid-request", path, open, body)
	}
}

// batches sends items that are done, refused and not valid.
func (l *live) batches() {
	const reserve, actions = "POST /v1/reservations/batch", "POST /v1/actions/batch"
	a := l.want(200, "", reserve, "", `{"reservations":[{"sku":"plain","quantity":1,"idempotency_key":"b1"},
		{"sku":"missing","quantity":1},{"sku":"keyed","quantity":9},{"sku":"plain","quantity":0},{"sku":"plain","quantity":2,"idempotency_key":"b1"}]}`)
	l.statuses(a, 201, 404, 409, 400, 422)
	id := l.reserve(`{"sku":"plain","quantity":2}`)
	step := func(op, id, more string) string { return `{"op":"` + op + `","id":"` + id + `"` + more + `}` }
	a = l.want(200, "", actions, "", `{"actions":[`+strings.Join([]string{
		step("extend", id, `,"ttl_seconds":99`), step("confirm", id, ""), step("return", id, ""), step("cancel", nobodys, ""), step("burn", id, ""),
	}, ",")+`]}`)
	l.statuses(a, 200, 200, 200, 404, 400)
	l.want(400, "invalid-request", reserve, "", `{"reservations":[]}`)
	l.want(400, "invalid-request", actions, "", `{"actions":{}}`)
}

// statuses compares those of a batch's results.
func (l *live) statuses(a answer, want ...int) {
	l.t.Helper()
	var batch struct {
		Results []struct {
			Status int `json:"status"`
		} `json:"results"`
	}
	a.into(l.t, &batch)
	var got []int
	for _, r := range batch.Results {
		got = append(got, r.Status)
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("statuses %v, want %v: %s", got, want, a.body)
	}
}

// lateConfirm waits until a reservation has expired whose SKU takes no late
// confirmation.
func (l *live) lateConfirm() {
	id := l.reserve(`{"sku":"a","quantity":1,"ttl_seconds":1}`)
	eventually(l.t, "the reservation expires", startTimeout, func() error {
		var r reservation
		l.want(200, "", "GET /v1/reservations/{id}", id, "").into(l.t, &r)
		if r.Status != "expired" {
			return errors.New(r.Status)
		}
		return nil
	})
	l.want(410, "reservation-expired", "POST /v1/reservations/{id}/confirm", id, "")
	l.want(410, "reservation-expired", "POST /v1/reservations/{id}/extend", id, `{"ttl_seconds":9}`)
	l.want(200, "", "POST /v1/reservations/{id}/cancel", id, "")
}

// changeStock restocks, corrects and audits.
func (l *live) changeStock() {
	const restock, adjust, audit = "POST /v1/skus/{sku}/restock", "POST /v1/skus/{sku}/adjust", "GET /v1/skus/{sku}/audit"
	l.want(200, "", restock, "a", `{"quantity":10,"reference":"truck 7"}`, "Idempotency-Key: r1")
	l.want(422, "idempotency-key-reused", restock, "a", `{"quantity":11}`, "Idempotency-Key: r1")
	l.want(400, "invalid-request", restock, "a", `{"quantity":10}`) // no key
	l.want(404, "sku-not-found", restock, "missing", `{"quantity":10}`, "Idempotency-Key: r2")
	l.want(200, "", adjust, "a", `{"delta":-1,"reason":"broken"}`, "Idempotency-Key: a1")
	l.want(422, "idempotency-key-reused", adjust, "a", `{"delta":-2,"reason":"broken"}`, "Idempotency-Key: a1")
	l.fill("huge")
	l.want(409, "quantity-limit-exceeded", restock, "huge", `{"quantity":1}`, "Idempotency-Key: r3")
	l.want(409, "below-reserved", adjust, "a", `{"delta":-1000,"reason":"lost"}`)
	l.want(404, "sku-not-found", adjust, "missing", `{"delta":1,"reason":"found"}`)
	l.want(400, "invalid-request", adjust, "a", `{"delta":0,"reason":""}`)
	l.want(200, "", audit, "a", "")
	l.want(200, "", audit, "plain", "")
	l.want(404, "sku-not-found", audit, "missing", "")
	l.want(400, "invalid-request", audit, "not%20a%20sku", "")
}

// fill gives a SKU as many units as it may have: a thousand of the largest
// deposits.
func (l *live) fill(sku string) {
	const deposits, each = 1000, 1_000_000_000
	l.want(201, "", putSKU, sku, fmt.Sprintf(`{"on_hand":%d}`, each))
	work := make(chan int, deposits)
	for i := range deposits - 1 {
		work <- i
	}
	close(work)
	var clients sync.WaitGroup
	for range 32 {
		clients.Go(func() {
			for i := range work {
				a, err := call(http.MethodPost, l.dev.Ops, "/v1/skus/"+sku+"/restock", fmt.Sprintf("fill-%d", i), map[string]any{"quantity": each})
				if err != nil || a.status != http.StatusOK {
					l.t.Errorf("%v %d %s", err, a.status, a.body)
				}
			}
		})
	}
	clients.Wait()
}

func (l *live) lists() {
	const list = "GET /v1/skus"
	var page struct {
		Cursor string `json:"next_cursor"`
	}
	l.want(200, "", list, "", "")
	l.want(200, "", list+"?prefix=k", "", "")
	l.want(200, "", list+"?limit=1", "", "").into(l.t, &page)
	if page.Cursor == "" {
		l.t.Fatal("a page of one has no cursor")
	}
	l.want(200, "", list+"?limit=1&cursor="+url.QueryEscape(page.Cursor), "", "")
	l.want(400, "invalid-request", list+"?limit=0", "", "")
	l.want(200, "", "GET /v1/cluster", "", "")
	l.want(400, "invalid-request", "GET /v1/cluster?x=1", "", "")
	l.want(200, "", "GET /v1/nodes", "", "")
	l.want(400, "invalid-request", "GET /v1/nodes?x=1", "", "")
}

// pages asks for what is not the API proper.
func (l *live) pages() {
	for _, path := range []string{"/livez", "/readyz", "/readyz?verbose=1", "/startupz", "/problems", "/problems/{code}", "/openapi.json"} {
		l.want(200, "", "GET "+path, "overloaded", "")
	}
	for _, path := range []string{"/readyz", "/problems", "/problems/{code}", "/openapi.json"} {
		l.want(400, "invalid-request", "GET "+path+"?x=1", "overloaded", "")
	}
	for _, path := range []string{"/livez", "/startupz"} { // a wrong probe must not restart a process
		l.want(200, "", "GET "+path+"?x=1", "", "", "X-Timeout-Ms: soon")
	}
	l.want(200, "", "GET /problems/{code}", "overloaded", "", "Accept: text/html")
	l.want(200, "", "GET /problems", "", "", "Accept: text/html")
	l.want(404, "path-not-found", "GET /problems/{code}", "nonsense", "")
	l.want(200, "", "GET /metrics", "", "")
	l.want(200, "", "GET /debug/pprof/{page}", "goroutine", "")
	a := l.send(http.MethodGet, "/v2", "", nil)
	if err := l.doc.Check(openapitest.Answer{Method: http.MethodGet, Status: a.status, Header: a.header, Body: a.body}); err != nil || a.status != http.StatusNotFound {
		l.t.Errorf("a path that is not there: %d, %v", a.status, err)
	}
}

// everywhere makes each request wrong in the ways that hold for all.
func (l *live) everywhere() {
	args := map[string]string{"{id}": l.reserve(`{"sku":"plain","quantity":1}`), "{sku}": "plain", "{code}": "overloaded"}
	for path, item := range l.doc.Root["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method == "servers" {
				continue
			}
			responses := op.(map[string]any)["responses"].(map[string]any)
			name, arg := strings.ToUpper(method)+" "+path, ""
			for parameter, value := range args {
				if strings.Contains(path, parameter) {
					arg = value
				}
			}
			if responses["400"] != nil {
				l.want(400, "invalid-request", name, arg, "", "X-Timeout-Ms: soon")
			}
			if responses["403"] != nil {
				l.want(403, "cross-origin-refused", name, arg, "", "Sec-Fetch-Site: cross-site")
			}
		}
	}
}
