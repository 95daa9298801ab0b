package line

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"stockade/allocator"
)

// A simulator of a whole cluster's lines: the desks under test and the real state
// machines of their shards, with clients, couriers, proposals, looks and levels as
// events of one queue. Delays, losses, repetitions and leader changes come from a
// seed; there is no goroutine and no real time, so a seed is a script. After each
// event the simulator checks that no unit was lost or made, and with each refusal
// that there were too few units, everywhere together, within MaxPictureAge.
//
// sim_test.go has the run, simhome_test.go a shard and its leader, simlog_test.go
// the log and what is repeated, simops_test.go what is asked beside reservations,
// simheld_test.go what a reservation must be by that.

// plan says what a run is made of.
type plan struct {
	shards   int
	skus     int
	stock    func(r *rand.Rand) allocator.Quantity // of one SKU in one shard
	orders   int
	lines    int                // at most, of one order
	quantity allocator.Quantity // at most, of one line
	spread   time.Duration      // over which orders come in
	wait     time.Duration      // how long an order waits in line, at most
	patience time.Duration      // until an order's deadline
	delay    time.Duration      // of a hop or a commit, at most
	loss     float64            // of a message between shards, each way
	repeat   float64            // how often a delivery arrives twice
	elect    int                // changes of leader
	cancel   float64            // how many orders that were served are canceled
	levels   bool               // pictures come from levels, if they are fresh
	drop     float64            // how often what is under way to the log when an office ends never gets there
	resend   float64            // how many orders arrive once more, later
	insist   float64            // how many are sent again while they are under way, because a connection broke
	overtake float64            // how many are sent again, and that arrives first
	confirm  float64            // how many orders that were served are confirmed, some too late
	ttl      time.Duration      // of holds; 0: they outlive the run
	restarts int                // of replicas from a snapshot and the log after it
	demand   float64            // units a second that a shard says it is asked for, at most
	restock  int                // deposits
	adjust   int                // corrections of the count, up and down
	pause    int                // times that the sale of a SKU is paused and resumed
	extend   float64            // how many orders that were served are extended, some too late
	part     float64            // how many confirmations are of a part
	giveBack float64            // how many orders that are confirmed are returned, in parts or whole
	limit    allocator.Quantity // units of a SKU for one buyer; 0: none
	buyers   int                // that have this limit
	begin    func(w *world)     // places further orders
}

// world is a run.
type world struct {
	t        testing.TB
	plan     plan
	rand     *rand.Rand
	now      time.Time
	queue    events
	seq      int
	steps    int
	homes    []*home
	skus     []allocator.SKU
	orders   []*order
	open     int // orders without an answer
	sums     map[allocator.SKU][]moment
	returned map[allocator.SKU]allocator.Quantity // units that came back
	stock    map[allocator.SKU]allocator.Quantity // at the beginning
	moved    map[allocator.SKU]int                // transfers
	onHand   map[allocator.SKU]allocator.Quantity // what was put in, with corrections
	policies map[allocator.SKU]policy             // as their anchors have them
	happened totals
	rates    []float64                  // what each shard says it is asked for
	script   []line                     // what happened
	dead     map[allocator.ShardID]bool // shards that answer nobody
	wrong    string                     // the first broken rule
}

// moment is how many units have come back since the beginning, at a time.
type moment struct {
	at       time.Time
	returned allocator.Quantity
}

// order is a request of a client.
type order struct {
	no             int
	home           *home
	command        []byte
	key            allocator.Key
	needs          []Need
	wait           time.Time // zero: it does not
	came, deadline time.Time
	begun          time.Time     // this attempt
	took           time.Duration // until the answer
	id             ID            // at the desk
	desk           *Desk
	buyer          allocator.Buyer
	reservation    allocator.ReservationID // what its key got; zero: nothing yet
	confirmed      bool                    // and this was acknowledged
	answer         string                  // empty: none yet
	flying         bool                    // its command is on its way through the log
	outlived       bool                    // by that: it was answered before
	entered        bool                    // it is the attempt of its key that is made
	first          *order                  // of which this is a repetition; nil: of none
	task           *task                   // nil: it asks for a reservation
	held           holding                 // its reservation, by what was applied
	left           bool                    // nobody waits for the answer any more
	settled        bool                    // its client was refused, and believes it
	tries          int
}

