package allocator_test

// The edges of the read methods and of the configuration: what a caller may ask
// that makes no sense must get an empty answer, not a panic.

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"stockade/allocator"
)

func TestReadsWithOddArguments(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 9, openPolicy())
	for range 3 {
		s.ok(&allocator.TransferOut{SKU: a, To: 1, Quantity: 1})
	}
	for _, c := range []struct {
		to    allocator.ShardID
		after uint64
		most  int
		want  int
	}{
		{1, 0, 10, 3}, {1, 1, 10, 2}, {1, 2, 1, 1}, {1, 0, 2, 2}, {1, 3, 10, 0}, {1, 4, 10, 0}, {1, math.MaxUint64, 10, 0},
		{1, 0, math.MaxInt, 3}, {1, 0, 0, 0}, {1, 0, -1, 0}, {0, 0, 10, 0}, {2, 0, 10, 0}, {math.MaxUint16, 0, 10, 0},
	} {
		got, first := s.Outbox(c.to, c.after, c.most)
		if len(got) != c.want || c.want > 0 && first != c.after+1 {
			t.Errorf("Outbox(%d, %d, %d) = %d messages from %d, want %d", c.to, c.after, c.most, len(got), first, c.want)
		}
	}
	for _, id := range []allocator.ReservationID{{}, {Seq: math.MaxUint64}, {Shard: math.MaxUint16, Seq: 1}} {
		if r, ok := s.Reservation(id); ok {
			t.Errorf("%+v is %+v", id, r)
		}
	}
	for _, odd := range []allocator.SKU{"", "nobody", "with space", allocator.SKU(strings.Repeat("x", 1000))} {
		if b := s.Bucket(odd); b.Known || b.Stamp != s.Now() {
			t.Errorf("bucket %q: %+v", odd, b)
		}
	}
}

// TestReadsShareNoMemory: what a read gave out does not change afterwards, and
// changing it does not reach the state.
func TestReadsShareNoMemory(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 9, openPolicy())
	id := s.held(a, 2, 1)
	s.ok(&allocator.TransferOut{SKU: a, To: 1, Quantity: 1})
	r, _ := s.Reservation(id)
	b, v := s.Bucket(a), s.Vector()
	r.Lines[0].Quantity, b.Vector.Sent[1], b.Outbox[0].Quantity, b.Flows[0].Sent, v.Sent[1] = 99, 99, 99, 99, 99
	msgs, _ := s.Outbox(1, 0, 5)
	msgs[0].Quantity = 99
	if err := s.CheckInvariants(); err != nil {
		t.Error(err)
	}
	if again, _ := s.Reservation(id); again.Lines[0].Quantity != 2 || s.Vector().Sent[1] != 1 || s.Bucket(a).Flows[0].Sent != 1 {
		t.Error("a caller's change reached the state")
	}
}

