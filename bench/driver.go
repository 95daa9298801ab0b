package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"stockade/router/api"
	"stockade/router/client"
)

// driver makes the requests of one phase of a run: the warm-up, or what is measured.
type driver struct {
	cfg      *Config
	workload *Workload
	prefix   string     // of its keys
	units    []api.Line // one of each SKU
	batch    int
	schedule schedule
	rec      *recorder
	books    *books
	client   *client.Client // nil: requests are sent as they are
	seed     uint64

	began   time.Time
	stopped atomic.Bool
	later   chan followUp
	pending sync.WaitGroup // follow-ups that are not done
}

// followUp is what a buyer does with a reservation later.
type followUp struct {
	id   string
	fate Fate
	skus []int
	due  time.Time
}

// laterRoom is how many follow-ups can be due and wait for a worker; more wait outside.
const laterRoom = 1024

// run makes the requests until the schedule or ctx ends, and waits for the answers.
func (d *driver) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { d.stopped.Store(true) })
	defer stop()
	d.later = make(chan followUp, laterRoom)
	var workers, followers sync.WaitGroup
	for i := range d.cfg.Connections {
		workers.Go(d.newWorker(i).run)
		if d.workload.followed {
			followers.Go(d.newWorker(i).follow)
		}
	}
	workers.Wait()
	d.pending.Wait()
	close(d.later)
	followers.Wait()
}

// worker has one connection and sends one request after the other.
type worker struct {
	*driver
	no   int
	rand *rand.Rand
	menu menu
	conn *conn
	one  [][]int // the SKUs of each reservation of the request at hand
}

func (d *driver) newWorker(no int) *worker {
	w := &worker{driver: d, no: no, rand: rand.New(rand.NewPCG(d.seed, uint64(no))), conn: newConn(d.cfg.Nodes, no)}
	w.menu = menu{n: len(d.units), pick: zipf(w.rand, len(d.units))}
	return w
}

// unitsOf are one unit of each SKU.
func unitsOf(skus []string) []api.Line {
	units := make([]api.Line, len(skus))
	for i, name := range skus {
		units[i] = api.Line{SKU: name, Quantity: 1}
	}
	return units
}

// run sends requests when they are due.
func (w *worker) run() {
	defer w.conn.close()
	for !w.stopped.Load() {
		a, ok := w.schedule.next(time.Since(w.began))
		if !ok || !w.await(a) {
			return
		}
		w.rec.sent.Add(int64(w.batch))
		switch waited := time.Since(w.began) - a.due; {
		case waited > w.cfg.Patience: // whoever asked has gone
			w.rec.record(w.no, reserving, GaveUp, waited, int64(w.batch))
		case w.batch > 1:
			w.many(a)
		default:
			w.single(a)
		}
	}
}

// await waits until an arrival is due; false: the run was stopped before.
func (w *worker) await(a arrival) bool {
	early := a.due - time.Since(w.began)
	if early <= 0 {
		if w.cfg.Arrivals != Closed {
			w.rec.crowded.Add(1)
		}
		return true
	}
	for ; early > 0 && !w.stopped.Load(); early = a.due - time.Since(w.began) {
		time.Sleep(min(early, stopEvery))
	}
	w.rec.wake.record(-early)
	return !w.stopped.Load()
}

// stopEvery is how soon a worker that waits notices that the run was stopped.
const stopEvery = 100 * time.Millisecond

// single makes one reservation.
func (w *worker) single(a arrival) {
	picked := w.workload.lines(w.rand, &w.menu)
	fate, think := w.workload.fate(w.rand)
	ttl := hold
	if fate == Expire {
		ttl = shortHold
	}
	key := w.key(a.n, -1)
	sent := time.Now()
	r := w.reserve(key, picked, ttl, w.left(a))
	o := r.items[0]
	w.rec.record(w.no, reserving, o, time.Since(w.began)-a.due, 1)
	w.books.reserved(picked, o, sent)
	if o != Accepted {
		return
	}
	if w.cfg.Repeat > 0 && r.id != "" && w.rand.Float64() < w.cfg.Repeat {
		w.repeat(key, picked, ttl, r.id)
	}
	switch fate {
	case Expire:
		w.books.released(picked, time.Now().Add(shortHold))
	case Confirm, Cancel:
		w.think(followUp{id: r.id, fate: fate, skus: picked, due: time.Now().Add(think)})
	}
}

