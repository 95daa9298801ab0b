package client

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"stockade/router/api"
)

// laneKind is what distinguishes the requests of a lane.
type laneKind[T any] interface {
	// alone is the request of one item.
	alone(item T) (*request, error)
	// together is the request of several.
	together(items []T) (*request, error)
}

// A lane has the calls of one kind share requests. At most most requests are on their
// way; what arrives meanwhile forms the next ones, of at most size items. It is safe for
// concurrent use; each request has a goroutine.
type lane[T any] struct {
	c    *Client
	kind laneKind[T]
	size int
	most int

	mu      sync.Mutex
	waiting []*item[T]
	out     int // goroutines that send
}

// item is one attempt of one call.
type item[T any] struct {
	value    T
	deadline time.Time
	avoid    *node
	sent     bool          // guarded by the lane's mu
	answered chan struct{} // closed when what follows is set
	verdict  verdict
	result   *api.Reservation
}

// do makes one attempt of a call.
func (l *lane[T]) do(k *call, value T) (verdict, *api.Reservation) {
	it := &item[T]{value: value, deadline: time.Now().Add(k.left()), avoid: k.last.node, answered: make(chan struct{})}
	l.add(it)
	select {
	case <-it.answered:
		return it.verdict, it.result
	case <-k.ctx.Done():
		if l.withdraw(it) {
			return verdict{kind: notDone, err: k.ctx.Err()}, nil
		}
		return verdict{kind: unknown, err: k.ctx.Err()}, nil
	}
}

func (l *lane[T]) add(it *item[T]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, it)
	if l.out < l.most {
		l.out++
		go l.run()
	}
}

// withdraw takes an item back, if it was not sent.
func (l *lane[T]) withdraw(it *item[T]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if it.sent {
		return false
	}
	it.sent = true // nobody sends it any more
	return true
}

// run sends batches until nothing waits.
func (l *lane[T]) run() {
	for batch := l.next(); len(batch) > 0; batch = l.next() {
		l.send(batch)
	}
}

// next takes the next batch; when there is none the caller is no longer counted.
func (l *lane[T]) next() (batch []*item[T]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := 0
	for _, it := range l.waiting {
		if len(batch) == l.size {
			break
		}
		taken++
		if !it.sent {
			it.sent = true
			batch = append(batch, it)
		}
	}
	l.waiting = l.waiting[taken:]
	if len(batch) == 0 {
		l.waiting = nil // lets go of the array
		l.out--
	}
	return batch
}

// send sends a batch and answers its items.
func (l *lane[T]) send(batch []*item[T]) {
	r, err := l.request(batch)
	if err != nil {
		l.answerAll(batch, verdict{kind: notDone, err: err})
		return
	}
	n := l.c.nodes.pick(time.Now(), batch[0].avoid)
	a := l.c.send(l.c.life, n, r)
	v := a.judge(n)
	switch {
	case v.kind != done:
		l.answerAll(batch, v)
	case len(batch) == 1:
		batch[0].answer(v, &a)
	default:
		l.distribute(batch, v, &a)
	}
}

func (l *lane[T]) request(batch []*item[T]) (r *request, err error) {
	until := batch[0].deadline
	if len(batch) == 1 {
		r, err = l.kind.alone(batch[0].value)
	} else {
		values := make([]T, len(batch))
		for i, it := range batch {
			values[i] = it.value
			if it.deadline.After(until) {
				until = it.deadline
			}
		}
		r, err = l.kind.together(values)
	}
	if err == nil {
		r.timeout = time.Until(until)
	}
	return r, err
}

// answerAll gives all items of a batch the same verdict.
func (l *lane[T]) answerAll(batch []*item[T], v verdict) {
	for _, it := range batch {
		it.verdict = v
		close(it.answered)
	}
}

// answer reads the answer to a request of one item.
func (it *item[T]) answer(v verdict, a *answer) {
	it.verdict = v
	it.result = new(api.Reservation)
	it.verdict.take(a.body, it.result)
	close(it.answered)
}

// take reads the document of an answer. One that can't be read leaves the outcome open.
func (v *verdict) take(body []byte, into any) {
	if err := json.Unmarshal(body, into); err != nil {
		v.kind, v.err = unknown, fmt.Errorf("read the answer: %w", err)
	}
}

// distribute gives each item of a batch its own result.
func (l *lane[T]) distribute(batch []*item[T], v verdict, a *answer) {
	var all api.BatchAnswer
	v.take(a.body, &all)
	if v.kind == done && len(all.Results) != len(batch) {
		v.kind, v.err = unknown, fmt.Errorf("%d results for a batch of %d", len(all.Results), len(batch))
	}
	if v.kind != done {
		l.answerAll(batch, v)
		return
	}
	for i, it := range batch {
		r := &all.Results[i]
		it.verdict, it.result = v, r.Reservation
		switch {
		case r.Status/100 != 2 && r.Problem != nil:
			it.verdict.kind, it.verdict.problem = kindOf(r.Status), r.Problem
		case r.Status/100 != 2 || r.Reservation == nil:
			it.verdict.kind, it.verdict.err = unknown, fmt.Errorf("the result has status %d and nothing else", r.Status)
		}
		close(it.answered)
	}
}

// newPost makes the request of a document.
func newPost(path, key string, document any) (*request, error) {
	r := &request{method: http.MethodPost, path: path, key: key}
	if document == nil {
		return r, nil
	}
	body, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	r.body = body
	return r, nil
}
