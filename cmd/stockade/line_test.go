package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// availability is an availability with its proof.
type availability struct {
	Available int  `json:"available"`
	SoldOut   bool `json:"sold_out"`
	Shards    []struct {
		Shard     int    `json:"shard"`
		Applied   uint64 `json:"applied"`
		Available int    `json:"available"`
		InTransit int    `json:"in_transit"`
		Waiting   int    `json:"waiting"`
	} `json:"shards"`
}

// proven reads an availability from the shards.
func proven(t *testing.T, p *process, sku string) (a availability) {
	t.Helper()
	must(t, http.StatusOK, http.MethodGet, p.HTTP, "/v1/skus/"+sku+"/availability?consistency=strong", "", nil).into(t, &a)
	return a
}

// waiting is how many stand in line for a SKU.
func (a availability) waiting() (n int) {
	for _, s := range a.Shards {
		n += s.Waiting
	}
	return n
}

// patient is a request that waits in line.
type patient struct {
	leave context.CancelFunc
	took  time.Duration
	done  chan struct{} // closed when there is an answer, or an error
	answer
	err error
}

// wait sends a reservation of one unit that waits in line.
func wait(t *testing.T, p *process, sku, key string, span time.Duration) *patient {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	w := &patient{leave: leave, done: make(chan struct{})}
	r := waitRequest(ctx, t, p, sku, span)
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	go func() {
		defer close(w.done)
		began := time.Now()
		w.answer, w.err = send(&http.Client{Transport: caller.Transport}, r) // without the caller's own limit
		w.took = time.Since(began)
	}()
	return w
}

