package allocator_test

// Every outcome code, in order of precedence. Each command has a list of
// reasons to refuse it; the tests make every combination of them that can hold
// at once and expect the lowest code. TestEveryCodeIsProduced fails when a code
// exists that none of the rows brings about.

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"

	"stockade/allocator"
)

const shopRetention = 1000

// shop is shard 0 of a cluster of two, for tests that play by hand.
type shop struct {
	testing.TB
	*allocator.State
	keys uint32
}

func newShop(t testing.TB) *shop {
	s, err := allocator.New(allocator.Config{Shards: 2, Retention: shopRetention, ExpiryPerStamp: 1000})
	if err != nil {
		t.Fatal(err)
	}
	sh := &shop{TB: t, State: s}
	sh.begin(10_000)
	return sh
}

func (s *shop) begin(stamp allocator.Millis) {
	s.Helper()
	if err := s.Begin(stamp); err != nil {
		s.Fatalf("Begin(%d): %v", stamp, err)
	}
	if err := s.CheckInvariants(); err != nil {
		s.Fatalf("invariants after Begin(%d): %v", stamp, err)
	}
}

func (s *shop) do(cmd allocator.Command) allocator.Result {
	s.Helper()
	wire := cmd.AppendTo(nil)
	if err := allocator.ValidateCommand(wire); err != nil {
		s.Fatalf("ValidateCommand(%T%+v): %v", cmd, cmd, err)
	}
	out, err := s.Apply(wire, nil)
	if err != nil {
		s.Fatalf("Apply(%T%+v): %v", cmd, cmd, err)
	}
	var r allocator.Result
	if err := allocator.DecodeResult(out, &r); err != nil {
		s.Fatalf("DecodeResult of %T: %v", cmd, err)
	}
	return r
}

// ok is do for commands that must succeed.
func (s *shop) ok(cmd allocator.Command) allocator.Result {
	s.Helper()
	r := s.do(cmd)
	if r.Code != allocator.CodeOK {
		s.Fatalf("%T%+v: %v", cmd, cmd, r.Code)
	}
	return r
}

// refused expects a code, and that nothing but the count of commands changed.
func (s *shop) refused(cmd allocator.Command, want allocator.Code) allocator.Result {
	s.Helper()
	before := s.picture()
	r := s.do(cmd)
	if r.Code != want {
		s.Fatalf("%T%+v: got %v, want %v", cmd, cmd, r.Code, want)
	}
	if want != allocator.CodeOK && !reflect.DeepEqual(before, s.picture()) {
		s.Fatalf("%T refused with %v changed the state:\nbefore %+v\nafter  %+v", cmd, want, before, s.picture())
	}
	s.checkExplained(r)
	if err := s.CheckInvariants(); err != nil {
		s.Fatalf("invariants after %T: %v", cmd, err)
	}
	return r
}

// picture is what a refusal must leave alone.
func (s *shop) picture() any {
	var all []any
	for _, sku := range s.Freeze().SKUs("", "", 1000) {
		b := s.Bucket(sku.SKU)
		b.Applied, b.Hash = 0, 0
		all = append(all, b)
	}
	return append(all, s.Stats(), s.Vector())
}

// checkExplained holds the promises of the contract about single codes.
func (s *shop) checkExplained(r allocator.Result) {
	s.Helper()
	switch r.Code {
	case allocator.CodeSKUUnknown, allocator.CodeInsufficientStock, allocator.CodeBelowReserved:
		if len(r.Shortages) == 0 {
			s.Fatalf("%v without shortages", r.Code)
		}
	case allocator.CodeReservationExpired:
	default:
		if len(r.Shortages) != 0 {
			s.Fatalf("%v with shortages %+v", r.Code, r.Shortages)
		}
	}
	for _, sh := range r.Shortages {
		if sh.Requested <= sh.Available {
			s.Fatalf("%v: not a shortage: %+v", r.Code, sh)
		}
	}
}

func (s *shop) key() allocator.Key {
	s.keys++
	k := allocator.Key{0xee}
	binary.LittleEndian.PutUint32(k[1:], s.keys)
	return k
}

// sku makes a name that shard 0 anchors, or that it does not.
func sku(prefix string, shard allocator.ShardID) allocator.SKU {
	for i := range 1000 {
		if name := allocator.SKU(fmt.Sprintf("%s-%d", prefix, i)); allocator.Anchor(name, 2) == shard {
			return name
		}
	}
	panic("no such name in 1,000")
}

func openPolicy() allocator.Policy {
	return allocator.Policy{DefaultTTL: 100, MaxTTL: 5000}
}

// stock creates a SKU that shard 0 anchors.
func (s *shop) stock(name string, units allocator.Quantity, p allocator.Policy) allocator.SKU {
	s.Helper()
	id := sku(name, 0)
	s.ok(&allocator.PutSKU{SKU: id, HasOnHand: true, OnHand: units, Policy: p})
	return id
}

