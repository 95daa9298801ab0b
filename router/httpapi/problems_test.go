package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
	"stockade/shard/shardrpc"
)

// internalCodes never leave the cluster, so the API has no answer for them.
var internalCodes = []allocator.Code{
	allocator.CodeOK, allocator.CodeSKUUnknown, allocator.CodeTransferGap, allocator.CodeOutboxFull,
}

// wantStatus is the status of every code, as the contract has it.
var wantStatus = map[string]int{
	"idempotency-key-reused": 422, "idempotency-key-expired": 422, "reservation-not-found": 404,
	"reservation-canceled": 409, "reservation-confirmed": 409, "reservation-not-confirmed": 409,
	"lines-exceed-reservation": 400, "reservation-expired": 410, "sku-not-found": 404,
	"precondition-failed": 412, "sku-exists": 409, "sku-paused": 409, "sale-not-open": 409,
	"quantity-limit-exceeded": 409, "ttl-limit-exceeded": 400, "buyer-limit-exceeded": 409,
	"insufficient-stock": 409, "below-reserved": 409,
	"invalid-request": 400, "path-not-found": 404, "method-not-allowed": 405, "cross-origin-refused": 403,
	"overloaded": 503, "deadline-exceeded": 503, "shard-unavailable": 503, "stock-unreachable": 503,
	"not-ready": 503, "not-live": 503, "outcome-unknown": 504, "internal-error": 500,
}

// TestEveryCodeHasARow: every code that can leave the cluster is in the table,
// and the codes of the contract have its statuses.
func TestEveryCodeHasARow(t *testing.T) {
	for _, code := range allocator.Codes() {
		row := byOutcome[code]
		if internal := slices.Contains(internalCodes, code); internal != (row == nil) {
			t.Errorf("code %s: internal %v, row %v", code, internal, row != nil)
		}
		if row != nil && row.Code != code.String() {
			t.Errorf("code %s has the row of %s", code, row.Code)
		}
	}
	if len(byCode) != len(problems) || len(problems) != len(wantStatus) {
		t.Errorf("%d rows, %d codes, %d expected", len(problems), len(byCode), len(wantStatus))
	}
	for _, e := range Explanations() {
		if e.Status != wantStatus[e.Code] {
			t.Errorf("%s has status %d, want %d", e.Code, e.Status, wantStatus[e.Code])
		}
		if retry := e.Status == 503 || e.Status == 504; e.Retryable != (retry && e.Code != codeNotLive) {
			t.Errorf("%s with status %d: retryable %v", e.Code, e.Status, e.Retryable)
		}
	}
}

// TestRefusalInOrderOfPrecedence: the rows stand in the order of the enum.
func TestRefusalInOrderOfPrecedence(t *testing.T) {
	if !slices.IsSortedFunc(refusals, func(a, b problem) int { return int(a.outcome) - int(b.outcome) }) {
		t.Error("the refusals are out of order")
	}
}

// TestEveryRefusal answers every code, with and without facts.
func TestEveryRefusal(t *testing.T) {
	held := allocator.Reservation{
		ID: allocator.ReservationID{Shard: 1, Seq: 1}, Status: allocator.StatusCanceled, Created: 1, Expires: 2, Ended: 3,
		Lines: []allocator.Line{{SKU: "demo", Quantity: 1}},
	}
	for _, code := range allocator.Codes() {
		if slices.Contains(internalCodes, code) {
			continue
		}
		for _, full := range []bool{false, true} {
			h := newHarness(t)
			r := &router.Refusal{Code: code}
			if full {
				r.SKU, r.Requested, r.Available, r.Limit, r.Reservation = "demo", 3, 2, 1, held
			}
			h.fake.fail = fmt.Errorf("wrapped: %w", r)
			target, body, method := "/v1/reservations", oneDemo, "POST"
			if status := wantStatus[code.String()]; status == 410 || code == allocator.CodeBelowReserved || status == 412 || code == allocator.CodeSKUExists {
				target, body, method = "/v1/skus/demo", `{}`, "PUT"
			}
			if code == allocator.CodeReservationExpired {
				target, body, method = "/v1/reservations/"+anID+"/confirm", "", "POST"
			}
			p := h.do(method, target, body).problem(wantStatus[code.String()], code.String())
			if p.Retryable {
				t.Errorf("%s is retryable", code)
			}
			checkFacts(t, byOutcome[code].shows, &p, full)
		}
	}
}