func TestListing(t *testing.T) {
	s := newShop(t)
	units := map[allocator.SKU]allocator.Quantity{}
	var names []allocator.SKU
	for i := range 300 {
		id := s.stock(fmt.Sprintf("%c%d", "xyz"[i%3], i*7919%1000), allocator.Quantity(i+1), openPolicy())
		units[id] = allocator.Quantity(i + 1)
		names = append(names, id)
	}
	slices.Sort(names)
	s.ok(&allocator.Adjust{SKU: names[0], Delta: 5, Key: s.key(), Reason: "found"})
	units[names[0]] += 5
	view := s.Freeze()
	for _, limit := range []int{1, 7, 299, 300, 1000} {
		var got []allocator.SKU
		after := allocator.SKU("")
		for {
			rows := view.SKUs("", after, limit)
			if len(rows) > limit {
				t.Fatalf("%d rows, limit %d", len(rows), limit)
			}
			for _, r := range rows {
				got = append(got, r.SKU)
				if r.OnHand != units[r.SKU] || r.Policy.Version != 1 || r.Created != 10_000 {
					t.Errorf("%+v, want %d units", r, units[r.SKU])
				}
			}
			if len(rows) == 0 {
				break
			}
			after = rows[len(rows)-1].SKU
		}
		if !slices.Equal(got, names) {
			t.Fatalf("limit %d: %d of %d names, or in another order", limit, len(got), len(names))
		}
	}
	for _, r := range view.SKUs("y", "", 1000) {
		if !strings.HasPrefix(string(r.SKU), "y") {
			t.Errorf("prefix y lists %s", r.SKU)
		}
	}
	if n := len(view.SKUs("y", "", 1000)); n != 100 {
		t.Errorf("%d names begin with y, want 100", n)
	}
	for _, limit := range []int{0, -1} {
		if n := len(view.SKUs("", "", limit)); n > 0 {
			t.Errorf("limit %d gives %d rows", limit, n)
		}
	}
	if n := len(view.SKUs("nothing", "zzz", 10)) + len(view.SKUs("x", "y", 10)); n != 0 {
		t.Errorf("%d rows where there are none", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []allocator.Config{
		{Shards: 0}, {Shards: -1}, {Shards: allocator.MaxShards + 1}, {Shards: 2, Shard: 2},
		{Shards: 1, Retention: -1}, {Shards: 1, ExpiryPerStamp: -1},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
		if _, err := allocator.New(c); err == nil {
			t.Errorf("New(%+v) works", c)
		}
	}
	s, err := allocator.New(allocator.Config{Shard: allocator.MaxShards - 1, Shards: allocator.MaxShards})
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Config(); c.Retention != allocator.DefaultRetention || c.ExpiryPerStamp != allocator.DefaultExpiryPerStamp {
		t.Errorf("defaults: %+v", c)
	}
}

// TestAnchors holds that every shard anchors its part of the SKUs.
func TestAnchors(t *testing.T) {
	for _, shards := range []int{1, 3, 16, 100} {
		count := make([]int, shards)
		const perShard = 64
		for i := range perShard * shards {
			count[allocator.Anchor(allocator.SKU(fmt.Sprint("sku-", i)), shards)]++
		}
		if least, most := slices.Min(count), slices.Max(count); least < perShard/4 || most > perShard*2 {
			t.Errorf("%d shards anchor from %d to %d SKUs, %d on average", shards, least, most, perShard)
		}
	}
}

// TestStrangeShards: transfers with a shard that does not exist, or with itself,
// pass the decoder, which does not know the cluster. They must move nothing.
func TestStrangeShards(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 9, openPolicy())
	for _, peer := range []allocator.ShardID{0, 2, allocator.MaxShards - 1} {
		for _, c := range []allocator.Command{
			&allocator.TransferOut{SKU: a, To: peer, Quantity: 1},
			&allocator.TransferIn{From: peer, First: 1, Messages: unitsOf(a, 1)},
			&allocator.TransferAck{To: peer, Through: 1},
		} {
			if _, err := s.Apply(c.AppendTo(nil), nil); err != nil {
				t.Logf("%T with shard %d: %v", c, peer, err)
			}
			if b := s.Bucket(a); b.Available != 9 || len(b.Flows) > 0 {
				t.Errorf("%T with shard %d: %+v", c, peer, b)
			}
		}
	}
}

// TestPolicyNeverGoesBack: a shard that heard of a change late passes its old
// policy on with its units.
func TestPolicyNeverGoesBack(t *testing.T) {
	s := newShop(t)
	foreign := sku("foreign", 1)
	for i, version := range []uint64{2, 5, 3, 5, 1, 6} {
		msg := unitsOf(foreign, 1)
		msg[0].Policy.Version = version
		msg[0].Policy.MaxPerReservation = allocator.Quantity(10*version + uint64(i))
		s.ok(&allocator.TransferIn{From: 1, First: uint64(i + 1), Messages: msg})
		want := []allocator.Quantity{20, 51, 51, 51, 51, 65}[i]
		if b := s.Bucket(foreign); b.Policy.MaxPerReservation != want || b.Available != allocator.Quantity(i+1) {
			t.Errorf("after version %d: %+v", version, b)
		}
	}
}

// TestAcknowledgementsAreClamped to what was sent, and never go back.
func TestAcknowledgementsAreClamped(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 9, openPolicy())
	send := func() { s.ok(&allocator.TransferOut{SKU: a, To: 1, Quantity: 1}) }
	send()
	send()
	send()
	for _, c := range []struct{ through, want uint64 }{{0, 0}, {2, 2}, {1, 2}, {100, 3}, {1 << 48, 3}, {0, 3}} {
		if r := s.ok(&allocator.TransferAck{To: 1, Through: c.through}); r.Through != c.want || s.Vector().Acked[1] != c.want {
			t.Errorf("acknowledged %d: through %d, want %d", c.through, r.Through, c.want)
		}
	}
	send()
	if got, first := s.Outbox(1, 3, 10); len(got) != 1 || first != 4 || s.Stats().InTransit != 1 {
		t.Errorf("the next message: %+v from %d", got, first)
	}
}

