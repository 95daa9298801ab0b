package httpapi

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
	"stockade/shard/shardrpc"
)

const oneDemo = `{"sku":"demo","quantity":1}`

// TestReserve covers what a reservation answers and what reaches the router.
func TestReserve(t *testing.T) {
	h := newHarness(t)
	body := `{"ttl_seconds":90, "lines":[{"quantity":2,"sku":"demo"},{"sku":"m\u0075g","quantity":1000000000},{"sku":"demo","quantity":3}],
		"buyer_id":"b-é","reference":"a \"quoted\" order \u2028","wait_ms":1500}`
	h.fake.addSKU("mug", 2_000_000_000)
	a := h.do("POST", "/v1/reservations", body, `Idempotency-Key: "k-1"`)
	r := a.reservation(http.StatusCreated)
	want := router.ReserveRequest{
		IdempotencyKey: "k-1", BuyerID: "b-é", Reference: "a \"quoted\" order \u2028", TTL: 90 * time.Second, Wait: 1500 * time.Millisecond,
		Lines: []router.Line{{SKU: "demo", Quantity: 2}, {SKU: "mug", Quantity: 1_000_000_000}, {SKU: "demo", Quantity: 3}},
	}
	if !reflect.DeepEqual(h.fake.last, want) {
		t.Errorf("the router got %+v, want %+v", h.fake.last, want)
	}
	if a.Header.Get("Location") != "/v1/reservations/"+r.ID || a.Header.Get(headerReplayed) != "" {
		t.Errorf("headers %v", a.Header)
	}
	if r.Status != api.StatusReserved || r.BuyerID != want.BuyerID || r.Reference != want.Reference ||
		r.CreatedAt != api.Time(fakeNow) || r.ExpiresAt != api.Time(fakeNow+90_000) || r.EndedAt != 0 {
		t.Errorf("got %+v", r)
	}
	if !strings.Contains(string(a.body), `"created_at":"2026-09-21T14:13:20.123Z"`) {
		t.Errorf("times are not RFC 3339 in UTC with milliseconds: %s", a.body)
	}
	if got := h.do("GET", a.Header.Get("Location"), "").reservation(http.StatusOK); !reflect.DeepEqual(got, r) {
		t.Errorf("read back %+v, want %+v", got, r)
	}
}

// TestReplay covers idempotency: bare and quoted keys are the same key.
func TestReplay(t *testing.T) {
	h := newHarness(t)
	first := h.do("POST", "/v1/reservations", oneDemo, "Idempotency-Key: k").reservation(http.StatusCreated)
	a := h.do("POST", "/v1/reservations", oneDemo, `Idempotency-Key: "k"`)
	if again := a.reservation(http.StatusCreated); again.ID != first.ID || a.Header.Get(headerReplayed) != "true" || a.Header.Get("Location") == "" {
		t.Errorf("a repeated request got %+v, %v", again, a.Header)
	}
	h.do("POST", "/v1/reservations", `{"sku":"demo","quantity":2}`, "Idempotency-Key: k").
		problem(http.StatusUnprocessableEntity, "idempotency-key-reused")
}

// TestReserveRefused covers refusals with their facts.
func TestReserveRefused(t *testing.T) {
	h := newHarness(t)
	p := h.do("POST", "/v1/reservations", `{"sku":"mug","quantity":11}`).problem(http.StatusConflict, "insufficient-stock")
	if p.SKU != "mug" || *p.Requested != 11 || *p.Available != 10 || p.Limit != nil || p.Retryable {
		t.Errorf("got %+v", p)
	}
	if !strings.Contains(p.Detail, "mug has 10 units for sale, and 11 were asked for") {
		t.Errorf("detail %q", p.Detail)
	}
	p = h.do("POST", "/v1/reservations", `{"sku":"none","quantity":1}`).problem(http.StatusNotFound, "sku-not-found")
	if p.SKU != "none" || p.Requested != nil {
		t.Errorf("got %+v", p)
	}
}

