package httpapi

import (
	"bytes"
	stdjson "encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"stockade/allocator"
	"stockade/bench/fuzzing"
	"stockade/router"
	"stockade/router/api"
)

// checkLines checks what the decoder promises of lines.
func checkLines(t *testing.T, lines []router.Line, least int) {
	t.Helper()
	if len(lines) < least || len(lines) > allocator.MaxLines {
		t.Fatalf("%d lines", len(lines))
	}
	sums := make(map[string]int64)
	for _, l := range lines {
		sums[l.SKU] += l.Quantity
		if !allocator.ValidSKU(allocator.SKU(l.SKU)) || l.Quantity < 1 || sums[l.SKU] > maxQuantity {
			t.Fatalf("line %+v, sum %d", l, sums[l.SKU])
		}
	}
}

// strictly reads text with encoding/json, which takes whatever our decoder does.
func strictly(t *testing.T, text []byte, v any) {
	t.Helper()
	d := stdjson.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("encoding/json does not take %q: %v", text, err)
	}
}

// The most that decoding a body may take. One request has its lines, copies of its
// metadata, and at most 16 faults: that took 17 bytes for each of a long one. An item of a
// batch that is no object is two bytes, and becomes one with a fault, in a list that grows:
// that took 290 for each.
const (
	bodyPerByte, bodyAlways = 32, 64 << 10
	batchPerByte            = 512
)

// many repeats an item of a document, for what takes more memory than it is long.
func many(item string) string { return strings.Repeat(item+",", 2000) + item }

// FuzzReserve: whatever the body, the decoder neither panics nor lets a request
// through that is outside the limits; and what it takes means the same to
// another decoder.
func FuzzReserve(f *testing.F) {
	for _, seed := range []string{
		oneDemo, `{}`, ``, `{"lines":[{"sku":"a","quantity":1},{"sku":"a","quantity":2}],"ttl_seconds":5,"buyer_id":"b","reference":"r","wait_ms":1500}`,
		`{"sku":"\u0061","quantity":1}`, `[`, `{"sku":"a","sku":"b"}`, `{"quantity":1e9}`, `{"lines":[{}]}`, "{\"sku\":\"\xff\"}",
		`{"sku":"a","quantity":1,"buyer_id":"\ud83d\ude00"}`,
		`{"lines":[` + many(`{}`) + `]}`, `{"lines":[` + many(`{"sku":"a","quantity":1}`) + `]}`, `{` + many(`"a":0`) + `}`, `{"sku":"` + many(`\u0061`) + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var d document
		var got router.ReserveRequest
		fuzzing.InProportion(t, body, bodyPerByte, bodyAlways, func() {
			d.open(body)
			got = d.reserve(false)
			d.end()
		})
		if len(d.errs) > maxFieldErrors+1 {
			t.Fatalf("%d faults", len(d.errs))
		}
		if d.broken && len(d.errs) == 0 {
			t.Fatal("broken, and no fault says so")
		}
		if len(d.errs) != 0 {
			return
		}
		checkLines(t, got.Lines, 1)
		if got.TTL < 0 || len(got.BuyerID) > allocator.MaxBuyerLen || len(got.Reference) > allocator.MaxReferenceLen || !utf8.ValidString(got.BuyerID+got.Reference) {
			t.Fatalf("got %+v", got)
		}
		var other api.ReserveRequest
		strictly(t, body, &other)
		if other.SKU != "" {
			other.Lines = []api.Line{{SKU: other.SKU, Quantity: other.Quantity}}
		}
		for i, l := range got.Lines {
			if other.Lines[i] != (api.Line{SKU: l.SKU, Quantity: l.Quantity}) || other.BuyerID != got.BuyerID || other.Reference != got.Reference || other.WaitMS != got.Wait.Milliseconds() {
				t.Fatalf("got %+v, encoding/json %+v", got, other)
			}
		}
	})
}

