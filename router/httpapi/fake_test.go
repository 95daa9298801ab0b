package httpapi

import (
	"context"
	"fmt"
	"sync"
	"time"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
	"stockade/shard/shardrpc"
)

// fakeNow is the fake router's clock.
const fakeNow = allocator.Millis(1_790_000_000_123)

// fakeRouter is a router with one bucket per SKU and no cluster behind it. It
// knows enough of the rules to give every kind of answer; with fail it gives the
// one that a test asks for. Calls counts what got through to it.
type fakeRouter struct {
	mu           sync.Mutex
	skus         map[string]*router.SKUView
	reservations map[allocator.ReservationID]*allocator.Reservation
	keys         map[string]allocator.ReservationID
	bodies       map[string]string
	calls        int
	fail         error
	failReads    error // what reading a SKU fails with
	failIfGone   bool  // fail as the context does
	panics       bool
	deadline     time.Duration // left of the last call's deadline
	last         router.ReserveRequest
	lastPut      router.PutSKURequest
	effect       router.Effect // of a change of policy or state
}

func newFakeRouter() *fakeRouter {
	f := &fakeRouter{
		skus:         make(map[string]*router.SKUView),
		reservations: make(map[allocator.ReservationID]*allocator.Reservation),
		keys:         make(map[string]allocator.ReservationID),
		bodies:       make(map[string]string),
	}
	f.addSKU("demo", 1000)
	f.addSKU("mug", 10)
	return f
}

func (f *fakeRouter) addSKU(sku string, units int64) {
	f.skus[sku] = &router.SKUView{
		SKU: sku, OnHand: units, Available: units,
		Buckets: []router.BucketView{{Shard: 0, Available: units}},
		Policy:  allocator.Policy{Version: 1, DefaultTTL: allocator.DefaultTTL, MaxTTL: allocator.MaxTTL},
		Created: fakeNow, Updated: fakeNow, AsOf: time.UnixMilli(int64(fakeNow)),
	}
}

// enter begins a call: it counts it and gives the failure that was asked for.
func (f *fakeRouter) enter(ctx context.Context) (leave func(), err error) {
	f.mu.Lock()
	f.calls++
	if at, ok := ctx.Deadline(); ok {
		f.deadline = time.Until(at)
	}
	if f.panics {
		f.mu.Unlock()
		panic("the fake router was told to panic")
	}
	if f.failIfGone && ctx.Err() != nil {
		return f.mu.Unlock, ctx.Err()
	}
	return f.mu.Unlock, f.fail
}

func (f *fakeRouter) Reserve(ctx context.Context, r router.ReserveRequest) (router.Reserved, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return router.Reserved{}, err
	}
	return f.reserve(r)
}

func (f *fakeRouter) reserve(r router.ReserveRequest) (res router.Reserved, err error) {
	f.last = r
	key, body := r.BuyerID+"|"+r.IdempotencyKey, fmt.Sprint(r)
	if id, ok := f.keys[key]; ok && r.IdempotencyKey != "" {
		if f.bodies[key] != body {
			return res, &router.Refusal{Code: allocator.CodeKeyReused}
		}
		return router.Reserved{Reservation: *f.reservations[id], Replayed: true}, nil
	}
	for _, l := range r.Lines {
		sku, ok := f.skus[l.SKU]
		if !ok {
			return res, &router.Refusal{Code: allocator.CodeSKUNotFound, SKU: allocator.SKU(l.SKU)}
		}
		if sku.Available < l.Quantity {
			return res, &router.Refusal{
				Code: allocator.CodeInsufficientStock, SKU: allocator.SKU(l.SKU),
				Requested: allocator.Quantity(l.Quantity), Available: allocator.Quantity(sku.Available),
			}
		}
	}
	made := f.hold(r)
	f.keys[key], f.bodies[key] = made.ID, body
	return router.Reserved{Reservation: *made}, nil
}

