package line

import (
	"slices"
	"testing"

	"stockade/allocator"
)

// TestAttempts goes through what may become of the attempts of a key.
func TestAttempts(t *testing.T) {
	key, other := allocator.Key{1}, allocator.Key{2}
	var all Attempts[string]
	enter := func(key allocator.Key, p string, want Entry) {
		t.Helper()
		if got := all.Enter(key, p, func(o string) bool { return o[0] == p[0] }); got != want {
			t.Errorf("%s enters as %d, want %d", p, got, want)
		}
	}
	answered := func(key allocator.Key, want ...string) {
		t.Helper()
		if got := all.Answered(key); !slices.Equal(got, want) {
			t.Errorf("answered with %v, want %v", got, want)
		}
	}
	enter(key, "a1", First)
	enter(key, "a2", Joined)
	enter(key, "b", Foreign)
	enter(other, "c", First)
	answered(key, "a2")
	answered(other)
	answered(key)

	enter(key, "a1", First)
	all.Outlives(key)
	answered(key)
	enter(key, "a2", Joined)
	enter(key, "a3", Joined)
	if next, goesOn, more := all.Over(key, true); next != "a2" || !goesOn || more != nil {
		t.Errorf("short in the log: %q %v %v", next, goesOn, more)
	}
	answered(key, "a3")

	enter(key, "a1", First)
	all.Outlives(key)
	enter(key, "a2", Joined)
	if _, goesOn, more := all.Over(key, false); goesOn || !slices.Equal(more, []string{"a2"}) {
		t.Errorf("made in the log: goes on %v, %v", goesOn, more)
	}
	enter(key, "a1", First)
	all.Outlives(key)
	if _, goesOn, more := all.Over(key, true); goesOn || more != nil {
		t.Errorf("short in the log, and nobody waits: goes on %v, %v", goesOn, more)
	}
	enter(key, "a1", First)
	enter(key, "a2", Joined)
	if _, goesOn, more := all.Over(key, true); goesOn || more != nil { // the answer is on its way
		t.Errorf("ended at that moment: goes on %v, %v", goesOn, more)
	}
	all.Outlives(key)
	answered(key, "a2")

	if _, goesOn, more := all.Over(key, true); goesOn || more != nil || len(all.first)+len(all.rest) != 0 {
		t.Errorf("nothing is under way: goes on %v, %v; %d kept", goesOn, more, len(all.first)+len(all.rest))
	}
}
