package allocator_test

// How long records live: never shorter than the retention, not for ever, and
// what outlives them. Also the ends of the time line.

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"stockade/allocator"
)

// pass lets time go on in steps, as a leader with work does.
func (s *shop) pass(span, step allocator.Millis) {
	s.Helper()
	for end := s.Now() + span; s.Now() < end; {
		s.begin(min(end, s.Now()+step))
	}
}

func TestFinishedRecordsGo(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 10_000, openPolicy())
	const n = 2000
	ids := make([]allocator.ReservationID, n)
	for i := range ids {
		ids[i] = s.held(a, 1, 0)
	}
	for i, id := range ids {
		s.endAs(id, []allocator.Status{allocator.StatusConfirmed, allocator.StatusCanceled}[i%2])
	}
	s.pass(shopRetention-1, 100)
	for _, id := range ids {
		if _, ok := s.Reservation(id); !ok {
			t.Fatalf("%v is gone 1 ms before its retention is over", id)
		}
	}
	s.pass(200, 1)
	kept := 0
	for _, id := range ids {
		if _, ok := s.Reservation(id); ok {
			kept++
		}
	}
	if kept > 300 || s.Stats().Records > 600 { // a page that is not full stays
		t.Errorf("%d reservations and %d records are left", kept, s.Stats().Records)
	}
	if got := s.Bucket(a).Committed; got != n/2 {
		t.Errorf("committed %d, want %d: units outlive their records", got, n/2)
	}
	s.refused(&allocator.Confirm{ID: ids[0]}, allocator.CodeReservationNotFound)
}

// TestManyKeys: tens of thousands of keys and buyers at once, each with its own
// answer, released in an order of their own.
func TestManyKeys(t *testing.T) {
	n := 15_000
	if testing.Short() {
		n = 5_000
	}
	s := newShop(t)
	p := openPolicy()
	p.MaxPerBuyer = 1
	a := s.stock("a", allocator.Quantity(n), p)
	cmds := make([]allocator.Reserve, n)
	ids := make([]allocator.ReservationID, n)
	for i := range cmds {
		k := s.key()
		cmds[i] = allocator.Reserve{Key: k, Buyer: allocator.Buyer(k), BuyerID: "b", Lines: []allocator.Line{{SKU: a, Quantity: 1}}}
		ids[i] = s.ok(&cmds[i]).Reservation.ID
	}
	if st := s.Stats(); st.Live != n || st.Purchases != n || st.Available != 0 {
		t.Fatalf("%+v", st)
	}
	order := rand.New(rand.NewPCG(3, 3)).Perm(n)
	for _, i := range order {
		if r := s.ok(&cmds[i]); !r.Replayed || r.Reservation.ID != ids[i] {
			t.Fatalf("key %d answers %+v, want %v", i, r, ids[i])
		}
		s.ok(&allocator.Cancel{ID: ids[i]})
	}
	s.restart()
	if st := s.Stats(); st.Live != 0 || st.Purchases != 0 || st.Available != allocator.Quantity(n) {
		t.Fatalf("%+v", st)
	}
	s.begin(s.Now() + shopRetention)
	for range 500 { // pages go a few at a stamp
		begin(t, s.State, s.Now()+1)
	}
	for _, i := range order[:100] {
		onLastPage := ids[i].Seq+256 > ids[n-1].Seq
		if r := s.ok(&cmds[i]); r.Replayed && !onLastPage {
			t.Fatalf("key %d is known after its retention: %+v", i, r)
		}
	}
}

// TestMemoryIsSteady: the same traffic for many retentions takes no more and
// more records, though some holds live long.
func TestMemoryIsSteady(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 1_000_000, openPolicy())
	peak := 0
	for round := range 40 {
		for i := range 200 {
			c := &allocator.Reserve{Key: s.key(), TTL: 50, Lines: []allocator.Line{{SKU: a, Quantity: 1}}}
			if i == 0 {
				c.TTL = 3000
			}
			s.ok(c)
		}
		s.pass(shopRetention/5, 50)
		if round == 20 {
			peak = s.Stats().Records
		}
	}
	if now := s.Stats().Records; now > peak+600 {
		t.Errorf("%d records after 20 rounds, %d after 40", peak, now)
	}
}

