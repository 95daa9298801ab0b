package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

func TestPutSKU(t *testing.T) {
	c := newFakeCluster(t, 8)
	r := c.router(t)
	ctx := t.Context()
	units, more := int64(10), int64(11)
	req := PutSKURequest{SKU: "a", OnHand: &units, Key: "k", Metadata: []byte(`{"x":1}`), Policy: allocator.Policy{SafetyStock: 2, Version: 99, Paused: true}}
	got, err := r.PutSKU(ctx, req)
	if err != nil || !got.Created || got.Version != 1 || got.Replayed {
		t.Errorf("created: %+v (%v)", got, err)
	}
	if got, err = r.PutSKU(ctx, req); err != nil || !got.Created || got.Version != 1 || !got.Replayed {
		t.Errorf("again with the same key: %+v (%v)", got, err)
	}
	req.OnHand = &more
	if _, err = r.PutSKU(ctx, req); !refusedWith(err, allocator.CodeKeyReused) {
		t.Errorf("another body under the same key: %v", err)
	}
	req.Key = ""
	if _, err = r.PutSKU(ctx, req); !refusedWith(err, allocator.CodeSKUExists) {
		t.Errorf("on_hand of a SKU that exists: %v", err)
	}
	req.OnHand, req.IfMatch = nil, 7
	if _, err = r.PutSKU(ctx, req); !refusedWith(err, allocator.CodePreconditionFailed) {
		t.Errorf("another version: %v", err)
	}
	req.IfMatch = 1
	if got, err = r.PutSKU(ctx, req); err != nil || got.Created || got.Version != 2 {
		t.Errorf("changed: %+v (%v)", got, err)
	}
	v, err := r.SKU(ctx, "a", true)
	if err != nil || v.OnHand != 10 || v.Available != 8 || v.SafetyStock != 2 || v.Policy.Version != 2 ||
		v.Policy.Paused || string(v.Metadata) != `{"x":1}` || v.Created != c.now {
		t.Errorf("view: %+v (%v)", v, err)
	}
}

func TestAdministrationThatCanNotBeEncoded(t *testing.T) {
	r := newFakeCluster(t, 4).router(t)
	ctx := t.Context()
	negative, huge := int64(-1), int64(allocator.MaxQuantity+1)
	putErr := func(req PutSKURequest) error {
		_, err := r.PutSKU(ctx, req)
		return err
	}
	policy := func(p allocator.Policy) error { return putErr(PutSKURequest{SKU: "a", Policy: p}) }
	for want, errs := range map[string][]error{
		"/sku": {
			putErr(PutSKURequest{SKU: "?"}), failed(r.Restock(ctx, "", 1, "", "")), failed(r.Adjust(ctx, "?", 1, "", "")),
			failed(r.SetPaused(ctx, "?", true)), failed(r.SKU(ctx, "?", true)), failed(r.Audit(ctx, "?")), failed(r.Availability(ctx, "?", false)),
		},
		"/on_hand":             {putErr(PutSKURequest{SKU: "a", OnHand: &negative}), putErr(PutSKURequest{SKU: "a", OnHand: &huge})},
		"/metadata":            {putErr(PutSKURequest{SKU: "a", Metadata: make([]byte, allocator.MaxMetadataLen+1)})},
		"/safety_stock":        {policy(allocator.Policy{SafetyStock: -1})},
		"/max_per_reservation": {policy(allocator.Policy{MaxPerReservation: allocator.MaxQuantity + 1})},
		"/max_per_buyer":       {policy(allocator.Policy{MaxPerBuyer: -1})},
		"/default_ttl_seconds": {policy(allocator.Policy{DefaultTTL: allocator.MaxTTL + 1})},
		"/max_ttl_seconds":     {policy(allocator.Policy{MaxTTL: -1})},
		"/sale_starts_at":      {policy(allocator.Policy{SaleStarts: -1})},
		"/sale_ends_at":        {policy(allocator.Policy{SaleEnds: maxTime + 1})},
		"/late_confirm":        {policy(allocator.Policy{LateConfirm: 9})},
		"/quantity":            {failed(r.Restock(ctx, "a", 0, "", "")), failed(r.Restock(ctx, "a", huge, "", ""))},
		"/reference":           {failed(r.Restock(ctx, "a", 1, strings.Repeat("r", 256), ""))},
		"/delta":               {failed(r.Adjust(ctx, "a", 0, "", "")), failed(r.Adjust(ctx, "a", -huge, "", ""))},
		"/reason":              {failed(r.Adjust(ctx, "a", 1, strings.Repeat("r", 256), ""))},
	} {
		for i, err := range errs {
			var invalid *Invalid
			if !errors.As(err, &invalid) || invalid.Pointer != want {
				t.Errorf("%s, case %d: got %v", want, i, err)
			}
		}
	}
}

