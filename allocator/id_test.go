package allocator

import (
	"errors"
	"strings"
	"testing"
)

var sampleIDs = []ReservationID{
	{0, 1}, {0, 2}, {1, 1}, {15, 123_456_789}, {MaxShards - 1, MaxSeq}, {512, 1 << 40},
}

func TestReservationIDText(t *testing.T) {
	for _, id := range sampleIDs {
		text := id.String()
		if len(text) != 18 || !strings.HasPrefix(text, "r-") || text != strings.ToLower(text) {
			t.Errorf("%v is written %q", [2]any{id.Shard, id.Seq}, text)
		}
		for _, spelled := range []string{text, strings.ToUpper(text)} {
			if back, err := IDMark(0).Parse(spelled); err != nil || back != id {
				t.Errorf("Parse(%q) = %v, %v", spelled, back, err)
			}
		}
	}
}

// TestReservationIDTypos makes every wrong character and every swap of
// neighbours: none may pass as another id.
func TestReservationIDTypos(t *testing.T) {
	for _, id := range sampleIDs {
		text := []byte(id.String())
		for at := len(idPrefix); at < len(text); at++ {
			for _, c := range []byte(idAlphabet) {
				wrong := append([]byte(nil), text...)
				if wrong[at] = c; c != text[at] {
					expectMistyped(t, string(wrong))
				}
			}
			if at+1 < len(text) && text[at] != text[at+1] {
				wrong := append([]byte(nil), text...)
				wrong[at], wrong[at+1] = text[at+1], text[at]
				expectMistyped(t, string(wrong))
			}
		}
	}
}

func expectMistyped(t *testing.T, text string) {
	t.Helper()
	if id, err := IDMark(0).Parse(text); !errors.Is(err, ErrReservationIDCheck) {
		t.Errorf("Parse(%q) = %v, %v", text, id, err)
	}
}

func TestReservationIDForm(t *testing.T) {
	good := ReservationID{3, 4}.String()
	for _, text := range []string{
		"", "r-", good[1:], good + "0", good[:len(good)-1], "x" + good[1:], "r_" + good[2:], good[:5] + "u" + good[6:],
		good[:5] + "é" + good[7:], ReservationID{}.String(), ReservationID{MaxShards, 1}.String(),
	} {
		if id, err := IDMark(0).Parse(text); !errors.Is(err, ErrReservationIDForm) {
			t.Errorf("Parse(%q) = %v, %v", text, id, err)
		}
	}
}

// TestIDMark writes ids with one mark and reads them with others. Typing errors
// are found with each mark, because it changes all checksums alike.
func TestIDMark(t *testing.T) {
	marks := []IDMark{0, 1, 0x8000, 0xbeef, 0xffff}
	for _, id := range sampleIDs {
		for _, written := range marks {
			text := written.Format(id)
			for _, read := range marks {
				back, err := read.Parse(text)
				if same := written == read; same != (err == nil) || same && back != id || !same && !errors.Is(err, ErrReservationIDCheck) {
					t.Errorf("%v with mark %x, read with %x: %v, %v", [2]any{id.Shard, id.Seq}, written, read, back, err)
				}
			}
		}
	}
}
