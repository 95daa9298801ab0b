package api

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
)

// TestTime covers the one format in which times are written, and those that are
// read.
func TestTime(t *testing.T) {
	at := time.Date(2026, 11, 27, 18, 0, 0, 5_999_999, time.UTC)
	text, err := json.Marshal(struct {
		At   Time `json:"at"`
		None Time `json:"none,omitzero"`
	}{At: TimeOf(at.In(time.FixedZone("", 3600)))})
	if err != nil || string(text) != `{"at":"2026-11-27T18:00:00.005Z"}` {
		t.Errorf("wrote %s, %v", text, err)
	}
	for text, want := range map[string]Time{
		"2026-11-27T18:00:00.005Z":         TimeOf(at),
		"2026-11-27T19:00:00.0059+01:00":   TimeOf(at),
		"2026-11-27T18:00:00Z":             TimeOf(at.Truncate(time.Second)),
		"2026-11-27T18:00:00.005999999Z":   TimeOf(at),
		"1970-01-01T00:00:00.001Z":         1,
		"2026-11-27T18:00:00.005999-00:00": TimeOf(at),
	} {
		var got Time
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "now", "2026-11-27", "2026-11-27T18:00:00", "2026-11-27 18:00:00Z", "2026-13-27T18:00:00Z", "2026-11-27T1:00:00Z",
		"2026-11-27T18:00:00,5Z", "2026-11-27T18:00:00+24:00", "2026-11-27T18:00:00+01:60"} {
		var got Time
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
	if !Time(0).Time().IsZero() || TimeOf(time.Time{}) != 0 || TimeOf(at).Time() != at.Truncate(time.Millisecond) {
		t.Error("the zero time or the way back is wrong")
	}
}

// TestAppendTextIsTheLayout compares with package time over all of it.
func TestAppendTextIsTheLayout(t *testing.T) {
	moments := []int64{0, 1, -1, 999, 1_000, -62_135_596_800_000, 253_402_300_799_999, 253_402_300_800_000, 1 << 62, -(1 << 62)}
	for range 10_000 {
		moments = append(moments, rand.Int64N(4e14)-1e14)
	}
	for _, ms := range moments {
		want := time.UnixMilli(ms).UTC().Format(TimeLayout)
		if got := Time(ms).String(); got != want {
			t.Fatalf("%d: %s, want %s", ms, got, want)
		}
	}
}

func BenchmarkAppendText(b *testing.B) {
	var buf [64]byte
	for i := Time(1_700_000_000_000); b.Loop(); i++ {
		if out, _ := i.AppendText(buf[:0]); len(out) != len(TimeLayout) {
			b.Fatal(string(out))
		}
	}
}
