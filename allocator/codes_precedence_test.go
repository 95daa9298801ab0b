package allocator_test

// The order of precedence, command by command (see codes_test.go).

import (
	"fmt"
	"slices"
	"testing"

	"stockade/allocator"
)

var reserveCodes = []allocator.Code{
	allocator.CodeKeyReused, allocator.CodeKeyExpired, allocator.CodeSKUNotFound, allocator.CodeSKUUnknown,
	allocator.CodeSKUPaused, allocator.CodeSaleNotOpen, allocator.CodeQuantityLimitExceeded,
	allocator.CodeTTLLimitExceeded, allocator.CodeBuyerLimitExceeded, allocator.CodeInsufficientStock,
}

type holding func(allocator.Code) bool

// policyAgainst is a policy that refuses 5 units for 50 ms for these reasons.
func policyAgainst(holds holding, now allocator.Millis) allocator.Policy {
	p := openPolicy()
	if holds(allocator.CodeSaleNotOpen) {
		p.SaleStarts = now + 1
	}
	if holds(allocator.CodeQuantityLimitExceeded) {
		p.MaxPerReservation = 4
	}
	if holds(allocator.CodeTTLLimitExceeded) {
		p.DefaultTTL, p.MaxTTL = 10, 49
	}
	if holds(allocator.CodeBuyerLimitExceeded) {
		p.MaxPerBuyer = 4
	}
	return p
}

// stockAgainst creates a SKU whose line is refused for these reasons.
func (s *shop) stockAgainst(name string, holds holding) allocator.Line {
	units := allocator.Quantity(5)
	if holds(allocator.CodeInsufficientStock) {
		units = 3
	}
	id := s.stock(name, units, policyAgainst(holds, s.Now()))
	if holds(allocator.CodeSKUPaused) {
		s.ok(&allocator.SetPaused{SKU: id, Paused: true})
	}
	return allocator.Line{SKU: id, Quantity: 5}
}

// reserveAgainst starts a command that is refused for the reasons that are not
// those of a SKU's policy or stock.
func (s *shop) reserveAgainst(holds holding) *allocator.Reserve {
	c := &allocator.Reserve{Key: s.key(), Body: 1, TTL: 50, Buyer: allocator.Buyer{1}, BuyerID: "b"}
	if holds(allocator.CodeKeyReused) {
		first := &allocator.Reserve{Key: c.Key, Body: 2, Lines: []allocator.Line{{SKU: s.stock("other", 5, openPolicy()), Quantity: 1}}}
		s.ok(first)
	}
	if holds(allocator.CodeKeyExpired) {
		c.KeyTime = s.Now() - shopRetention - 1
	}
	if holds(allocator.CodeSKUNotFound) {
		c.Lines = append(c.Lines, allocator.Line{SKU: sku("nowhere", 0), Quantity: 2})
	}
	if holds(allocator.CodeSKUUnknown) {
		c.Lines = append(c.Lines, allocator.Line{SKU: sku("foreign", 1), Quantity: 2})
	}
	return c
}

func sortLines(lines []allocator.Line) {
	slices.SortFunc(lines, func(a, b allocator.Line) int {
		if a.SKU < b.SKU {
			return -1
		}
		return 1
	})
}

// checkShortages: a result that a transfer could mend names every line that is
// short or unknown; any other names none.
func checkShortages(t *testing.T, r allocator.Result, holds holding) {
	t.Helper()
	want := 0
	if r.Code == allocator.CodeSKUUnknown || r.Code == allocator.CodeInsufficientStock {
		for _, c := range []allocator.Code{allocator.CodeSKUUnknown, allocator.CodeInsufficientStock} {
			if holds(c) {
				want++
			}
		}
	}
	if len(r.Shortages) != want {
		t.Errorf("%v: %d shortages, want %d: %+v", r.Code, len(r.Shortages), want, r.Shortages)
	}
}

func TestReservePrecedenceOnOneLine(t *testing.T) {
	combinations(t, reserveCodes, func(t *testing.T, holds func(allocator.Code) bool, lowest allocator.Code) {
		s := newShop(t)
		c := s.reserveAgainst(holds)
		c.Lines = append(c.Lines, s.stockAgainst("target", holds))
		sortLines(c.Lines)
		checkShortages(t, s.refused(c, lowest), holds)
	})
}

