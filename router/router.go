package router

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

const (
	// DefaultMaxInFlight bounds the requests under way when the configuration
	// does not. It is what a node finishes in a tenth of a second at the rates
	// that Stockade is made for; more would only wait.
	DefaultMaxInFlight = 16_384

	// MaxBatch bounds the items of a batch. The API takes fewer; the bound keeps
	// one batch from filling the router.
	MaxBatch = 4096
)

// Config configures a Router. It is copied by New.
type Config struct {
	// Shards is the number of shards of the cluster.
	Shards int
	// Secret keys the cluster's hashes. All routers of a cluster have the same.
	Secret [16]byte
	// Dispatcher reaches the shards.
	Dispatcher *shardrpc.Dispatcher
	// Levels tells at once what all shards have of a SKU; nil: nothing. Then no shard
	// is preferred, and nobody is refused unasked.
	Levels Levels
	// Retention is how long a finished request answers for its key; for
	// information only.
	Retention time.Duration
	// MaxInFlight bounds the requests under way, a batch counting as its items;
	// 0: DefaultMaxInFlight. Beyond it requests are refused at once, reservations
	// beyond seven eighths of it and buyers' reads beyond half.
	MaxInFlight int
	// MaxWaiting bounds those that wait in line, which are not counted there; 0:
	// DefaultMaxWaiting.
	MaxWaiting int
	// Now is the wall clock, for "as of" in answers; nil: time.Now.
	Now func() time.Time
	// Metrics may be nil.
	Metrics *Metrics
}

// Validate tells what is wrong with the configuration.
func (c *Config) Validate() error {
	switch {
	case c.Shards < 1 || c.Shards > allocator.MaxShards:
		return fmt.Errorf("a router needs 1 to %d shards, not %d", allocator.MaxShards, c.Shards)
	case c.Dispatcher == nil:
		return errors.New("a router needs a dispatcher")
	case c.MaxInFlight < 0 || c.MaxWaiting < 0:
		return errors.New("a router's bounds of requests under way and waiting can't be negative")
	}
	return nil
}

// Router serves requests. All methods are safe for concurrent use, honour the
// deadline of their context (without one they take shardrpc.DefaultTimeout, and
// the time that a request wants to wait in line on top), and fail with the errors
// of this package.
type Router struct {
	shards    int
	hash      hasher
	dispatch  *shardrpc.Dispatcher
	retention time.Duration
	limit     int64
	now       func() time.Time
	metrics   *Metrics
	levels    Levels

	inFlight atomic.Int64
	waiting  waiting
	fresh    coalescer
	nodes    nodesCache
}

// New makes a router. It starts nothing and needs no closing.
func New(cfg Config) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Router{
		shards: cfg.Shards, hash: newHasher(cfg.Secret), dispatch: cfg.Dispatcher,
		retention: cfg.Retention, limit: int64(cfg.MaxInFlight), now: cfg.Now, metrics: cfg.Metrics, levels: cfg.Levels,
	}
	r.waiting.limit = int64(cfg.MaxWaiting)
	if r.waiting.limit == 0 {
		r.waiting.limit = DefaultMaxWaiting
	}
	if r.levels == nil {
		r.levels = (*shardrpc.Levels)(nil)
	}
	if r.limit == 0 {
		r.limit = DefaultMaxInFlight
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.metrics == nil {
		r.metrics = NewMetrics(nil)
	}
	return r, nil
}

// Retention is how long a finished request answers for its key.
func (r *Router) Retention() time.Duration { return r.retention }

// IDs is the mark of the cluster's reservation ids, for whoever writes or reads
// them as text.
func (r *Router) IDs() allocator.IDMark { return r.hash.ids() }

// request is one admitted request, or a batch of them.
type request struct {
	r        *Router
	op       *operationMetrics
	load     load
	began    time.Time
	deadline time.Time          // that the caller gave; zero: none
	cancel   context.CancelFunc // of bounded; nil: it was not called
}

// load is what a request takes: places among those under way and among those that
// wait in line, and how long it may wait.
type load struct {
	work, waiting int
	wait          time.Duration
}

// single is the load of one request that does not wait in line.
var single = load{work: 1}

// add adds a command that is willing to wait so long.
func (l *load) add(wait time.Duration) {
	if wait > 0 {
		l.waiting++
		l.wait = max(l.wait, wait)
		return
	}
	l.work++
}

