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
	seller := startSeller(t, c)
	for _, p := range nodes[:2] {
		seller.survives(t, p)
	}
	seller.sellsExactly(t, nodes[2])
}

// sellerCallers is how many callers a seller has at a time.
const sellerCallers = 16

// seller reserves units of SKU s through a Go client until it is told to stop. No call
// may fail.
type seller struct {
	calls atomic.Int64 // that have succeeded
	over  atomic.Bool
	done  sync.WaitGroup
	ids   [sellerCallers][]string
}

func startSeller(t *testing.T, c *client.Client) *seller {
	s := new(seller)
	for i := range s.ids {
		s.done.Go(func() {
			for n := 0; !s.over.Load(); n++ {
				r, err := c.Reserve(t.Context(), fmt.Sprintf("seller-%d-%d", i, n), api.ReserveRequest{SKU: "s", Quantity: 1, TTLSeconds: 3600})
				if err != nil {
					t.Errorf("caller %d: %v", i, err)
					return
				}
				s.ids[i] = append(s.ids[i], r.ID)
				s.calls.Add(1)
			}
		})
	}
	return s
}

// survives kills a process while it sells, and starts it again.
func (s *seller) survives(t *testing.T, p *process) {
	t.Helper()
	sales(t, &s.calls)
	p.kill(t)
	sales(t, &s.calls)
	p.start(t)
	p.ready(t)
}

// sellsExactly stops, and looks whether there is one reservation for each call, asking a
// node.
func (s *seller) sellsExactly(t *testing.T, node *process) {
	t.Helper()
	s.over.Store(true)
	s.done.Wait()
	all := slices.Concat(s.ids[:]...)
	slices.Sort(all)
	if distinct := len(slices.Compact(all)); distinct != int(s.calls.Load()) {
		t.Errorf("%d calls, %d reservations", s.calls.Load(), distinct)
	}
	if got := audit(t, node, "s"); got.Reserved != int(s.calls.Load()) {
		t.Errorf("%d calls; %+v", s.calls.Load(), got)
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