// waitRequest is a reservation of one unit that waits in line.
func waitRequest(ctx context.Context, t *testing.T, p *process, sku string, span time.Duration) *http.Request {
	t.Helper()
	body := fmt.Sprintf(`{"sku":%q,"quantity":1,"wait_ms":%d}`, sku, span.Milliseconds())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.HTTP+"/v1/reservations", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// over tells whether there is an answer.
func (w *patient) over() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// got waits for the answer, which must be a reservation.
func (w *patient) got(t *testing.T) (r reservation) {
	t.Helper()
	<-w.done
	if w.err != nil || w.status != http.StatusCreated {
		t.Fatalf("%v %d %s", w.err, w.status, w.body)
	}
	w.into(t, &r)
	return r
}

// inLine waits until so many stand in line.
func inLine(t *testing.T, p *process, sku string, want int) {
	t.Helper()
	eventually(t, fmt.Sprint(want, " in line"), startTimeout, func() error {
		if got := proven(t, p, sku).waiting(); got != want {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// cancel gives a reservation back.
func cancel(t *testing.T, p *process, r reservation) {
	t.Helper()
	must(t, http.StatusOK, http.MethodPost, p.HTTP, "/v1/reservations/"+r.ID+"/cancel", "", nil)
}

const longWait = 30 * time.Second

// TestWaitingInLine sells the only unit, lets others wait for it, and cancels it
// again and again: it goes to them in the order in which they came. While somebody
// waits the SKU is not sold out, and who has no time is refused when his is over.
func TestWaitingInLine(t *testing.T) {
	dev := startDev(t, "--shards", "1", "--seed", "only=1")
	held := hold(t, dev, "only", "first")

	line := make([]*patient, 3)
	for i := range line {
		line[i] = wait(t, dev, "only", fmt.Sprint("waits-", i), longWait)
		inLine(t, dev, "only", i+1)
	}
	short := wait(t, dev, "only", "no-time", 300*time.Millisecond)
	<-short.done
	if short.status != http.StatusConflict || short.took < 300*time.Millisecond || !strings.Contains(string(short.body), "insufficient-stock") {
		t.Errorf("for 300 ms: %v %d %s after %v", short.err, short.status, short.body, short.took)
	}
	bounded := waitWithin(t, dev, "only", time.Second)
	if bounded.status != http.StatusConflict {
		t.Errorf("with X-Timeout-Ms: %d %s", bounded.status, bounded.body)
	}
	for i, w := range line {
		must(t, http.StatusConflict, http.MethodPost, dev.HTTP, "/v1/reservations", fmt.Sprint("pushes-", i), map[string]any{"sku": "only", "quantity": 1})
		if a := proven(t, dev, "only"); a.SoldOut || a.waiting() != len(line)-i {
			t.Errorf("%d are left in line: %+v", len(line)-i, a)
		}
		cancel(t, dev, held)
		held = w.got(t)
		for _, later := range line[i+1:] {
			if later.over() {
				t.Fatalf("the unit was number %d's, and one behind him was answered %d %s", i, later.status, later.body)
			}
		}
	}
	if a := proven(t, dev, "only"); !a.SoldOut || a.waiting() != 0 {
		t.Errorf("nobody is left: %+v", a)
	}
}

// waitWithin sends a reservation that would wait for longer than its deadline.
func waitWithin(t *testing.T, p *process, sku string, timeout time.Duration) answer {
	t.Helper()
	r := waitRequest(t.Context(), t, p, sku, longWait)
	r.Header.Set("X-Timeout-Ms", fmt.Sprint(timeout.Milliseconds()))
	a, err := send(caller, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestClientThatLeftTheLine: what comes to a request without a key whose client
// has gone is given back, and somebody else gets it.
func TestClientThatLeftTheLine(t *testing.T) {
	dev := startDev(t, "--shards", "2", "--seed", "gone=1")
	held := hold(t, dev, "gone", "first")
	left := wait(t, dev, "gone", "", longWait)
	inLine(t, dev, "gone", 1)
	left.leave()
	<-left.done
	cancel(t, dev, held)
	wait(t, dev, "gone", "next", longWait).got(t)
	if s := audit(t, dev, "gone"); s.Reserved != 1 || s.Available != 0 {
		t.Errorf("%+v", s)
	}
}

// TestPauseStopsAllShards pauses a SKU on 16 shards in the middle of its sale: a
// request that begins after the answer is refused on whichever shard, and after
// the answer to the resume none is.
func TestPauseStopsAllShards(t *testing.T) {
	dev := startDev(t, "--shards", "16", "--seed", "halt=100000")
	const selling, stopping, halted, resuming, again, over = 0, 1, 2, 3, 4, 5
	var phase atomic.Int64
	var sales, refusals atomic.Int64
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for n := 0; phase.Load() != over; n++ {
				began := phase.Load()
				a, err := call(http.MethodPost, dev.HTTP, "/v1/reservations", fmt.Sprintf("c%d-%d", c, n), map[string]any{"sku": "halt", "quantity": 1})
				switch ended := phase.Load(); {
				case err != nil:
					t.Error(err)
					return
				case began != ended || began == stopping || began == resuming || a.status == http.StatusServiceUnavailable: // or the machine is busy
				case began == selling || began == again:
					if sales.Add(1); a.status != http.StatusCreated {
						t.Errorf("on sale, and %d %s", a.status, a.body)
					}
				case began == halted:
					if refusals.Add(1); a.status != http.StatusConflict || !strings.Contains(string(a.body), "sku-paused") {
						t.Errorf("paused, and %d %s", a.status, a.body)
					}
				}
			}
		})
	}
	reaches := func(what string, count *atomic.Int64) {
		t.Helper()
		eventually(t, what, startTimeout, func() error {
			if n := count.Load(); n < 500 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	}
	change := func(verb string) {
		t.Helper()
		var v struct {
			Paused        bool      `json:"paused"`
			EffectiveAt   time.Time `json:"effective_at"`
			PendingShards []int     `json:"pending_shards"`
		}
		began := time.Now()
		must(t, http.StatusOK, http.MethodPost, dev.Ops, "/v1/skus/halt/"+verb, "", nil).into(t, &v)
		if v.Paused != (verb == "pause") || v.EffectiveAt.Before(began.Add(-time.Millisecond)) || len(v.PendingShards) != 0 {
			t.Errorf("%s: %+v", verb, v)
		}
		t.Logf("%s: on 16 shards after %v", verb, v.EffectiveAt.Sub(began))
	}
	reaches("sales before the pause", &sales)
	phase.Store(stopping)
	change("pause")
	phase.Store(halted)
	reaches("refusals while paused", &refusals)
	phase.Store(resuming)
	change("resume")
	sales.Store(0)
	phase.Store(again)
	reaches("sales after the resume", &sales)
	phase.Store(over)
	wg.Wait()
}

// TestSoldWithoutKeysToExactlyZero sells 20,000 units over 16 shards to requests
// that any shard may decide: all of them, with few transfers, and then a proof that
// nothing is left. From then on refusals touch no shard.
func TestSoldWithoutKeysToExactlyZero(t *testing.T) {
	const stock, clients, shards = 20_000, 32, 16
	dev := startDev(t, "--shards", fmt.Sprint(shards), "--seed", fmt.Sprintf("free=%d", stock))
	units := sellSingles(t, clients, func(int, int) (answer, error) {
		return call(http.MethodPost, dev.HTTP, "/v1/reservations", "", map[string]any{"sku": "free", "quantity": 1})
	})
	a := proven(t, dev, "free")
	if units != stock || !a.SoldOut || a.Available != 0 || len(a.Shards) != shards {
		t.Errorf("%d sold; %+v", units, a)
	}
	for i, s := range a.Shards {
		if s.Shard != i || s.Applied == 0 || s.Available != 0 || s.InTransit != 0 || s.Waiting != 0 {
			t.Errorf("the proof of shard %d: %+v", i, s)
		}
	}
	if s := audit(t, dev, "free"); s.Reserved != stock || !s.SoldOut {
		t.Errorf("%+v", s)
	}
	transfers := messages(t, dev, "free")
	limit := int(shards * math.Log2(stock/shards))
	t.Logf("%d transfers, %d of them the first spread; the bound is %d", transfers, shards-1, limit)
	if transfers > limit {
		t.Errorf("%d transfers for %d units over %d shards", transfers, stock, shards)
	}
	eventually(t, "refusals without a shard", startTimeout, func() error {
		a, err := call(http.MethodPost, dev.HTTP, "/v1/reservations", "", map[string]any{"sku": "free", "quantity": 2})
		if err != nil || a.status != http.StatusConflict || !strings.Contains(string(a.body), `"requested":2`) || !strings.Contains(string(a.body), `"available":0`) {
			return fmt.Errorf("%w %d %s", err, a.status, a.body)
		}
		page := must(t, http.StatusOK, http.MethodGet, dev.Ops, "/metrics", "", nil)
		if strings.Contains(string(page.body), "\nstockade_router_edge_refusals_total 0\n") {
			return errors.New("none so far")
		}
		return nil
	})
	must(t, http.StatusConflict, http.MethodPost, dev.HTTP, "/v1/reservations", "with-a-key", map[string]any{"sku": "free", "quantity": 1})
}

// messages counts the messages with units of a SKU that shards ever sent, in a
// cluster that has no other SKU.
func messages(t *testing.T, p *process, sku string) (n int) {
	t.Helper()
	var a struct {
		Shards []struct {
			Vector struct {
				Sent []int `json:"sent"`
			} `json:"vector"`
		} `json:"shards"`
	}
	must(t, http.StatusOK, http.MethodGet, p.Ops, "/v1/skus/"+sku+"/audit", "", nil).into(t, &a)
	for _, s := range a.Shards {
		for _, sent := range s.Vector.Sent {
			n += sent
		}
	}
	return n
}

// TestReturnedUnitFindsWhoWaits lets requests of many homes wait for one unit, and
// whoever gets it gives it back at once: it goes to all of them, wherever they wait.
// How long each change of hands takes is reported, not asserted.
func TestReturnedUnitFindsWhoWaits(t *testing.T) {
	dev := startDev(t, "--shards", "8", "--seed", "one=1")
	held := hold(t, dev, "one", "first")
	const clients = 16
	type hand struct {
		reservation
		at time.Time
	}
	hands := make(chan hand, clients)
	for c := range clients {
		w := wait(t, dev, "one", fmt.Sprint("client-", c), longWait)
		go func() {
			<-w.done
			h := hand{at: time.Now()}
			if w.err != nil || w.status != http.StatusCreated {
				t.Errorf("client %d: %v %d %s", c, w.err, w.status, w.body)
			} else if err := json.Unmarshal(w.body, &h.reservation); err != nil {
				t.Error(err)
			}
			hands <- h
		}()
	}
	inLine(t, dev, "one", clients)
	var took []time.Duration
	for range clients {
		given := time.Now()
		cancel(t, dev, held)
		h := <-hands
		if h.ID == "" {
			return
		}
		held = h.reservation
		took = append(took, h.at.Sub(given))
	}
	slices.Sort(took)
	t.Logf("from one to the next: p50 %v, max %v", took[len(took)/2], took[len(took)-1])
	if s := audit(t, dev, "one"); s.Reserved != 1 || s.Available != 0 {
		t.Errorf("%+v", s)
	}
}
