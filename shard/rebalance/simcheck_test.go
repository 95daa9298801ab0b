package rebalance

import (
	"slices"
	"testing"

	"stockade/allocator"
)

// sale makes a scenario by the name of its demand.
func sale(name string, shards int, units allocator.Quantity, rate float64) scenario {
	sc := scenario{name: name, shards: shards, units: units, rate: rate, most: 1}
	switch name {
	case "even":
	case "Zipf":
		sc.skew = zipf
	case "1 to 5":
		sc.most = 5
	case "Zipf, 1 to 5":
		sc.skew, sc.most = zipf, 5
	case "shifting":
		sc.skew = shift
	case "returns":
		sc.burst, sc.comeBack = second/2, 0.3
	case "restock":
		sc.restocks = 1
	default:
		panic("no such demand: " + name)
	}
	return sc
}

var everyDemand = []string{"even", "Zipf", "1 to 5", "Zipf, 1 to 5", "shifting", "returns", "restock"}

// checkRun runs a sale and checks what holds for each: it ends at exactly zero,
// and nobody is refused who could have been served.
func checkRun(t *testing.T, sc scenario, r rules, seed uint64) outcome {
	t.Helper()
	o := run(sc, r, seed)
	if o.left != 0 {
		t.Errorf("%s, seed %d: %d units are left", sc, seed, o.left)
	}
	if o.sold != o.deposited+o.returned {
		t.Errorf("%s, seed %d: %d deposited and %d returned, but %d sold", sc, seed, o.deposited, o.returned, o.sold)
	}
	if o.falseRefusals != 0 {
		t.Errorf("%s, seed %d: %d refused who could have been served", sc, seed, o.falseRefusals)
	}
	if most := allocator.Quantity(sc.most); o.refused > 0 && o.leftAtRefusal >= most {
		t.Errorf("%s, seed %d: %d units were somewhere when the first was refused", sc, seed, o.leftAtRefusal)
	}
	return o
}

// boundFrom is the least number of units per shard from which transfers stay below
// G·log2(S/G). With less the bound is about as much as one transfer a shard, and
// the first request at each shard alone takes one.
const boundFrom = 8

// checkBound checks the number of transfers of a sale with constant demand, where
// the bound means something; below it, that no more are made than nine for
// four shards, nor than two a unit.
func checkBound(t *testing.T, sc scenario, o outcome, seed uint64) {
	t.Helper()
	per := float64(sc.units) / float64(sc.shards)
	most := bound(sc.units, sc.shards)
	if per < boundFrom {
		most = min(2.25*float64(sc.shards), 2*float64(sc.units)) + 2
	}
	if float64(o.transfers) > most {
		t.Errorf("%s, seed %d: %d transfers (%d spread, %d levelled, %d pulled), more than %.0f",
			sc, seed, o.transfers, o.spreads, o.levels, o.pulls, most)
	}
}

// With even and with Zipf demand a sale of S units over G shards takes at most
// G·log2(S/G) transfers, however fast it is, from 8 units a shard on.
func TestTransfersAreFew(t *testing.T) {
	for _, shards := range []int{4, 16} {
		for _, per := range []allocator.Quantity{1, 2, 4, 8, 16, 64, 1000} {
			transfersAreFew(t, shards, per)
		}
	}
}

func transfersAreFew(t *testing.T, shards int, per allocator.Quantity) {
	for _, name := range []string{"even", "Zipf"} {
		for _, rate := range []float64{100, 1000, 100_000} {
			if per == 1000 && rate < 1000 {
				continue // too long
			}
			for seed := range uint64(3) {
				sc := sale(name, shards, per*allocator.Quantity(shards), rate)
				checkBound(t, sc, checkRun(t, sc, planner(), seed), seed)
			}
		}
	}
}

// Every kind of demand ends at zero, with no false refusal.
func TestEverySaleEndsAtZero(t *testing.T) {
	for _, name := range everyDemand {
		for _, shards := range []int{1, 2, 4, 16, 64} {
			for _, units := range []allocator.Quantity{1, 10, 1000, 20_000} {
				checkRun(t, sale(name, shards, units, 20_000), planner(), 7)
			}
		}
	}
}

// Under constant demand no units go to and fro. A few transfers of the last second
// undo another one, when the last units decide: two homes pull the same ones, each
// for an older request than the other has left. Where requests are for several
// units, and a home gives up because all that is left is too little for it, that
// may happen twice.
func TestNothingPingPongs(t *testing.T) {
	for _, name := range []string{"even", "Zipf", "1 to 5", "Zipf, 1 to 5"} {
		for _, rate := range []float64{5_000, 50_000} {
			for seed := range uint64(3) {
				sc := sale(name, 16, 200_000, rate)
				o := checkRun(t, sc, planner(), seed)
				if o.toAndFro > 0 && (sc.most == 1 || o.toAndFro*20 > o.transfers) {
					t.Errorf("%s, seed %d: %d transfers went to and fro", sc, seed, o.toAndFro)
				}
				if o.back*10 > o.transfers || o.levelledBack*20 > o.transfers {
					t.Errorf("%s, seed %d: of %d transfers %d went back within a second, %d of them of levelling",
						sc, seed, o.transfers, o.back, o.levelledBack)
				}
			}
		}
	}
}

// Whoever gets one of the last units waits little longer than a pull takes.
func TestTheTailIsShort(t *testing.T) {
	for _, name := range []string{"even", "Zipf"} {
		for seed := range uint64(3) {
			o := checkRun(t, sale(name, 16, 200_000, 50_000), planner(), seed)
			if p99 := quantile(o.lastWaits, 0.99); p99 > 25 {
				t.Errorf("%s, seed %d: of those who got the last hundredth one in a hundred waited %.0f ms", name, seed, p99)
			}
			if late := o.zero - o.ideal; late > 50*ms {
				t.Errorf("%s, seed %d: sold out %d ms later than from one bucket", name, seed, late/ms)
			}
		}
	}
}

// The same seed gives the same run.
func TestSimulationIsDeterministic(t *testing.T) {
	sc := sale("Zipf, 1 to 5", 16, 20_000, 20_000)
	a, b := run(sc, planner(), 3), run(sc, planner(), 3)
	if a.transfers != b.transfers || a.moved != b.moved || a.zero != b.zero || !slices.Equal(a.waits, b.waits) {
		t.Errorf("two runs differ: %d and %d transfers, %d and %d units moved", a.transfers, b.transfers, a.moved, b.moved)
	}
}