func (f *fakeRouter) hold(r router.ReserveRequest) *allocator.Reservation {
	made := &allocator.Reservation{
		ID: allocator.ReservationID{Shard: 1, Seq: uint64(len(f.reservations) + 1)}, Status: allocator.StatusReserved,
		BuyerID: r.BuyerID, Reference: r.Reference, Created: fakeNow, Expires: fakeNow + millis(r.TTL),
	}
	if r.TTL == 0 {
		made.Expires = fakeNow + allocator.DefaultTTL
	}
	for _, l := range r.Lines {
		f.skus[l.SKU].Available -= l.Quantity
		f.skus[l.SKU].Reserved += l.Quantity
		made.Lines = append(made.Lines, allocator.Line{SKU: allocator.SKU(l.SKU), Quantity: allocator.Quantity(l.Quantity)})
	}
	f.reservations[made.ID] = made
	return made
}

func (f *fakeRouter) ReserveBatch(ctx context.Context, rs []router.ReserveRequest) []router.ReserveOutcome {
	leave, err := f.enter(ctx)
	defer leave()
	out := make([]router.ReserveOutcome, len(rs))
	for i := range rs {
		if out[i].Err = err; err == nil {
			out[i].Reserved, out[i].Err = f.reserve(rs[i])
		}
	}
	return out
}

// end ends a reservation, or says why not.
func (f *fakeRouter) end(id allocator.ReservationID, to allocator.Status) (router.Reserved, error) {
	r, ok := f.reservations[id]
	if !ok {
		return router.Reserved{}, &router.Refusal{Code: allocator.CodeReservationNotFound}
	}
	if r.Status == to {
		return router.Reserved{Reservation: *r}, nil
	}
	refusals := map[allocator.Status]allocator.Code{
		allocator.StatusConfirmed: allocator.CodeReservationConfirmed,
		allocator.StatusCanceled:  allocator.CodeReservationCanceled,
		allocator.StatusExpired:   allocator.CodeReservationExpired,
	}
	if code, refused := refusals[r.Status]; refused {
		return router.Reserved{}, &router.Refusal{Code: code, Reservation: *r}
	}
	r.Status, r.Ended = to, fakeNow+5
	return router.Reserved{Reservation: *r}, nil
}

func (f *fakeRouter) act(a router.Action) (router.Reserved, error) {
	switch a.Op {
	case router.ActionConfirm:
		return f.end(a.ID, allocator.StatusConfirmed)
	case router.ActionCancel:
		return f.end(a.ID, allocator.StatusCanceled)
	default:
	}
	r, ok := f.reservations[a.ID]
	switch {
	case !ok:
		return router.Reserved{}, &router.Refusal{Code: allocator.CodeReservationNotFound}
	case a.Op == router.ActionReturn && r.Status != allocator.StatusConfirmed:
		return router.Reserved{}, &router.Refusal{Code: allocator.CodeReservationNotConfirmed, Reservation: *r}
	case a.Op == router.ActionExtend && a.TTL > 24*time.Hour:
		return router.Reserved{}, &router.Refusal{Code: allocator.CodeTTLLimitExceeded, SKU: "demo"}
	case a.Op == router.ActionExtend:
		r.Expires = fakeNow + millis(a.TTL)
	}
	return router.Reserved{Reservation: *r}, nil
}

func (f *fakeRouter) one(ctx context.Context, a router.Action) (router.Reserved, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return router.Reserved{}, err
	}
	return f.act(a)
}

func (f *fakeRouter) Confirm(ctx context.Context, id allocator.ReservationID, lines []router.Line) (router.Reserved, error) {
	return f.one(ctx, router.Action{Op: router.ActionConfirm, ID: id, Lines: lines})
}

func (f *fakeRouter) Cancel(ctx context.Context, id allocator.ReservationID) (router.Reserved, error) {
	return f.one(ctx, router.Action{Op: router.ActionCancel, ID: id})
}

func (f *fakeRouter) Extend(ctx context.Context, id allocator.ReservationID, ttl time.Duration) (router.Reserved, error) {
	return f.one(ctx, router.Action{Op: router.ActionExtend, ID: id, TTL: ttl})
}

func (f *fakeRouter) Return(ctx context.Context, id allocator.ReservationID, lines []router.Line, key string) (router.Reserved, error) {
	return f.one(ctx, router.Action{Op: router.ActionReturn, ID: id, Lines: lines, Key: key})
}

