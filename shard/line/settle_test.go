package line

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"stockade/allocator"
)

// quiet is a random plan without failures.
func quiet(r *rand.Rand) plan {
	return plan{
		shards: 1 + r.IntN(5), skus: 1 + r.IntN(3), stock: between(0, 6), orders: 1 + r.IntN(20),
		lines: 1, quantity: 1 + between(0, 4)(r), spread: time.Duration(r.IntN(20)) * time.Millisecond,
		patience: 5 * time.Second, delay: time.Duration(1+r.IntN(4)) * time.Millisecond,
		levels: r.IntN(2) == 0,
	}
}

// rough is one with losses, repetitions and changes of leaders.
func rough(r *rand.Rand) plan {
	p := quiet(r)
	p.loss, p.repeat, p.elect = r.Float64()*0.3, r.Float64()*0.5, r.IntN(6)
	return p
}

// TestOrdersAreSettled runs random clusters without failures: everybody is served,
// or refused for the right reason, soon.
func TestOrdersAreSettled(t *testing.T) {
	simulate(t, 400, quiet, soon)
}

// TestCartsAreSettled does so with carts, which take what others need. Somebody
// gets his.
func TestCartsAreSettled(t *testing.T) {
	simulate(t, 400, carts, func(w *world) error {
		if err := soon(w); err != nil {
			return err
		}
		return someServed(w)
	})
}

// TestOrdersOutliveFailures loses and repeats messages, and desks with everybody
// in line: with enough time everybody gets his verdict all the same.
func TestOrdersOutliveFailures(t *testing.T) {
	simulate(t, 400, rough, settled)
}

// TestReturnedUnitsAreSold cancels half of what was served, to carts and to
// orders that wait in line.
func TestReturnedUnitsAreSold(t *testing.T) {
	simulate(t, 400, returning, settled)
}

// carts has carts of three SKUs.
func carts(r *rand.Rand) plan {
	p := quiet(r)
	p.skus, p.lines, p.shards = 3, 3, 4
	return p
}

// returning is rough, and half of what was served comes back.
func returning(r *rand.Rand) plan {
	p := rough(r)
	p.skus, p.lines = 3, 1+r.IntN(3)
	p.cancel, p.wait = 0.5, 2*time.Second
	return p
}

// settled tells whether all orders ended with a verdict.
func settled(w *world) error {
	for _, o := range w.orders {
		if o.answer != "served" && !refusals[o.answer] && !o.left {
			return w.failed("order %d %v at shard %d ended %s", o.no, o.needs, o.home.shard, o.answer)
		}
	}
	return nil
}

// soon tells whether they did within the time of some looks.
func soon(w *world) error {
	for _, o := range w.orders {
		if o.took > 250*time.Millisecond {
			return w.failed("order %d %v at shard %d took %v", o.no, o.needs, o.home.shard, o.took)
		}
	}
	return settled(w)
}

// someServed tells whether anybody was served if anybody could have been.
func someServed(w *world) error {
	for _, o := range w.orders {
		possible := !slices.ContainsFunc(o.needs, func(n Need) bool { return w.stock[n.SKU] < n.Quantity })
		if possible && !slices.ContainsFunc(w.orders, func(o *order) bool { return o.answer == "served" }) {
			return w.failed("nobody was served, but order %d could have been", o.no)
		}
	}
	return nil
}

// TestTwoHomesDoNotSwapUnits has two homes need two units and one, at the same
// time or not, where there are none to three in each: who can be served is, and
// three transfers are enough.
func TestTwoHomesDoNotSwapUnits(t *testing.T) {
	most := 0
	simulate(t, 1000, func(r *rand.Rand) plan {
		return plan{
			shards: 2, skus: 1, stock: between(0, 3), patience: time.Second,
			delay: time.Duration(r.IntN(4000)) * time.Microsecond, levels: r.IntN(2) == 0,
			begin: func(w *world) {
				first := r.IntN(2)
				for i, units := range []allocator.Quantity{2, 1} {
					o := &order{no: i + 1, home: w.homes[(first+i)%2]}
					w.place(o, []allocator.Line{{SKU: w.skus[0], Quantity: units}}, time.Duration(r.IntN(5000))*time.Microsecond)
				}
			},
		}
	}, func(w *world) error {
		sku := w.skus[0]
		most = max(most, w.moved[sku])
		if w.moved[sku] > 3 {
			return w.failed("%d transfers", w.moved[sku])
		}
		for _, o := range w.orders {
			if o.answer != "served" && w.units(sku) >= o.needs[0].Quantity {
				return w.failed("order %d ended %s, but %d units are left", o.no, o.answer, w.units(sku))
			}
		}
		return soon(w)
	})
	if most == 0 {
		t.Error("nothing was ever moved")
	}
	t.Logf("at most %d transfers", most)
}
