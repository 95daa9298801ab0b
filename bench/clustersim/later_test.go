package clustersim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"stockade/bench/history"
)

// What happens to a reservation later, and to the stock meanwhile.

// middleHold is what some short holds are extended by: long enough to be seen after the
// time that they had, short enough to end by itself in a run.
const middleHold = 6 * time.Second

// extend lets a reservation live longer, and tells how long it does from now on: some for
// so long that only their client ends them, also of those that were to end soon.
func (c *client) extend(made history.Call, id string, ttl time.Duration) (time.Duration, error) {
	longer := longHold
	if ttl == shortHold && c.rand.IntN(2) == 0 {
		longer = middleHold
	}
	made.Kind, made.ID, made.TTL = history.Extend, id, longer
	body := map[string]any{"ttl_seconds": int(longer.Seconds())}
	got, err := c.insist(request{Call: made, path: "/v1/reservations/" + id + "/extend", body: body})
	switch {
	case err != nil:
		return ttl, err
	case got.Outcome == history.Expired && ttl == shortHold:
		return ttl, nil // it had ended by then
	case got.Outcome != history.Held:
		return ttl, fmt.Errorf("extend %s: %s %s", id, got.Outcome, got.Code)
	}
	if ttl == shortHold { // it is looked at again about when it would have ended
		<-time.After(time.Duration(c.rand.Int64N(int64(2 * shortHold))))
	}
	return longer, nil
}

// takeBack returns units of what was sold, now and then in parts. Where units are scarce
// nearly all of them come back.
func (c *client) takeBack(made history.Call, id string) error {
	if n := c.rand.IntN(12); n == 0 || !c.run.scarce && n < 6 {
		return nil
	}
	for left, part := made.Units, 1; left > 0; part++ {
		q := request{Call: made, path: "/v1/reservations/" + id + "/return"}
		q.Kind, q.ID, q.Op, q.Units = history.Return, id, fmt.Sprintf("%s-return-%d", made.Key, part), 1+c.rand.IntN(left)
		if q.Units < left || c.rand.IntN(2) == 0 { // without lines it is all that is left
			q.body = map[string]any{"lines": []map[string]any{{"sku": made.SKU, "quantity": q.Units}}}
		}
		got, err := c.insist(q)
		if err == nil && got.Outcome != history.Sold && got.Outcome != history.Returned {
			err = fmt.Errorf("return %d of %s: %s %s", q.Units, id, got.Outcome, got.Code)
		}
		if err != nil {
			return err
		}
		left -= q.Units
		if !c.run.scarce && c.rand.IntN(3) == 0 {
			return nil // the rest stays sold
		}
	}
	return nil
}

// keep changes the stock until the run is over: some units come, and what came is taken
// away again when it is not held.
func (c *client) keep() {
	surplus := map[string]int{}
	for n := 0; !c.run.over.Load() && !c.run.t.Failed(); n++ {
		<-time.After(time.Duration(c.rand.Int64N(int64(20 * c.run.pace))))
		sku := c.run.skus[c.rand.IntN(len(c.run.skus))]
		q := request{ops: true, Call: history.Call{Kind: history.Restock, Key: fmt.Sprintf("stock-%d", n), SKU: sku, Units: 1 + c.rand.IntN(2)}}
		q.body = map[string]any{"quantity": q.Units}
		if surplus[sku] > 0 {
			q.Kind, q.Units = history.Adjust, -surplus[sku]
			q.body = map[string]any{"delta": q.Units, "reason": "count"}
		}
		q.path = "/v1/skus/" + sku + "/" + string(q.Kind)
		got, err := c.insist(q)
		switch {
		case err != nil:
			c.run.t.Errorf("%s of %s: %v", q.Kind, sku, err)
		case got.Outcome == history.Done:
			surplus[sku] += q.Units
		case got.Code != "below-reserved":
			c.run.t.Errorf("%s of %s: %s %s", q.Kind, sku, got.Outcome, got.Code)
		}
	}
}

// newClient is a client with draws of its own.
func (r *run) newClient(number int) *client {
	return &client{run: r, number: number, rand: rand.New(rand.NewPCG(r.seed, uint64(number)+10))}
}