func (f *fakeRouter) Actions(ctx context.Context, actions []router.Action) []router.ReserveOutcome {
	leave, err := f.enter(ctx)
	defer leave()
	out := make([]router.ReserveOutcome, len(actions))
	for i, a := range actions {
		if out[i].Err = err; err == nil {
			out[i].Reserved, out[i].Err = f.act(a)
		}
	}
	return out
}

func (f *fakeRouter) Reservation(ctx context.Context, id allocator.ReservationID) (allocator.Reservation, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return allocator.Reservation{}, err
	}
	r, ok := f.reservations[id]
	if !ok {
		return allocator.Reservation{}, &router.Refusal{Code: allocator.CodeReservationNotFound}
	}
	return *r, nil
}

func (f *fakeRouter) Availability(ctx context.Context, sku string, strong bool) (router.Availability, error) {
	v, err := f.SKU(ctx, sku, strong)
	a := router.Availability{SKU: sku, Available: v.Available, SoldOut: v.Available == 0, AsOf: v.AsOf}
	if strong {
		a.Shards = []router.ShardShare{{Shard: 0, Applied: 7, Available: v.Available}, {Shard: 1, Applied: 8, InTransit: 2, Waiting: 3}}
	}
	return a, err
}

func (f *fakeRouter) SKU(ctx context.Context, sku string, _ bool) (router.SKUView, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return router.SKUView{}, err
	}
	if f.failReads != nil {
		return router.SKUView{}, f.failReads
	}
	v, ok := f.skus[sku]
	if !ok {
		return router.SKUView{}, &router.Refusal{Code: allocator.CodeSKUNotFound, SKU: allocator.SKU(sku)}
	}
	return *v, nil
}

func (f *fakeRouter) PutSKU(ctx context.Context, r router.PutSKURequest) (router.PutResult, error) {
	leave, err := f.enter(ctx)
	defer leave()
	f.lastPut = r
	if err != nil {
		return router.PutResult{}, err
	}
	old, exists := f.skus[r.SKU]
	refuse := func(code allocator.Code) (router.PutResult, error) {
		return router.PutResult{}, &router.Refusal{Code: code, SKU: allocator.SKU(r.SKU)}
	}
	switch {
	case exists && (r.IfNoneMatch || r.IfMatch != 0 && r.IfMatch != old.Policy.Version):
		return refuse(allocator.CodePreconditionFailed)
	case exists && r.OnHand != nil:
		return refuse(allocator.CodeSKUExists)
	case !exists && r.OnHand == nil:
		return refuse(allocator.CodeSKUNotFound)
	case !exists:
		f.addSKU(r.SKU, *r.OnHand)
	}
	v := f.skus[r.SKU]
	version := v.Policy.Version
	v.Policy, v.Metadata = r.Policy, r.Metadata
	if v.Policy.Version = version; exists {
		v.Policy.Version++
	}
	return router.PutResult{Created: !exists, Version: v.Policy.Version, Effect: f.effect}, nil
}

// change changes a SKU's count or state.
func (f *fakeRouter) change(ctx context.Context, sku string, units int64, paused *bool) (router.StockResult, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return router.StockResult{}, err
	}
	v, ok := f.skus[sku]
	if !ok {
		return router.StockResult{}, &router.Refusal{Code: allocator.CodeSKUNotFound, SKU: allocator.SKU(sku)}
	}
	if v.Available+units < 0 {
		return router.StockResult{}, &router.Refusal{
			Code: allocator.CodeBelowReserved, SKU: allocator.SKU(sku),
			Requested: allocator.Quantity(-units), Available: allocator.Quantity(v.Available),
		}
	}
	v.Available, v.OnHand = v.Available+units, v.OnHand+units
	if paused != nil {
		v.Policy.Paused = *paused
		v.Policy.Version++
	}
	res := router.StockResult{Version: v.Policy.Version}
	if paused != nil {
		res.Effect = f.effect
	}
	return res, nil
}

func (f *fakeRouter) Restock(ctx context.Context, sku string, quantity int64, _, _ string) (router.StockResult, error) {
	return f.change(ctx, sku, quantity, nil)
}