// TestLongHoldKeepsItsNeighbours: a page goes as a whole, and an open
// reservation never goes.
func TestLongHoldKeepsItsNeighbours(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 10_000, openPolicy())
	c := &allocator.Reserve{Key: s.key(), TTL: 5000, Lines: []allocator.Line{{SKU: a, Quantity: 1}}}
	long := s.ok(c).Reservation.ID
	for range 1000 {
		s.ok(&allocator.Cancel{ID: s.held(a, 1, 0)})
	}
	s.pass(4000, 100)
	if r, ok := s.Reservation(long); !ok || r.Status != allocator.StatusReserved {
		t.Fatalf("the long hold is %+v, %v", r, ok)
	}
	if r := s.ok(c); !r.Replayed || r.Reservation.ID != long {
		t.Errorf("its key answers %+v", r)
	}
}

// TestBuyerLimitOutlivesRecords: what a buyer bought counts after the
// reservation's record is gone.
func TestBuyerLimitOutlivesRecords(t *testing.T) {
	s := newShop(t)
	p := openPolicy()
	p.MaxPerBuyer = 4
	a := s.stock("a", 10_000, p)
	bought := s.held(a, 3, 1)
	s.ok(&allocator.Confirm{ID: bought})
	for range 600 {
		s.ok(&allocator.Cancel{ID: s.held(a, 1, 0)})
	}
	s.pass(3*shopRetention, 10)
	if _, ok := s.Reservation(bought); ok {
		t.Fatal("the record is still there: this test shows nothing")
	}
	c := &allocator.Reserve{Key: s.key(), Buyer: allocator.Buyer{1}, BuyerID: "buyer-1", Lines: []allocator.Line{{SKU: a, Quantity: 2}}}
	if r := s.refused(c, allocator.CodeBuyerLimitExceeded); r.Available != 1 || r.Limit != 4 {
		t.Errorf("the buyer may take %d of %d, want 1 of 4", r.Available, r.Limit)
	}
	s.held(a, 1, 1)
}

// TestFarMoments: stamps at the end of time are refused or work; nothing
// overflows into a hold that is over before it began.
func TestFarMoments(t *testing.T) {
	for _, stamp := range []allocator.Millis{1 << 50, 1<<50 + 1, 1 << 62, math.MaxInt64 - 1, math.MaxInt64} {
		s := newShop(t)
		a := s.stock("a", 5, openPolicy())
		old := s.Now()
		if err := s.Begin(stamp); err != nil {
			if s.Now() != old {
				t.Errorf("Begin(%d) failed and moved time to %d", stamp, s.Now())
			}
			continue
		}
		r := s.ok(&allocator.Reserve{Key: s.key(), TTL: 5000, Lines: []allocator.Line{{SKU: a, Quantity: 1}}})
		if r.Reservation.Expires != s.Now()+5000 || r.Reservation.Expires < stamp {
			t.Errorf("at %d a reservation of 5 s expires at %d", stamp, r.Reservation.Expires)
		}
		if r := s.ok(&allocator.Extend{ID: r.Reservation.ID, TTL: 5000}); r.Reservation.Expires < stamp {
			t.Errorf("at %d an extension leads to %d", stamp, r.Reservation.Expires)
		}
		if err := s.CheckInvariants(); err != nil {
			t.Errorf("at %d: %v", stamp, err)
		}
	}
	s := newShop(t)
	if err := s.Begin(-5); err == nil && s.Now() != 10_000 {
		t.Errorf("Begin(-5) led from 10,000 to %d", s.Now())
	}
}

