package router

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
)

func TestActions(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	put(t, r, "a", 10)
	ctx := t.Context()
	id := reserve(t, r, one("a", 4, "k")).Reservation.ID

	got, err := r.Extend(ctx, id, time.Hour)
	if err != nil || got.Reservation.Expires-c.now != 3600_000 {
		t.Errorf("Extend: %+v (%v)", got, err)
	}
	got, err = r.Confirm(ctx, id, []Line{{"a", 1}, {"a", 2}})
	if err != nil || got.Reservation.Status != allocator.StatusConfirmed || got.Reservation.Lines[0].Quantity != 3 {
		t.Errorf("Confirm: %+v (%v)", got, err)
	}
	if _, err := r.Cancel(ctx, id); !refusedWith(err, allocator.CodeReservationConfirmed) {
		t.Errorf("Cancel after Confirm: %v", err)
	}
	var refusal *Refusal
	if _, err := r.Cancel(ctx, id); !errors.As(err, &refusal) || refusal.Reservation.ID != id {
		t.Errorf("the refusal does not show the reservation: %+v", refusal)
	}
	for i, replayed := range []bool{false, true} {
		got, err = r.Return(ctx, id, []Line{{"a", 1}}, "return-1")
		if err != nil || got.Replayed != replayed || got.Reservation.Lines[0].Quantity != 2 {
			t.Errorf("Return %d: %+v (%v)", i, got, err)
		}
	}
	if _, err := r.Return(ctx, id, []Line{{"a", 2}}, "return-1"); !refusedWith(err, allocator.CodeKeyReused) {
		t.Errorf("another return under the same key: %v", err)
	}
	if v, err := r.SKU(ctx, "a", true); err != nil || v.Committed != 2 || v.Available != 8 {
		t.Errorf("afterwards: %+v (%v)", v, err)
	}
}

func TestActionsOnNobodysReservation(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	for name, id := range map[string]allocator.ReservationID{
		"unknown":        {Shard: 1, Seq: 99},
		"beyond shards":  {Shard: 4, Seq: 1},
		"no number":      {Shard: 1},
		"too big number": {Shard: 1, Seq: allocator.MaxSeq + 1},
	} {
		for op := ActionConfirm; op <= ActionReturn; op++ {
			if _, err := r.act(t.Context(), &Action{Op: op, ID: id, TTL: time.Second}); !refusedWith(err, allocator.CodeReservationNotFound) {
				t.Errorf("%s, action %d: %v", name, op, err)
			}
		}
		if _, err := r.Reservation(t.Context(), id); !refusedWith(err, allocator.CodeReservationNotFound) {
			t.Errorf("%s, looked up: %v", name, err)
		}
	}
}

func TestActionsThatCanNotBeEncoded(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	id := allocator.ReservationID{Shard: 1, Seq: 1}
	for pointer, a := range map[string]Action{
		"/ttl_seconds": {Op: ActionExtend, ID: id},
		"/lines/0/sku": {Op: ActionConfirm, ID: id, Lines: []Line{{"?", 1}}},
		"/op":          {ID: id},
	} {
		_, err := r.act(t.Context(), &a)
		var invalid *Invalid
		if !errors.As(err, &invalid) || invalid.Pointer != pointer {
			t.Errorf("%s: got %v", pointer, err)
		}
	}
}

// TestBatchesKeepTheirOrder mixes items that end in different ways.
func TestBatchesKeepTheirOrder(t *testing.T) {
	c := newFakeCluster(t, 8)
	r := c.router(t)
	put(t, r, "a", 60)
	var reqs []ReserveRequest
	for i := range 100 {
		req := one("a", 1, fmt.Sprint("key-", i))
		req.Reference = fmt.Sprint(i)
		switch i % 5 {
		case 3:
			req.Lines[0].Quantity = 0
		case 4:
			req.Lines[0].SKU = "nothing"
		}
		reqs = append(reqs, req)
	}
	var cancels []Action
	for i, o := range r.ReserveBatch(t.Context(), reqs) {
		var invalid *Invalid
		switch i % 5 {
		case 3:
			if !errors.As(o.Err, &invalid) {
				t.Errorf("item %d: %v", i, o.Err)
			}
		case 4:
			if !refusedWith(o.Err, allocator.CodeSKUNotFound) {
				t.Errorf("item %d: %v", i, o.Err)
			}
		default:
			if o.Err != nil || o.Reservation.Reference != fmt.Sprint(i) {
				t.Fatalf("item %d: %+v", i, o)
			}
			cancels = append(cancels, Action{Op: ActionCancel, ID: o.Reservation.ID})
		}
	}
	for i, o := range r.Actions(t.Context(), cancels) {
		if o.Err != nil || o.Reservation.ID != cancels[i].ID || o.Reservation.Status != allocator.StatusCanceled {
			t.Errorf("cancel %d: %+v", i, o)
		}
	}
	if got := c.reserved("a"); got != 0 {
		t.Errorf("%d units are still reserved", got)
	}
}

func TestBatchesHaveABound(t *testing.T) {
	c := newFakeCluster(t, 1)
	out := c.router(t).ReserveBatch(t.Context(), make([]ReserveRequest, MaxBatch+1))
	var invalid *Invalid
	if len(out) != MaxBatch+1 || !errors.As(out[MaxBatch].Err, &invalid) {
		t.Errorf("%d outcomes, the last: %v", len(out), out[len(out)-1].Err)
	}
	if got := c.router(t).Actions(t.Context(), nil); len(got) != 0 {
		t.Errorf("an empty batch has %d outcomes", len(got))
	}
}

// TestBatchEndsWithItsCaller: what is open when the caller goes away or the time
// runs out is unknown, and what is done is done.
func TestBatchEndsWithItsCaller(t *testing.T) {
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*time.Millisecond)
		},
		"cancel": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(100*time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newFakeCluster(t, 1)
				r := c.router(t)
				put(t, r, "a", 10)
				c.misbehave(sequence(fine, hold))
				ctx, cancel := end(t.Context())
				defer cancel()
				began := time.Now()
				out := r.ReserveBatch(ctx, []ReserveRequest{one("a", 1, "done"), one("a", 1, "open")})
				var unknown *UnknownOutcome
				if out[0].Err != nil || !errors.As(out[1].Err, &unknown) {
					t.Errorf("got %v and %v", out[0].Err, out[1].Err)
				}
				if d := time.Since(began); d > 120*time.Millisecond {
					t.Errorf("took %v", d)
				}
				c.release()
			})
		})
	}
}
