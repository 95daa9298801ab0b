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
	// Levels tells at once what all shards have of a SKU; nil: nothing.
	Levels *shardrpc.Levels
	// Retention is how long a finished request answers for its key; for
	// information only.
	Retention time.Duration
	// MaxInFlight bounds the requests under way, a batch counting as its items;
	// 0: DefaultMaxInFlight. Beyond it requests are refused at once.
	MaxInFlight int
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
	case c.MaxInFlight < 0:
		return errors.New("a router's bound of requests under way can't be negative")
	}
	return nil
}

// Router serves requests. All methods are safe for concurrent use, honour the
// deadline of their context (shardrpc.DefaultTimeout without one), and fail with
// the errors of this package.
type Router struct {
	shards    int
	hash      hasher
	dispatch  *shardrpc.Dispatcher
	retention time.Duration
	limit     int64
	now       func() time.Time
	metrics   *Metrics

	inFlight atomic.Int64
	fresh    coalescer
}

// New makes a router. It starts nothing and needs no closing.
func New(cfg Config) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Router{
		shards: cfg.Shards, hash: newHasher(cfg.Secret), dispatch: cfg.Dispatcher,
		retention: cfg.Retention, limit: int64(cfg.MaxInFlight), now: cfg.Now, metrics: cfg.Metrics,
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
	r      *Router
	op     *operationMetrics
	weight int64
	began  time.Time
	cancel context.CancelFunc
}

// begin admits a request of the given weight, or refuses it without asking any
// shard: when too much is under way, or when its time is over. Whoever gets a
// request must call end.
func (r *Router) begin(ctx context.Context, op operation, weight int) (*request, context.Context, error) {
	q := &request{
		r: r, op: r.metrics.operation(op), began: time.Now(), cancel: func() {},
		weight: min(int64(weight), r.limit), // else a big batch would never be admitted
	}
	if err := r.admit(ctx, q.weight); err != nil {
		q.op.count(err, weight)
		return nil, nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		ctx, q.cancel = context.WithTimeout(ctx, shardrpc.DefaultTimeout)
	}
	r.metrics.inFlight.Add(float64(q.weight))
	return q, ctx, nil
}

func (r *Router) admit(ctx context.Context, weight int64) error {
	if ctx.Err() != nil {
		return &Unavailable{Reason: shardrpc.ReasonDeadline, RetryAfter: retryAfter, Local: true}
	}
	if r.inFlight.Add(weight) > r.limit {
		r.inFlight.Add(-weight)
		return &Unavailable{Reason: shardrpc.ReasonOverloaded, RetryAfter: retryAfter, Local: true}
	}
	return nil
}

// end gives the request's place back and counts how it ended.
func (q *request) end(err error) {
	q.leave()
	q.op.count(err, 1)
}

func (q *request) leave() {
	q.cancel()
	q.r.inFlight.Add(-q.weight)
	q.r.metrics.inFlight.Sub(float64(q.weight))
	q.op.duration.Observe(time.Since(q.began).Seconds())
}

// propose has one command applied and reads its result. It is a request of its
// own for the admission and the metrics.
func (r *Router) propose(ctx context.Context, op operation, shard allocator.ShardID, command allocator.Command) (res allocator.Result, err error) {
	q, ctx, err := r.begin(ctx, op, 1)
	if err != nil {
		return res, err
	}
	defer func() { q.end(err) }()
	return decided(r.dispatch.Do(ctx, shard, encode(command)))
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
