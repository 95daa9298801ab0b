package bench

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"stockade/router/api"
)

// TestArrivals covers the schedules: how many requests, when, and in which part of a run
// whose rate changes.
func TestArrivals(t *testing.T) {
	all := func(s schedule) (due []time.Duration) {
		for a, ok := s.next(0); ok; a, ok = s.next(0) {
			if a.n != int64(len(due)) {
				t.Fatalf("arrival %d is called %d", len(due), a.n)
			}
			due = append(due, a.due)
		}
		return due
	}
	random := rand.New(rand.NewPCG(1, 2))
	even := all(newOpenLoop(random, Constant, 1000, 2*time.Second, nil))
	if len(even) != 1999 || even[0] != time.Millisecond || even[999] != time.Second {
		t.Errorf("%d even arrivals, the first at %v", len(even), even[0])
	}
	poisson := all(newOpenLoop(random, Poisson, 10_000, 10*time.Second, nil))
	var sum, squares float64
	for i := 1; i < len(poisson); i++ {
		gap := (poisson[i] - poisson[i-1]).Seconds()
		sum, squares = sum+gap, squares+gap*gap
	}
	n := float64(len(poisson) - 1)
	mean := sum / n
	if spread := math.Sqrt(squares/n-mean*mean) / mean; math.Abs(mean*10_000-1) > 0.02 || math.Abs(spread-1) > 0.03 {
		t.Errorf("%d gaps with a mean of %.6f s and a relative spread of %.3f: that of an exponential is 1", len(poisson), mean, spread)
	}
	rising := all(newOpenLoop(random, Constant, 12_200, 10*time.Second, opening))
	part := func(from, to time.Duration) (n int) {
		for _, at := range rising {
			if from <= at && at < to {
				n++
			}
		}
		return n
	}
	if before, after := part(0, time.Second), part(5*time.Second, 6*time.Second); before < 99 || before > 101 || after < 12_190 || after > 12_210 {
		t.Errorf("%d in a second before, %d after", before, after)
	}
	if long := time.Minute; opening(long/5, long) > 0.01 || opening(long/5+time.Second/2, long) < 0.4 || opening(long/5+time.Second, long) != 1 {
		t.Error("the rate does not rise within a second")
	}
	if want := expected(12_200, 10*time.Second, opening); math.Abs(float64(len(rising))-want) > 2 {
		t.Errorf("%d of %.0f", len(rising), want)
	}
	c := &closedLoop{ends: time.Second}
	if a, ok := c.next(time.Millisecond); !ok || a.due != time.Millisecond {
		t.Error("a closed loop is due when somebody is free")
	}
	if _, ok := c.next(time.Second); ok {
		t.Error("a closed loop goes on after its end")
	}
}

// TestBodies holds what the driver writes by hand against the documents of the API.
func TestBodies(t *testing.T) {
	var c conn
	cart := []api.Line{{SKU: "a", Quantity: 1}, {SKU: "b", Quantity: 2}}
	c.writeBatch(2, func(i int) (string, []api.Line) { return []string{"k-1", ""}[i], cart[:i+1] }, time.Minute)
	var got api.ReserveBatchRequest
	if err := json.Unmarshal(c.body, &got); err != nil {
		t.Fatalf("%s: %v", c.body, err)
	}
	first, second := got.Reservations[0], got.Reservations[1]
	if first.IdempotencyKey != "k-1" || first.SKU != "a" || first.Quantity != 1 || first.TTLSeconds != 60 || second.IdempotencyKey != "" || !slices.Equal(second.Lines, cart) {
		t.Errorf("%s", c.body)
	}
}

