package api

import (
	"testing"

	"stockade/bench/fuzzing"
)

// FuzzTime reads times as documents have them. What is written of one is read as the same
// moment.
func FuzzTime(f *testing.F) {
	for _, text := range []string{
		"2026-11-27T18:00:00.123Z", "2026-11-27T18:00:00+01:00", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
		"9999-12-31T23:59:59.9999-23:59", "0000-01-01T00:00:00+23:59", "2026-11-27T8:00:00Z", "2026-11-27t18:00:00z", "",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var at Time
		var err error
		// An error quotes the text more than once, with escapes of four bytes: that took 65
		// bytes for each.
		fuzzing.InProportion(t, text, 128, 32<<10, func() { err = at.UnmarshalText(text) })
		if err != nil {
			return
		}
		var again Time
		err = again.UnmarshalText([]byte(at.String()))
		// Beyond these years there is no text of RFC 3339, and the zero time.Time is none.
		if year := at.Time().Year(); year > 1 && year < 10000 && (err != nil || again != at) {
			t.Errorf("%q is %d, written as %s, which is %d (%v)", text, at, at, again, err)
		}
	})
}
