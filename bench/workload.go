package bench

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

const (
	maxUnits = 1_000_000_000
	maxSKUs  = 100_000
	plenty   = maxUnits // more than any run asks for

	// hold is how long reservations are held that nothing happens to: longer than a
	// run, so that what was acknowledged can be counted at its end.
	hold = 24 * time.Hour
	// shortHold is how long those are held that are left to expire.
	shortHold = 2 * time.Second
)

// Fate is what becomes of a reservation.
type Fate uint8

// The fates.
const (
	Keep    Fate = iota // it stays reserved
	Confirm             // it is sold
	Cancel              // it is given back
	Expire              // it is left to end by itself
)

// Workload is a kind of load. Its functions draw from the random numbers they are given,
// so that a seed repeats a run's requests.
type Workload struct {
	Name  string
	About string // one sentence

	skus  int
	stock func(asked float64) int64 // units of each SKU, by the units that will be asked for of it in an open loop
	batch int

	lines func(r *rand.Rand, m *menu) []int // which SKUs a request has a unit of
	fate  func(r *rand.Rand) (Fate, time.Duration)
	// followed: some are confirmed or canceled
	followed bool
	profile  profile // nil: all of the rate all the time
	restock  float64 // at which part of the run the stock is filled up again; 0: never
}

// profile is the part of the rate at a moment of a run of a length.
type profile func(at, length time.Duration) float64

// menu is what the SKUs of a run are.
type menu struct {
	n    int        // how many there are
	pick func() int // one of them, by how much they are wanted
}

// workloads are all there are, in the order of the help text.
var workloads = []Workload{
	{
		Name: "hot", About: "one SKU with plenty of units, which everybody wants",
		skus: 1, stock: endless, lines: oneSKU, fate: keep,
	},
	{
		Name: "zipf", About: "1,000 SKUs with plenty of units, some wanted far more than others (Zipf, exponent 1.1)",
		skus: 1000, stock: endless, lines: byZipf, fate: keep,
	},
	{
		Name: "carts", About: "carts of three of 200 SKUs each, all or nothing",
		skus: 200, stock: endless, lines: cart, fate: keep,
	},
	{
		Name: "sellout", About: "one SKU, asked for a hundred times more often than there are units",
		skus: 1, stock: func(asked float64) int64 { return max(1, int64(asked/100)) }, lines: oneSKU, fate: keep,
	},
	{
		Name: "opening", About: "one SKU whose sale opens: within a second the rate rises 122-fold, as on Alibaba's Double 11",
		skus: 1, stock: endless, lines: oneSKU, fate: keep, profile: opening,
	},
	{
		Name: "mix", About: "ten SKUs whose reservations are confirmed (half), canceled (three in ten) or left to expire",
		skus: 10, stock: endless, lines: anySKU, fate: mixed, followed: true,
	},
	{
		Name: "restock", About: "one SKU that is sold out before half of the time, and filled up again then",
		skus: 1, stock: func(asked float64) int64 { return max(1, int64(asked/4)) }, lines: oneSKU, fate: keep, restock: 0.5,
	},
	{
		Name: "batch", About: "one SKU with plenty of units, 100 reservations a request",
		skus: 1, stock: endless, batch: 100, lines: oneSKU, fate: keep,
	},
}

// Workloads lists what can be run.
func Workloads() []Workload { return workloads }

// find looks a workload up by its name.
func find(name string) (*Workload, error) {
	var names []string
	for i := range workloads {
		if workloads[i].Name == name {
			return &workloads[i], nil
		}
		names = append(names, workloads[i].Name)
	}
	return nil, fmt.Errorf("there is no workload %q: there are %s", name, strings.Join(names, ", "))
}

func endless(float64) int64 { return plenty }

var theOne = []int{0}

func oneSKU(*rand.Rand, *menu) []int { return theOne }

func anySKU(r *rand.Rand, m *menu) []int { return []int{r.IntN(m.n)} }

func byZipf(_ *rand.Rand, m *menu) []int { return []int{m.pick()} }

func cart(r *rand.Rand, m *menu) []int {
	picked := []int{r.IntN(m.n)}
	for len(picked) < min(3, m.n) {
		next := r.IntN(m.n)
		for _, p := range picked {
			if p == next {
				next = -1
				break
			}
		}
		if next >= 0 {
			picked = append(picked, next)
		}
	}
	return picked
}

func keep(*rand.Rand) (Fate, time.Duration) { return Keep, 0 }

// mixed has buyers who think for a while before they pay or leave.
func mixed(r *rand.Rand) (Fate, time.Duration) {
	think := time.Duration(r.Int64N(int64(time.Second)))
	switch n := r.IntN(10); {
	case n < 5:
		return Confirm, think
	case n < 8:
		return Cancel, think
	default:
		return Expire, 0
	}
}

// openingRise is how much more is asked for a second after a sale has opened: Alibaba
// published 122 times for Double 11.
const openingRise = 122

// opening is the rate around the moment a sale opens, which is a fifth into the run. The
// rise takes a second, or a tenth of a run that is shorter than ten.
func opening(at, length time.Duration) float64 {
	rise := min(time.Second, length/10)
	switch passed := at - length/5; {
	case passed < 0:
		return 1.0 / openingRise
	case passed < rise:
		return 1.0/openingRise + (1-1.0/openingRise)*passed.Seconds()/rise.Seconds()
	default:
		return 1
	}
}

// zipfExponent is how unequal SKUs are wanted.
const zipfExponent = 1.1

// zipf draws numbers below n.
func zipf(r *rand.Rand, n int) func() int {
	z := rand.NewZipf(r, zipfExponent, 1, uint64(n-1))
	return func() int { return int(z.Uint64()) }
}