func failed[V any](_ V, err error) error { return err }

func TestStockChanges(t *testing.T) {
	c := newFakeCluster(t, 8)
	r := c.router(t)
	ctx := t.Context()
	put(t, r, "a", 10)
	for i, replayed := range []bool{false, true} {
		if got, err := r.Restock(ctx, "a", 5, "delivery", "k"); err != nil || got.Replayed != replayed {
			t.Errorf("restock %d: %+v (%v)", i, got, err)
		}
		if got, err := r.Adjust(ctx, "a", -3, "broken", "k"); err != nil || got.Replayed != replayed {
			t.Errorf("adjust %d: %+v (%v)", i, got, err)
		}
	}
	if v, err := r.SKU(ctx, "a", true); err != nil || v.OnHand != 12 {
		t.Errorf("%d on hand (%v), want 12", v.OnHand, err)
	}
	if _, err := r.Adjust(ctx, "a", -100, "all gone", ""); !refusedWith(err, allocator.CodeBelowReserved) {
		t.Errorf("below what is there: %v", err)
	}
	if _, err := r.Restock(ctx, "b", 1, "", "k"); !refusedWith(err, allocator.CodeSKUNotFound) {
		t.Errorf("no such SKU: %v", err)
	}
	if _, err := r.SetPaused(ctx, "a", true); err != nil {
		t.Fatal(err)
	}
	if v, _ := r.SKU(ctx, "a", true); !v.Policy.Paused {
		t.Error("the SKU is not paused")
	}
}