// TestFutureKeyTimeIsNotOld: a key from the far future must not overflow into
// the past.
func TestFutureKeyTimeIsNotOld(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 5, openPolicy())
	for _, at := range []allocator.Millis{s.Now() + 1, 1 << 50, math.MaxInt64 - shopRetention + 1, math.MaxInt64} {
		c := &allocator.Reserve{Key: s.key(), KeyTime: at, Lines: []allocator.Line{{SKU: a, Quantity: 1}}}
		if allocator.ValidateCommand(c.AppendTo(nil)) == nil {
			s.ok(c)
		}
	}
}

// TestExpiryGoesOnAfterTheBound: more is due at once than one stamp may expire.
func TestExpiryGoesOnAfterTheBound(t *testing.T) {
	state, err := allocator.New(allocator.Config{Shards: 2, Retention: shopRetention, ExpiryPerStamp: 10})
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{TB: t, State: state}
	s.begin(10_000)
	a := s.stock("a", 100, openPolicy())
	for range 35 {
		s.held(a, 1, 0)
	}
	s.begin(s.Now() + 100)
	for _, want := range []int{25, 15, 5, 0} {
		if live := s.Stats().Live; live != want {
			t.Fatalf("at %d: %d live, want %d", s.Now(), live, want)
		}
		s.begin(s.Now()) // the same stamp again gives no more room
		s.begin(s.Now() - 1)
		if want == 0 {
			break
		}
		due, ok := s.NextDue()
		if !ok || due > s.Now()+1 {
			t.Fatalf("NextDue = %d, %v at %d with %d overdue", due, ok, s.Now(), want)
		}
		s.begin(s.Now() + 1)
	}
}

// TestReplaysGiveTheFirstAnswer, whatever happened since, also after a restart.
func TestReplaysGiveTheFirstAnswer(t *testing.T) {
	s := newShop(t)
	a, b := s.stock("a", 50, openPolicy()), sku("b", 0)
	hold := &allocator.Reserve{Key: s.key(), Body: 1, Reference: "cart", Lines: []allocator.Line{{SKU: a, Quantity: 9}}}
	first := s.ok(hold)
	id := first.Reservation.ID
	create := &allocator.PutSKU{Key: s.key(), SKU: b, HasOnHand: true, OnHand: 5, Policy: openPolicy()}
	cmds, answers := []allocator.Command{hold, create}, []allocator.Result{first, s.ok(create)}
	do := func(c allocator.Command) { cmds, answers = append(cmds, c), append(answers, s.ok(c)) }
	s.begin(s.Now() + 5)
	s.ok(&allocator.Extend{ID: id, TTL: 500})
	s.ok(&allocator.Confirm{ID: id, Lines: []allocator.Line{{SKU: a, Quantity: 7}}})
	do(&allocator.Return{Key: s.key(), ID: id, Lines: []allocator.Line{{SKU: a, Quantity: 2}}})
	do(&allocator.Restock{Key: s.key(), SKU: b, Quantity: 3})
	do(&allocator.PutSKU{Key: s.key(), SKU: b, Policy: openPolicy()})
	do(&allocator.Adjust{Key: s.key(), SKU: b, Delta: -1, Reason: "broken"})
	do(&allocator.Return{Key: s.key(), ID: id})
	s.ok(&allocator.SetPaused{SKU: b, Paused: true})
	s.begin(s.Now() + 5)
	before := s.picture()
	for range 2 {
		for i, c := range cmds {
			want := answers[i]
			want.Replayed, want.At = true, s.Now()
			if got := s.refused(c, allocator.CodeOK); !sameResult(got, want) {
				t.Errorf("%T again:\n got %+v\nwant %+v", c, got, want)
			}
		}
		s.restart()
	}
	if after := s.picture(); !reflect.DeepEqual(before, after) || s.Bucket(b).Available != 7 {
		t.Errorf("replays changed the state:\nbefore %+v\nafter  %+v", before, after)
	}
}
