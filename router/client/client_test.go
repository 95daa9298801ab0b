package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stockade/router/api"
)

var one = api.ReserveRequest{SKU: "demo", Quantity: 1}

// TestCallsShareRequests has a hundred calls at once: the first goes alone, what comes
// while it is out forms the next batches, and each call gets its own answer.
func TestCallsShareRequests(t *testing.T) {
	for _, row := range []struct {
		size  int
		sizes []int
	}{{0, []int{1, 99}}, {40, []int{1, 40, 40, 19}}} {
		f := &fakeNodes{takes: 10 * time.Millisecond, reply: reserved}
		inBubble(t, Config{Batches: 1, MaxBatch: row.size}, f, func(t *testing.T, c *Client) {
			var calls sync.WaitGroup
			begin := func(i int) {
				calls.Go(func() {
					key := fmt.Sprint("key-", i)
					if r, err := c.Reserve(t.Context(), key, one); err != nil || r.ID != key {
						t.Errorf("%s: %+v, %v", key, r, err)
					}
				})
			}
			begin(0)
			synctest.Wait()
			for i := range 99 {
				begin(i + 1)
			}
			calls.Wait()
			var sizes []int
			for _, q := range f.requests() {
				sizes = append(sizes, len(q.keys))
			}
			if !slices.Equal(sizes, row.sizes) {
				t.Errorf("requests of %v items", sizes)
			}
		})
	}
}

// TestRetries has the contract's cases: what is sent again, when, and with which key.
func TestRetries(t *testing.T) {
	stale := fakeReply{status: http.StatusOK, body: "{"}
	busy := problem(http.StatusServiceUnavailable, "overloaded")
	busy.retryAfter = "2"
	for _, row := range []struct {
		name     string
		first    []fakeReply
		requests int
		from, to time.Duration
		want     error // nil: a reservation
	}{
		{"served", nil, 1, 0, 0, nil},
		{"refused", []fakeReply{problem(409, "insufficient-stock")}, 1, 0, 0, InsufficientStock},
		{"bad request", []fakeReply{problem(400, "invalid-request")}, 1, 0, 0, Code("invalid-request")},
		{"not done for now", []fakeReply{busy}, 2, 2 * time.Second, 3 * time.Second, nil},
		{"too many", []fakeReply{{status: 429, retryAfter: "1", body: "slow down"}}, 2, time.Second, 1500 * time.Millisecond, nil},
		{"unknown", []fakeReply{problem(504, "outcome-unknown")}, 2, 0, minBackoff, nil},
		{"broken", []fakeReply{{err: errBroken}, {err: errBroken}}, 3, 0, 3 * minBackoff, nil},
		{"a proxy's 502", []fakeReply{{status: 502, body: "<html>"}}, 2, 0, minBackoff, nil},
		{"an answer that ends early", []fakeReply{stale}, 2, 0, minBackoff, nil},
	} {
		f := &fakeNodes{reply: failing(row.first...)}
		inBubble(t, Config{}, f, func(t *testing.T, c *Client) {
			began := time.Now()
			r, err := c.Reserve(t.Context(), "", one)
			if row.want == nil && err != nil || row.want != nil && !errors.Is(err, row.want) || (r == nil) == (err == nil) {
				t.Errorf("%s: %v", row.name, err)
			}
			if errors.Is(err, ErrUnknown) || errors.Is(err, ErrNothingDone) {
				t.Errorf("%s: an answer that stands is taken for an open one: %v", row.name, err)
			}
			all := f.requests()
			if took := time.Since(began); len(all) != row.requests || took < row.from || took > row.to {
				t.Errorf("%s: %d requests in %v", row.name, len(all), took)
			}
			for _, q := range all {
				if len(q.key) != 36 || q.key != all[0].key {
					t.Errorf("%s: the key %q after %q", row.name, q.key, all[0].key)
				}
			}
		})
	}
}

