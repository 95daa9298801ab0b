package router

import (
	"errors"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// TestEdgeRefusesWithoutAShard: who has neither key nor buyer, and asks for more
// than there is anywhere, is refused and nobody is asked. Everybody else is the
// shard's to refuse.
func TestEdgeRefusesWithoutAShard(t *testing.T) {
	c := newFakeCluster(t, 4)
	levels := newFakeLevels(c)
	r := c.router(t, levels.use)
	put(t, r, "a", 3)
	put(t, r, "b", 100)
	levels.Want("a")
	levels.Want("b")
	cart := ReserveRequest{Lines: []Line{{SKU: "b", Quantity: 1}, {SKU: "a", Quantity: 2}, {SKU: "a", Quantity: 2}}}
	for name, row := range map[string]struct {
		req  ReserveRequest
		edge bool
	}{
		"no key, no buyer": {one("a", 4, ""), true},
		"a cart":           {cart, true},
		"a key":            {one("a", 4, "k"), false},
		"a buyer":          {ReserveRequest{BuyerID: "b", Lines: []Line{{SKU: "a", Quantity: 4}}}, false},
		"in line":          {ReserveRequest{Wait: time.Millisecond, Lines: []Line{{SKU: "a", Quantity: 4}}}, false},
	} {
		before, refused := c.commands(), metricValue(r.metrics.edge)
		_, err := r.Reserve(t.Context(), row.req)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Code != allocator.CodeInsufficientStock || refusal.SKU != "a" || refusal.Requested != 4 || refusal.Available != 3 {
			t.Errorf("%s: %v", name, err)
		}
		if asked := c.commands() > before; asked == row.edge {
			t.Errorf("%s: a shard was asked: %v", name, asked)
		}
		if edge := metricValue(r.metrics.edge) > refused; edge != row.edge {
			t.Errorf("%s: counted as refused at the edge: %v", name, edge)
		}
	}
	before := c.commands()
	out := r.ReserveBatch(t.Context(), []ReserveRequest{one("a", 4, ""), one("a", 1, "")})
	if !refusedWith(out[0].Err, allocator.CodeInsufficientStock) || out[1].Err != nil || c.commands() != before+1 {
		t.Errorf("a batch: %v, %v; %d commands", out[0].Err, out[1].Err, c.commands()-before)
	}
	if got := metricValue(r.metrics.operation(opReserve).requests.WithLabelValues(allocator.CodeInsufficientStock.String())); got != 5 {
		t.Errorf("%v refusals were counted, want 5", got)
	}
}

// TestEdgeLeavesOtherRefusalsToTheShard: lack of stock is the last reason in the
// order of precedence. Where an earlier one may apply, the shard says which.
func TestEdgeLeavesOtherRefusalsToTheShard(t *testing.T) {
	c := newFakeCluster(t, 4)
	levels := newFakeLevels(c)
	r := c.router(t, levels.use, func(cfg *Config) { cfg.Now = func() time.Time { return time.UnixMilli(int64(c.now)) } })
	for sku, change := range map[string]func(*allocator.Policy){
		"limited": func(p *allocator.Policy) { p.MaxPerReservation = 2 },
		"later":   func(p *allocator.Policy) { p.SaleStarts = c.now + 1000 },
		"over":    func(p *allocator.Policy) { p.SaleEnds = c.now - 1000 },
		"short":   func(p *allocator.Policy) { p.MaxTTL, p.DefaultTTL = 60_000, 60_000 },
		"paused":  func(*allocator.Policy) {},
	} {
		put(t, r, sku, 0, change)
		levels.Want(allocator.SKU(sku))
	}
	if _, err := r.SetPaused(t.Context(), "paused", true); err != nil {
		t.Fatal(err)
	}
	for sku, want := range map[string]allocator.Code{
		"limited": allocator.CodeQuantityLimitExceeded, "later": allocator.CodeSaleNotOpen, "over": allocator.CodeSaleNotOpen,
		"short": allocator.CodeTTLLimitExceeded, "paused": allocator.CodeSKUPaused,
	} {
		req := one(sku, 3, "")
		req.TTL = 2 * time.Minute
		if _, err := r.Reserve(t.Context(), req); !refusedWith(err, want) {
			t.Errorf("%s: %v, want %v", sku, err, want)
		}
	}
	if got := metricValue(r.metrics.edge); got != 0 {
		t.Errorf("%v were refused at the edge", got)
	}
	// A cart is the shard's as soon as one of its SKUs is not known well.
	put(t, r, "empty", 0)
	levels.Want("empty")
	cart := ReserveRequest{Lines: []Line{{SKU: "empty", Quantity: 1}, {SKU: "nowhere", Quantity: 1}}}
	if _, err := r.Reserve(t.Context(), cart); !refusedWith(err, allocator.CodeSKUNotFound) {
		t.Errorf("a cart with a SKU that does not exist: %v", err)
	}
}

// TestLevelsAreWantedForWhatIsSold: for requests that they help, and not for SKUs
// that somebody made up.
func TestLevelsAreWantedForWhatIsSold(t *testing.T) {
	c := newFakeCluster(t, 4)
	levels := newFakeLevels(c)
	r := c.router(t, levels.use)
	put(t, r, "a", 1)
	put(t, r, "b", 1)
	_, _ = r.Reserve(t.Context(), one("nowhere", 1, ""))
	_, _ = r.Reserve(t.Context(), one("b", 1, "key"))
	_, _ = r.Availability(t.Context(), "b", false)
	if levels.wants("nowhere") != 0 || levels.wants("b") != 0 {
		t.Errorf("wanted for nothing: %v", levels.wanted)
	}
	reserve(t, r, one("a", 1, ""))
	if levels.wants("a") != 1 {
		t.Error("not wanted after a sale without a key")
	}
	_, _ = r.Reserve(t.Context(), one("a", 1, "")) // refused at the edge
	if levels.wants("a") != 2 {
		t.Error("not wanted any more, and refused at the edge")
	}
	_ = r.ReserveBatch(t.Context(), []ReserveRequest{one("b", 2, "")})
	if levels.wants("b") != 1 {
		t.Error("not wanted after a refusal by a shard")
	}
}

// TestRichHome: a request that any shard may decide goes where units are, each
// unit being as likely as any other, and where there are enough if anywhere.
func TestRichHome(t *testing.T) {
	c := newFakeCluster(t, 4)
	stock := map[allocator.SKU][]shardrpc.ShardStock{
		"even":   {{Shard: 2, Available: 300}, {Shard: 0, Available: 100}},
		"scarce": {{Shard: 3, Available: 2}, {Shard: 1, Available: 1}},
	}
	r := c.router(t, func(cfg *Config) { cfg.Levels = tableLevels{newFakeLevels(c), stock} })
	count := func(lines ...allocator.Line) map[allocator.ShardID]int {
		homes := make(map[allocator.ShardID]int)
		for range 4000 {
			if shard, ok := r.richHome(lines); ok {
				homes[shard]++
			}
		}
		return homes
	}
	line := func(sku allocator.SKU, q allocator.Quantity) allocator.Line {
		return allocator.Line{SKU: sku, Quantity: q}
	}
	if got := count(line("even", 1)); got[2] < 2800 || got[2] > 3200 || got[0]+got[2] != 4000 {
		t.Errorf("300 to 100: %v", got)
	}
	if got := count(line("even", 101)); got[2] != 4000 {
		t.Errorf("only shard 2 has enough: %v", got)
	}
	if got := count(line("even", 1000)); got[0] == 0 || got[0]+got[2] != 4000 {
		t.Errorf("none has enough: %v", got)
	}
	if got := count(line("even", 1), line("scarce", 2)); got[3] != 4000 {
		t.Errorf("the scarcest of a cart decides: %v", got)
	}
	if got := count(line("unknown", 1)); len(got) != 0 {
		t.Errorf("nothing is known: %v", got)
	}
}

// tableLevels are levels with a list of who has stock.
type tableLevels struct {
	*fakeLevels
	stock map[allocator.SKU][]shardrpc.ShardStock
}

func (l tableLevels) Stocked(sku allocator.SKU) []shardrpc.ShardStock { return l.stock[sku] }

// TestKeyedHomesStayWhereTheyAre: whatever levels say, a key or a buyer decides.
func TestKeyedHomesStayWhereTheyAre(t *testing.T) {
	c := newFakeCluster(t, 8)
	levels := newFakeLevels(c)
	r := c.router(t, levels.use)
	put(t, r, "a", 100)
	levels.Want("a")
	plain := c.router(t)
	for _, req := range []ReserveRequest{one("a", 1, "k1"), one("a", 1, "k2"), {BuyerID: "b", Lines: []Line{{SKU: "a", Quantity: 1}}}} {
		with, err := r.reserve(&req)
		without, _ := plain.reserve(&req)
		if err != nil || with.shard != without.shard || with.free {
			t.Errorf("%+v: shard %d with levels, %d without (%v)", req, with.shard, without.shard, err)
		}
	}
	anchor := allocator.Anchor("a", 8) // where all units are
	req := one("a", 1, "")
	if got, err := r.reserve(&req); err != nil || got.shard != anchor {
		t.Errorf("without key: shard %d (%v), the units are on %d", got.shard, err, anchor)
	}
}
