package router

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"stockade/allocator"
)

// TestHashesNeverChange holds the hashes against those of the first version:
// routers of different releases must find the same home and the same key.
func TestHashesNeverChange(t *testing.T) {
	h := newHasher(testSecret)
	key := h.key(domainIdempotency, "buyer", "key")
	buyer := h.buyer("buyer")
	body := h.fingerprint(newBody(domainIdempotency).text("buyer").number(5).flags(true).lines([]allocator.Line{{SKU: "a", Quantity: 2}}))
	for _, c := range []struct{ name, got, want string }{
		{"key", hex.EncodeToString(key[:]), "6c87afe0eee7b14d047ae4c2842a8caf"},
		{"buyer", hex.EncodeToString(buyer[:]), "6d5c5c11aedd5ce29765086debe21f5d"},
		{"body", fmt.Sprintf("%016x", uint64(body)), "220e8d0629f592ed"},
		{"ids", fmt.Sprintf("%04x", uint16(h.ids())), "0c13"},
		{"home", fmt.Sprint(h.home("buyer", 1000)), "533"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestHashesAreKeptApart(t *testing.T) {
	h := newHasher(testSecret)
	seen := make(map[[16]byte]string)
	add := func(name string, sum [16]byte) {
		if other, ok := seen[sum]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[sum] = name
	}
	for d := domainRouting; d <= domainBody; d++ {
		add(fmt.Sprintf("domain %d", d), h.sum(d, "a", "b"))
	}
	add("parts cut elsewhere", h.sum(domainRouting, "ab", ""))
	add("one part", h.sum(domainRouting, "ab"))
	other := testSecret
	other[15]++
	add("another secret", newHasher(other).sum(domainRouting, "a", "b"))
	made, another := h.key(domainReturn, "", ""), h.key(domainReturn, "", "")
	if made == another {
		t.Error("two requests without a key got the same one")
	}
}

// TestHomesAreSpread: no shard gets much more or less than its part.
func TestHomesAreSpread(t *testing.T) {
	h := newHasher(testSecret)
	const shards, keys = 16, 16_000
	var count [shards]int
	for i := range keys {
		count[h.home(fmt.Sprint("buyer-", i), shards)]++
	}
	for shard, n := range count {
		if n < keys/shards*8/10 || n > keys/shards*12/10 {
			t.Errorf("shard %d got %d of %d keys", shard, n, keys)
		}
	}
}

func TestBodiesDifferWhenRequestsDo(t *testing.T) {
	r := &Router{shards: 1, hash: newHasher(testSecret)}
	base := ReserveRequest{IdempotencyKey: "k", BuyerID: "b", Reference: "r", TTL: time.Second, Lines: []Line{{"a", 1}, {"b", 2}}}
	fingerprint := func(change func(*ReserveRequest)) allocator.Fingerprint {
		req := base
		req.Lines = slices.Clone(base.Lines)
		change(&req)
		c, err := r.reserve(&req)
		if err != nil {
			t.Fatal(err)
		}
		return c.cmd.(*allocator.Reserve).Body
	}
	same := fingerprint(func(*ReserveRequest) {})
	for name, change := range map[string]func(*ReserveRequest){
		"order":   func(r *ReserveRequest) { slices.Reverse(r.Lines) },
		"split":   func(r *ReserveRequest) { r.Lines[1].Quantity--; r.Lines = append(r.Lines, Line{"b", 1}) },
		"the key": func(r *ReserveRequest) { r.IdempotencyKey = "other" },
	} {
		if fingerprint(change) != same {
			t.Errorf("%s must not matter", name)
		}
	}
	for name, change := range map[string]func(*ReserveRequest){
		"quantity":  func(r *ReserveRequest) { r.Lines[0].Quantity++ },
		"SKU":       func(r *ReserveRequest) { r.Lines[0].SKU = "c" },
		"a line":    func(r *ReserveRequest) { r.Lines = r.Lines[:1] },
		"buyer":     func(r *ReserveRequest) { r.BuyerID = "c" },
		"reference": func(r *ReserveRequest) { r.Reference = "" },
		"ttl":       func(r *ReserveRequest) { r.TTL = 2 * time.Second },
		"texts cut": func(r *ReserveRequest) { r.BuyerID, r.Reference = "br", "" },
	} {
		if fingerprint(change) == same {
			t.Errorf("%s must matter", name)
		}
	}
}

func TestKeyTime(t *testing.T) {
	at := allocator.Millis(time.Date(2026, 11, 27, 18, 0, 0, 123e6, time.UTC).UnixMilli())
	uuid := func(ms allocator.Millis) string {
		h := fmt.Sprintf("%012x", int64(ms))
		return h[:8] + "-" + h[8:] + "-7abc-8def-0123456789ab"
	}
	ulid := func(ms allocator.Millis) string {
		b := make([]byte, ulidTimeLen)
		for i := range b {
			b[i] = ulidAlphabet[ms>>(5*(ulidTimeLen-1-i))&31]
		}
		return string(b) + "ABCDEFGHJKMNPQRS"
	}
	for _, c := range []struct {
		key  string
		want allocator.Millis
	}{
		{uuid(at), at},
		{strings.ToUpper(uuid(at)), at},
		{ulid(at), at},
		{strings.ToLower(ulid(at)), at},
		{strings.Replace(uuid(at), "-7", "-4", 1), 0}, // another version
		{strings.Replace(uuid(at), "-8", "-c", 1), 0}, // another variant
		{strings.Replace(uuid(at), "-", "_", 1), 0},
		{"x" + uuid(at)[1:], 0},
		{uuid(at) + "0", 0},
		{uuid(0), 0},                       // 1970
		{uuid(lastKeyTime), 0},             // 2100
		{uuid(firstKeyTime), firstKeyTime}, // 2020
		{"8" + ulid(at)[1:], 0},            // more than 48 bits
		{ulid(at)[:25] + "U", 0},           // not in the alphabet
		{"01234567890123456789012345", 0},  // an order number
		{"order-1", 0},
		{"", 0},
	} {
		if got := keyTime(c.key); got != c.want {
			t.Errorf("%q: got %d, want %d", c.key, got, c.want)
		}
	}
}

// TestMergedLines adds up any lines in two ways.
func TestMergedLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Line {
			return Line{
				SKU:      rapid.SampledFrom([]string{"a", "b", "c", "A", "z.1"}).Draw(t, "sku"),
				Quantity: rapid.Int64Range(1, allocator.MaxQuantity/3).Draw(t, "quantity"),
			}
		}), 0, 40).Draw(t, "lines")
		want := make(map[allocator.SKU]allocator.Quantity)
		tooMany := false
		for _, l := range lines {
			want[allocator.SKU(l.SKU)] += allocator.Quantity(l.Quantity)
			tooMany = tooMany || want[allocator.SKU(l.SKU)] > allocator.MaxQuantity
		}
		got, err := mergeLines(lines)
		if tooMany {
			if err == nil {
				t.Fatal("a sum beyond the limit was taken")
			}
			return
		}
		if err != nil || len(got) != len(want) {
			t.Fatalf("got %v (%v), want %v", got, err, want)
		}
		for i, l := range got {
			if l.Quantity != want[l.SKU] || i > 0 && got[i-1].SKU >= l.SKU {
				t.Fatalf("got %v, want %v in order", got, want)
			}
		}
	})
}