func (f *fakeRouter) Adjust(ctx context.Context, sku string, delta int64, _, _ string) (router.StockResult, error) {
	return f.change(ctx, sku, delta, nil)
}

func (f *fakeRouter) SetPaused(ctx context.Context, sku string, paused bool) (router.StockResult, error) {
	return f.change(ctx, sku, 0, &paused)
}

func (f *fakeRouter) SKUs(ctx context.Context, _, cursor string, limit int) (page router.SKUPage, err error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return page, err
	}
	if cursor == "bad" {
		return page, &router.Invalid{Detail: "cursor is not one that an earlier page gave"}
	}
	for sku, v := range f.skus {
		page.SKUs = append(page.SKUs, allocator.SKUSummary{
			SKU: allocator.SKU(sku), Policy: v.Policy, Created: v.Created, Updated: v.Updated, OnHand: allocator.Quantity(v.OnHand),
		})
	}
	if len(page.SKUs) > limit {
		page.SKUs, page.Next = page.SKUs[:limit], "next"
	}
	return page, nil
}

func (f *fakeRouter) AvailableOf(ctx context.Context, skus []allocator.SKU) (map[allocator.SKU]int64, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err == nil {
		err = f.failReads
	}
	available := make(map[allocator.SKU]int64)
	for _, sku := range skus {
		if v := f.skus[string(sku)]; v != nil && err == nil {
			available[sku] = v.Available
		}
	}
	return available, err
}

func (f *fakeRouter) Audit(ctx context.Context, sku string) (router.Audit, error) {
	v, err := f.SKU(ctx, sku, true)
	reports := []allocator.BucketReport{
		{
			Shard: 0, SKU: allocator.SKU(sku), Known: true, Anchor: true,
			Deposited: 1000, Adjusted: -1, Available: 599, Reserved: 100, Committed: 50, Safety: 50,
			Flows:  []allocator.Flow{{Peer: 1, Sent: 300, Acked: 280, Received: 100}},
			Outbox: []allocator.InTransit{{To: 1, Seq: 3, Quantity: 20}},
			Vector: allocator.Vector{Sent: []uint64{0, 3}, Acked: []uint64{0, 2}, Received: []uint64{0, 1}},
			Stamp:  fakeNow, Applied: 77, Hash: 0xfeed,
		},
		{Shard: 1, Stamp: fakeNow, Vector: allocator.Vector{Sent: []uint64{1, 0}, Acked: []uint64{1, 0}, Received: []uint64{2, 0}}},
	}
	return router.Audit{SKU: sku, View: v, Shards: reports, Waiting: []int{4, 0}, SoldOut: true, Balanced: false, Problems: []string{"a unit too many"}, AsOf: v.AsOf}, err
}

func (f *fakeRouter) Cluster(ctx context.Context) (v router.ClusterView, err error) {
	leave, err := f.enter(ctx)
	defer leave()
	return router.ClusterView{
		ClusterID: "c-1", FailureTolerance: 1, Retention: 15 * time.Minute,
		Nodes: []router.NodeView{{ID: "n1", HTTP: "127.0.0.1:8400", Ops: "127.0.0.1:8401", Peer: "127.0.0.1:8402", Alive: true, Version: "test"}},
		Shards: []router.ShardView{
			{Shard: 0, Leader: "n1", LeaderSince: time.UnixMilli(int64(fakeNow)), Term: 2, Voters: []shardrpc.NodeID{"n1"}, CommitIndex: 9, AppliedIndex: 9,
				Replicas: []router.ReplicaView{{Node: "n1", AppliedIndex: 9, Applied: 7, Hash: 0xabc}}},
			{Shard: 1},
		},
	}, err
}

func (f *fakeRouter) Nodes(ctx context.Context) (router.ClusterView, error) { return f.Cluster(ctx) }

// fakeHealth answers the probes as a test says.
type fakeHealth struct {
	live    error
	started bool
	ready   api.Readiness
}

func (h *fakeHealth) Live() error                         { return h.live }
func (h *fakeHealth) Started() bool                       { return h.started }
func (h *fakeHealth) Ready(context.Context) api.Readiness { return h.ready }