// event is something that happens later.
type event struct {
	at   time.Time
	seq  int
	name func() string
	run  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// start is when virtual time begins.
var start = time.UnixMilli(1_000_000_000_000)

// newWorld makes a cluster with stock and orders on their way.
func newWorld(t testing.TB, seed uint64, p plan) *world {
	w := &world{
		t: t, plan: p, rand: rand.New(rand.NewPCG(seed, 1)), now: start,
		sums: map[allocator.SKU][]moment{}, returned: map[allocator.SKU]allocator.Quantity{}, stock: map[allocator.SKU]allocator.Quantity{},
		moved: map[allocator.SKU]int{}, dead: map[allocator.ShardID]bool{},
		onHand: map[allocator.SKU]allocator.Quantity{}, policies: map[allocator.SKU]policy{},
	}
	for i := range p.shards {
		w.rates = append(w.rates, w.rand.Float64()*p.demand)
		w.homes = append(w.homes, newHome(w, allocator.ShardID(i)))
	}
	for i := range p.skus {
		w.stockUp(allocator.SKU(fmt.Sprint("sku", i)))
	}
	for range p.orders {
		w.order()
	}
	w.administer()
	if p.begin != nil {
		p.begin(w)
	}
	for range p.elect {
		h := w.homes[w.rand.IntN(p.shards)]
		w.after(w.upTo(p.spread*2), h.name("leader changes"), func() { h.elect() })
	}
	for range p.restarts {
		h := w.homes[w.rand.IntN(p.shards)]
		w.after(w.upTo(p.spread*2), h.name("is restarted"), func() { h.restart() })
	}
	for _, h := range w.homes {
		if p.levels {
			w.after(w.upTo(levelEvery), h.name("tells levels"), func() { h.tellLevels() })
		}
		if p.ttl > 0 {
			w.after(w.upTo(tickEvery), h.name("ticks"), func() { h.tick() })
		}
	}
	return w
}

// stockUp creates a SKU and lays its units where the plan wants them.
func (w *world) stockUp(sku allocator.SKU) {
	w.skus = append(w.skus, sku)
	anchor := w.homes[allocator.Anchor(sku, w.plan.shards)]
	parts := make([]allocator.Quantity, w.plan.shards)
	var all allocator.Quantity
	for i := range parts {
		parts[i] = w.plan.stock(w.rand)
		all += parts[i]
	}
	key := allocator.Key{9}
	copy(key[1:], sku)
	anchor.must(&allocator.PutSKU{
		Key: key, SKU: sku, HasOnHand: true, OnHand: all,
		Policy: allocator.Policy{DefaultTTL: allocator.Millis(w.plan.ttl.Milliseconds()), MaxPerBuyer: w.plan.limit},
	})
	w.onHand[sku], w.policies[sku] = all, policy{version: 1}
	for i, h := range w.homes {
		if h == anchor {
			continue
		}
		anchor.must(&allocator.TransferOut{SKU: sku, To: h.shard, Quantity: parts[i], Open: w.rand.IntN(4) > 0})
		if messages, first := anchor.state.Outbox(h.shard, 0, 1); first > 0 {
			h.must(&allocator.TransferIn{From: anchor.shard, First: first, Messages: messages})
			anchor.must(&allocator.TransferAck{To: h.shard, Through: first})
		}
	}
	w.sums[sku] = []moment{{at: w.now}}
	w.stock[sku] = w.units(sku)
	w.moved[sku] = 0
}

// order has a client ask a random home for something.
func (w *world) order() {
	o := &order{no: len(w.orders) + 1, home: w.homes[w.rand.IntN(w.plan.shards)]}
	chosen := w.rand.Perm(w.plan.skus)[:1+w.rand.IntN(w.plan.lines)]
	var lines []allocator.Line
	for i, sku := range w.skus { // sorted
		for _, c := range chosen {
			if i == c {
				lines = append(lines, allocator.Line{SKU: sku, Quantity: 1 + allocator.Quantity(w.rand.Int64N(int64(w.plan.quantity)))})
			}
		}
	}
	w.place(o, lines, w.upTo(w.plan.spread))
}

// place has an order come in.
func (w *world) place(o *order, lines []allocator.Line, in time.Duration) {
	for _, l := range lines {
		o.needs = append(o.needs, Need{l.SKU, l.Quantity})
	}
	cmd := &allocator.Reserve{Key: o.keyOf(reserves), Body: 1, Lines: lines}
	if w.plan.limit > 0 {
		o.buyer[0] = byte(w.rand.IntN(w.plan.buyers + 1)) // 0: it has none
		cmd.Buyer = o.buyer
	}
	o.command, o.key = cmd.AppendTo(nil), cmd.Key
	w.orders = append(w.orders, o)
	w.open++
	w.after(in, o.name("comes in"), func() {
		o.came, o.begun, o.deadline = w.now, w.now, w.now.Add(w.plan.patience)
		if w.plan.wait > 0 && w.rand.IntN(2) == 0 {
			o.wait = w.now.Add(w.upTo(w.plan.wait))
		}
		if w.plan.overtake > 0 && w.rand.Float64() < w.plan.overtake {
			o.isOvertaken()
			return
		}
		o.home.receive(o)
	})
	o.repeats(in)
}

// repeats has an order that comes in then be sent again, and arrive again, perhaps.
func (o *order) repeats(in time.Duration) {
	w := o.home.w
	if w.plan.insist > 0 && w.rand.Float64() < w.plan.insist {
		w.after(in+w.upTo(insistWithin), o.name("is sent again"), o.insist)
	}
	if w.rand.Float64() < w.plan.resend {
		w.after(in+w.upTo(resendWithin), o.name("arrives once more"), o.resend)
	}
}

func (o *order) name(what string) func() string {
	return func() string { return fmt.Sprintf("order %d %v at shard %d %s", o.no, o.needs, o.home.shard, what) }
}

// upTo draws a duration.
func (w *world) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(w.rand.Int64N(int64(d)))
}

