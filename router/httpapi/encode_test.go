package httpapi

import (
	stdjson "encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"stockade/allocator"
	"stockade/router/api"
)

// someReservations are reservations with and without each optional part.
var someReservations = []allocator.Reservation{
	{ID: allocator.ReservationID{Shard: 3, Seq: 77}, Status: allocator.StatusReserved, Lines: []allocator.Line{{SKU: "demo", Quantity: 1}}, Created: 1, Expires: fakeNow},
	{
		ID: allocator.ReservationID{Shard: 1023, Seq: allocator.MaxSeq}, Status: allocator.StatusConfirmed, BuyerID: "b \"\\\n\u2028é</script>", Reference: "r",
		Lines:   []allocator.Line{{SKU: "a.b:c_d-E", Quantity: allocator.MaxQuantity}, {SKU: "mug", Quantity: 0}},
		Created: fakeNow, Expires: fakeNow + 1000, Ended: fakeNow + 999,
	},
}

// TestAppendReservation: what is written by hand is what package api describes.
func TestAppendReservation(t *testing.T) {
	for i := range someReservations {
		r := &someReservations[i]
		want, err := json.Marshal(reservationView(someMark, r))
		if err != nil {
			t.Fatal(err)
		}
		if got := appendReservation(nil, someMark, r); string(got) != string(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestAppendProblem: the same for problems.
func TestAppendProblem(t *testing.T) {
	pointer, shard, reservation := "", 0, reservationView(someMark, &someReservations[1])
	for _, p := range []api.Problem{
		{Type: "/problems/x", Title: "T \"quoted\"", Status: 409, Detail: "é\n", Code: "x"},
		{
			Type: "t", Title: "t", Status: 503, Detail: "d", Code: "c", Retryable: true, SKU: "demo",
			Requested: count(int64(5)), Available: count(int64(0)), Limit: count(int64(-1)), Shard: &shard, Since: api.Time(fakeNow),
			Reservation: &reservation,
			Errors:      []api.FieldError{{Pointer: &pointer, Detail: "a"}, {Header: "h", Detail: "b"}, {Parameter: "p", Detail: "c"}},
			Shards:      []api.ShardReadiness{{Shard: 1, Missing: "m", Since: 5}},
		},
	} {
		want, err := json.Marshal(&p)
		if err != nil {
			t.Fatal(err)
		}
		got := appendProblem(nil, &p)
		if string(got) != string(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		var back, standard api.Problem
		if err := stdjson.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("read back %+v, %v", back, err)
		}
		if text, err := stdjson.Marshal(&p); err != nil || stdjson.Unmarshal(text, &standard) != nil || !reflect.DeepEqual(standard, p) {
			t.Errorf("encoding/json reads back %+v, %v", standard, err)
		}
	}
}

// TestRequestsOfPackageAPI: what the types of package api encode is decoded to
// the same request, with either version of the json package.
func TestRequestsOfPackageAPI(t *testing.T) {
	request := api.ReserveRequest{
		Lines: []api.Line{{SKU: "demo", Quantity: 2}, {SKU: "mug", Quantity: 1}}, TTLSeconds: 60, BuyerID: "b", Reference: "r",
	}
	for _, v := range []any{request, api.ReserveBatchItem{IdempotencyKey: "k", ReserveRequest: request}} {
		_, withKey := v.(api.ReserveBatchItem)
		for _, marshal := range []func(any) ([]byte, error){stdjson.Marshal, func(v any) ([]byte, error) { return json.Marshal(v) }} {
			text, err := marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var d document
			d.open(text)
			got := d.reserve(withKey)
			d.end()
			if len(d.errs) != 0 || len(got.Lines) != 2 || got.TTL.Seconds() != 60 || got.BuyerID != "b" || got.Reference != "r" || (got.IdempotencyKey == "k") != withKey {
				t.Errorf("%s: got %+v, faults %+v", text, got, d.errs)
			}
		}
	}
	zero, units := int64(0), int64(7)
	for _, put := range []api.PutSKURequest{{}, {OnHand: &zero}, {OnHand: &units, SafetyStock: 1, SaleStartsAt: api.Time(fakeNow), LateConfirm: api.LateConfirmReject, Metadata: []byte(`{"a":1}`)}} {
		text, err := stdjson.Marshal(put)
		if err != nil {
			t.Fatal(err)
		}
		var d document
		d.open(text)
		got := d.putSKU()
		d.end()
		if len(d.errs) != 0 || (got.OnHand == nil) != (put.OnHand == nil) || got.Policy.SaleStarts != allocator.Millis(put.SaleStartsAt) {
			t.Errorf("%s: got %+v, faults %+v", text, got, d.errs)
		}
	}
}

// TestFaultsAreBounded: many faults give a short list.
func TestFaultsAreBounded(t *testing.T) {
	h := newHarness(t)
	var b strings.Builder
	for i := range 500 {
		b.WriteString(`"x` + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + `":0,`)
	}
	p := h.do("POST", "/v1/reservations", `{`+b.String()+`"sku":"demo","quantity":1}`).problem(400, codeInvalid)
	if len(p.Errors) != maxFieldErrors {
		t.Errorf("%d faults are listed", len(p.Errors))
	}
}