// held reserves units of one SKU.
func (s *shop) held(id allocator.SKU, qty allocator.Quantity, buyer byte) allocator.ReservationID {
	s.Helper()
	c := &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: id, Quantity: qty}}}
	if buyer != 0 {
		c.Buyer, c.BuyerID = allocator.Buyer{buyer}, fmt.Sprint("buyer-", buyer)
	}
	return s.ok(c).Reservation.ID
}

// combinations runs a test for every set of reasons. holds tells whether the
// reason with this code is in the set; lowest is the answer to expect.
func combinations(t *testing.T, all []allocator.Code, run func(t *testing.T, holds func(allocator.Code) bool, lowest allocator.Code)) {
	for set := range 1 << len(all) {
		in := map[allocator.Code]bool{}
		lowest := allocator.CodeOK
		for i, code := range all {
			if set>>i&1 == 0 {
				continue
			}
			in[code] = true
			if lowest == allocator.CodeOK || code < lowest {
				lowest = code
			}
		}
		run(t, func(c allocator.Code) bool { return in[c] }, lowest)
		if t.Failed() {
			t.Fatalf("with %v", in)
		}
	}
}

// codeRows are single scenes, at least one for every code.
var codeRows = []struct {
	want allocator.Code
	name string
	run  func(s *shop) allocator.Command
}{
	{allocator.CodeOK, "reserve", func(s *shop) allocator.Command {
		return &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: s.stock("a", 5, openPolicy()), Quantity: 5}}}
	}},
	{allocator.CodeKeyReused, "reserve with another body", func(s *shop) allocator.Command {
		c := allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: s.stock("a", 5, openPolicy()), Quantity: 1}}}
		s.ok(&c)
		c.Body = 7
		return &c
	}},
	{allocator.CodeKeyReused, "a reserve's key with the same body for a return", func(s *shop) allocator.Command {
		c := allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: s.stock("a", 5, openPolicy()), Quantity: 1}}}
		id := s.ok(&c).Reservation.ID
		s.ok(&allocator.Confirm{ID: id})
		return &allocator.Return{Key: c.Key, ID: id}
	}},
	{allocator.CodeKeyReused, "a restock's key with the same body for an adjustment", func(s *shop) allocator.Command {
		a := s.stock("a", 5, openPolicy())
		c := allocator.Restock{Key: s.key(), SKU: a, Quantity: 1}
		s.ok(&c)
		return &allocator.Adjust{Key: c.Key, SKU: a, Delta: 1, Reason: "x"}
	}},
	{allocator.CodeKeyExpired, "a key older than the retention", func(s *shop) allocator.Command {
		return &allocator.Reserve{Key: s.key(), KeyTime: s.Now() - shopRetention - 1,
			Lines: []allocator.Line{{SKU: s.stock("a", 5, openPolicy()), Quantity: 1}}}
	}},
	{allocator.CodeOK, "a key just as old as the retention", func(s *shop) allocator.Command {
		return &allocator.Reserve{Key: s.key(), KeyTime: s.Now() - shopRetention,
			Lines: []allocator.Line{{SKU: s.stock("a", 5, openPolicy()), Quantity: 1}}}
	}},
	{allocator.CodeReservationNotFound, "confirm of another shard's id", func(s *shop) allocator.Command {
		id := s.held(s.stock("a", 5, openPolicy()), 1, 0)
		id.Shard = 1
		return &allocator.Confirm{ID: id}
	}},
	{allocator.CodeReservationCanceled, "confirm", func(s *shop) allocator.Command {
		id := s.held(s.stock("a", 5, openPolicy()), 1, 0)
		s.ok(&allocator.Cancel{ID: id})
		return &allocator.Confirm{ID: id}
	}},
	{allocator.CodeReservationConfirmed, "cancel", func(s *shop) allocator.Command {
		id := s.held(s.stock("a", 5, openPolicy()), 1, 0)
		s.ok(&allocator.Confirm{ID: id})
		return &allocator.Cancel{ID: id}
	}},
	{allocator.CodeReservationNotConfirmed, "return", func(s *shop) allocator.Command {
		return &allocator.Return{Key: s.key(), ID: s.held(s.stock("a", 5, openPolicy()), 1, 0)}
	}},
	{allocator.CodeLinesExceedReservation, "confirm", func(s *shop) allocator.Command {
		a := s.stock("a", 5, openPolicy())
		return &allocator.Confirm{ID: s.held(a, 2, 0), Lines: []allocator.Line{{SKU: a, Quantity: 3}}}
	}},
	{allocator.CodeReservationExpired, "extend", func(s *shop) allocator.Command {
		id := s.held(s.stock("a", 5, openPolicy()), 1, 0)
		s.begin(s.Now() + 100)
		return &allocator.Extend{ID: id, TTL: 10}
	}},
	{allocator.CodeSKUNotFound, "reserve", func(s *shop) allocator.Command {
		return &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: sku("none", 0), Quantity: 1}}}
	}},
	{allocator.CodeSKUUnknown, "reserve", func(s *shop) allocator.Command {
		return &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: sku("none", 1), Quantity: 1}}}
	}},
	{allocator.CodePreconditionFailed, "create only", func(s *shop) allocator.Command {
		return &allocator.PutSKU{SKU: s.stock("a", 5, openPolicy()), HasOnHand: true, OnHand: 1, Policy: openPolicy(), IfNoneMatch: true}
	}},
	{allocator.CodeSKUExists, "create again", func(s *shop) allocator.Command {
		return &allocator.PutSKU{SKU: s.stock("a", 5, openPolicy()), HasOnHand: true, OnHand: 1, Policy: openPolicy()}
	}},
	{allocator.CodeSKUPaused, "reserve", func(s *shop) allocator.Command {
		a := s.stock("a", 5, openPolicy())
		s.ok(&allocator.SetPaused{SKU: a, Paused: true})
		return &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: a, Quantity: 1}}}
	}},
	{allocator.CodeSaleNotOpen, "the first moment that is closed", func(s *shop) allocator.Command {
		p := openPolicy()
		p.SaleEnds = s.Now()
		return &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: s.stock("a", 5, p), Quantity: 1}}}
	}},
	{allocator.CodeOK, "the first moment that is open", func(s *shop) allocator.Command {
		p := openPolicy()
		p.SaleStarts, p.SaleEnds = s.Now(), s.Now()+1
		return &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: s.stock("a", 5, p), Quantity: 1}}}
	}},
	{allocator.CodeQuantityLimitExceeded, "reserve", func(s *shop) allocator.Command {
		p := openPolicy()
		p.MaxPerReservation = 2
		return &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: s.stock("a", 5, p), Quantity: 3}}}
	}},
	{allocator.CodeTTLLimitExceeded, "reserve", func(s *shop) allocator.Command {
		return &allocator.Reserve{Key: s.key(), TTL: 5001, Lines: []allocator.Line{{SKU: s.stock("a", 5, openPolicy()), Quantity: 1}}}
	}},
	{allocator.CodeBuyerLimitExceeded, "reserve", func(s *shop) allocator.Command {
		p := openPolicy()
		p.MaxPerBuyer = 2
		a := s.stock("a", 5, p)
		s.held(a, 2, 9)
		return &allocator.Reserve{Key: s.key(), Buyer: allocator.Buyer{9}, BuyerID: "buyer-9", Lines: []allocator.Line{{SKU: a, Quantity: 1}}}
	}},
	{allocator.CodeInsufficientStock, "reserve", func(s *shop) allocator.Command {
		return &allocator.Reserve{Key: s.key(), Lines: []allocator.Line{{SKU: s.stock("a", 5, openPolicy()), Quantity: 6}}}
	}},
	{allocator.CodeBelowReserved, "adjust", func(s *shop) allocator.Command {
		a := s.stock("a", 5, openPolicy())
		s.held(a, 3, 0)
		return &allocator.Adjust{SKU: a, Key: s.key(), Delta: -3, Reason: "lost"}
	}},
	{allocator.CodeTransferGap, "transfer in", func(s *shop) allocator.Command {
		return &allocator.TransferIn{From: 1, First: 2, Messages: unitsOf(sku("b", 1), 3)}
	}},
	{allocator.CodeOutboxFull, "transfer out", func(s *shop) allocator.Command {
		return s.fillOutbox(s.stock("a", 0, openPolicy()))
	}},
}

