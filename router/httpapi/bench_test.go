package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"stockade/allocator"
	"stockade/router"
)

// BenchmarkDecodeReserve decodes the body of one reservation.
func BenchmarkDecodeReserve(b *testing.B) {
	body := []byte(`{"sku":"demo","quantity":1,"buyer_id":"buyer-123456","reference":"order-98765","ttl_seconds":300}`)
	var d document
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		d.open(body)
		d.reserve(false)
		if d.end(); len(d.errs) != 0 {
			b.Fatal(d.errs)
		}
	}
}

// BenchmarkEncodeReservation encodes one reservation.
func BenchmarkEncodeReservation(b *testing.B) {
	r := &someReservations[0]
	out := appendReservation(nil, someMark, r)
	b.SetBytes(int64(len(out)))
	b.ReportAllocs()
	for b.Loop() {
		out = appendReservation(out[:0], someMark, r)
	}
}

// BenchmarkEncodeRefusal turns a refusal into its document.
func BenchmarkEncodeRefusal(b *testing.B) {
	a := &app{}
	var out []byte
	err := error(&router.Refusal{Code: allocator.CodeInsufficientStock, SKU: "demo", Requested: 1})
	b.ReportAllocs()
	for b.Loop() {
		p, _, _ := a.describe(err, origin{op: opReserve})
		out = appendProblem(out[:0], p)
	}
}

// nobody is a response writer that keeps nothing.
type nobody struct{ header http.Header }

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) Write(b []byte) (int, error) { return len(b), nil }
func (n *nobody) WriteHeader(int)             {}

// instant answers every reservation at once with the same one.
type instant struct{ *fakeRouter }

func (instant) Reserve(context.Context, router.ReserveRequest) (router.Reserved, error) {
	return router.Reserved{Reservation: someReservations[0]}, nil
}

// BenchmarkHandleReserve runs the whole handler over a router that answers at once.
func BenchmarkHandleReserve(b *testing.B) {
	data, err := NewData(DataConfig{Router: instant{}, Metrics: NewMetrics(newRegistry()), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	r, _ := http.NewRequest(http.MethodPost, "/v1/reservations", nil)
	r.Header = http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {"0190a1b2-0000-7000-8000-000000000000"}}
	body := strings.NewReader("")
	w := &nobody{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(oneDemo)
		r.Body = readCloser{body}
		r.ContentLength = int64(len(oneDemo))
		clear(w.header)
		data.ServeHTTP(w, r)
	}
}

// readCloser is a body that needs no closing.
type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
