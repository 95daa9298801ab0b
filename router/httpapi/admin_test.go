package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
	"stockade/shard/shardrpc"
)

// TestPutSKU covers creating and changing a SKU.
func TestPutSKU(t *testing.T) {
	h := newHarness(t)
	body := `{"on_hand":500,"safety_stock":5,"max_per_reservation":4,"max_per_buyer":2,"default_ttl_seconds":60,"max_ttl_seconds":120,
		"late_confirm":"reject","sale_starts_at":"2026-11-27T19:00:00.1239+01:00","sale_ends_at":"2026-11-28T00:00:00Z","watch":true,
		"metadata":{"z":[1, 2.50, 12345678901234567890], "a" : "\u0041\/", "o":{}}}`
	a := h.do("PUT", "/v1/skus/new.sku:1_a-B", body, "If-None-Match: *", "Idempotency-Key: p")
	var s api.SKU
	a.want(http.StatusCreated).decode(&s)
	starts := time.Date(2026, 11, 27, 18, 0, 0, 123e6, time.UTC)
	want := allocator.Policy{
		Version: 0, SafetyStock: 5, MaxPerReservation: 4, MaxPerBuyer: 2, DefaultTTL: 60_000, MaxTTL: 120_000,
		SaleStarts: allocator.Millis(starts.UnixMilli()), SaleEnds: allocator.Millis(starts.Add(6*time.Hour - 123*time.Millisecond).UnixMilli()),
		LateConfirm: allocator.LateConfirmReject, Watch: true,
	}
	put := h.fake.lastPut
	if put.Policy != want || *put.OnHand != 500 || !put.IfNoneMatch || put.IfMatch != 0 || put.Key != "p" || put.SKU != "new.sku:1_a-B" {
		t.Errorf("the router got %+v", put)
	}
	metadata := `{"a":"A/","o":{},"z":[1,2.50,12345678901234567890]}`
	if string(put.Metadata) != metadata || string(s.Metadata) != metadata {
		t.Errorf("metadata %s, %s", put.Metadata, s.Metadata)
	}
	if a.Header.Get("ETag") != `"1"` || s.Version != 1 || s.OnHand != 500 || s.MaxPerBuyer != 2 || s.LateConfirm != api.LateConfirmReject ||
		s.SaleStartsAt != api.TimeOf(starts) || !s.Watch || s.Paused {
		t.Errorf("got %+v, ETag %s", s, a.Header.Get("ETag"))
	}

	a = h.do("PUT", "/v1/skus/new.sku:1_a-B", `{}`, `If-Match: "1"`)
	a.want(http.StatusOK).decode(&s)
	defaults := allocator.Policy{DefaultTTL: allocator.DefaultTTL, MaxTTL: allocator.MaxTTL}
	if put := h.fake.lastPut; put.Policy != defaults || put.OnHand != nil || put.Metadata != nil || put.IfMatch != 1 {
		t.Errorf("the router got %+v", put)
	}
	if a.Header.Get("ETag") != `"2"` {
		t.Errorf("ETag %s", a.Header.Get("ETag"))
	}
	h.do("PUT", "/v1/skus/demo", `{"on_hand":1}`).problem(http.StatusConflict, "sku-exists")
	h.do("PUT", "/v1/skus/demo", `{}`, `If-Match: "7"`).problem(http.StatusPreconditionFailed, "precondition-failed")
	h.do("PUT", "/v1/skus/demo", `{"on_hand":1}`, `If-None-Match: *`).problem(http.StatusPreconditionFailed, "precondition-failed")
	if p := h.do("PUT", "/v1/skus/none", `{}`).problem(http.StatusNotFound, "sku-not-found"); !strings.Contains(p.Detail, "Give on_hand") {
		t.Errorf("detail %q", p.Detail)
	}
}

// TestPutDefaults covers the default TTL when only the longest is given.
func TestPutDefaults(t *testing.T) {
	h := newHarness(t)
	h.do("PUT", "/v1/skus/short", `{"on_hand":0,"max_ttl_seconds":60}`).want(http.StatusCreated)
	if p := h.fake.lastPut.Policy; p.DefaultTTL != 60_000 || p.MaxTTL != 60_000 || *h.fake.lastPut.OnHand != 0 {
		t.Errorf("got %+v", p)
	}
}