// TestViewsOverAllShards spreads a SKU and compares what the views say.
func TestViewsOverAllShards(t *testing.T) {
	c := newFakeCluster(t, 8)
	r := c.router(t)
	ctx := t.Context()
	put(t, r, "a", 100)
	for i := range 30 {
		id := reserve(t, r, one("a", 1, fmt.Sprint("key-", i))).Reservation.ID
		if i%3 == 0 {
			if _, err := r.Confirm(ctx, id, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	v, err := r.SKU(ctx, "a", false)
	if err != nil || v.OnHand != 100 || v.Reserved != 20 || v.Committed != 10 || v.Available+v.InTransit != 70 || len(v.Buckets) < 2 {
		t.Fatalf("view: %+v (%v)", v, err)
	}
	var available, reserved int64
	for _, b := range v.Buckets {
		available += b.Available
		reserved += b.Reserved
	}
	if available != v.Available || reserved != 20 {
		t.Errorf("the buckets have %d available and %d reserved", available, reserved)
	}
	for _, strong := range []bool{true, false} {
		a, err := r.Availability(ctx, "a", strong)
		if err != nil || a.Available != v.Available || a.SoldOut || a.SKU != "a" || a.AsOf.IsZero() {
			t.Errorf("availability (strong: %v): %+v (%v)", strong, a, err)
		}
	}
	audit, err := r.Audit(ctx, "a")
	if err != nil || !audit.Balanced || len(audit.Problems) != 0 || audit.Deposited != 100 || len(audit.Shards) != 8 || len(audit.Pairs) == 0 {
		t.Errorf("audit: %+v (%v)", audit, err)
	}
}

func TestAuditFindsWhatDoesNotAddUp(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	put(t, r, "a", 10)
	c.bend = func(b *allocator.BucketReport) {
		if b.Anchor {
			b.Available++ // a unit from nowhere
		}
	}
	audit, err := r.Audit(t.Context(), "a")
	if err != nil || audit.Balanced || len(audit.Problems) == 0 {
		t.Errorf("got %+v (%v)", audit, err)
	}
}

func TestSoldOutAndUnknown(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	put(t, r, "a", 3)
	reserve(t, r, one("a", 3, "k"))
	for _, strong := range []bool{true, false} {
		if a, err := r.Availability(t.Context(), "a", strong); err != nil || a.Available != 0 || !a.SoldOut {
			t.Errorf("strong %v: %+v (%v)", strong, a, err)
		}
		if _, err := r.Availability(t.Context(), "nothing", strong); !refusedWith(err, allocator.CodeSKUNotFound) {
			t.Errorf("strong %v, no such SKU: %v", strong, err)
		}
		if _, err := r.SKU(t.Context(), "nothing", strong); !refusedWith(err, allocator.CodeSKUNotFound) {
			t.Errorf("strong %v, view of no such SKU: %v", strong, err)
		}
	}
	if _, err := r.Audit(t.Context(), "nothing"); !refusedWith(err, allocator.CodeSKUNotFound) {
		t.Errorf("audit of no such SKU: %v", err)
	}
}

// TestCutsThatDoNotFitAreTakenAgain bends the vectors for a while: the view must
// wait until the reports fit together.
func TestCutsThatDoNotFitAreTakenAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2)
		r := c.router(t)
		put(t, r, "a", 10)
		unfit := 6
		c.bend = func(b *allocator.BucketReport) {
			if b.Shard == 0 && unfit > 0 {
				unfit--
				b.Flows = append(b.Flows, allocator.Flow{Peer: 1, Received: 5}) // more than shard 1 ever sent
			}
		}
		if v, err := r.SKU(t.Context(), "a", true); err != nil || v.OnHand != 10 || unfit != 0 {
			t.Errorf("got %+v (%v), %d bent reports left", v, err, unfit)
		}
		unfit = 1 << 30
		_, err := r.SKU(t.Context(), "a", true)
		var u *Unavailable
		if !errors.As(err, &u) || u.Shard != allocator.Anchor("a", 2) || u.Reason != shardrpc.ReasonDeadline {
			t.Errorf("never fitting: %v", err)
		}
	})
}

func TestReadsNameTheShardThatIsMissing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 3)
		r := c.router(t)
		put(t, r, "a", 10)
		c.setDown("n2", true) // leads shard 1
		began := time.Now()
		for name, read := range map[string]func(context.Context) error{
			"sku":          func(ctx context.Context) error { return failed(r.SKU(ctx, "a", true)) },
			"audit":        func(ctx context.Context) error { return failed(r.Audit(ctx, "a")) },
			"strong":       func(ctx context.Context) error { return failed(r.Availability(ctx, "a", true)) },
			"availability": func(ctx context.Context) error { return failed(r.Availability(ctx, "a", false)) },
			"list":         func(ctx context.Context) error { return failed(r.SKUs(ctx, "", "", 10)) },
			"reservation": func(ctx context.Context) error {
				return failed(r.Reservation(ctx, allocator.ReservationID{Shard: 1, Seq: 1}))
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			err := read(ctx)
			cancel()
			var u *Unavailable
			if !errors.As(err, &u) || u.Shard != 1 || u.Since.IsZero() || u.Since.Before(began) || u.RetryAfter <= 0 {
				t.Errorf("%s: %+v", name, err)
			}
		}
		<-time.After(5 * time.Second) // the last look for the availability ends
	})
}

