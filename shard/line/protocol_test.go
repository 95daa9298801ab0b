package line

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"stockade/allocator"
)

const (
	// protocolSeeds is how many random clusters one run of the test has; make sim
	// asks for more.
	protocolSeeds    = 300
	protocolSeedsEnv = "STOCKADE_SIM_SEEDS"

	// protocolSeedEnv has the test run one seed alone. There is no goroutine, so
	// it is the same run to the last step.
	protocolSeedEnv = "STOCKADE_SIM_SEED"

	// shrinkSeeds is how many seeds a smaller plan is tried with before it counts
	// as one that does not fail.
	shrinkSeeds = 40
)

// anything is a plan with every fault at once.
func anything(r *rand.Rand) plan {
	p := returning(r)
	p.orders = 1 + r.IntN(40)
	p.cancel, p.confirm, p.resend, p.drop = r.Float64()/2, r.Float64(), r.Float64()/2, r.Float64()
	p.restarts = r.IntN(6)
	p.insist, p.overtake = r.Float64()/2, r.Float64()/4
	if r.IntN(4) == 0 { // enough that units are moved ahead of need
		p.stock, p.quantity, p.demand = between(0, 150), 60, 2000
	}
	if r.IntN(3) > 0 {
		p.ttl = time.Duration(20+r.IntN(300)) * time.Millisecond
	}
	p.restock, p.adjust, p.pause = r.IntN(4), r.IntN(4), max(0, r.IntN(4)-1)
	p.extend, p.part, p.giveBack = r.Float64()/2, r.Float64(), r.Float64()
	if r.IntN(3) == 0 {
		p.limit, p.buyers = p.quantity+between(0, 3)(r), 1+r.IntN(4)
	}
	return p
}

// TestProtocol runs whole sales over an abstract log: routed orders with retries
// and repetitions, waiting, pulls, transfers, extensions, expiry, confirmations,
// cancellations, returns, deposits, corrections, pauses, limits of buyers, with
// messages lost and late, offices that end with commands under way, and replicas
// restarted from snapshots. Each order gets a verdict, each verdict is kept, and
// no unit is lost, made, or denied while it was there all the time.
func TestProtocol(t *testing.T) {
	if fixed := os.Getenv(protocolSeedEnv); fixed != "" {
		seed, err := strconv.ParseUint(fixed, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", protocolSeedEnv, err)
		}
		if _, err := protocolRun(t, seed, anything(planRand(seed))); err != nil {
			t.Fatal(err)
		}
		return
	}
	seeds := uint64(protocolSeeds)
	if asked := os.Getenv(protocolSeedsEnv); asked != "" {
		var err error
		if seeds, err = strconv.ParseUint(asked, 10, 64); err != nil {
			t.Fatalf("%s: %v", protocolSeedsEnv, err)
		}
	}
	var all totals
	first := rand.Uint64()
	for seed := first; seed != first+seeds; seed++ {
		p := anything(planRand(seed))
		n, err := protocolRun(t, seed, p)
		all.add(n)
		if err != nil {
			small, at, why := shrink(t, p, seed, err)
			t.Fatalf("again: %s=%d go test -count=1 -run '^TestProtocol$' ./shard/line\n"+
				"the smallest like it, seed %d of %+v: %v", protocolSeedEnv, seed, at, small, why)
		}
	}
	t.Logf("%d seeds from %d: %+v", seeds, first, all)
	if seeds >= protocolSeeds && all.lacks() {
		t.Error("something never happens")
	}
}

// totals counts what happened in runs.
type totals struct {
	steps, reservations, confirms, expiries int
	early                                   int // refusals before the log
	levelled                                int // moves ahead of need
	restarts, drops, repeats, insists       int
	unknown                                 int // confirmations and cancellations without an answer
	overtaken                               int // attempts that were settled by the refusal of a later one
	restocks, spreads                       int // deposits, and moves that give others their part
	ups, downs                              int // corrections of the count
	extensions, parts, returns              int
	pauses                                  int // that all shards went by
	paused, limited                         int // refusals for these reasons
	fetched, lacking                        int // tasks that got the units they lacked, or were refused them
}

func (t *totals) all() []*int {
	return []*int{
		&t.steps, &t.reservations, &t.confirms, &t.expiries, &t.early, &t.levelled,
		&t.restarts, &t.drops, &t.repeats, &t.insists, &t.unknown, &t.overtaken,
		&t.restocks, &t.spreads, &t.ups, &t.downs, &t.extensions, &t.parts, &t.returns,
		&t.pauses, &t.paused, &t.limited, &t.fetched, &t.lacking,
	}
}