// TestLongOutbox: an outbox of many messages, read from anywhere, acknowledged
// in pieces, restored in between, against a slice of what was sent.
func TestLongOutbox(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 1_000_000, openPolicy())
	rnd := rand.New(rand.NewPCG(4, 2))
	var sent []allocator.Quantity // message n stands at n-1
	acked := uint64(0)
	for range 120 {
		for range rnd.IntN(40) {
			sent = append(sent, allocator.Quantity(1+rnd.IntN(200)))
			s.ok(&allocator.TransferOut{SKU: a, To: 1, Quantity: sent[len(sent)-1]})
		}
		acked = min(acked+uint64(rnd.IntN(34)), uint64(len(sent)))
		s.ok(&allocator.TransferAck{To: 1, Through: acked})
		after, most := acked+rnd.Uint64N(uint64(len(sent))-acked+1), 1+rnd.IntN(600)
		want := sent[after:min(len(sent), int(after)+most)]
		got, first := s.Outbox(1, after, most)
		if len(got) != len(want) || len(want) > 0 && first != after+1 {
			t.Fatalf("%d messages from %d, want %d from %d", len(got), first, len(want), after+1)
		}
		for i, m := range got {
			if m.Quantity != want[i] || m.SKU != a {
				t.Fatalf("message %d: %+v, want %d units", first+uint64(i), m, want[i])
			}
		}
		if rnd.IntN(10) == 0 {
			s.restart()
		}
	}
	if err := s.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// restart puts the state through its snapshot.
func (s *shop) restart() {
	s.Helper()
	back, err := allocator.Restore(bytes.NewReader(image(s, s.Freeze())))
	if err != nil {
		s.Fatalf("Restore: %v", err)
	}
	s.State = back
}

// TestAdministrationIsTheAnchors: a shard that merely has units of a SKU does
// not decide about it.
func TestAdministrationIsTheAnchors(t *testing.T) {
	s := newShop(t)
	foreign := sku("foreign", 1)
	s.ok(&allocator.TransferIn{From: 1, First: 1, Messages: unitsOf(foreign, 7)})
	for _, c := range []allocator.Command{
		&allocator.PutSKU{SKU: foreign, Policy: openPolicy()},
		&allocator.PutSKU{SKU: sku("new", 1), HasOnHand: true, OnHand: 5, Policy: openPolicy()},
		&allocator.SetPaused{SKU: foreign, Paused: true},
		&allocator.Restock{Key: s.key(), SKU: foreign, Quantity: 1},
		&allocator.Adjust{Key: s.key(), SKU: foreign, Delta: -1, Reason: "x"},
	} {
		s.refused(c, allocator.CodeSKUNotFound)
		if b := s.Bucket(foreign); b.Available != 7 || b.Policy.Version != 1 || b.Policy.Paused || s.Bucket(sku("new", 1)).Known {
			t.Errorf("%T changed %+v", c, b)
		}
	}
}