// TestManyWhoAskForAvailabilityShareALook.
func TestManyWhoAskForAvailabilityShareALook(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 3)
		r := c.router(t)
		put(t, r, "a", 10)
		var wait sync.WaitGroup
		for range 500 {
			wait.Go(func() {
				if a, err := r.Availability(t.Context(), "a", false); err != nil || a.Available != 10 {
					t.Errorf("got %+v (%v)", a, err)
				}
			})
		}
		wait.Wait()
		if c.reads != 3 { // one question per node
			t.Errorf("%d questions", c.reads)
		}
		<-time.After(2 * freshFor)
		reserve(t, r, one("a", 1, "k"))
		if a, err := r.Availability(t.Context(), "a", false); err != nil || a.Available != 9 {
			t.Errorf("later: %+v (%v)", a, err)
		}
		<-time.After(2 * freshFor)
		r.fresh.mu.Lock()
		defer r.fresh.mu.Unlock()
		if len(r.fresh.looks) != 0 {
			t.Errorf("%d looks are kept for ever", len(r.fresh.looks))
		}
	})
}

// TestAvailableOfAList reads the availability of a whole page: of each SKU all
// shards count, and one that can't be asked is named.
func TestAvailableOfAList(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 3)
		r := c.router(t)
		skus, want := []allocator.SKU{"gone"}, map[allocator.SKU]int64{}
		for i := range 3 * availableParallel {
			sku := fmt.Sprintf("s-%03d", i)
			put(t, r, sku, int64(i))
			skus, want[allocator.SKU(sku)] = append(skus, allocator.SKU(sku)), int64(i)
		}
		reserve(t, r, one("s-007", 5, "k")) // moves its units to another shard, perhaps
		want["s-007"] = 2
		got, err := r.AvailableOf(t.Context(), skus)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v (%v), want %v", got, err, want)
		}
		if n := r.inFlight.Load(); n != 0 {
			t.Errorf("%d requests are still under way", n)
		}
		c.setDown("n2", true) // leads shard 1
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		var u *Unavailable
		if _, err := r.AvailableOf(ctx, skus); !errors.As(err, &u) || u.Shard != 1 {
			t.Errorf("a shard is down: %v", err)
		}
	})
}

func TestListIsMergedInOrder(t *testing.T) {
	c := newFakeCluster(t, 5)
	r := c.router(t)
	var want []string
	for i := range 300 {
		sku := fmt.Sprintf("s-%03d", i*7%1000)
		want = append(want, sku)
		put(t, r, sku, int64(i))
	}
	put(t, r, "other", 1)
	slices.Sort(want)
	for _, limit := range []int{1, 7, 299, 300, 301, MaxSKUPage} {
		var got []string
		pages := 0
		for cursor := ""; ; pages++ {
			page, err := r.SKUs(t.Context(), "s-", cursor, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.SKUs) > limit || page.Next != "" && len(page.SKUs) < limit {
				t.Fatalf("limit %d: a page of %d", limit, len(page.SKUs))
			}
			for _, s := range page.SKUs {
				got = append(got, string(s.SKU))
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d SKUs on %d pages, not the %d in order", limit, len(got), pages, len(want))
		}
	}
}

func TestListsThatCanNotBeAskedFor(t *testing.T) {
	r := newFakeCluster(t, 2).router(t)
	ctx := t.Context()
	for name, err := range map[string]error{
		"no limit":       failed(r.SKUs(ctx, "", "", 0)),
		"limit too high": failed(r.SKUs(ctx, "", "", MaxSKUPage+1)),
		"prefix":         failed(r.SKUs(ctx, "?", "", 1)),
		"cursor":         failed(r.SKUs(ctx, "", "?", 1)),
		"old cursor":     failed(r.SKUs(ctx, "", "MmE", 1)), // "2a"
	} {
		var invalid *Invalid
		if !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