// begin admits a request of the given load, or refuses it without asking any
// shard: when too much is under way, or when its time is over. Whoever gets a
// request must call end.
func (r *Router) begin(ctx context.Context, op operation, l load) (*request, error) {
	n := l.work + l.waiting
	places := r.places(op)
	l.work = min(l.work, int(places)) // else a big batch would never be admitted
	l.waiting = min(l.waiting, int(r.waiting.limit))
	q := &request{r: r, op: r.metrics.operation(op), began: time.Now(), load: l}
	if err := r.admit(ctx, l, places); err != nil {
		q.op.count(err, n)
		return nil, err
	}
	q.deadline, _ = ctx.Deadline()
	r.metrics.inFlight.Add(float64(l.work))
	r.metrics.waiting.Add(float64(l.waiting))
	return q, nil
}

// bounded gives ctx the usual time if it has no deadline of its own. Only what waits
// by a context needs it: a proposal carries its deadline, and a timer for each request
// took 3 % of the processor time of a reservation.
func (q *request) bounded(ctx context.Context) context.Context {
	if q.deadline.IsZero() {
		ctx, q.cancel = context.WithTimeout(ctx, shardrpc.DefaultTimeout+q.load.wait)
	}
	return ctx
}

// places is how many of the requests under way an operation may bring them to. What ends
// work, and administration, may take all; reservations leave an eighth for these; and
// buyers' reads leave half for the others. So when there is too much, reads are refused
// first and confirmations last.
func (r *Router) places(op operation) int64 {
	switch op {
	case opReservation, opAvailability:
		return r.limit - r.limit/2
	case opReserve, opBatch:
		return r.limit - r.limit/8
	}
	return r.limit
}

func (r *Router) admit(ctx context.Context, l load, places int64) error {
	if ctx.Err() != nil {
		return &Unavailable{Reason: shardrpc.ReasonDeadline, RetryAfter: retryAfter, Local: true}
	}
	if !r.waiting.enter(int64(l.waiting)) {
		return &Unavailable{Reason: shardrpc.ReasonOverloaded, RetryAfter: retryAfter, Local: true, Waiting: true}
	}
	if r.inFlight.Add(int64(l.work)) > places {
		r.inFlight.Add(-int64(l.work))
		r.waiting.living.Add(-int64(l.waiting))
		return &Unavailable{Reason: shardrpc.ReasonOverloaded, RetryAfter: retryAfter, Local: true}
	}
	return nil
}

// end gives the request's places back and counts how it ended.
func (q *request) end(err error) {
	q.leave()
	q.op.count(err, 1)
}

func (q *request) leave() {
	if q.cancel != nil {
		q.cancel()
	}
	q.r.inFlight.Add(-int64(q.load.work))
	q.r.waiting.living.Add(-int64(q.load.waiting))
	q.r.metrics.inFlight.Sub(float64(q.load.work))
	q.r.metrics.waiting.Sub(float64(q.load.waiting))
}

// command is a request ready for its shard.
type command struct {
	op    operation
	shard allocator.ShardID
	cmd   allocator.Command
	wait  time.Duration // how long it waits in line when there are no units
	alone bool          // nobody can ask for the same again, or learn what became of it
	free  bool          // any shard may decide it
}

// propose has one command applied and reads its result. It is a request of its
// own for the admission and the metrics.
func (r *Router) propose(ctx context.Context, c command) (res allocator.Result, err error) {
	var l load
	l.add(c.wait)
	q, err := r.begin(ctx, c.op, l)
	if err != nil {
		return res, err
	}
	defer func() { q.end(err) }()
	p := new(shardrpc.Proposal)
	q.prepare(p, &c, encode(c.cmd))
	res, err = decided(r.dispatch.Await(ctx, p, func(resp shardrpc.Response, left bool) { q.ended(&c, resp, left) }))
	if c.free {
		r.wantAfter(c.cmd, res.Code)
	}
	return res, err
}

// commandRoom is what most commands fit in.
const commandRoom = 256

func encode(command allocator.Command) []byte {
	return command.AppendTo(make([]byte, 0, commandRoom))
}

// fail counts a request that was found invalid before it was admitted.
func (r *Router) fail(op operation, err error) error {
	r.metrics.operation(op).count(err, 1)
	return err
}
