package router

import (
	"context"
	"errors"
	"sync"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// freshFor is how long one look at the shards serves all who ask for the
// availability of the same SKU: long enough that a crowd costs one look, short
// enough that nobody sees the difference.
const freshFor = 5 * time.Millisecond

// Availability is how much of a SKU can be reserved.
type Availability struct {
	SKU       string
	Available int64 // units for sale, all shards together
	// SoldOut: not a unit is for sale, nor on its way between shards. A strong one
	// also says that nobody waits in line.
	SoldOut bool
	AsOf    time.Time // wall clock; nothing older than this is missing
	// Shards are what a strong answer stands on, in order; else there are none.
	Shards []ShardShare
}

// ShardShare is what one shard has of a SKU.
type ShardShare struct {
	Shard     allocator.ShardID
	Applied   uint64 // commands applied, of which this is the outcome
	Available int64
	InTransit int64 // sent by this shard, and not arrived
	Waiting   int   // requests in line here
}

// Availability tells how much of a SKU can be reserved. A strong one includes
// everything that was answered before; else it may be a few milliseconds old.
// Refusal: CodeSKUNotFound.
func (r *Router) Availability(ctx context.Context, sku string, strong bool) (a Availability, err error) {
	name, err := checkSKU(sku)
	if err != nil {
		return a, r.fail(opAvailability, err)
	}
	q, err := r.begin(ctx, opAvailability, single)
	if err != nil {
		return a, err
	}
	defer func() { q.end(err) }()
	ctx = q.bounded(ctx)
	if strong {
		return r.certified(ctx, name)
	}
	if a, ok := r.levelled(name); ok {
		return a, nil
	}
	a, err = r.fresh.get(ctx, name, r.look)
	if errors.Is(err, errLate) {
		return a, r.lateRead()
	}
	return a, err
}

// availableParallel bounds the SKUs of one list that are looked at together: each
// is a question to every node, and a list must not crowd out single readers.
const availableParallel = 16

// AvailableOf tells how much can be reserved of each SKU of a list, as
// Availability does for one. A SKU that is gone is missing in the answer.
func (r *Router) AvailableOf(ctx context.Context, skus []allocator.SKU) (available map[allocator.SKU]int64, err error) {
	q, err := r.begin(ctx, opAvailability, load{work: min(len(skus), availableParallel)})
	if err != nil {
		return nil, err
	}
	defer func() { q.end(err) }()
	ctx = q.bounded(ctx)
	l := &looked{available: make(map[allocator.SKU]int64, len(skus))}
	ctx, l.giveUp = context.WithCancel(ctx)
	defer l.giveUp()
	var wait sync.WaitGroup
	slots := make(chan struct{}, availableParallel)
	for _, sku := range skus {
		slots <- struct{}{}
		wait.Go(func() {
			l.note(r.look(ctx, sku))
			<-slots
		})
	}
	wait.Wait()
	return l.available, l.err
}

// looked is what is known of a list. It is used by many goroutines.
type looked struct {
	mu        sync.Mutex
	available map[allocator.SKU]int64
	err       error // the first; the others follow from it
	giveUp    context.CancelFunc
}

// note takes what was found out about one SKU.
func (l *looked) note(a Availability, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var gone *Refusal
	switch {
	case err == nil:
		l.available[allocator.SKU(a.SKU)] = a.Available
	case l.err == nil && !errors.As(err, &gone):
		l.err = err
		l.giveUp()
	}
}

// lateRead is the answer when the time ran out while shards were asked: it names
// one that has trouble, if any has.
func (r *Router) lateRead() error {
	for shard := range allocator.ShardID(r.shards) {
		if reason, since := r.dispatch.Directory().Trouble(shard); !since.IsZero() {
			return unavailable(shard, reason, since)
		}
	}
	return &Unavailable{Reason: shardrpc.ReasonDeadline, RetryAfter: retryAfter, Local: true}
}

// errLate is the end of the time of somebody who waits for another's look.
var errLate = errors.New("the time ran out")

// certified asks all shards, and says on what its answer stands.
func (r *Router) certified(ctx context.Context, sku allocator.SKU) (Availability, error) {
	asOf := r.now()
	all, err := r.exactCut(ctx, sku, true)
	if err != nil {
		return Availability{}, err
	}
	a, err := availability(sku, all, asOf)
	if err != nil {
		return a, err
	}
	for i := range all.Cut {
		b := &all.Cut[i]
		a.Shards = append(a.Shards, ShardShare{
			Shard: b.Shard, Applied: b.Applied, Available: int64(b.Available), InTransit: int64(sentAway(all.Cut, b)),
			Waiting: all.waiting[i],
		})
	}
	return a, nil
}

// sentAway is how many units a shard sent that others have not received.
func sentAway(cut allocator.Cut, b *allocator.BucketReport) (sum allocator.Quantity) {
	for _, f := range b.Flows {
		sum += cut.UnderWay(b.Shard, f)
	}
	return sum
}

// levelled answers by levels, if they are known and fresh.
func (r *Router) levelled(sku allocator.SKU) (a Availability, ok bool) {
	cut, asOf, ok := r.levels.Cut(sku)
	if !ok || time.Since(asOf) > shardrpc.MaxLevelAge {
		return a, false
	}
	a, err := availability(sku, reading{Cut: cut}, asOf)
	return a, err == nil
}

// look asks the shards for what they have at hand.
func (r *Router) look(ctx context.Context, sku allocator.SKU) (Availability, error) {
	asOf := r.now()
	all, err := r.cut(ctx, sku, false)
	if err != nil {
		return Availability{}, err
	}
	return availability(sku, all, asOf)
}

// availability adds the shards up. The error is a *Refusal.
func availability(sku allocator.SKU, all reading, asOf time.Time) (Availability, error) {
	if !all.Known() {
		return Availability{}, &Refusal{Code: allocator.CodeSKUNotFound, SKU: sku}
	}
	return Availability{
		SKU: string(sku), Available: int64(all.Available()), SoldOut: all.soldOut(), AsOf: asOf,
	}, nil
}

// coalescer lets those who ask for the availability of the same SKU at about
// the same time share one look. The zero value is ready, and safe for
// concurrent use. An entry lives for one look, which may outlive the request that
// began it by shardrpc.DefaultTimeout, and freshFor: so the requests admitted in
// about two seconds bound it.
type coalescer struct {
	mu    sync.Mutex
	looks map[allocator.SKU]*shared
}

// shared is one look at the shards; a and err are set when done is closed.
type shared struct {
	done chan struct{}
	a    Availability
	err  error
}

// take looks a SKU up for everybody who waits.
type take func(ctx context.Context, sku allocator.SKU) (Availability, error)

// get joins the look under way, or a fresh one, or begins one. A look does not
// end with the request that began it: others may wait for it.
func (c *coalescer) get(ctx context.Context, sku allocator.SKU, f take) (Availability, error) {
	l, mine := c.join(sku)
	if mine {
		go c.run(context.WithoutCancel(ctx), sku, l, f)
	}
	select {
	case <-l.done:
		return l.a, l.err
	case <-ctx.Done():
		return Availability{}, errLate
	}
}

func (c *coalescer) join(sku allocator.SKU) (l *shared, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.looks[sku]; ok {
		return l, false
	}
	if c.looks == nil {
		c.looks = make(map[allocator.SKU]*shared)
	}
	l = &shared{done: make(chan struct{})}
	c.looks[sku] = l
	return l, true
}

// run takes the look and keeps it for as long as it is fresh. A failure is not
// kept.
func (c *coalescer) run(ctx context.Context, sku allocator.SKU, l *shared, f take) {
	ctx, cancel := context.WithTimeout(ctx, shardrpc.DefaultTimeout)
	defer cancel()
	l.a, l.err = f(ctx, sku)
	close(l.done)
	if l.err != nil {
		c.drop(sku, l)
		return
	}
	time.AfterFunc(freshFor, func() { c.drop(sku, l) })
}

func (c *coalescer) drop(sku allocator.SKU, l *shared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looks[sku] == l {
		delete(c.looks, sku)
	}
}