// checkFacts checks that a problem shows what its row says, when it is known.
func checkFacts(t *testing.T, s shows, p *api.Problem, known bool) {
	t.Helper()
	for _, fact := range []struct {
		name  string
		flag  shows
		shown bool
	}{
		{"sku", showSKU, p.SKU != ""},
		{"requested", showRequested, p.Requested != nil},
		{"available", showAvailable, p.Available != nil},
		{"limit", showLimit, p.Limit != nil},
		{"reservation", showReservation, p.Reservation != nil},
	} {
		if want := known && s&fact.flag != 0; fact.shown != want {
			t.Errorf("%s shows %s: %v, want %v", p.Code, fact.name, fact.shown, want)
		}
	}
}

// TestLimitDetails covers the refusals whose words depend on the operation or
// the unit.
func TestLimitDetails(t *testing.T) {
	h := newHarness(t)
	h.fake.fail = &router.Refusal{Code: allocator.CodeTTLLimitExceeded, SKU: "demo", Requested: 7_200_000, Limit: 600_000}
	p := h.do("POST", "/v1/reservations", oneDemo).problem(400, "ttl-limit-exceeded")
	if *p.Limit != 600 || *p.Requested != 7200 || !strings.Contains(p.Detail, "for 600 seconds, not 7200") {
		t.Errorf("got %+v", p)
	}
	h.fake.fail = &router.Refusal{Code: allocator.CodeQuantityLimitExceeded, SKU: "demo", Requested: 5, Available: 3, Limit: 100}
	for target, want := range map[string]string{
		"/v1/reservations":      "One request may have 100 units of SKU demo, and 5 were asked for",
		"/v1/skus/demo/restock": "SKU demo may have 100 units in all; there is room for 3 more, not for 5",
	} {
		body := map[bool]string{true: oneDemo, false: `{"quantity":5}`}[onData(target)]
		if p := h.do("POST", target, body, "Idempotency-Key: k").problem(409, "quantity-limit-exceeded"); !strings.Contains(p.Detail, want) {
			t.Errorf("detail %q", p.Detail)
		}
	}
}