func (t *totals) add(n totals) {
	for i, sum := range t.all() {
		*sum += *n.all()[i]
	}
}

// lacks tells whether anything never happened.
func (t *totals) lacks() bool {
	return slices.ContainsFunc(t.all(), func(n *int) bool { return *n == 0 })
}

// TestProtocolIsDeterministic runs some seeds twice: it is the same script.
func TestProtocolIsDeterministic(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		script := func() string {
			w := newWorld(t, seed, anything(planRand(seed)))
			if err := w.run(); err != nil {
				return err.Error()
			}
			return w.failed("the script").Error()
		}
		first, second := script(), script()
		if first != second {
			t.Errorf("seed %d is another run the second time", seed)
		}
	}
}

// A state machine that stops, or a panic, fails with the script of the run.
func TestPanicHasAScript(t *testing.T) {
	w := newWorld(t, 1, anything(planRand(1)))
	w.after(time.Millisecond, func() string { return "a planted panic" }, func() { panic("planted") })
	err := w.run()
	if err == nil || !strings.Contains(err.Error(), "planted") || !strings.Contains(err.Error(), " ms  a planted panic") {
		t.Errorf("got %v", err)
	}
}

func planRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 3)) }

// protocolRun runs one plan to its end.
func protocolRun(t testing.TB, seed uint64, p plan) (n totals, err error) {
	w := newWorld(t, seed, p)
	err = w.run()
	if err == nil { // late confirmations, ends of holds, repetitions
		err = w.outlive(p.ttl*3/2 + resendWithin)
	}
	if err == nil {
		err = settled(w)
	}
	if err == nil {
		err = kept(w)
	}
	w.happened.steps = w.steps
	return w.happened, err
}

// shrink makes a plan that fails smaller for as long as one of a few seeds fails:
// fewer orders and parts, then one fault after the other left out.
func shrink(t testing.TB, p plan, first uint64, why error) (small plan, seed uint64, smallest error) {
	small, seed, smallest = p, first, why
	for again := true; again; {
		again = false
		for _, change := range smaller {
			candidate := small
			if !change(&candidate) {
				continue
			}
			if s, err := firstFailure(t, candidate); err != nil {
				small, seed, smallest, again = candidate, s, err, true
			}
		}
	}
	return small, seed, smallest
}

func firstFailure(t testing.TB, p plan) (uint64, error) {
	for seed := range uint64(shrinkSeeds) {
		if _, err := protocolRun(t, seed, p); err != nil {
			return seed, err
		}
	}
	return 0, nil
}

// smaller are the ways to make a plan smaller; false: it is that small.
var smaller = []func(*plan) bool{
	func(p *plan) bool { return less(&p.orders, 1) },
	func(p *plan) bool { return less(&p.shards, 1) },
	func(p *plan) bool { return less(&p.skus, max(1, p.lines)) },
	func(p *plan) bool { return less(&p.lines, 1) },
	func(p *plan) bool { return less(&p.elect, 0) },
	func(p *plan) bool { return less(&p.restarts, 0) },
	func(p *plan) bool { return less(&p.loss, 0) },
	func(p *plan) bool { return less(&p.repeat, 0) },
	func(p *plan) bool { return less(&p.drop, 0) },
	func(p *plan) bool { return less(&p.resend, 0) },
	func(p *plan) bool { return less(&p.insist, 0) },
	func(p *plan) bool { return less(&p.overtake, 0) },
	func(p *plan) bool { return less(&p.cancel, 0) },
	func(p *plan) bool { return less(&p.confirm, 0) },
	func(p *plan) bool { return less(&p.wait, 0) },
	func(p *plan) bool { return less(&p.ttl, 0) },
	func(p *plan) bool { return less(&p.demand, 0) },
	func(p *plan) bool { return less(&p.restock, 0) },
	func(p *plan) bool { return less(&p.adjust, 0) },
	func(p *plan) bool { return less(&p.pause, 0) },
	func(p *plan) bool { return less(&p.extend, 0) },
	func(p *plan) bool { return less(&p.part, 0) },
	func(p *plan) bool { return less(&p.giveBack, 0) },
	func(p *plan) bool { return less(&p.limit, 0) },
}

// less takes a whole number half of the way to its least value, anything else all
// of it.
func less[T int | float64 | time.Duration | allocator.Quantity](v *T, least T) bool {
	if *v <= least {
		return false
	}
	switch n := any(v).(type) {
	case *int:
		*n = (*n + any(least).(int)) / 2
	default:
		*v = least
	}
	return true
}
