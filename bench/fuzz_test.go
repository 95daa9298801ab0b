package bench

import (
	"strings"
	"testing"

	"stockade/bench/fuzzing"
)

// FuzzReadItems reads answers to batches without decoding them. There is an outcome for
// each item, and all are unknown when the answer does not have as many.
func FuzzReadItems(f *testing.F) {
	const sold, held = `{"status":409,"problem":{"type":"/problems/x","code":"insufficient-stock"}}`, `{"status":201,"reservation":{"id":"r-1"}}`
	f.Add([]byte(`{"results":[`+held+`,`+sold+`]}`), 2)
	f.Add([]byte(`{"results":[`+held+`]}`), 2)
	f.Add([]byte(`{"results":[{"status":4`), 1)
	f.Add([]byte(`{"status":-1`), 1)
	f.Add([]byte(strings.Repeat(`{"status":201`, 5000)), 5000)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		n = min(max(n, 2), 10_000) // as many as a batch has
		c := new(conn)
		var r reply
		// The outcomes are a byte each in a list that grows; an item takes ten at the least.
		fuzzing.InProportion(t, body, 8, 64<<10, func() { r = c.readItems(body, n) })
		if len(r.items) != n || r.id != "" {
			t.Fatalf("%d outcomes of %d items, and the id %q", len(r.items), n, r.id)
		}
		for _, o := range r.items {
			if o >= outcomes {
				t.Errorf("%q has the outcome %d", body, o)
			}
		}
	})
}