func TestLinesThatCanNotBeEncoded(t *testing.T) {
	many := make([]Line, allocator.MaxLines+1)
	for i := range many {
		many[i] = Line{fmt.Sprint("sku-", i), 1}
	}
	for _, c := range []struct {
		lines   []Line
		pointer string
	}{
		{[]Line{{"a", 1}, {"ä", 1}}, "/lines/1/sku"},
		{[]Line{{"", 1}}, "/lines/0/sku"},
		{[]Line{{"a", 0}}, "/lines/0/quantity"},
		{[]Line{{"a", -1}}, "/lines/0/quantity"},
		{[]Line{{"a", 1}, {"b", allocator.MaxQuantity + 1}}, "/lines/1/quantity"},
		{[]Line{{"a", allocator.MaxQuantity}, {"a", 1}}, "/lines"},
		{many, "/lines"},
	} {
		_, err := mergeLines(c.lines)
		var invalid *Invalid
		if !errors.As(err, &invalid) || invalid.Pointer != c.pointer || invalid.Detail == "" {
			t.Errorf("%v: got %v, want a fault at %s", c.lines, err, c.pointer)
		}
	}
}

// TestIDsAreMarked: another cluster has another mark. That all routers of one
// have the same is what TestHashesNeverChange holds.
func TestIDsAreMarked(t *testing.T) {
	other := testSecret
	other[0]++
	if newHasher(testSecret).ids() == newHasher(other).ids() {
		t.Error("two clusters have the same mark; by accident that is one in 65,536, so it is this secret, or a bug")
	}
}