// left is the time that a request has: its deadline counts from when it was due.
func (w *worker) left(a arrival) time.Duration {
	return w.cfg.Timeout - max(0, time.Since(w.began)-a.due)
}

// reserve sends the request of one reservation, or makes a call of the client.
func (w *worker) reserve(key string, picked []int, ttl, left time.Duration) reply {
	lines := w.linesOf(picked)
	if w.client != nil {
		return w.call(key, lines, ttl, left)
	}
	w.conn.writeReserve(lines, ttl)
	return w.conn.post(pathReservations, key, 1, left)
}

func (w *worker) linesOf(picked []int) []api.Line {
	lines := make([]api.Line, len(picked))
	for i, p := range picked {
		lines[i] = w.units[p]
	}
	return lines
}

// call has the Go client make a reservation.
func (w *worker) call(key string, lines []api.Line, ttl, left time.Duration) reply {
	ctx, cancel := context.WithTimeout(context.Background(), left)
	defer cancel()
	q := api.ReserveRequest{TTLSeconds: int64(ttl / time.Second)}
	if len(lines) == 1 {
		q.SKU, q.Quantity = lines[0].SKU, lines[0].Quantity
	} else {
		q.Lines = lines
	}
	held, err := w.client.Reserve(ctx, key, q)
	switch {
	case err == nil:
		r := w.conn.all(1, Accepted)
		r.id = held.ID
		return r
	case errors.Is(err, client.InsufficientStock):
		return w.conn.all(1, SoldOut)
	case errors.Is(err, client.ErrNothingDone):
		return w.conn.all(1, NotDone)
	case errors.Is(err, client.ErrUnknown):
		return w.conn.all(1, Unknown)
	default:
		return w.conn.all(1, Rejected)
	}
}

// repeat asks for a reservation once more. Another one than before is a duplicate.
func (w *worker) repeat(key string, picked []int, ttl time.Duration, id string) {
	sent := time.Now()
	r := w.reserve(key, picked, ttl, w.cfg.Timeout)
	w.rec.record(w.no, repeating, r.items[0], time.Since(sent), 1)
	w.books.repeated(r.items[0], r.id != id)
}

// many makes the reservations of a batch.
func (w *worker) many(a arrival) {
	w.one = w.one[:0]
	for range w.batch {
		w.one = append(w.one, w.workload.lines(w.rand, &w.menu))
	}
	w.conn.writeBatch(w.batch, func(i int) (string, []api.Line) { return w.key(a.n, i), w.linesOf(w.one[i]) }, hold)
	sent := time.Now()
	r := w.conn.post(pathReservations+"/batch", "", w.batch, w.left(a))
	took := time.Since(w.began) - a.due
	var counts [outcomes]int64
	for i, o := range r.items {
		counts[o]++
		w.books.reserved(w.one[i], o, sent)
	}
	for o, n := range counts {
		w.rec.record(w.no, reserving, Outcome(o), took, n)
	}
}

// key is the idempotency key of a reservation.
func (w *worker) key(n int64, item int) string {
	if !w.cfg.Keyed {
		return ""
	}
	b := append(make([]byte, 0, 48), w.prefix...)
	b = strconv.AppendInt(b, n, 36)
	if item >= 0 {
		b = strconv.AppendInt(append(b, '.'), int64(item), 36)
	}
	return string(b)
}

// think has a follow-up done when it is due.
func (w *worker) think(f followUp) {
	w.pending.Add(1)
	time.AfterFunc(time.Until(f.due), func() { w.later <- f })
}

// follow does what is due with reservations.
func (w *worker) follow() {
	defer w.conn.close()
	for f := range w.later {
		verb, op := "/confirm", confirming
		if f.fate == Cancel {
			verb, op = "/cancel", canceling
		}
		w.conn.body = w.conn.body[:0]
		r := w.conn.post(pathReservations+"/"+f.id+verb, "", 1, w.cfg.Timeout)
		w.rec.record(w.no, op, r.items[0], time.Since(f.due), 1)
		w.books.followed(f, r.items[0])
		w.pending.Done()
	}
}