// hop draws how long a hop or a commit takes.
func (w *world) hop() time.Duration { return 100*time.Microsecond + w.upTo(w.plan.delay) }

// lost draws whether a message is lost.
func (w *world) lost() bool { return w.plan.loss > 0 && w.rand.Float64() < w.plan.loss }

// after has something happen later.
func (w *world) after(d time.Duration, name func() string, run func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, name, run})
}

// line is one of a script. What it says is only put together when a run fails.
type line struct {
	at   time.Time
	what func() string
}

// note adds a line to the script.
func (w *world) note(what func() string) { w.script = append(w.script, line{w.now, what}) }

// maxSteps is far beyond what any plan needs: more is a livelock.
const maxSteps = 300_000

// run lets everything happen until all orders are answered and nothing is in
// transit; it returns what went wrong.
func (w *world) run() error {
	return w.until(func() bool { return w.open == 0 && !w.inTransit() })
}

// outlive goes on for a while, and until everything is answered again.
func (w *world) outlive(d time.Duration) error {
	end := w.now.Add(d)
	return w.until(func() bool { return !w.now.Before(end) && w.open == 0 && !w.inTransit() })
}

// until lets things happen until it is over. A panic of the code under test, or a state
// machine that stops, is a failure with a script like any other.
func (w *world) until(over func() bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = w.failed("%v\n%s", p, debug.Stack())
		}
	}()
	for !over() {
		if len(w.queue) == 0 && w.open == 0 && !w.inTransit() {
			return nil // no fault is to come any more, and no hold ends
		}
		if len(w.queue) == 0 {
			return w.failed("%d orders are not answered, and nothing happens any more", w.open)
		}
		if w.steps++; w.steps > maxSteps {
			return w.failed("no end after %d steps, %d orders are not answered", w.steps, w.open)
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.note(e.name)
		e.run()
		if err := w.check(); err != nil {
			return err
		}
	}
	return nil
}

// check looks for units that were lost or made, and for holds and sales that are
// not those that were applied.
func (w *world) check() error {
	for _, h := range w.homes {
		if len(h.touched) > 0 {
			w.holds(h)
		}
		for sku := range h.touched {
			cut := make(allocator.Cut, len(w.homes))
			for i, o := range w.homes {
				cut[i] = o.state.Bucket(sku)
			}
			b := cut.Balance()
			if !b.Balanced {
				return w.failed("%s is not balanced: %v", sku, b.Problems)
			}
			if b.Deposited != w.onHand[sku] {
				return w.failed("%d units of %s were put in, and the states have %d", w.onHand[sku], sku, b.Deposited)
			}
			delete(h.touched, sku)
			w.sums[sku] = append(w.sums[sku], moment{w.now, w.returned[sku]})
		}
	}
	if w.wrong != "" {
		return w.failed("%s", w.wrong)
	}
	return nil
}

// stayed is how many units of a SKU were for sale or on their way all the time
// since the order needed a verdict, or within MaxPictureAge if that is longer.
// Those that came back meanwhile don't count: another may have been sold before,
// so that no picture has both.
func (w *world) stayed(sku allocator.SKU, o *order) allocator.Quantity {
	since := o.came
	if o.wait.After(since) {
		since = o.wait
	}
	window := max(w.now.Sub(since), MaxPictureAge)
	sums := w.sums[sku]
	at := len(sums) - 1
	for at > 0 && w.now.Sub(sums[at].at) <= window {
		at--
	}
	return w.units(sku) - (w.returned[sku] - sums[at].returned)
}

// units is what there is of a SKU for sale or on its way.
func (w *world) units(sku allocator.SKU) allocator.Quantity {
	cut := make(allocator.Cut, len(w.homes))
	for i, o := range w.homes {
		cut[i] = o.state.Level(sku)
	}
	return cut.Units()
}

func (w *world) inTransit() bool {
	for _, h := range w.homes {
		if h.state.Stats().OutboxLen > 0 {
			return true
		}
	}
	return false
}

// failed ends a run with its script.
func (w *world) failed(format string, args ...any) error {
	var b strings.Builder
	fmt.Fprintf(&b, format+"\n", args...)
	for _, l := range w.script[max(0, len(w.script)-maxScript):] {
		fmt.Fprintf(&b, "%9.3f ms  %s\n", float64(l.at.Sub(start).Microseconds())/1000, l.what())
	}
	return errors.New(b.String())
}

// maxScript bounds what is printed of a script: its end.
const maxScript = 2000

// simulate runs a plan with many seeds.
func simulate(t *testing.T, seeds int, p func(r *rand.Rand) plan, after func(w *world) error) {
	t.Helper()
	for seed := range uint64(seeds) {
		w := newWorld(t, seed, p(rand.New(rand.NewPCG(seed, 2))))
		err := w.run()
		if err == nil {
			err = after(w)
		}
		if err != nil {
			t.Fatalf("seed %d, %+v: %v", seed, w.plan, err)
		}
	}
}