// TestSteps covers confirm, cancel, extend and return.
func TestSteps(t *testing.T) {
	h := newHarness(t)
	id := h.do("POST", "/v1/reservations", oneDemo).reservation(http.StatusCreated).ID
	at := "/v1/reservations/" + id
	if r := h.do("POST", at+"/extend", `{"ttl_seconds":3600}`).reservation(http.StatusOK); r.ExpiresAt != api.Time(fakeNow+3_600_000) {
		t.Errorf("extended to %s", r.ExpiresAt)
	}
	p := h.do("POST", at+"/extend", `{"ttl_seconds":90000}`).problem(http.StatusBadRequest, "ttl-limit-exceeded")
	if got := places(t, trimStops(p.Errors)); len(got) != 1 || got[0] != "/ttl_seconds" {
		t.Errorf("faults at %q", got)
	}
	h.do("POST", at+"/return", "").problem(http.StatusConflict, "reservation-not-confirmed")
	for _, body := range []string{`{"lines":[{"sku":"demo","quantity":1}]}`, "", "{}"} {
		if r := h.do("POST", at+"/confirm", body).reservation(http.StatusOK); r.Status != api.StatusConfirmed || r.EndedAt == 0 {
			t.Errorf("confirmed with %q: %+v", body, r)
		}
	}
	if p := h.do("POST", at+"/cancel", "").problem(http.StatusConflict, "reservation-confirmed"); p.Reservation == nil || p.Reservation.ID != id {
		t.Errorf("the problem does not show the reservation: %+v", p)
	}
	h.do("POST", at+"/return", `{"lines":[{"sku":"demo","quantity":1}]}`, "Idempotency-Key: r-1").reservation(http.StatusOK)

	other := h.do("POST", "/v1/reservations", oneDemo).reservation(http.StatusCreated).ID
	for _, body := range []string{"", "{}"} {
		if r := h.do("POST", "/v1/reservations/"+other+"/cancel", body).reservation(http.StatusOK); r.Status != api.StatusCanceled {
			t.Errorf("canceled: %+v", r)
		}
	}
	h.do("POST", "/v1/reservations/"+other+"/confirm", "").problem(http.StatusConflict, "reservation-canceled")
}

// trimStops takes the full stops off details that are sentences.
func trimStops(errs []api.FieldError) []api.FieldError {
	for i := range errs {
		errs[i].Detail = strings.TrimSuffix(errs[i].Detail, ".")
	}
	return errs
}

// TestMistypedID covers ids whose checksum does not fit, and ids of nobody.
func TestMistypedID(t *testing.T) {
	for _, id := range []string{"x", "r-", anID[:len(anID)-1], strings.Replace(anID, "2", "3", 1) + "x", "r-zzzzzzzzzzzzzzzz", "%00", anID} {
		h := newHarness(t)
		for _, target := range []string{"", "/confirm", "/cancel", "/extend", "/return"} {
			method, body := "POST", ""
			switch target {
			case "":
				method = "GET"
			case "/extend":
				body = `{"ttl_seconds":1}`
			}
			h.do(method, "/v1/reservations/"+id+target, body).problem(http.StatusNotFound, "reservation-not-found")
		}
		if id != anID && h.fake.calls != 0 {
			t.Errorf("%q reached the router", id)
		}
	}
}

// TestExpired covers the status of reservation-expired: 410, but 409 for a return.
func TestExpired(t *testing.T) {
	h := newHarness(t)
	h.fake.fail = &router.Refusal{
		Code: allocator.CodeReservationExpired, SKU: "demo", Requested: 2, Available: 1,
		Reservation: allocator.Reservation{
			ID: allocator.ReservationID{Shard: 1, Seq: 1}, Status: allocator.StatusExpired, Created: 1, Expires: fakeNow,
			Lines: []allocator.Line{{SKU: "demo", Quantity: 2}},
		},
	}
	at := "/v1/reservations/" + anID
	p := h.do("POST", at+"/confirm", "").problem(http.StatusGone, "reservation-expired")
	if p.Reservation == nil || *p.Available != 1 || !strings.Contains(p.Detail, "expired at 2026-09-21T14:13:20.123Z, and of SKU demo there are 1 now, not the 2 it held") {
		t.Errorf("got %+v", p)
	}
	h.do("POST", at+"/extend", `{"ttl_seconds":1}`).problem(http.StatusGone, "reservation-expired")
	h.do("POST", at+"/return", "").problem(http.StatusConflict, "reservation-expired")
}

// TestLinesExceed covers the pointers of refusals, alone and in a batch.
func TestLinesExceed(t *testing.T) {
	h := newHarness(t)
	h.fake.fail = &router.Refusal{Code: allocator.CodeLinesExceedReservation, SKU: "demo", Requested: 3, Available: 2}
	p := h.do("POST", "/v1/reservations/"+anID+"/confirm", `{"lines":[{"sku":"demo","quantity":3}]}`).problem(http.StatusBadRequest, "lines-exceed-reservation")
	if got := places(t, trimStops(p.Errors)); got[0] != "/lines" || *p.Requested != 3 {
		t.Errorf("faults at %q: %+v", got, p)
	}
	var b api.BatchAnswer
	h.do("POST", "/v1/actions/batch", `{"actions":[{"op":"confirm","id":"`+anID+`","lines":[{"sku":"demo","quantity":3}]}]}`).want(http.StatusOK).decode(&b)
	if got := places(t, trimStops(b.Results[0].Problem.Errors)); got[0] != "/actions/0/lines" {
		t.Errorf("faults at %q", got)
	}
}

