package line_test

import (
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/line"
)

// empty is a shard without any unit.
type empty struct{}

// Level implements line.Local.
func (empty) Level(sku allocator.SKU) allocator.BucketReport {
	return allocator.BucketReport{SKU: sku, Known: true, Shards: 2}
}

// TestWhoWaitsLeavesRoom: proposals that wait for units to come back take a part of
// the places only. Those that have no time find one, and a wait that ends makes
// room for the next.
func TestWhoWaitsLeavesRoom(t *testing.T) {
	d := line.NewDesk(0, 2, empty{})
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	park := func(wait time.Duration) bool {
		a := line.Arrival{Needs: []line.Need{{SKU: "a", Quantity: 1}}, Parked: 1, Deadline: now.Add(time.Hour)}
		if wait != 0 {
			a.WaitUntil = now.Add(wait)
		}
		_, ok := d.Park(a)
		return ok
	}
	for i := range line.MaxPatient {
		if !park(time.Second) {
			t.Fatalf("no room for number %d that waits", i+1)
		}
	}
	if park(time.Second) {
		t.Error("more wait than should")
	}
	for i := range line.MaxEntries - line.MaxPatient {
		if !park(0) {
			t.Fatalf("no room for number %d that has no time", i+1)
		}
	}
	if park(0) {
		t.Error("more are parked than should be")
	}
	now = now.Add(2 * time.Second)
	d.Picture("a", now, allocator.Cut{{Shard: 0, Shards: 2, Known: true}, {Shard: 1, Shards: 2, Known: true}}, nil, true)
	refused := 0
	actions, _ := d.Step(now)
	for _, a := range actions {
		if a.Kind == line.Refuse {
			refused++
		}
	}
	if refused != line.MaxEntries || d.Waiting("a") != 0 {
		t.Fatalf("%d were refused, %d are left", refused, d.Waiting("a"))
	}
	for i := range line.MaxPatient {
		if !park(time.Second) {
			t.Fatalf("afterwards there is no room for number %d that waits", i+1)
		}
	}
}