// TestRouterErrors covers everything that is not a refusal.
func TestRouterErrors(t *testing.T) {
	since := time.UnixMilli(int64(fakeNow)).In(time.FixedZone("", 3600))
	for _, row := range []struct {
		name   string
		err    error
		status int
		code   string
		detail string
		wait   string
		shard  bool
	}{
		{"no leader", &router.Unavailable{Reason: shardrpc.ReasonNotLeader, Shard: 5, Since: since, RetryAfter: time.Second}, 503, codeShardUnavailable, "Shard 5 can't be used since 2026-09-21T14:13:20.123Z: it has no leader that is known.", "1", true},
		{"deadline", &router.Unavailable{Reason: shardrpc.ReasonDeadline, Shard: 5}, 503, codeShardUnavailable, "Shard 5 can't be used: the time ran out.", "1", true},
		{"stock unreachable", &router.Unavailable{Reason: shardrpc.ReasonStockUnreachable, Shard: 5, Since: since, RetryAfter: 1200 * time.Millisecond}, 503, codeStockUnreachable, "Shard 5 may hold the missing units", "2", true},
		{"overloaded", &router.Unavailable{Reason: shardrpc.ReasonOverloaded, Shard: 5, RetryAfter: time.Minute}, 503, codeOverloaded, "Shard 5 has as much work", "60", true},
		{"overloaded here", &router.Unavailable{Reason: shardrpc.ReasonOverloaded, Local: true}, 503, codeOverloaded, "This node has as many requests", "1", false},
		{"too many in line", &router.Unavailable{Reason: shardrpc.ReasonOverloaded, RetryAfter: time.Second, Local: true, Waiting: true}, 503, codeOverloaded, "As many requests wait in line", "1", false},
		{"too late", &router.Unavailable{Reason: shardrpc.ReasonDeadline, Local: true}, 503, codeDeadline, "The time for the request ran out before it was sent", "1", false},
		{"unknown", &router.UnknownOutcome{Shard: 5}, 504, codeUnknownOutcome, "Shard 5 was given the request", "", true},
		{"context", context.DeadlineExceeded, 504, codeUnknownOutcome, "it may count twice", "", false},
		{"client gone", fmt.Errorf("wrapped: %w", context.Canceled), 504, codeUnknownOutcome, "not known", "", false},
		{"invalid command", &router.Unavailable{Reason: shardrpc.ReasonInvalid}, 500, codeInternal, "Stockade made a mistake", "", false},
		{"internal code", &router.Refusal{Code: allocator.CodeTransferGap}, 500, codeInternal, "Request-Id", "", false},
		{"code of another version", &router.Refusal{Code: 250}, 500, codeInternal, "Request-Id", "", false},
		{"anything else", errors.New("a bug"), 500, codeInternal, "Request-Id", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHarness(t)
			h.fake.fail = row.err
			a := h.do("POST", "/v1/reservations", oneDemo)
			p := a.problem(row.status, row.code)
			if !strings.Contains(p.Detail, row.detail) {
				t.Errorf("detail %q, want %q", p.Detail, row.detail)
			}
			if a.Header.Get("Retry-After") != row.wait {
				t.Errorf("Retry-After %q, want %q", a.Header.Get("Retry-After"), row.wait)
			}
			if row.shard != (p.Shard != nil) || row.shard && *p.Shard != 5 {
				t.Errorf("shard %v", p.Shard)
			}
			if logged := strings.Count(h.log.String(), "level=ERROR"); logged != map[bool]int{true: 1}[row.status == 500] {
				t.Errorf("%d lines in the log: %s", logged, h.log)
			}
		})
	}
}

// TestUnavailableSince shows since when.
func TestUnavailableSince(t *testing.T) {
	h := newHarness(t)
	h.fake.fail = &router.Unavailable{Reason: shardrpc.ReasonNotReady, Since: time.UnixMilli(int64(fakeNow))}
	if p := h.do("GET", "/v1/reservations/"+anID, "").problem(503, codeShardUnavailable); p.Since != api.Time(fakeNow) || *p.Shard != 0 || !p.Retryable {
		t.Errorf("got %+v", p)
	}
}

// TestRouterInvalid covers what the router refuses by itself.
func TestRouterInvalid(t *testing.T) {
	h := newHarness(t)
	h.fake.fail = &router.Invalid{Pointer: "/lines/0/sku", Detail: "must be something else"}
	p := h.do("POST", "/v1/reservations", oneDemo).problem(400, codeInvalid)
	if got := places(t, p.Errors); got[0] != "/lines/0/sku" {
		t.Errorf("faults at %q", got)
	}
}

