package line

import (
	"testing"
	"time"
)

// TestRefusals asks for what was refused, from before and after.
func TestRefusals(t *testing.T) {
	var all Refusals[string]
	start := time.Unix(1, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	of := func(request string, began, now int, want string) {
		t.Helper()
		result, ok := all.Of(request, at(began), at(now))
		if !ok {
			result = nil
		}
		if string(result) != want {
			t.Errorf("%s that began at %d s gets %q at %d s, want %q", request, began, result, now, want)
		}
	}
	of("a", 0, 1, "")
	all.Note("a", []byte("too few"), at(2))
	all.Note("b", []byte("none"), at(3))
	of("a", 1, 4, "too few")
	of("a", 2, 4, "") // it began at that moment: whoever sent it knew
	of("b", 2, 4, "none")
	of("c", 1, 4, "")
	all.Note("a", []byte("none"), at(5))
	of("a", 4, 6, "none")
	of("a", 4, 38, "none") // the first one of a is forgotten, the second is not
	of("b", 2, 39, "")
	of("a", 4, 41, "")
	if len(all.latest) != 0 || len(all.order) != 0 || all.Some() {
		t.Errorf("left: %v, %v", all.latest, all.order)
	}
}

// TestRefusalsAreForgotten forgets them with an office, and goes on in the next one.
func TestRefusalsAreForgotten(t *testing.T) {
	var all Refusals[string]
	now := time.Unix(1, 0)
	all.Note("a", nil, now)
	all.Forget()
	if _, ok := all.Of("a", now.Add(-1), now); ok || all.Some() {
		t.Error("it is remembered")
	}
	all.Note("b", nil, now)
	if _, ok := all.Of("b", now.Add(-1), now); !ok || !all.Some() {
		t.Error("the next one is not")
	}
}

// TestRefusalsAreBounded refuses more than are remembered: the oldest are forgotten.
func TestRefusalsAreBounded(t *testing.T) {
	var all Refusals[int]
	now := time.Unix(1, 0)
	for i := range maxRefusals + 10 {
		all.Note(i, nil, now)
	}
	if len(all.order) != maxRefusals || len(all.latest) != maxRefusals {
		t.Errorf("%d and %d are remembered", len(all.order), len(all.latest))
	}
	for i, want := range map[int]bool{9: false, 10: true, maxRefusals + 9: true} {
		if _, ok := all.Of(i, now.Add(-1), now); ok != want {
			t.Errorf("number %d: %v", i, ok)
		}
	}
}

// TestLongRefusalsAreBounded: long ones are bounded by their length.
func TestLongRefusalsAreBounded(t *testing.T) {
	var all Refusals[int]
	now, long := time.Unix(1, 0), make([]byte, maxRefusedSize/8)
	for i := range 20 {
		all.Note(i, long, now)
	}
	if len(all.order) != 8 || all.size != maxRefusedSize {
		t.Errorf("%d are remembered, %d bytes", len(all.order), all.size)
	}
	all.Of(0, now, now.Add(time.Hour))
	if all.size != 0 {
		t.Errorf("nothing is remembered, %d bytes", all.size)
	}
}