// TestGivingUp covers the ends without an answer that stands.
func TestGivingUp(t *testing.T) {
	unknown, busy := problem(504, "outcome-unknown"), problem(503, "overloaded")
	for _, row := range []struct {
		name   string
		reply  func(q *fakeRequest) fakeReply
		want   error
		problm string
	}{
		{"never known", func(*fakeRequest) fakeReply { return unknown }, ErrUnknown, "outcome-unknown"},
		{"never done", func(*fakeRequest) fakeReply { return busy }, ErrNothingDone, "overloaded"},
		{"no node", func(*fakeRequest) fakeReply { return fakeReply{err: refusedDial()} }, ErrNothingDone, ""},
		{"once unknown, then not done", func(q *fakeRequest) fakeReply {
			if q.n == 0 {
				return unknown
			}
			return busy
		}, ErrUnknown, "overloaded"},
	} {
		f := &fakeNodes{reply: row.reply}
		inBubble(t, Config{Timeout: 3 * time.Second}, f, func(t *testing.T, c *Client) {
			began := time.Now()
			_, err := c.Reserve(t.Context(), "k", one)
			var e *Error
			if !errors.Is(err, row.want) || !errors.As(err, &e) || e.Final || e.Key != "k" || e.Attempts != len(f.requests()) || e.Attempts < 2 {
				t.Errorf("%s: %v", row.name, err)
			}
			if took := time.Since(began); took > 3*time.Second || took < 2*time.Second {
				t.Errorf("%s: gave up after %v", row.name, took)
			}
			if (e.Problem == nil) != (row.problm == "") || e.Problem != nil && e.Problem.Code != row.problm {
				t.Errorf("%s: %+v", row.name, e.Problem)
			}
			if said := err.Error(); strings.Contains(said, "repeat it with the key k") != errors.Is(err, ErrUnknown) || !strings.Contains(said, "n1:1") {
				t.Errorf("%s: %s", row.name, said)
			}
		})
	}
}

// TestItemsAreJudgedAlone has a batch whose items end differently: only those that are
// open are sent again.
func TestItemsAreJudgedAlone(t *testing.T) {
	seen := make(map[string]int)
	f := &fakeNodes{takes: time.Millisecond}
	f.reply = func(q *fakeRequest) fakeReply {
		if len(q.keys) == 1 {
			seen[q.keys[0]]++
			return reserved(q)
		}
		var a api.BatchAnswer
		for _, key := range q.keys {
			seen[key]++
			r := api.BatchResult{Status: http.StatusCreated, Reservation: &api.Reservation{ID: key}}
			switch {
			case key == "sold-out":
				r = api.BatchResult{Status: 409, Problem: &api.Problem{Status: 409, Code: "insufficient-stock"}}
			case key == "busy" && seen[key] == 1:
				r = api.BatchResult{Status: 503, Problem: &api.Problem{Status: 503, Code: "overloaded"}}
			case key == "open" && seen[key] == 1:
				r = api.BatchResult{Status: 504, Problem: &api.Problem{Status: 504, Code: "outcome-unknown"}}
			case key == "empty" && seen[key] == 1:
				r = api.BatchResult{Status: 201}
			}
			a.Results = append(a.Results, r)
		}
		return fakeReply{status: http.StatusOK, body: a}
	}
	inBubble(t, Config{Batches: 1}, f, func(t *testing.T, c *Client) {
		var first sync.WaitGroup
		first.Go(func() { // goes alone, and the others meanwhile form a batch
			if _, err := c.Reserve(t.Context(), "first", one); err != nil {
				t.Error(err)
			}
		})
		defer first.Wait()
		synctest.Wait()
		keys := []string{"fine", "sold-out", "busy", "open", "empty"}
		items := make([]api.ReserveBatchItem, len(keys))
		for i, key := range keys {
			items[i] = api.ReserveBatchItem{IdempotencyKey: key, ReserveRequest: one}
		}
		for i, r := range c.ReserveAll(t.Context(), items) {
			switch {
			case keys[i] == "sold-out" && errors.Is(r.Err, InsufficientStock) && r.Reservation == nil:
			case keys[i] != "sold-out" && r.Err == nil && r.Reservation.ID == keys[i]:
			default:
				t.Errorf("%s: %+v", keys[i], r)
			}
		}
		if seen["fine"] != 1 || seen["sold-out"] != 1 || seen["busy"] != 2 || seen["open"] != 2 || seen["empty"] != 2 {
			t.Errorf("sent %v", seen)
		}
	})
}