// TestSKU covers reading a SKU: its fields have the names that PUT takes.
func TestSKU(t *testing.T) {
	h := newHarness(t)
	for _, query := range []string{"", "?consistency=strong"} {
		var s api.SKU
		a := h.do("GET", "/v1/skus/demo"+query, "")
		a.want(http.StatusOK).decode(&s)
		if s.SKU != "demo" || s.Available != 1000 || len(s.Buckets) != 1 || s.AsOf != api.Time(fakeNow) || a.Header.Get("ETag") != `"1"` {
			t.Errorf("got %+v", s)
		}
	}
	h.do("GET", "/v1/skus/none", "").problem(http.StatusNotFound, "sku-not-found")
	shown, taken := fieldNames(api.SKU{}), fieldNames(api.PutSKURequest{})
	for name := range taken {
		if !shown[name] {
			t.Errorf("GET does not show %s, which PUT takes", name)
		}
	}
}

// fieldNames lists the JSON names of a struct's fields.
func fieldNames(v any) map[string]bool {
	names := make(map[string]bool)
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names[name] = true
		}
	}
	return names
}

// TestStockChanges covers restock, adjust, pause and resume.
func TestStockChanges(t *testing.T) {
	h := newHarness(t)
	var s api.SKU
	h.do("POST", "/v1/skus/demo/restock", `{"quantity":5,"reference":"d"}`, "Idempotency-Key: r").want(http.StatusOK).decode(&s)
	if s.OnHand != 1005 {
		t.Errorf("on_hand %d", s.OnHand)
	}
	h.do("POST", "/v1/skus/demo/adjust", `{"delta":-5,"reason":"damaged"}`).want(http.StatusOK).decode(&s)
	if s.OnHand != 1000 {
		t.Errorf("on_hand %d", s.OnHand)
	}
	p := h.do("POST", "/v1/skus/mug/adjust", `{"delta":-11,"reason":"lost"}`).problem(http.StatusConflict, "below-reserved")
	if *p.Requested != 11 || *p.Available != 10 {
		t.Errorf("got %+v", p)
	}
	h.do("POST", "/v1/skus/demo/pause", "").want(http.StatusOK).decode(&s)
	if !s.Paused {
		t.Error("not paused")
	}
	h.do("POST", "/v1/skus/demo/resume", "{}").want(http.StatusOK).decode(&s)
	if s.Paused {
		t.Error("not resumed")
	}
	for _, path := range []string{"restock", "adjust", "pause", "resume"} {
		body := map[string]string{"restock": `{"quantity":1}`, "adjust": `{"delta":1,"reason":"x"}`}[path]
		h.do("POST", "/v1/skus/none/"+path, body, "Idempotency-Key: k").problem(http.StatusNotFound, "sku-not-found")
	}
}

// TestChangeNotReadBack: a change that was made is a success although the SKU
// can't be read afterwards.
func TestChangeNotReadBack(t *testing.T) {
	h := newHarness(t)
	h.fake.failReads = errors.New("a shard can't be read")
	var v api.SKUVersion
	a := h.do("POST", "/v1/skus/demo/restock", `{"quantity":5}`, "Idempotency-Key: r")
	a.want(http.StatusOK).decode(&v)
	if v.SKU != "demo" || v.Version != 1 || a.Header.Get("ETag") != `"1"` {
		t.Errorf("got %+v", v)
	}
}

// TestChangesSayWhenTheyTakeEffect: a change of policy or state says since when all
// shards go by it, or which do not yet; also when the SKU can't be read back.
func TestChangesSayWhenTheyTakeEffect(t *testing.T) {
	h := newHarness(t)
	var sku api.SKU
	for _, row := range []struct{ method, path, body string }{
		{"POST", "/v1/skus/demo/pause", ""}, {"POST", "/v1/skus/demo/resume", ""}, {"PUT", "/v1/skus/demo", "{}"},
	} {
		sku = api.SKU{}
		h.fake.effect = router.Effect{At: time.UnixMilli(int64(fakeNow))}
		h.do(row.method, row.path, row.body).want(http.StatusOK).decode(&sku)
		if sku.EffectiveAt != api.Time(fakeNow) || sku.PendingShards != nil {
			t.Errorf("%s: %+v", row.path, sku.Effect)
		}
		sku = api.SKU{}
		h.fake.effect = router.Effect{Pending: []allocator.ShardID{1, 3}}
		a := h.do(row.method, row.path, row.body).want(http.StatusOK)
		a.decode(&sku)
		if !slices.Equal(sku.PendingShards, []int{1, 3}) || bytes.Contains(a.body, []byte("effective_at")) {
			t.Errorf("%s with shards that can't be asked: %s", row.path, a.body)
		}
	}
	h.fake.failReads = errors.New("a shard can't be read")
	var v api.SKUVersion
	h.do("POST", "/v1/skus/demo/pause", "").want(http.StatusOK).decode(&v)
	if !slices.Equal(v.PendingShards, []int{1, 3}) {
		t.Errorf("not read back: %+v", v)
	}
	sku = api.SKU{}
	h.fake.failReads = nil
	h.do("GET", "/v1/skus/demo", "").want(http.StatusOK).decode(&sku)
	if sku.EffectiveAt != 0 || sku.PendingShards != nil {
		t.Errorf("nothing was changed: %+v", sku.Effect)
	}
}