// TestReadItems covers answers to batches, also those that are none.
func TestReadItems(t *testing.T) {
	reserved := api.BatchResult{Status: 201, Reservation: &api.Reservation{ID: "r", Status: "reserved", Reference: `{"status":409`}}
	answer := func(rs ...api.BatchResult) []byte {
		b, err := json.Marshal(api.BatchAnswer{Results: rs})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	refused := func(status int, code string) api.BatchResult {
		return api.BatchResult{Status: status, Problem: &api.Problem{Type: "/problems/x", Status: status, Code: code}}
	}
	var c conn
	got := c.readItems(answer(reserved, refused(409, "insufficient-stock"), refused(409, "sku-paused"), refused(503, "overloaded"), refused(504, "outcome-unknown")), 5)
	if want := []Outcome{Accepted, SoldOut, Rejected, NotDone, Unknown}; !slices.Equal(got.items, want) {
		t.Errorf("%v", got.items)
	}
	for _, body := range [][]byte{nil, []byte(`{"results":[]}`), answer(reserved), []byte(`{"results":[{"status":`), []byte(`{"status":x}{"status":201`)} {
		if got := c.readItems(body, 2); !slices.Equal(got.items, []Outcome{Unknown, Unknown}) {
			t.Errorf("%s: %v", body, got.items)
		}
	}
}

// TestProofAdds has the sums of a proof, one finding a row.
func TestProofAdds(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		name  string
		books func(a *account)
		sums  api.Sums
		want  Proof
	}{
		{"right", func(a *account) { a.accepted.Store(7); a.released.Store(2); a.confirmed.Store(1) },
			api.Sums{OnHand: 10, Available: 5, Reserved: 4, Committed: 1}, Proof{OnHand: 10, Sold: 5}},
		{"over", func(a *account) { a.accepted.Store(11) }, api.Sums{OnHand: 10, Reserved: 11}, Proof{OnHand: 10, Sold: 11, Over: 1}},
		{"lost", func(a *account) { a.accepted.Store(5) }, api.Sums{OnHand: 10, Available: 6, Reserved: 4}, Proof{OnHand: 10, Sold: 4, Lost: 1}},
		{"a lost confirmation", func(a *account) { a.accepted.Store(5); a.confirmed.Store(3) },
			api.Sums{OnHand: 10, Available: 5, Reserved: 3, Committed: 2}, Proof{OnHand: 10, Sold: 5, Lost: 1}},
		{"held by nobody", func(a *account) { a.accepted.Store(3) }, api.Sums{OnHand: 10, Available: 6, Reserved: 4}, Proof{OnHand: 10, Sold: 4, Duplicates: 1}},
		{"unknown, done", func(a *account) { a.accepted.Store(3); a.unsure.Store(1) },
			api.Sums{OnHand: 10, Available: 6, Reserved: 4}, Proof{OnHand: 10, Sold: 4, Unknown: 1}},
		{"unknown, not done", func(a *account) { a.accepted.Store(3); a.unsure.Store(1) },
			api.Sums{OnHand: 10, Available: 7, Reserved: 3}, Proof{OnHand: 10, Sold: 3, Unknown: 1}},
		{"a cancellation that may be done", func(a *account) { a.accepted.Store(3); a.unsureOff.Store(1) },
			api.Sums{OnHand: 10, Available: 8, Reserved: 2}, Proof{OnHand: 10, Sold: 2, Unknown: 1}},
		{"stranded", func(a *account) { a.accepted.Store(8); a.wasRefused(now) },
			api.Sums{OnHand: 10, Available: 2, Reserved: 8}, Proof{OnHand: 10, Sold: 8, Stranded: 2}},
		{"left, but came back after the last refusal", func(a *account) { a.accepted.Store(8); a.wasRefused(now); a.cameBack(now.Add(1)) },
			api.Sums{OnHand: 10, Available: 2, Reserved: 8}, Proof{OnHand: 10, Sold: 8}},
	} {
		var a account
		row.books(&a)
		var p Proof
		p.add(&a, &api.Audit{SKU: "s", Balanced: true, Sums: row.sums})
		holds := row.want.Over+row.want.Lost+row.want.Duplicates+row.want.Stranded == 0
		if p.Over != row.want.Over || p.Lost != row.want.Lost || p.Duplicates != row.want.Duplicates || p.Stranded != row.want.Stranded ||
			p.Sold != row.want.Sold || p.OnHand != row.want.OnHand || p.Unknown != row.want.Unknown || p.Holds() != holds {
			t.Errorf("%s: %+v", row.name, p)
		}
	}
}

// TestFigures holds percentiles and curves against latencies that are known.
func TestFigures(t *testing.T) {
	r := newRecorder()
	for i := 1; i <= 1000; i++ {
		r.record(i, reserving, Accepted, time.Duration(i)*time.Millisecond, 1)
	}
	r.record(0, reserving, SoldOut, time.Hour, 3)
	set := r.turn()
	all := operationsOf(set)
	l := all[0].Outcomes[0]
	near := func(got, want float64) bool { return math.Abs(got-want) <= want/500 }
	if l.Count != 1000 || !near(l.P50, 500) || !near(l.P90, 900) || !near(l.P99, 990) || !near(l.P999, 999) || !near(l.Max, 1000) || !near(l.Min, 1) || !near(l.Mean, 500.5) {
		t.Errorf("%+v", l)
	}
	if !slices.IsSortedFunc(l.Curve, func(a, b Point) int { return int(1e9 * (a.Percentile - b.Percentile)) }) || l.Curve[0].Percentile != 0 || l.Curve[len(l.Curve)-1].Percentile != 100 {
		t.Errorf("%v", l.Curve)
	}
	if o := all[0].Outcomes[1]; o.Outcome != "sold_out" || o.Count != 3 || o.Max > 60_100 || o.Max < 60_000 {
		t.Errorf("%+v", o)
	}
	if again := r.turn(); again.reserved(Accepted) != 0 {
		t.Error("a turn gives what an earlier one gave")
	}
	w := windowOf(set, time.Second, time.Second)
	if w.Outcomes["accepted"] != 1000 || w.Outcomes["sold_out"] != 3 || len(w.Outcomes) != 2 || !near(w.P99, 990) {
		t.Errorf("%+v", w)
	}
}

// TestDriverSaysWhenItIsTheLimit covers both ways.
func TestDriverSaysWhenItIsTheLimit(t *testing.T) {
	for _, row := range []struct {
		d       Driver
		limited bool
	}{{Driver{CPU: 1, CPUs: 2, WakeP99: 0.2}, false}, {Driver{CPU: 1.9, CPUs: 2}, true}, {Driver{CPU: 0.1, CPUs: 2, WakeP99: 6}, true}} {
		row.d.judge()
		if (row.d.Limit != "") != row.limited {
			t.Errorf("%+v", row.d)
		}
	}
}
