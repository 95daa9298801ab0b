package router

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"stockade/allocator"
	"stockade/bench/fuzzing"
)

// The most that reading one of the texts below may take: some copies of it, and an error
// that says what is wrong.
const textPerByte, textAlways = 8, 32 << 10

// FuzzCursor reads what claims to be the cursor of a page. What is taken is the only
// cursor of its place.
func FuzzCursor(f *testing.F) {
	for _, sku := range []allocator.SKU{"a", "shoe-42", "x.y_z"} {
		f.Add(encodeCursor(sku))
	}
	f.Add("")
	f.Add("MQ")
	f.Add("MXB") // bits that mean nothing
	f.Add("MXA\n")
	f.Add("====")
	f.Fuzz(func(t *testing.T, cursor string) {
		var after allocator.SKU
		var err error
		fuzzing.InProportion(t, []byte(cursor), textPerByte, textAlways, func() { after, err = decodeCursor(cursor) })
		switch {
		case err != nil || cursor == "":
			if after != "" {
				t.Errorf("%q after %q", cursor, after)
			}
		case !allocator.ValidSKU(after):
			t.Errorf("%q is after %q", cursor, after)
		case encodeCursor(after) != cursor:
			t.Errorf("%q and %q are after %s", cursor, encodeCursor(after), after)
		}
	})
}

// FuzzKeyTime looks for the time in idempotency keys. What is taken for a UUIDv7 is one
// to another reader, with the same time, and the time is in the key.
func FuzzKeyTime(f *testing.F) {
	f.Add("0199dd3e-8c3b-7abc-8def-0123456789ab")
	f.Add("0199DD3E-8C3B-7ABC-BDEF-0123456789AB")
	f.Add("01K7EKX33VABCDEFGHJKMNPQRS")
	f.Add("01234567890123456789012345")
	f.Add("ffffffff-ffff-7fff-bfff-ffffffffffff")
	f.Add("zzzzzzzzzzzzzzzzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, key string) {
		var at allocator.Millis
		fuzzing.InProportion(t, []byte(key), textPerByte, textAlways, func() { at = keyTime(key) })
		if at == 0 {
			return
		}
		if at < firstKeyTime || at >= lastKeyTime {
			t.Errorf("%q is of %d", key, at)
		}
		if len(key) == ulidLen {
			return
		}
		id, err := uuid.Parse(key)
		if err != nil || id.Version() != 7 || id.Variant() != uuid.RFC4122 || fmt.Sprintf("%x", id[:6]) != fmt.Sprintf("%012x", int64(at)) {
			t.Errorf("%q is taken for a key of %d, and another reader says %v (%v)", key, at, id, err)
		}
	})
}