// TestList covers pages.
func TestList(t *testing.T) {
	h := newHarness(t)
	var p api.SKUPage
	h.do("GET", "/v1/skus", "").want(http.StatusOK).decode(&p)
	if len(p.Data) != 2 || p.NextCursor != nil {
		t.Errorf("got %+v", p)
	}
	h.do("GET", "/v1/skus?limit=1&prefix=d&cursor=x", "").want(http.StatusOK).decode(&p)
	if len(p.Data) != 1 || p.NextCursor == nil || *p.NextCursor != "next" {
		t.Errorf("got %+v", p)
	}
	if p.Data[0].Available != nil {
		t.Errorf("a list that was not asked for it has available: %+v", p.Data[0])
	}
	h.fake.skus["mug"].Available = 0 // sold out is not unknown
	h.do("GET", "/v1/skus?with=available", "").want(http.StatusOK).decode(&p)
	for _, s := range p.Data {
		if want := h.fake.skus[s.SKU].Available; s.Available == nil || *s.Available != want {
			t.Errorf("%s has %v for sale, want %d", s.SKU, s.Available, want)
		}
	}
	h.fake.failReads = &router.Unavailable{Shard: 1, Reason: shardrpc.ReasonDeadline}
	h.do("GET", "/v1/skus?with=available", "").problem(http.StatusServiceUnavailable, codeShardUnavailable)
	bad := h.do("GET", "/v1/skus?cursor=bad", "").problem(http.StatusBadRequest, codeInvalid)
	if got := places(t, bad.Errors); got[0] != "parameter cursor" {
		t.Errorf("faults at %q", got)
	}
}

// TestAudit covers the figures of an audit: in - out = held + sold.
func TestAudit(t *testing.T) {
	h := newHarness(t)
	var a api.Audit
	h.do("GET", "/v1/skus/demo/audit", "").want(http.StatusOK).decode(&a)
	s := a.Shards[0]
	if s.In != 1099 || s.Out != 300 || s.Held != 749 || s.Sold != 50 || s.In-s.Out != s.Held+s.Sold {
		t.Errorf("got %+v", s)
	}
	if a.Balanced || len(a.Problems) != 1 || s.Hash != "000000000000feed" || len(s.Outbox) != 1 || s.Vector.Sent[1] != 3 || !s.Anchor {
		t.Errorf("got %+v", a)
	}
	if !a.SoldOut || s.Waiting != 4 || a.Shards[1].Waiting != 0 {
		t.Errorf("sold out %v, %d and %d wait", a.SoldOut, s.Waiting, a.Shards[1].Waiting)
	}
	h.do("GET", "/v1/skus/none/audit", "").problem(http.StatusNotFound, "sku-not-found")
}

// TestCluster covers the cluster's document, which has the retention.
func TestCluster(t *testing.T) {
	h := newHarness(t)
	var c api.Cluster
	a := h.do("GET", "/v1/cluster", "").want(http.StatusOK)
	a.decode(&c)
	if c.ClusterID != "c-1" || c.RetentionSeconds != 900 || c.FailureTolerance != 1 || *c.Shards[0].Leader != "n1" || c.Shards[1].Leader != nil {
		t.Errorf("got %+v", c)
	}
	if got, want := c.Shards[0].Replicas, []api.Replica{{Node: "n1", AppliedIndex: 9, Applied: 7, Hash: "0000000000000abc"}}; !slices.Equal(got, want) {
		t.Errorf("replicas %+v, want %+v", got, want)
	}
	var raw struct{ Shards []map[string]json.RawMessage }
	if err := json.Unmarshal(a.body, &raw); err != nil || string(raw.Shards[1]["leader"]) != "null" || string(raw.Shards[1]["voters"]) != "[]" || string(raw.Shards[1]["replicas"]) != "[]" {
		t.Errorf("a shard without a leader: %s", a.body)
	}
}

// TestNodes covers the list of nodes that clients of the data port follow.
func TestNodes(t *testing.T) {
	h := newHarness(t)
	var l api.NodeList
	h.do("GET", "/v1/nodes", "").want(http.StatusOK).decode(&l)
	if want := (api.NodeAddress{ID: "n1", HTTP: "127.0.0.1:8400", Alive: true}); l.ClusterID != "c-1" || len(l.Nodes) != 1 || l.Nodes[0] != want {
		t.Errorf("got %+v", l)
	}
}