// TestUnknownWithKey: with a key the same request may be sent again.
func TestUnknownWithKey(t *testing.T) {
	h := newHarness(t)
	h.fake.fail = &router.UnknownOutcome{Shard: 1}
	for _, row := range []struct {
		target, body string
		headers      []string
		repeatable   bool
	}{
		{"/v1/reservations", oneDemo, []string{"Idempotency-Key: k"}, true},
		{"/v1/reservations", oneDemo, nil, false},
		{"/v1/reservations/" + anID + "/confirm", "", nil, true},
		{"/v1/reservations/" + anID + "/return", "", nil, false},
		{"/v1/skus/demo/adjust", `{"delta":1,"reason":"x"}`, nil, false},
		{"/v1/skus/demo/restock", `{"quantity":1}`, []string{"Idempotency-Key: k"}, true},
		{"/v1/skus/demo/pause", "", nil, true},
	} {
		p := h.do("POST", row.target, row.body, row.headers...).problem(504, codeUnknownOutcome)
		if repeatable := !strings.Contains(p.Detail, "may count twice"); repeatable != row.repeatable || !p.Retryable {
			t.Errorf("%s: %s", row.target, p.Detail)
		}
	}
}

// TestPages fetches the page of every row in every form, on both ports.
func TestPages(t *testing.T) {
	for _, data := range []bool{false, true} {
		h := newHarness(t)
		if data {
			h.ops = h.data
		}
		for _, e := range Explanations() {
			var got api.Explanation
			h.do("GET", "/problems/"+e.Code, "").want(http.StatusOK).decode(&got)
			if got != e {
				t.Errorf("got %+v, want %+v", got, e)
			}
			for _, text := range []string{e.Title, e.What, e.Done, e.Retry, e.Do} {
				if len(text) < 10 {
					t.Errorf("%s: %q explains nothing", e.Code, text)
				}
			}
			for accept, part := range map[string]string{"text/html": "<h1>", "text/plain": "Was anything done?"} {
				a := h.do("GET", "/problems/"+e.Code, "", "Accept: "+accept).want(http.StatusOK)
				if page := string(a.body); !strings.Contains(page, part) || !strings.Contains(page, e.Code) {
					t.Errorf("%s as %s: %s", e.Code, accept, page)
				}
			}
		}
		var index api.Explanations
		h.do("GET", "/problems", "").want(http.StatusOK).decode(&index)
		if !slices.Equal(index.Problems, Explanations()) {
			t.Errorf("the index has %d problems", len(index.Problems))
		}
		h.do("GET", "/problems", "", "Accept: text/html").want(http.StatusOK)
		h.do("GET", "/problems", "", "Accept: text/plain").want(http.StatusOK)
		h.do("GET", "/problems/none", "").problem(http.StatusNotFound, codeNoPath)
	}
}

// TestPreferred covers the choice of a page's form.
func TestPreferred(t *testing.T) {
	for accept, want := range map[string]string{
		"":                jsonType,
		"*/*":             jsonType,
		"image/png":       jsonType,
		"text/html":       htmlType,
		"TEXT/HTML;q=0.1": htmlType,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": htmlType,
		"text/html;q=0.5, application/json":                               jsonType,
		"text/*":                                                          textType,
		"text/plain;q=0.9, text/html;q=0.8":                               textType,
		"text/html;q=0":                                                   jsonType,
		"text/html;q=x":                                                   jsonType,
		"text/html; level=1; q=0.3":                                       htmlType,
	} {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		if got := (&call{r: r}).preferred(); got != want {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
}

// TestExplain covers what the command line prints.
func TestExplain(t *testing.T) {
	e, ok := Explain("overloaded")
	if text := ExplainText(e); !ok || !strings.HasPrefix(text, "overloaded (HTTP "+strconv.Itoa(e.Status)+"): ") || !strings.HasSuffix(text, "\n") {
		t.Errorf("got %q", text)
	}
	if _, ok := Explain("nothing"); ok {
		t.Error("explained a code that does not exist")
	}
}

// TestDocsHaveEveryCode: the table in the API's page is the table of problems.
func TestDocsHaveEveryCode(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, e := range Explanations() {
		fmt.Fprintf(&want, "| `%s` | %d | %s |\n", e.Code, e.Status, e.Title)
	}
	if !strings.Contains(string(page), "| code | status | meaning |\n|---|---|---|\n"+want.String()+"\n") {
		t.Errorf("docs/api.md needs this table:\n%s", &want)
	}
}