// FuzzBatches: the same for both kinds of batch.
func FuzzBatches(f *testing.F) {
	f.Add([]byte(`{"reservations":[` + oneDemo + `,{"idempotency_key":"k","lines":[]},3]}`))
	f.Add([]byte(`{"actions":[{"op":"confirm","id":"` + anID + `","lines":[{"sku":"a","quantity":1}]},{"op":"extend","id":"x","ttl_seconds":1}]}`))
	f.Add([]byte(`{"actions":[{"op":"return"}`))
	f.Add([]byte(`{"reservations":[` + many(`{}`) + `]}`))
	f.Add([]byte(`{"actions":[` + many(`{}`) + `]}`))
	f.Add([]byte(`{"actions":[` + many(`0`) + `]}`))
	f.Add([]byte(`{"reservations":[` + many(`{"lines":[`+many(`0`)[:34]+`]}`) + `]}`))
	f.Add([]byte(`{"actions":[` + many(`{"op":"confirm","id":"x","lines":[{}]}`) + `]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var d document
		var reservations []item[router.ReserveRequest]
		fuzzing.InProportion(t, body, batchPerByte, bodyAlways, func() {
			d.open(body)
			reservations = decodeBatch(&d, "reservations", func(d *document) router.ReserveRequest { return d.reserve(true) })
			d.end()
		})
		if len(d.errs) == 0 {
			for _, it := range reservations {
				if it.errs == nil {
					checkLines(t, it.value.Lines, 1)
				}
			}
		}
		var actions []item[action]
		fuzzing.InProportion(t, body, batchPerByte, bodyAlways, func() {
			d.open(body)
			actions = decodeBatch(&d, "actions", (*document).action)
			d.end()
		})
		if len(d.errs) != 0 {
			return
		}
		for _, it := range actions {
			if it.errs == nil {
				checkLines(t, it.value.Lines, 0)
				if it.value.Op == 0 || it.value.missing == nil && it.value.ID == (allocator.ReservationID{}) {
					t.Fatalf("got %+v", it.value)
				}
			}
		}
	})
}

// FuzzAdmin: the same for the bodies of the administration.
func FuzzAdmin(f *testing.F) {
	f.Add([]byte(`{"on_hand":5,"safety_stock":5,"default_ttl_seconds":1,"max_ttl_seconds":2,"late_confirm":"retake","sale_starts_at":"2026-01-01T00:00:00Z","watch":true,"metadata":{"a":[1.50,{"b":null}]}}`))
	f.Add([]byte(`{"delta":-5,"reason":"x"}`))
	f.Add([]byte(`{"quantity":5,"reference":"x"}`))
	f.Add([]byte(`{"sale_starts_at":"9999-12-31T23:59:59.999-23:59","metadata":{"\u0061":"\/"}}`))
	f.Add([]byte(`{"metadata":{"a":[` + many(`{}`) + `]}}`))
	f.Add([]byte(`{` + many(`"a":0`) + `}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var d document
		var put router.PutSKURequest
		fuzzing.InProportion(t, body, bodyPerByte, bodyAlways, func() {
			d.open(body)
			put = d.putSKU()
			d.end()
		})
		if len(d.errs) == 0 {
			checkPut(t, &put, body)
		}
		d.open(body)
		r := d.restock()
		d.end()
		if len(d.errs) == 0 && (r.quantity < 1 || r.quantity > maxQuantity) {
			t.Fatalf("got %+v", r)
		}
		d.open(body)
		a := d.adjust()
		d.end()
		if len(d.errs) == 0 && (a.delta == 0 || a.delta < -maxQuantity || a.delta > maxQuantity || a.reason == "") {
			t.Fatalf("got %+v", a)
		}
	})
}

// checkPut checks what the decoder promises of a PUT.
func checkPut(t *testing.T, put *router.PutSKURequest, body []byte) {
	t.Helper()
	p := &put.Policy
	switch {
	case p.DefaultTTL < 1000 || p.DefaultTTL > p.MaxTTL || p.MaxTTL > allocator.MaxTTL,
		p.SafetyStock < 0 || p.MaxPerReservation < 0 || p.MaxPerBuyer < 0,
		put.OnHand != nil && int64(p.SafetyStock) > *put.OnHand,
		p.SaleStarts < 0 || p.SaleEnds < 0 || p.SaleStarts > maxTime || p.SaleEnds > maxTime,
		p.SaleEnds != 0 && p.SaleStarts >= p.SaleEnds,
		len(put.Metadata) > allocator.MaxMetadataLen:
		t.Fatalf("got %+v from %q", put, body)
	}
	var other api.PutSKURequest
	strictly(t, body, &other)
	if put.Metadata != nil && (!stdjson.Valid(put.Metadata) || put.Metadata[0] != '{') {
		t.Fatalf("metadata %q", put.Metadata)
	}
}

// The most that reading a key may take: a copy without its escapes, grown twice.
const keyPerByte, keyAlways = 8, 32 << 10

// FuzzIdempotencyKey: a key that is taken is well formed, and quoting it gives
// the same key again.
func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"k", `"k"`, `"a\"b"`, `"a\\"`, `a"b`, `"`, `""`, " ", `"\`, strings.Repeat("x", 129), `"` + strings.Repeat(`\"`, 128) + `"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var key string
		var ok bool
		fuzzing.InProportion(t, []byte(value), keyPerByte, keyAlways, func() { key, ok = parseKey(value) })
		if !ok {
			return
		}
		if !validKey(key) {
			t.Fatalf("%q gave the key %q", value, key)
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, ok := parseKey(quoted); !ok || again != key {
			t.Fatalf("%q quoted is %q, which gave %q", key, quoted, again)
		}
	})
}