// TestBatchesThatFailAsAWhole has answers that are not about single items.
func TestBatchesThatFailAsAWhole(t *testing.T) {
	for name, bad := range map[string]fakeReply{
		"broken":           {err: errBroken},
		"refused to begin": problem(503, "overloaded"),
		"not JSON":         {status: 200, body: "["},
		"too few results":  {status: 200, body: api.BatchAnswer{Results: []api.BatchResult{{Status: 201, Reservation: &api.Reservation{ID: "x"}}}}},
	} {
		failed := false
		f := &fakeNodes{takes: time.Millisecond}
		f.reply = func(q *fakeRequest) fakeReply {
			if len(q.keys) > 1 && !failed {
				failed = true
				return bad
			}
			return reserved(q)
		}
		inBubble(t, Config{Batches: 1}, f, func(t *testing.T, c *Client) {
			items := make([]api.ReserveBatchItem, 5)
			for i := range items {
				items[i] = api.ReserveBatchItem{IdempotencyKey: fmt.Sprint(i), ReserveRequest: one}
			}
			for i, r := range c.ReserveAll(t.Context(), items) {
				if r.Err != nil || r.Reservation.ID != items[i].IdempotencyKey {
					t.Errorf("%s: %d: %+v", name, i, r)
				}
			}
			if !failed {
				t.Errorf("%s: there was no batch", name)
			}
		})
	}
}

// TestCallsEndWithTheirContext: one that was not sent did nothing, one that was may have.
func TestCallsEndWithTheirContext(t *testing.T) {
	f := &fakeNodes{takes: time.Second, reply: reserved}
	inBubble(t, Config{Batches: 1}, f, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(map[string]error)
		var calls sync.WaitGroup
		var mu sync.Mutex
		for _, key := range []string{"sent", "waiting"} {
			calls.Go(func() {
				_, err := c.Reserve(ctx, key, one)
				mu.Lock()
				errs[key] = err
				mu.Unlock()
			})
			synctest.Wait()
		}
		cancel()
		calls.Wait()
		if !errors.Is(errs["sent"], ErrUnknown) || !errors.Is(errs["sent"], context.Canceled) || !errors.Is(errs["waiting"], ErrNothingDone) {
			t.Errorf("%v", errs)
		}
		time.Sleep(5 * time.Second)
		if all := f.requests(); len(all) != 1 || all[0].key != "sent" {
			t.Errorf("%d requests", len(all))
		}
	})
}