func TestReservePrecedenceOverManyLines(t *testing.T) {
	policyCodes := reserveCodes[4:]
	combinations(t, reserveCodes, func(t *testing.T, holds func(allocator.Code) bool, lowest allocator.Code) {
		s := newShop(t)
		c := s.reserveAgainst(holds)
		c.Lines = append(c.Lines, s.stockAgainst("m-fine", func(allocator.Code) bool { return false }))
		for i, code := range policyCodes {
			if holds(code) { // later codes get names that sort first
				name := string(rune('z'-i)) + "-line"
				c.Lines = append(c.Lines, s.stockAgainst(name, func(c allocator.Code) bool { return c == code }))
			}
		}
		sortLines(c.Lines)
		checkShortages(t, s.refused(c, lowest), holds)
	})
}

// endAs brings a reservation of 2 units to a status.
func (s *shop) endAs(id allocator.ReservationID, status allocator.Status) {
	s.Helper()
	switch status {
	case allocator.StatusConfirmed:
		s.ok(&allocator.Confirm{ID: id})
	case allocator.StatusCanceled:
		s.ok(&allocator.Cancel{ID: id})
	case allocator.StatusExpired:
		r, _ := s.Reservation(id)
		s.begin(r.Expires)
	}
	if r, ok := s.Reservation(id); !ok || r.Status != status {
		s.Fatalf("reservation is %+v, want %v", r, status)
	}
}

// endedRows: what each command says to a reservation in each state, with and
// without the later reasons (too many lines, too long).
var endedRows = []struct {
	status                                   allocator.Status // 0: no such id
	confirm, cancel, extend, giveBack        allocator.Code
	confirmTooMuch, extendTooLong, returnToo allocator.Code
}{
	{0,
		allocator.CodeReservationNotFound, allocator.CodeReservationNotFound, allocator.CodeReservationNotFound, allocator.CodeReservationNotFound,
		allocator.CodeReservationNotFound, allocator.CodeReservationNotFound, allocator.CodeReservationNotFound},
	{allocator.StatusReserved,
		allocator.CodeOK, allocator.CodeOK, allocator.CodeOK, allocator.CodeReservationNotConfirmed,
		allocator.CodeLinesExceedReservation, allocator.CodeTTLLimitExceeded, allocator.CodeReservationNotConfirmed},
	{allocator.StatusConfirmed,
		allocator.CodeOK, allocator.CodeReservationConfirmed, allocator.CodeReservationConfirmed, allocator.CodeOK,
		allocator.CodeOK, allocator.CodeReservationConfirmed, allocator.CodeLinesExceedReservation},
	{allocator.StatusCanceled,
		allocator.CodeReservationCanceled, allocator.CodeOK, allocator.CodeReservationCanceled, allocator.CodeReservationNotConfirmed,
		allocator.CodeReservationCanceled, allocator.CodeReservationCanceled, allocator.CodeReservationNotConfirmed},
	{allocator.StatusExpired,
		allocator.CodeReservationExpired, allocator.CodeOK, allocator.CodeReservationExpired, allocator.CodeReservationNotConfirmed,
		allocator.CodeLinesExceedReservation, allocator.CodeReservationExpired, allocator.CodeReservationNotConfirmed},
}

