package line

import (
	"math"
	"slices"
	"testing"
	"time"

	"stockade/allocator"
)

// TestReceive has each outcome foreseen of a reservation, with a line and without.
func TestReceive(t *testing.T) {
	for _, tt := range []struct {
		o             allocator.Outlook
		alone, behind Course
		onlyShort     bool
	}{
		{allocator.Outlook{Code: allocator.CodeOK}, ToLog, ToLine, false},
		{allocator.Outlook{Code: allocator.CodeOK, Seen: true}, ToLog, ToLog, false},
		{allocator.Outlook{Code: allocator.CodeInsufficientStock}, Short, Short, true},
		{allocator.Outlook{Code: allocator.CodeInsufficientStock, Seen: true}, ToLog, ToLog, false},
		{allocator.Outlook{Code: allocator.CodeSKUUnknown}, ToAnchor, ToAnchor, true},
		{allocator.Outlook{Code: allocator.CodeSKUNotFound}, ToAnchor, ToAnchor, false},
		{allocator.Outlook{Code: allocator.CodeSKUPaused}, ToLog, ToLog, false},
		{allocator.Outlook{Code: allocator.CodeBuyerLimitExceeded}, ToLog, ToLog, false},
	} {
		if alone, behind := Receive(tt.o, false), Receive(tt.o, true); alone != tt.alone || behind != tt.behind {
			t.Errorf("%+v: %d, and %d behind others; want %d, %d", tt.o, alone, behind, tt.alone, tt.behind)
		}
		if OnlyShort(tt.o, true) != tt.onlyShort || OnlyShort(tt.o, false) {
			t.Errorf("%+v is only short: %v", tt.o, !tt.onlyShort)
		}
	}
}

// TestNeeds: what takes units together needs all of them, whatever is short of it now.
func TestNeeds(t *testing.T) {
	a, b := allocator.Line{SKU: "a", Quantity: 1}, allocator.Line{SKU: "b", Quantity: 2}
	short := allocator.Result{
		Reservation: allocator.Reservation{Lines: []allocator.Line{a, b}},
		Shortages:   []allocator.Shortage{{SKU: "b", Requested: 2, Known: true}},
	}
	id := allocator.ReservationID{Seq: 1}
	for _, tt := range []struct {
		cmd  allocator.Command
		want []Need
	}{
		{&allocator.Reserve{Key: allocator.Key{1}, Lines: []allocator.Line{a, b}}, []Need{Need(a), Need(b)}},
		{&allocator.Confirm{ID: id}, []Need{Need(a), Need(b)}},
		{&allocator.Confirm{ID: id, Lines: []allocator.Line{b}}, []Need{Need(b)}},
		{&allocator.Adjust{Key: allocator.Key{1}, SKU: "b", Delta: -2}, []Need{Need(b)}},
	} {
		if needs, blind := Needs(tt.cmd.AppendTo(nil), &short); !slices.Equal(needs, tt.want) || blind {
			t.Errorf("%T needs %v, blind: %v; want %v", tt.cmd, needs, blind, tt.want)
		}
	}
	short.Shortages = append(short.Shortages, allocator.Shortage{SKU: "c", Requested: 1})
	if _, blind := Needs((&allocator.Confirm{ID: id}).AppendTo(nil), &short); !blind {
		t.Error("a SKU without a bucket here is overlooked")
	}
}

// told has levels of a few SKUs.
type told map[allocator.SKU]allocator.Cut

func (l told) Cut(sku allocator.SKU) (allocator.Cut, time.Time, bool) {
	cut, ok := l[sku]
	return cut, time.Time{}, ok
}

func (l told) SoldOut(sku allocator.SKU, units allocator.Quantity) bool {
	return l[sku].Units() < units
}

// TestSoldOut needs levels of the home that are not newer than what was seen of it.
func TestSoldOut(t *testing.T) {
	levels := told{
		"a": {{Shard: 0, Shards: 1, Known: true, Applied: 10, Available: 5}},
		"b": {{Shard: 0, Shards: 1, Known: true, Applied: 10, Available: 2}},
	}
	want := []allocator.Line{{SKU: "a", Quantity: 5}, {SKU: "b", Quantity: 3}}
	if short, left, ok := SoldOut(levels, want, 0, 10); !ok || short.SKU != "b" || short.Quantity != 3 || left != 2 {
		t.Errorf("%+v, %d left, %v", short, left, ok)
	}
	if _, _, ok := SoldOut(levels, want, 0, 9); ok {
		t.Error("refused by levels that know more of the home than the home itself")
	}
	if _, _, ok := SoldOut(levels, want, 1, math.MaxUint64); ok {
		t.Error("refused by levels without the home")
	}
	if _, _, ok := SoldOut(levels, want[:1], 0, 10); ok {
		t.Error("refused, with enough units")
	}
}

// TestGive has a bucket opened, and nothing sent that nobody asked for.
func TestGive(t *testing.T) {
	levels := levelsOf{"a": {Known: true, Available: 10}, "b": {Known: true}}
	d := NewDesk(0, 2, levels)
	claims := []Claim{{Parked: 1, Units: 4}}
	for _, tt := range []struct {
		ask Asked
		ok  bool
		min allocator.Quantity
	}{
		{Asked{SKU: "a", By: 1, Claims: claims}, true, 4},
		{Asked{SKU: "a", By: 1}, false, 0},
		{Asked{SKU: "b", By: 1, Claims: claims}, false, 0},
		{Asked{SKU: "b", By: 1, Open: true}, true, 0},
		{Asked{SKU: "c", By: 1, Open: true, Claims: claims}, false, 0},
	} {
		if units, ok := d.Give(tt.ask); ok != tt.ok || units < tt.min || units > levels[tt.ask.SKU].Available {
			t.Errorf("%+v: %d units, %v", tt.ask, units, ok)
		}
	}
}

// levelsOf is a Local.
type levelsOf map[allocator.SKU]allocator.BucketReport

func (l levelsOf) Level(sku allocator.SKU) allocator.BucketReport { return l[sku] }

// TestScarcityIsForgotten after a second, and bounded.
func TestScarcityIsForgotten(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	var s Scarcity
	if !s.Empty(now) || s.Has([]byte("a"), now) {
		t.Error("something is scarce from the beginning")
	}
	s.Add("a", now)
	if !s.Has([]byte("a"), now.Add(scarceFor-1)) || s.Has([]byte("b"), now) || s.Empty(now) {
		t.Error("a is not scarce, or b is")
	}
	if late := now.Add(scarceFor + 1); s.Has([]byte("a"), late) || !s.Empty(late) {
		t.Error("it is never forgotten")
	}
	for i := range 2 * maxScarce {
		s.Add(allocator.SKU(rune(i+1)), now)
	}
	if len(s.until) > maxScarce {
		t.Errorf("%d SKUs are remembered", len(s.until))
	}
}
