package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"stockade/router/api"
	"stockade/router/client"
)

// TestClientSeesNoFailure has the Go client, which is told of one node only, sell while
// that node is killed, and one after it: it finds the others, and no call fails. In the
// end there is one reservation for each call.
func TestClientSeesNoFailure(t *testing.T) {
	const callers = 16
	nodes := startNodes(t, 3, "--shards", "3")
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/s", "", map[string]any{"on_hand": 1_000_000})
	c, err := client.New(client.Config{Nodes: []string{nodes[0].HTTP}, Timeout: startTimeout})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "the client has found all nodes", startTimeout, func() error {
		if found := c.Nodes(); len(found) != 3 {
			return fmt.Errorf("it knows %v", found)
		}
		return nil
	})
	var calls atomic.Int64
	var over atomic.Bool
	var sellers sync.WaitGroup
	ids := make([][]string, callers)
	for i := range callers {
		sellers.Go(func() {
			for n := 0; !over.Load(); n++ {
				r, err := c.Reserve(t.Context(), fmt.Sprintf("client-%d-%d", i, n), api.ReserveRequest{SKU: "s", Quantity: 1, TTLSeconds: 3600})
				if err != nil {
					t.Errorf("caller %d: %v", i, err)
					return
				}
				ids[i] = append(ids[i], r.ID)
				calls.Add(1)
			}
		})
	}
	for _, p := range nodes[:2] {
		sales(t, &calls)
		p.kill(t)
		sales(t, &calls)
		p.start(t)
		p.ready(t)
	}
	over.Store(true)
	sellers.Wait()
	all := slices.Concat(ids...)
	slices.Sort(all)
	if distinct := len(slices.Compact(all)); distinct != int(calls.Load()) {
		t.Errorf("%d calls, %d reservations", calls.Load(), distinct)
	}
	if got := audit(t, nodes[2], "s"); got.Reserved != int(calls.Load()) {
		t.Errorf("%d calls; %+v", calls.Load(), got)
	}
}

// sales waits until some more calls have succeeded.
func sales(t *testing.T, calls *atomic.Int64) {
	t.Helper()
	from := calls.Load()
	eventually(t, "sales go on", startTimeout, func() error {
		if n := calls.Load() - from; n < 200 {
			return fmt.Errorf("%d sold", n)
		}
		return nil
	})
}