// TestAvailability covers both kinds of reading.
func TestAvailability(t *testing.T) {
	h := newHarness(t)
	for _, query := range []string{"", "?consistency=strong"} {
		var a api.Availability
		h.do("GET", "/v1/skus/demo/availability"+query, "").want(http.StatusOK).decode(&a)
		if a.SKU != "demo" || a.Available != 1000 || a.SoldOut || a.AsOf != api.Time(fakeNow) {
			t.Errorf("got %+v", a)
		}
	}
	var strong api.Availability
	h.do("GET", "/v1/skus/demo/availability?consistency=strong", "").want(http.StatusOK).decode(&strong)
	want := []api.AvailabilityShard{{Shard: 0, Applied: 7, Available: 1000}, {Shard: 1, Applied: 8, InTransit: 2, Waiting: 3}}
	if !slices.Equal(strong.Shards, want) {
		t.Errorf("the proof: %+v", strong.Shards)
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/skus/demo/availability?consistency=strong", nil)
	rec := httptest.NewRecorder()
	if h.ops.ServeHTTP(rec, r); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"waiting":3`) {
		t.Errorf("on the ops port: %d %s", rec.Code, rec.Body)
	}
	h.do("GET", "/v1/skus/none/availability", "").problem(http.StatusNotFound, "sku-not-found")
}

// TestReserveBatch covers a batch of good, refused and faulty items.
func TestReserveBatch(t *testing.T) {
	h := newHarness(t)
	var b api.BatchAnswer
	h.do("POST", "/v1/reservations/batch", `{"reservations":[
		{"idempotency_key":"k","sku":"demo","quantity":1},
		{"sku":"demo","quantity":0,"x":1},
		{"idempotency_key":"k","sku":"demo","quantity":1},
		{"idempotency_key":"k","sku":"demo","quantity":2},
		{"idempotency_key":"a b","sku":"demo","quantity":2},
		7,
		{"sku":"none","quantity":1},
		{"lines":[{"sku":"demo","quantity":1},{"sku":"mug","quantity":1}]}]}`).want(http.StatusOK).decode(&b)
	want := []int{201, 400, 201, 422, 400, 400, 404, 201}
	for i, r := range b.Results {
		if r.Status != want[i] || r.Replayed != (i == 2) || (r.Problem != nil) == (r.Reservation != nil) {
			t.Errorf("item %d: %+v", i, r)
		}
	}
	faults := [][]string{1: {"/reservations/1/quantity", "/reservations/1/x"}, 4: {"/reservations/4/idempotency_key"}, 5: {"/reservations/5"}}
	for i, want := range faults {
		if want != nil && !reflect.DeepEqual(places(t, b.Results[i].Problem.Errors), want) {
			t.Errorf("item %d: faults at %q", i, places(t, b.Results[i].Problem.Errors))
		}
	}
	if h.fake.calls != 1 {
		t.Errorf("%d calls for one batch", h.fake.calls)
	}
}

// TestBatchOfFaults covers a batch in which nothing can be done.
func TestBatchOfFaults(t *testing.T) {
	h := newHarness(t)
	var b api.BatchAnswer
	h.do("POST", "/v1/reservations/batch", `{"reservations":[{}]}`).want(http.StatusOK).decode(&b)
	if len(b.Results) != 1 || b.Results[0].Status != http.StatusBadRequest || h.fake.calls != 0 {
		t.Errorf("got %+v", b)
	}
}

// TestBatchFailure covers a batch whose shard can't be used.
func TestBatchFailure(t *testing.T) {
	h := newHarness(t)
	h.fake.fail = &router.UnknownOutcome{Shard: 3}
	var b api.BatchAnswer
	h.do("POST", "/v1/reservations/batch", `{"reservations":[`+oneDemo+`,{"idempotency_key":"k","sku":"demo","quantity":1}]}`).want(http.StatusOK).decode(&b)
	for i, hint := range []string{"may count twice", "the same Idempotency-Key"} {
		p := b.Results[i].Problem
		if b.Results[i].Status != http.StatusGatewayTimeout || p.Code != codeUnknownOutcome || !strings.Contains(p.Detail, hint) {
			t.Errorf("item %d: %+v", i, p)
		}
	}
}

// TestBatchNotAdmitted: when the router has no room, the batch is refused as a whole.
func TestBatchNotAdmitted(t *testing.T) {
	h := newHarness(t)
	h.fake.fail = &router.Unavailable{Reason: shardrpc.ReasonOverloaded, Local: true}
	for path, body := range map[string]string{
		"/v1/reservations/batch": `{"reservations":[{},` + oneDemo + `]}`,
		"/v1/actions/batch":      `{"actions":[{"op":"cancel","id":"` + anID + `"}]}`,
	} {
		a := h.do("POST", path, body)
		if a.problem(http.StatusServiceUnavailable, codeOverloaded); a.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %v", path, a.Header)
		}
	}
}

// TestActions covers a batch of actions.
func TestActions(t *testing.T) {
	h := newHarness(t)
	one := h.do("POST", "/v1/reservations", oneDemo).reservation(http.StatusCreated).ID
	two := h.do("POST", "/v1/reservations", oneDemo).reservation(http.StatusCreated).ID
	calls := h.fake.calls
	var b api.BatchAnswer
	h.do("POST", "/v1/actions/batch", `{"actions":[
		{"op":"confirm","id":"`+one+`","lines":[{"sku":"demo","quantity":1}]},
		{"op":"cancel","id":"`+two+`"},
		{"op":"extend","id":"`+two+`","ttl_seconds":5},
		{"op":"return","id":"`+one+`","idempotency_key":"k"},
		{"op":"cancel","id":"r-mistyped"},
		{"op":"sell","id":"`+one+`"},
		{"op":"extend","id":"`+one+`"},
		{"op":"cancel","id":"`+one+`","ttl_seconds":5,"lines":[{"sku":"demo","quantity":1}],"idempotency_key":"k"},
		{"id":5},
		{"op":"cancel","id":"`+one+`"}]}`).want(http.StatusOK).decode(&b)
	want := []int{200, 200, 200, 200, 404, 400, 400, 400, 400, 409}
	for i, r := range b.Results {
		if r.Status != want[i] {
			t.Errorf("action %d: %+v %+v", i, r, r.Problem)
		}
	}
	faults := [][]string{
		5: {"/actions/5/op"}, 6: {"/actions/6/ttl_seconds"},
		7: {"/actions/7/ttl_seconds", "/actions/7/lines", "/actions/7/idempotency_key"},
		8: {"/actions/8/id", "/actions/8/op"},
	}
	for i, want := range faults {
		if want != nil && !reflect.DeepEqual(places(t, b.Results[i].Problem.Errors), want) {
			t.Errorf("action %d: faults at %q", i, places(t, b.Results[i].Problem.Errors))
		}
	}
	if h.fake.calls != calls+1 {
		t.Errorf("%d calls for one batch", h.fake.calls-calls)
	}
}

// TestForeignID uses the id of a reservation of another cluster, whose numbers
// are the same: it names nothing here.
func TestForeignID(t *testing.T) {
	h := newHarness(t)
	var made api.Reservation
	h.do("POST", "/v1/reservations", `{"sku":"demo","quantity":1}`).want(http.StatusCreated).decode(&made)
	id, err := someMark.Parse(made.ID)
	if err != nil {
		t.Fatal(err)
	}
	foreign := (someMark + 1).Format(id)
	calls := h.fake.calls
	p := h.do("POST", "/v1/reservations/"+foreign+"/cancel", "").problem(http.StatusNotFound, "reservation-not-found")
	if !strings.Contains(p.Detail, foreign) || !strings.Contains(p.Detail, "another cluster") {
		t.Errorf("the detail does not say why: %s", p.Detail)
	}
	h.do("GET", "/v1/reservations/"+foreign, "").problem(http.StatusNotFound, "reservation-not-found")
	var batch api.BatchAnswer
	h.do("POST", "/v1/actions/batch", `{"actions":[{"op":"cancel","id":"`+foreign+`"}]}`).want(http.StatusOK).decode(&batch)
	if len(batch.Results) != 1 || batch.Results[0].Status != http.StatusNotFound {
		t.Errorf("in a batch: %+v", batch.Results)
	}
	if h.fake.calls != calls {
		t.Errorf("the router was asked %d times", h.fake.calls-calls)
	}
}