func TestPrecedenceByStatus(t *testing.T) {
	for _, row := range endedRows {
		try := func(want allocator.Code, make func(s *shop, id allocator.ReservationID, much []allocator.Line) allocator.Command) {
			t.Helper()
			s := newShop(t)
			p := openPolicy()
			p.LateConfirm = allocator.LateConfirmReject
			a := s.stock("a", 5, p)
			id := s.held(a, 2, 0)
			if row.status == 0 {
				id.Seq += 1_000_000
			} else {
				s.endAs(id, row.status)
			}
			cmd := make(s, id, []allocator.Line{{SKU: a, Quantity: 3}})
			r := s.refused(cmd, want)
			if row.status != 0 && want != allocator.CodeKeyReused && r.Reservation.ID != id {
				t.Errorf("%T of a reservation that is %v speaks of %v", cmd, row.status, r.Reservation.ID)
			}
		}
		type lines = []allocator.Line
		type id = allocator.ReservationID
		try(row.confirm, func(_ *shop, id id, _ lines) allocator.Command { return &allocator.Confirm{ID: id} })
		try(row.confirmTooMuch, func(_ *shop, id id, l lines) allocator.Command { return &allocator.Confirm{ID: id, Lines: l} })
		try(row.cancel, func(_ *shop, id id, _ lines) allocator.Command { return &allocator.Cancel{ID: id} })
		try(row.extend, func(_ *shop, id id, _ lines) allocator.Command { return &allocator.Extend{ID: id, TTL: 500} })
		try(row.extendTooLong, func(_ *shop, id id, _ lines) allocator.Command { return &allocator.Extend{ID: id, TTL: 5001} })
		try(row.giveBack, func(s *shop, id id, _ lines) allocator.Command { return &allocator.Return{Key: s.key(), ID: id} })
		try(row.returnToo, func(s *shop, id id, l lines) allocator.Command {
			return &allocator.Return{Key: s.key(), ID: id, Lines: l}
		})
		try(allocator.CodeKeyReused, func(s *shop, id id, l lines) allocator.Command { // the key comes first
			other := s.held(s.stock("other", 5, openPolicy()), 1, 0)
			s.ok(&allocator.Confirm{ID: other})
			c := &allocator.Return{Key: s.key(), Body: 1, ID: other}
			s.ok(c)
			return &allocator.Return{Key: c.Key, Body: 2, ID: id, Lines: l}
		})
	}
}

// TestLateConfirm makes every combination of what can stand against taking the
// units again; only if units alone are missing may a transfer mend it.
func TestLateConfirm(t *testing.T) {
	const reject, paused, buyer, units, partly = 1, 2, 4, 8, 16
	for set := range 32 {
		s := newShop(t)
		p := openPolicy()
		p.MaxPerBuyer = 10
		a := s.stock("a", 6, p)
		id := s.held(a, 5, 1)
		s.endAs(id, allocator.StatusExpired)
		if set&units != 0 {
			s.held(a, 4, 2)
		}
		if set&reject != 0 {
			p.LateConfirm = allocator.LateConfirmReject
		}
		if set&buyer != 0 {
			p.MaxPerBuyer = 2
		}
		s.ok(&allocator.PutSKU{SKU: a, Policy: p})
		s.ok(&allocator.SetPaused{SKU: a, Paused: set&paused != 0})
		c := &allocator.Confirm{ID: id}
		if set&partly != 0 { // 2 units are there and within every limit
			c.Lines = []allocator.Line{{SKU: a, Quantity: 2}}
		}
		against := set &^ partly
		if set&partly != 0 {
			against &^= units | buyer
		}
		if against == 0 {
			if r := s.ok(c); r.Replayed || r.Reservation.Status != allocator.StatusConfirmed {
				t.Errorf("set %05b: %+v", set, r)
			}
			continue
		}
		r := s.refused(c, allocator.CodeReservationExpired)
		if mendable := against == units; mendable != (len(r.Shortages) == 1) {
			t.Errorf("set %05b: shortages %+v", set, r.Shortages)
		}
	}
}

// TestPutSKUPrecedence goes through all combinations of what a PutSKU can meet.
func TestPutSKUPrecedence(t *testing.T) {
	const exists, create, noneMatch, match, safety, reused, full = 1, 2, 4, 8, 16, 32, 64
	roomy, crowded := newShop(t), newShop(t)
	crowded.fillOutbox(crowded.stock("filler", 0, openPolicy()))
	for set := range 128 {
		has := func(bit int) bool { return set&bit != 0 }
		if has(noneMatch) && has(match) { // not both
			continue
		}
		s := roomy
		if has(full) {
			s = crowded
		}
		target := fmt.Sprintf("target%d", set)
		c := &allocator.PutSKU{Key: s.key(), Body: 1, SKU: sku(target, 0), Policy: openPolicy(), HasOnHand: has(create), IfNoneMatch: has(noneMatch)}
		if has(exists) {
			s.stock(target, 5, openPolicy())
		}
		if has(create) {
			c.OnHand = 5
		}
		if has(match) {
			c.IfMatch = 2
		}
		if has(safety) {
			c.Policy.SafetyStock = 6
		}
		if has(reused) {
			s.ok(&allocator.Restock{Key: c.Key, SKU: s.stock("other"+target, 1, openPolicy()), Quantity: 1})
		}
		want := allocator.CodeOK
		switch {
		case has(reused):
			want = allocator.CodeKeyReused
		case !has(exists) && !has(create):
			want = allocator.CodeSKUNotFound
		case has(exists) && has(noneMatch) || has(match):
			want = allocator.CodePreconditionFailed
		case has(exists) && has(create):
			want = allocator.CodeSKUExists
		case has(safety):
			want = allocator.CodeBelowReserved
		case has(full) && has(exists): // a creation tells nobody
			want = allocator.CodeOutboxFull
		}
		s.refused(c, want)
		if t.Failed() {
			t.Fatalf("set %07b", set)
		}
	}
}