func unitsOf(id allocator.SKU, qty allocator.Quantity) []allocator.Message {
	p := openPolicy()
	p.Version = 1
	return []allocator.Message{{Kind: allocator.MessageUnits, SKU: id, Quantity: qty, Policy: p}}
}

// fillOutbox fills the outbox to shard 1 with policies of an empty SKU, and
// gives back the command that did it.
func (s *shop) fillOutbox(id allocator.SKU) allocator.Command {
	s.Helper()
	wire := (&allocator.TransferOut{SKU: id, To: 1, Quantity: 1, Open: true}).AppendTo(nil)
	var out []byte
	var r allocator.Result
	for range 1 << 21 {
		var err error
		if out, err = s.Apply(wire, out[:0]); err != nil {
			s.Fatal(err)
		}
		if err := allocator.DecodeResult(out, &r); err != nil {
			s.Fatal(err)
		}
		if r.Code == allocator.CodeOutboxFull {
			return &allocator.TransferOut{SKU: id, To: 1, Quantity: 1, Open: true}
		}
	}
	s.Fatal("two million messages and the outbox is not full")
	return nil
}

func TestEveryCodeIsProduced(t *testing.T) {
	seen := map[allocator.Code]bool{}
	for _, row := range codeRows {
		t.Run(row.want.String()+"/"+row.name, func(t *testing.T) {
			s := newShop(t)
			cmd := row.run(s)
			r := s.refused(cmd, row.want)
			seen[r.Code] = true
		})
	}
	for _, code := range allocator.Codes() {
		if !seen[code] {
			t.Errorf("no row produces %v", code)
		}
	}
}

func TestCodeNamesAreDistinct(t *testing.T) {
	names := map[string]allocator.Code{}
	for _, c := range allocator.Codes() {
		if other, taken := names[c.String()]; taken || c.String() == "" || c.String() == "invalid" {
			t.Errorf("code %d is called %q, like %d", c, c.String(), other)
		}
		names[c.String()] = c
	}
}
