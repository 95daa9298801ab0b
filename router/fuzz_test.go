package router

import (
	"testing"

	"stockade/allocator"
)

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
		after, err := decodeCursor(cursor)
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