func TestDepositPrecedence(t *testing.T) {
	s := newShop(t)
	used := s.key()
	s.ok(&allocator.Restock{Key: used, SKU: s.stock("a", 1, openPolicy()), Quantity: 1})
	nowhere, brimful := sku("nowhere", 0), s.brimful()
	for _, row := range []struct {
		key  allocator.Key
		sku  allocator.SKU
		qty  allocator.Quantity
		want allocator.Code
	}{
		{used, nowhere, 1, allocator.CodeKeyReused},
		{used, brimful, 1, allocator.CodeKeyReused},
		{s.key(), nowhere, 1, allocator.CodeSKUNotFound},
		{s.key(), nowhere, -1, allocator.CodeSKUNotFound},
		{s.key(), brimful, 1, allocator.CodeQuantityLimitExceeded},
		{s.key(), brimful, -allocator.MaxQuantity, allocator.CodeBelowReserved},
	} {
		s.refused(&allocator.Adjust{Key: row.key, Body: 9, SKU: row.sku, Delta: row.qty, Reason: "x"}, row.want)
		if row.qty > 0 {
			s.refused(&allocator.Restock{Key: row.key, Body: 9, SKU: row.sku, Quantity: row.qty}, row.want)
		}
	}
	s.refused(&allocator.SetPaused{SKU: nowhere, Paused: true}, allocator.CodeSKUNotFound)
}

// brimful is a SKU with as many units as one may have, nearly all of them held.
func (s *shop) brimful() allocator.SKU {
	p := openPolicy()
	id := s.stock("brimful", allocator.MaxQuantity, p)
	for range allocator.MaxOnHand/allocator.MaxQuantity - 1 { // 999 more of the largest deposits
		s.held(id, allocator.MaxQuantity, 0)
		s.ok(&allocator.Restock{Key: s.key(), SKU: id, Quantity: allocator.MaxQuantity})
	}
	s.held(id, 1, 0)
	return id
}

func TestTransferPrecedence(t *testing.T) {
	s := newShop(t)
	empty, last := s.stock("a", 0, openPolicy()), s.stock("b", 4, openPolicy())
	out := s.fillOutbox(empty)
	s.refused(out, allocator.CodeOutboxFull)
	s.refused(&allocator.TransferOut{SKU: last, To: 1, Quantity: 1}, allocator.CodeOutboxFull)
	s.refused(&allocator.TransferOut{SKU: sku("none", 0), To: 1, Quantity: 1}, allocator.CodeSKUNotFound)
	s.refused(&allocator.TransferOut{SKU: sku("none", 1), To: 1, Quantity: 1}, allocator.CodeSKUUnknown)
	s.refused(&allocator.SetPaused{SKU: last, Paused: true}, allocator.CodeOutboxFull)
	s.ok(&allocator.SetPaused{SKU: last, Paused: false})         // nothing to tell
	s.ok(&allocator.TransferOut{SKU: empty, To: 1, Quantity: 1}) // nothing to send
	s.ok(&allocator.TransferAck{To: 1, Through: 1})
	if r := s.ok(&allocator.TransferOut{SKU: last, To: 1, Quantity: 1}); r.Granted != 1 {
		t.Errorf("after an acknowledgement: %+v", r)
	}
	s.refused(&allocator.TransferOut{SKU: last, To: 1, Quantity: 1}, allocator.CodeOutboxFull)
}
