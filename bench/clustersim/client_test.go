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

	"stockade/bench/history"
)

const (
	requestTimeout = 4 * time.Second
	// patience is how long a client repeats a request. No fault lasts that long.
	patience = 3 * time.Minute

	// clockError is by how much log time may be ahead: the crystals of the run. After
	// all nodes were down at once and a majority's clocks could not be believed, log
	// time may also be late, and catch up later. What holds is expires_at.
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
	status   int
	body     []byte
	replayed bool
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
		answered <- answer{w.Code, w.Body.Bytes(), w.Header().Get("Idempotent-Replayed") == "true"}
	}()
	select {
	case a := <-answered:
		if paused || ctx.Err() != nil { // the client is gone; handlers write nothing then
			return answer{}, errNothing
		}
		return a, nil
	case <-down:
	case <-ctx.Done():
	}
	return answer{}, errNothing
}

// client is one buyer after the other.
type client struct {
	run    *run
	number int
	rand   *rand.Rand
}

// request is a call with what it sends.
type request struct {
	history.Call
	path string
	ops  bool // it goes to the ops port
	body any
	// alone: it is sent without a key, once, and any shard that has units may sell them.
	// History knows it by a key of its own.
	alone bool
}

// key is the idempotency key that a request is sent with, if any.
func (q *request) key() string {
	switch q.Kind {
	case history.Reserve:
		if q.alone {
			return ""
		}
		return q.Key
	case history.Restock, history.Adjust:
		return q.Key
	}
	return q.Op
}

// insist sends a request to one host after the other until an answer stands. Each
// attempt is a call of the history. Where units are scarce some requests are given up when
// all that they got was that nothing was done: then nothing may be held for them in the end.
func (c *client) insist(q request) (history.Answer, error) {
	deadline, unknown := time.Now().Add(patience), false
	var told []string
	for {
		h := c.run.hosts[c.rand.IntN(len(c.run.hosts))]
		q.Client, q.Server = c.number, h.name
		attempt := c.run.recorder.Begin(q.Call)
		a, err := h.call(q.ops, http.MethodPost, q.path, q.key(), q.body)
		if errors.Is(err, errRefused) {
			a.status = http.StatusServiceUnavailable // nothing was sent
		}
		if err == nil && c.rand.Float64() < lostAnswers {
			a = answer{}
		}
		got := history.ParseAnswer(q.Kind, a.status, a.body)
		noted := got
		noted.Expires = virtual(got.Expires)
		attempt.End(noted)
		told = append(told, fmt.Sprintf("%.3f s at %s: %d %s %v", time.Since(c.run.began).Seconds(), h.name, a.status, a.body, err))
		if got.Outcome != history.Unknown && got.Outcome != history.NotDone {
			if c.run.scarce && got.Outcome == history.Short && !q.alone {
				c.run.ids.giveUp(q, told)
			}
			c.run.done.Add(1)
			return got, nil
		}
		if q.alone {
			return got, nil
		}
		unknown = unknown || got.Outcome == history.Unknown
		if c.run.scarce && q.Kind == history.Reserve && !unknown && c.rand.IntN(10) == 0 {
			c.run.ids.giveUp(q, told)
			return got, nil
		}
		if time.Now().After(deadline) {
			return got, fmt.Errorf("no answer within %v; last: %w, %d %s", patience, err, a.status, a.body)
		}
		<-time.After(time.Duration(10+c.rand.IntN(200)) * time.Millisecond)
	}
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
	if sku == forAll || sku != forLong && c.rand.IntN(4) == 0 {
		ttl = shortHold
	}
	q := request{
		alone: sku == forAll,
		Call:  history.Call{Kind: history.Reserve, Key: key, SKU: sku, Units: 1 + c.rand.IntN(3)},
		path:  "/v1/reservations",
	}
	body := map[string]any{"sku": sku, "quantity": q.Units, "ttl_seconds": int(ttl.Seconds())}
	if c.rand.IntN(5) == 0 {
		body["wait_ms"] = 200 + c.rand.IntN(1500)
	}
	q.body = body
	got, err := c.insist(q)
	if err != nil || got.Outcome == history.Short || got.Outcome == history.NotDone || q.alone && got.Outcome == history.Unknown {
		return err
	}
	if got.Outcome != history.Held {
		return fmt.Errorf("reserve: %s %s", got.Outcome, got.Code)
	}
	c.run.ids.add(got.ID)
	return c.decide(q.Call, got.ID, ttl)
}

// decide confirms, cancels or leaves a reservation alone, and extends some before.
func (c *client) decide(made history.Call, id string, ttl time.Duration) (err error) {
	<-time.After(time.Duration(c.rand.Int64N(int64(time.Second))))
	if c.rand.IntN(6) == 0 {
		if ttl, err = c.extend(made, id, ttl); err != nil {
			return err
		}
	}
	kind := [...]history.Kind{history.Confirm, history.Cancel, history.Cancel, ""}[c.rand.IntN(4)]
	if c.run.scarce {
		kind = c.giveBack(ttl)
	}
	if kind == "" {
		return nil
	}
	made.Kind, made.ID = kind, id
	got, err := c.insist(request{Call: made, path: "/v1/reservations/" + id + "/" + string(kind)})
	if err == nil && (got.Outcome == history.Refused || got.Outcome == history.Odd) {
		err = fmt.Errorf("%s of %s: %s", kind, id, got.Code)
	}
	if err == nil && kind == history.Confirm && got.Outcome == history.Sold {
		err = c.takeBack(made, id)
	}
	return err
}

// giveBack decides where units are scarce: few are sold for good, since most of what is
// sold is returned, and none is held for long by nobody, so that there is something to
// compete for until the end.
func (c *client) giveBack(ttl time.Duration) history.Kind {
	switch n := c.rand.IntN(100); {
	case n < 10:
		return history.Confirm
	case n < 50 && ttl == shortHold:
		return ""
	}
	return history.Cancel
}

// ids are the reservations that clients know of, and the requests for some that they gave
// up, because the last they were told is that nothing was done, or that there are too few.
type ids struct {
	mu      sync.Mutex
	all     []string
	givenUp []givenUp
}

type givenUp struct {
	request
	told []string
}

func (i *ids) giveUp(q request, told []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.givenUp = append(i.givenUp, givenUp{q, told})
}

func (i *ids) add(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = append(i.all, id)
}