// TestWhoWaitsGoesAlone: a request that waits in line holds up nobody, and has time to.
func TestWhoWaitsGoesAlone(t *testing.T) {
	f := &fakeNodes{takes: 5 * time.Second, reply: reserved}
	inBubble(t, Config{Batches: 1, Timeout: time.Minute}, f, func(t *testing.T, c *Client) {
		r := one
		r.WaitMS = 8000
		var calls sync.WaitGroup
		for i := range 3 {
			calls.Go(func() {
				if _, err := c.Reserve(t.Context(), fmt.Sprint(i), r); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		for _, q := range f.requests() {
			if q.path != reservations || q.timeout != 10*time.Second {
				t.Errorf("%s with %v", q.path, q.timeout)
			}
		}
		if n := len(f.requests()); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestActions covers what each method sends, alone and in a batch.
func TestActions(t *testing.T) {
	f := &fakeNodes{takes: time.Millisecond, reply: func(q *fakeRequest) fakeReply {
		a := reserved(q)
		if q.path != actionsBatch {
			a.status = http.StatusOK
		}
		return a
	}}
	inBubble(t, Config{Batches: 1}, f, func(t *testing.T, c *Client) {
		ctx, line := t.Context(), api.Line{SKU: "demo", Quantity: 1}
		steps := []func() (*api.Reservation, error){
			func() (*api.Reservation, error) { return c.Confirm(ctx, "r-1") },
			func() (*api.Reservation, error) { return c.Confirm(ctx, "r-1", line) },
			func() (*api.Reservation, error) { return c.Cancel(ctx, "r-1") },
			func() (*api.Reservation, error) { return c.Extend(ctx, "r-1", time.Minute) },
			func() (*api.Reservation, error) { return c.Return(ctx, "back", "r-1", line) },
			func() (*api.Reservation, error) { return c.Reservation(ctx, "r-1") },
		}
		for i, step := range steps {
			if _, err := step(); err != nil {
				t.Errorf("step %d: %v", i, err)
			}
		}
		var calls sync.WaitGroup
		for _, step := range steps[:5] {
			calls.Go(func() {
				if _, err := step(); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		calls.Wait()
		lines := `{"lines":[{"sku":"demo","quantity":1}]}`
		want := []string{
			"POST /v1/reservations/r-1/confirm  ", "POST /v1/reservations/r-1/confirm  " + lines, "POST /v1/reservations/r-1/cancel  ",
			`POST /v1/reservations/r-1/extend  {"ttl_seconds":60}`, "POST /v1/reservations/r-1/return back " + lines, "GET /v1/reservations/r-1  ",
			"POST /v1/reservations/r-1/confirm  ",
			`POST /v1/actions/batch  {"actions":[{"op":"confirm","id":"r-1","lines":[{"sku":"demo","quantity":1}]},{"op":"cancel","id":"r-1"},` +
				`{"op":"extend","id":"r-1","ttl_seconds":60},{"op":"return","id":"r-1","lines":[{"sku":"demo","quantity":1}],"idempotency_key":"back"}]}`,
		}
		var got []string
		for _, q := range f.requests() {
			got = append(got, fmt.Sprintf("%s %s %s %s", q.method, q.path, q.key, q.body))
		}
		if !slices.Equal(got, want) {
			t.Errorf("sent\n%s", strings.Join(got, "\n"))
		}
	})
}

// TestReadsHaveNoUnknownOutcome: a read that fails did nothing.
func TestReadsHaveNoUnknownOutcome(t *testing.T) {
	f := &fakeNodes{reply: func(*fakeRequest) fakeReply { return fakeReply{err: errBroken} }}
	inBubble(t, Config{Timeout: time.Second}, f, func(t *testing.T, c *Client) {
		if _, err := c.StrongAvailability(t.Context(), "demo"); !errors.Is(err, ErrNothingDone) || !errors.Is(err, errBroken) {
			t.Error(err)
		}
	})
	f = &fakeNodes{reply: func(q *fakeRequest) fakeReply {
		return fakeReply{status: 200, body: api.Availability{SKU: q.path, Available: 7}}
	}}
	inBubble(t, Config{}, f, func(t *testing.T, c *Client) {
		a, err := c.Availability(t.Context(), "a b")
		if err != nil || a.Available != 7 || a.SKU != "/v1/skus/a%20b/availability" {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

// TestClosedClient fails calls, those under way too.
func TestClosedClient(t *testing.T) {
	f := &fakeNodes{reply: func(*fakeRequest) fakeReply { return problem(503, "overloaded") }}
	inBubble(t, Config{}, f, func(t *testing.T, c *Client) {
		ended := make(chan error)
		go func() {
			_, err := c.Reserve(t.Context(), "", one)
			ended <- err
		}()
		time.Sleep(time.Second)
		c.Close()
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if _, err := c.Reserve(t.Context(), "", one); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// TestConfig has what New refuses.
func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{}, {Nodes: []string{"ftp://a:1"}}, {Nodes: []string{"http://a:1/path"}}, {Nodes: []string{"http://"}}, {Nodes: []string{"a b:1"}},
		{Nodes: []string{"a:1"}, Timeout: -1}, {Nodes: []string{"a:1"}, MaxBatch: MaxBatch + 1}, {Nodes: []string{"a:1"}, Batches: -1},
	} {
		if c, err := New(cfg); err == nil {
			c.Close()
			t.Errorf("%+v was taken", cfg)
		}
	}
	for address, want := range map[string]string{
		"a:8400": "http://a:8400", "https://shop.example.com": "https://shop.example.com", "http://[::1]:8400/": "http://[::1]:8400",
	} {
		if got, err := baseURL(address); err != nil || got != want {
			t.Errorf("%s: %s, %v", address, got, err)
		}
	}
}
