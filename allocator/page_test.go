package allocator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"
)

// TestShapes holds the sizes that the memory of a reservation is made of, and
// that the garbage collector finds no pointer in what there is much of.
func TestShapes(t *testing.T) {
	for _, c := range []struct {
		of   any
		size uintptr
	}{
		{record{}, 64}, {held{}, 12}, {bucket{}, 240}, {flow{}, 40}, {purchase{}, 32}, {letter{}, 16}, {pageEvent{}, 24},
	} {
		typ := reflect.TypeOf(c.of)
		if typ.Size() != c.size {
			t.Errorf("%v has %d bytes, want %d: change the estimates of memory with it", typ, typ.Size(), c.size)
		}
		if hasPointer(typ) {
			t.Errorf("%v has pointers", typ)
		}
	}
}

func hasPointer(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			if hasPointer(typ.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Array:
		return hasPointer(typ.Elem())
	}
	return typ.Kind() >= reflect.Chan // and no struct: channels, functions, interfaces, maps, pointers, slices, strings
}

func TestPagedFreeze(t *testing.T) {
	var p paged[int]
	epoch := uint64(1)
	for i := range 200 {
		*p.edit(p.grow(epoch), epoch) = i
	}
	frozen := p.freeze()
	epoch++
	for i := range uint32(200) {
		*p.edit(i, epoch) += 1000
	}
	for i := 200; i < 300; i++ {
		*p.edit(p.grow(epoch), epoch) = i + 1000
	}
	for i := range uint32(300) {
		if *p.at(i) != int(i)+1000 {
			t.Fatalf("item %d is %d", i, *p.at(i))
		}
		if i < 200 && *frozen.at(i) != int(i) {
			t.Fatalf("frozen item %d is %d", i, *frozen.at(i))
		}
	}
	if frozen.n != 200 {
		t.Errorf("the frozen array has %d items", frozen.n)
	}
}

// till is a shard to try single mechanisms on.
type till struct {
	*State
	t    testing.TB
	keys uint64
}

func newTill(t testing.TB) *till {
	s, err := New(Config{Shards: 1, Retention: 100})
	if err != nil {
		t.Fatal(err)
	}
	c := &till{State: s, t: t}
	c.begin(1000)
	c.ok(&PutSKU{SKU: "a", HasOnHand: true, OnHand: MaxQuantity})
	c.ok(&PutSKU{SKU: "cart", HasOnHand: true, OnHand: MaxQuantity})
	return c
}

func (c *till) begin(stamp Millis) {
	c.t.Helper()
	if err := c.Begin(stamp); err != nil {
		c.t.Fatal(err)
	}
}

