package clustersim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

const (
	requestTimeout = 4 * time.Second
	// patience is how long a client repeats a request. No fault lasts that long.
	patience = 3 * time.Minute

	// clockError is by how much log time may be ahead: the crystals of the run.
	clockError = 200 * time.Millisecond

	lostAnswers = 0.03 // how many answers get lost on their way to the client
)

// Why a client has no answer.
var (
	errRefused = errors.New("connection refused")
	errNothing = errors.New("no answer")
)

// answer is an HTTP answer.
type answer struct {
	status int
	body   []byte
}

// call sends one request to a host's data or ops port.
func (h *host) call(ops bool, method, path, key string, body any) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	h.mu.Lock()
	handler, down, paused := h.data, h.down, h.paused
	if ops {
		handler = h.ops
	}
	h.mu.Unlock()
	if handler == nil {
		return answer{}, errRefused
	}
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			return answer{}, err
		}
	}
	r := httptest.NewRequestWithContext(ctx, method, "http://"+h.name+path, &payload)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	answered := make(chan answer, 1)
	go func() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		answered <- answer{w.Code, w.Body.Bytes()}
	}()
	select {
	case a := <-answered:
		if paused {
			return answer{}, errNothing
		}
		return a, nil
	case <-down:
	case <-ctx.Done():
	}
	return answer{}, errNothing
}

// reservation is what a client reads of one.
type reservation struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Lines  []struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	} `json:"lines"`
	ExpiresAt time.Time `json:"expires_at"`
}

// problem is what a client reads of a refusal.
type problem struct {
	Code string `json:"code"`
}

func (a answer) code() string {
	var p problem
	_ = json.Unmarshal(a.body, &p) // then it has none
	return p.Code
}

// stands tells whether an answer says what became of the request.
func (a answer) stands() bool {
	return a.status != http.StatusServiceUnavailable && a.status != http.StatusGatewayTimeout && a.status != http.StatusTooManyRequests
}

// told is what a client was told last about a reservation that it made.
type told struct {
	reservation
	ttl time.Duration
}

// ledger is what all clients were told. It is safe for concurrent use.
type ledger struct {
	mu       sync.Mutex
	told     []told
	ok       int // operations that succeeded
	refused  int // for lack of units
	attempts int
}

// client is one buyer after the other.
type client struct {
	run    *run
	number int
	rand   *rand.Rand
}

// insist sends a request to one host after the other until an answer stands.
func (c *client) insist(path, key string, body any) (answer, error) {
	deadline := time.Now().Add(patience)
	for {
		c.run.ledger.attempted()
		h := c.run.hosts[c.rand.IntN(len(c.run.hosts))]
		a, err := h.call(false, http.MethodPost, path, key, body)
		if err == nil && c.rand.Float64() < lostAnswers {
			err = errNothing
		}
		if err == nil && a.stands() {
			return a, nil
		}
		if time.Now().After(deadline) {
			return a, fmt.Errorf("no answer within %v; last: %w, %d %s", patience, err, a.status, a.body)
		}
		<-time.After(time.Duration(10+c.rand.IntN(200)) * time.Millisecond)
	}
}

func (l *ledger) attempted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts++
}

// sell makes reservations, and ends some, until the run is over.
func (c *client) sell() {
	for n := 0; !c.run.over.Load() && !c.run.t.Failed(); n++ {
		<-time.After(time.Duration(c.rand.Int64N(int64(c.run.pace))))
		if err := c.buy(fmt.Sprintf("key-%d-%d", c.number, n)); err != nil {
			c.run.t.Errorf("client %d, order %d: %v", c.number, n, err)
		}
	}
}

// buy makes one reservation and decides what becomes of it.
func (c *client) buy(key string) error {
	sku := c.run.skus[c.rand.IntN(len(c.run.skus))]
	ttl := longHold
	if c.rand.IntN(4) == 0 {
		ttl = shortHold
	}
	body := map[string]any{"sku": sku, "quantity": 1 + c.rand.IntN(3), "ttl_seconds": int(ttl.Seconds())}
	if c.rand.IntN(5) == 0 {
		body["wait_ms"] = 200 + c.rand.IntN(1500)
	}
	a, err := c.insist("/v1/reservations", key, body)
	switch {
	case err != nil:
		return err
	case a.code() == "insufficient-stock":
		c.run.ledger.refuse()
		return nil
	case a.status != http.StatusCreated:
		return fmt.Errorf("reserve: %d %s", a.status, a.body)
	}
	r := told{ttl: ttl}
	if err := json.Unmarshal(a.body, &r.reservation); err != nil {
		return fmt.Errorf("%s: %w", a.body, err)
	}
	r, err = c.decide(r)
	c.run.ledger.note(r)
	return err
}

// decide confirms, cancels or leaves a reservation alone.
func (c *client) decide(r told) (told, error) {
	<-time.After(time.Duration(c.rand.Int64N(int64(2 * time.Second))))
	action := [...]string{"confirm", "cancel", "cancel", ""}[c.rand.IntN(4)]
	if action == "" {
		return r, nil
	}
	a, err := c.insist("/v1/reservations/"+r.ID+"/"+action, "", nil)
	switch {
	case err != nil:
		return r, err
	case a.status == http.StatusGone || a.code() == "insufficient-stock":
		r.Status = "expired"
		// After all nodes were down at once and a majority's clocks could not be
		// believed, log time may be late and catch up later. What holds is expires_at.
		if early := r.ExpiresAt.Sub(today()); early > clockError {
			return r, fmt.Errorf("%s of %s: it has expired %v early: %s", action, r.ID, early, a.body)
		}
		return r, nil
	case a.status != http.StatusOK:
		return r, fmt.Errorf("%s of %s: %d %s", action, r.ID, a.status, a.body)
	}
	return r, json.Unmarshal(a.body, &r.reservation)
}

func (l *ledger) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
}

func (l *ledger) note(r told) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, r)
	l.ok++
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ok + l.refused
}
