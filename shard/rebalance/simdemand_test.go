package rebalance

import (
	"fmt"
	"math"
	"math/rand/v2"

	"stockade/allocator"
)

// scenario is a sale to simulate.
type scenario struct {
	name     string
	shards   int
	units    allocator.Quantity
	rate     float64 // requests per second, over all shards
	skew     skew
	most     int64   // requests are for 1 to most units
	burst    micros  // time between bursts of returned units, 0 for none
	comeBack float64 // part of the reservations that come back
	restocks int     // of half the units: one each time another half has been sold
}

// skew is how demand falls on shards.
type skew int

const (
	even  skew = iota // every request has a key of its own
	zipf              // Zipf 1.2 over 10,000 buyers, each at home in one shard
	shift             // one half of the shards has nine tenths of it; another half every second
)

const (
	buyers       = 10_000
	zipfExponent = 1.2
	hotPart      = 0.9
)

// demand draws requests.
type demand struct {
	scenario
	pick  picker
	epoch micros // the second that pick is for
}

func newDemand(sc scenario, random *rand.Rand) *demand {
	d := &demand{scenario: sc, epoch: -1}
	weights := make([]float64, sc.shards)
	for i := range weights {
		weights[i] = 1
	}
	if sc.skew == zipf {
		clear(weights)
		for b := range buyers {
			weights[random.IntN(sc.shards)] += math.Pow(float64(b+1), -zipfExponent)
		}
	}
	d.pick = newPicker(weights)
	return d
}

// draw calls arrive for each request of the millisecond that begins at a moment
// since the start of the sale.
func (d *demand) draw(at micros, random *rand.Rand, arrive func(home int, units allocator.Quantity)) {
	if d.skew == shift && at/second != d.epoch {
		d.epoch = at / second
		weights := make([]float64, d.shards)
		for i, place := range random.Perm(d.shards) {
			weights[i] = 1 - hotPart
			if place < d.shards/2 {
				weights[i] = hotPart
			}
		}
		d.pick = newPicker(weights)
	}
	for range poisson(d.rate/1000, random) {
		units := allocator.Quantity(1)
		if d.most > 1 {
			units += allocator.Quantity(random.Int64N(d.most))
		}
		arrive(d.pick.draw(random), units)
	}
}

// poisson draws a number of events of which there are mean on average.
func poisson(mean float64, random *rand.Rand) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*random.NormFloat64())))
	}
	n, limit := 0, math.Exp(-mean)
	for p := random.Float64(); p > limit; p *= random.Float64() {
		n++
	}
	return n
}

// picker draws numbers by weight in constant time (Walker's aliases).
type picker struct {
	keep  []float64
	alias []int
}

func newPicker(weights []float64) picker {
	var sum float64
	for _, w := range weights {
		sum += w
	}
	n := len(weights)
	p := picker{make([]float64, n), make([]int, n)}
	var small, large []int
	for i, w := range weights {
		p.keep[i], p.alias[i] = w/sum*float64(n), i
		if p.keep[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		p.alias[s] = l
		if p.keep[l] -= 1 - p.keep[s]; p.keep[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	return p
}

func (p picker) draw(random *rand.Rand) int {
	i := random.IntN(len(p.keep))
	if random.Float64() < p.keep[i] {
		return i
	}
	return p.alias[i]
}

// String names the scenario in tables and failures.
func (sc scenario) String() string {
	return fmt.Sprintf("%s, %d units, %d shards, %.0f/s", sc.name, sc.units, sc.shards, sc.rate)
}