// TestDefaultsOfAPolicy: zero means the default hold and the longest one.
func TestDefaultsOfAPolicy(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 9, allocator.Policy{})
	r := s.ok(&allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: a, Quantity: 1}}})
	if got := r.Reservation.Expires - s.Now(); got != allocator.DefaultTTL {
		t.Errorf("without any setting a hold lasts %d ms", got)
	}
	r = s.ok(&allocator.Reserve{Key: s.key(), TTL: allocator.MaxTTL, Lines: []allocator.Line{{SKU: a, Quantity: 1}}})
	if got := r.Reservation.Expires - s.Now(); got != allocator.MaxTTL {
		t.Errorf("the longest hold lasts %d ms", got)
	}
}

// TestQuietPage: a page of records may be open for months when little is sold.
func TestQuietPage(t *testing.T) {
	const month = 30 * 24 * 3600 * 1000
	s := newShop(t)
	a := s.stock("a", 9, openPolicy())
	for range 6 {
		c := &allocator.Reserve{Key: s.key(), TTL: 5000, Lines: []allocator.Line{{SKU: a, Quantity: 1}}}
		first := s.ok(c)
		if r := first.Reservation; r.Created != s.Now() || r.Expires != s.Now()+5000 {
			t.Errorf("made at %d: %+v", s.Now(), r)
		}
		if again := s.ok(c); again.Reservation.Created != s.Now() || again.Reservation.Expires != s.Now()+5000 {
			t.Errorf("replayed at %d: %+v", s.Now(), again.Reservation)
		}
		if got, _ := s.Reservation(first.Reservation.ID); got.Created != s.Now() {
			t.Errorf("read at %d: %+v", s.Now(), got)
		}
		s.begin(s.Now() + month)
	}
}

// TestEmptyStateSnapshot: the smallest one, and one of the widest cluster.
func TestEmptyStateSnapshot(t *testing.T) {
	for _, shards := range []int{1, allocator.MaxShards} {
		s, err := allocator.New(allocator.Config{Shards: shards})
		if err != nil {
			t.Fatal(err)
		}
		if !checkRestore(t, image(t, s.Freeze())) {
			t.Errorf("%d shards: refused", shards)
		}
	}
}

// TestWatchedFollowsThePolicies of new SKUs, changed ones and those that came by a
// transfer, also over a restart.
func TestWatchedFollowsThePolicies(t *testing.T) {
	s := newShop(t)
	watch := openPolicy()
	watch.Watch = true
	a, b := s.stock("a", 9, watch), s.stock("b", 9, openPolicy())
	s.held(a, 2, 1)
	s.ok(&allocator.TransferOut{SKU: a, To: 1, Quantity: 3})
	foreign := sku("f", 1)
	from1 := unitsOf(foreign, 5)
	from1[0].Policy = watch
	from1[0].Policy.Version = 1
	s.ok(&allocator.TransferIn{From: 1, First: 1, Messages: from1})
	want := []allocator.Watched{{SKU: a, Available: 4, Reserved: 2, Transit: 3}, {SKU: foreign, Available: 5}}
	check := func(want []allocator.Watched) {
		t.Helper()
		if got := s.Watched(10); !slices.Equal(got, want) {
			t.Errorf("watched: %+v, want %+v", got, want)
		}
	}
	check(want)
	s.restart()
	check(want)
	if got := s.Watched(1); !slices.Equal(got, want[:1]) {
		t.Errorf("the first: %+v", got)
	}
	s.ok(&allocator.PutSKU{SKU: a, Policy: openPolicy()})
	s.ok(&allocator.PutSKU{SKU: b, Policy: watch})
	check([]allocator.Watched{{SKU: b, Available: 9}, want[1]})
}