func (c *till) ok(cmd Command) Result {
	c.t.Helper()
	out, err := c.Apply(cmd.AppendTo(nil), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	var r Result
	if err := DecodeResult(out, &r); err != nil || r.Code != CodeOK {
		c.t.Fatalf("%+v: %v, %v", cmd, r.Code, err)
	}
	return r
}

func (c *till) reserve(ttl Millis) ReservationID {
	c.t.Helper()
	c.keys++
	r := &Reserve{TTL: ttl, Lines: []Line{{"a", 1}, {"cart", 2}}, Reference: fmt.Sprint("order ", c.keys)}
	binary.BigEndian.PutUint64(r.Key[:], c.keys)
	return c.ok(r).Reservation.ID
}

func (c *till) image(v *View) []byte {
	c.t.Helper()
	var b bytes.Buffer
	if _, err := v.WriteTo(&b); err != nil {
		c.t.Fatal(err)
	}
	return b.Bytes()
}

func (c *till) sound() {
	c.t.Helper()
	if err := c.CheckInvariants(); err != nil {
		c.t.Fatal(err)
	}
}

// TestViewOutlivesItsPages keeps views over pages that are written, forgotten
// and used again: what a view shows must not change.
func TestViewOutlivesItsPages(t *testing.T) {
	c := newTill(t)
	type kept struct {
		view  *View
		image []byte
	}
	var views []kept
	var last []ReservationID
	for round := range 12 {
		for i := range 3 * pageRecords {
			id := c.reserve(10 + Millis(i%7))
			if i%3 == 0 {
				c.ok(&Extend{ID: id, TTL: 40})
			}
			last = append(last, id)
		}
		v := c.Freeze()
		views = append(views, kept{v, c.image(v)})
		for _, id := range last[len(last)/2:] {
			c.ok(&Confirm{ID: id, Lines: []Line{{"cart", 1}}})
		}
		last = nil
		for range 20 * (round % 3) {
			c.begin(c.Now() + 10)
		}
		c.sound()
	}
	if c.records.next/pageRecords < 2*uint64(len(c.records.pages)) {
		t.Errorf("%d pages for %d records: no slot was used again", len(c.records.pages), c.records.next)
	}
	for i, k := range views {
		if !bytes.Equal(k.image, c.image(k.view)) {
			t.Errorf("view %d changed", i)
		}
	}
}

// TestPageOfLongAgo lets so much time pass that a page cannot count from its
// base any more.
func TestPageOfLongAgo(t *testing.T) {
	c := newTill(t)
	old := c.reserve(MaxTTL)
	for range 3 {
		c.ok(&Extend{ID: old, TTL: MaxTTL})
		c.begin(c.Now() + MaxTTL - 1)
	}
	young := c.reserve(1000)
	c.sound()
	if young.Seq != pageRecords+1 {
		t.Errorf("the reservation after %d ms is number %d", c.Now(), young.Seq)
	}
	if r, ok := c.Reservation(young); !ok || r.Created != c.Now() {
		t.Errorf("it is %+v, %v", r, ok)
	}
	again, err := Restore(bytes.NewReader(c.image(c.Freeze())))
	if err != nil {
		t.Fatal(err)
	}
	c.State = again
	if next := c.reserve(1000); next.Seq != young.Seq+1 {
		t.Errorf("after a restart the next is number %d", next.Seq)
	}
	c.ok(&Cancel{ID: old})
	c.begin(c.Now() + 101)
	if _, ok := c.Reservation(old); ok {
		t.Error("a page that was left unfinished is never forgotten")
	}
	c.sound()
}

// TestReleaseIsBounded forgets no more pages at one stamp than it may, however
// often the stamp comes, and the rest later.
func TestReleaseIsBounded(t *testing.T) {
	c := newTill(t)
	const pages = 3 * releasesPerStamp
	for range pages * pageRecords {
		c.ok(&Cancel{ID: c.reserve(1000)})
	}
	at := func(stamp Millis, want int) {
		t.Helper()
		c.begin(stamp)
		c.begin(stamp)
		if got := len(c.records.pages) - len(c.records.free); got != want {
			t.Fatalf("at %d there are %d pages, want %d", stamp, got, want)
		}
	}
	at(c.Now()+100, pages)
	at(c.Now()+1, pages-releasesPerStamp)
	if due, ok := c.NextDue(); !ok || due != c.Now()+1 {
		t.Errorf("next due %d, %v at %d", due, ok, c.Now())
	}
	at(c.Now()+1, pages-2*releasesPerStamp)
	at(c.Now()+1, 0)
	if due, ok := c.NextDue(); ok {
		t.Errorf("next due %d with nothing left", due)
	}
	c.sound()
}

// TestRecordOutlivesItsKey repeats a key that tells its age at every moment: its
// record answers until the age is a reason to refuse it, with no gap between.
func TestRecordOutlivesItsKey(t *testing.T) {
	c := newTill(t)
	made := c.Now()
	cmd := &Reserve{KeyTime: made, Lines: []Line{{"a", 1}}}
	for i := range byte(pageRecords - 1) {
		cmd.Key = Key{1, i}
		c.ok(&Cancel{ID: c.ok(cmd).Reservation.ID})
	}
	c.ok(&Cancel{ID: c.reserve(1)})
	for now := made; now < made+3*c.cfg.Retention; now++ {
		c.begin(now)
		out, err := c.Apply(cmd.AppendTo(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		var r Result
		if err := DecodeResult(out, &r); err != nil {
			t.Fatal(err)
		}
		if !r.Replayed && r.Code != CodeKeyExpired {
			t.Fatalf("%d ms after it was made the key does something again: %v", now-made, r.Code)
		}
	}
	if c.records.count != 0 {
		t.Errorf("%d records are left", c.records.count)
	}
}

func TestOutboxGoesRound(t *testing.T) {
	var o, frozen outbox
	for round := range uint64(2000) {
		for i := range round % 7 {
			o.push(letter{bucket: uint32(round), quantity: Quantity(i)})
		}
		if round == 1000 {
			frozen = o
		}
		for range round % 5 {
			if o.len() > 0 {
				want := o.at(o.acked + 1)
				if got := o.pop(); got != want {
					t.Fatalf("popped %v, want %v", got, want)
				}
			}
		}
	}
	if most := o.len()/outboxChunk + 2; len(o.chunks) > most {
		t.Errorf("%d chunks for %d messages", len(o.chunks), o.len())
	}
	for seq := frozen.acked + 1; seq <= frozen.sent; seq++ {
		if l := frozen.at(seq); l.bucket > 1000 {
			t.Fatalf("message %d of the frozen outbox is of round %d", seq, l.bucket)
		}
	}
}

func TestPurchasesComeAndGo(t *testing.T) {
	p := newPurchases()
	p.epoch = 1
	slots := map[uint32]Quantity{}
	for i := range byte(200) {
		buyer := Buyer{i}
		slots[p.add(p.find(&buyer, 7), &buyer, 7, 5)] = 5
	}
	for slot := range slots {
		if slot%2 == 0 {
			p.sub(slot, 5)
			delete(slots, slot)
		}
	}
	for i := range byte(200) {
		buyer := Buyer{i, 1}
		slot := p.add(p.find(&buyer, 8), &buyer, 8, 3)
		if _, taken := slots[slot]; taken {
			t.Fatalf("counter %d is given out twice", slot)
		}
		slots[slot] = 3
	}
	if p.entries.n != 300 || p.byPair.count != 300 {
		t.Errorf("%d entries, %d in use, want 300", p.entries.n, p.byPair.count)
	}
	for slot, units := range slots {
		e := p.entries.at(slot - 1)
		if e.units != units || p.find(&e.buyer, e.bucket) != slot {
			t.Errorf("counter %d: %+v, want %d units", slot, e, units)
		}
	}
}
