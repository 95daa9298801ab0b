package rebalance

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"slices"

	"stockade/allocator"
)

// The simulation of the planner alone: one SKU, its shards, and nothing else of
// the system. It is a discrete-event simulator in virtual time: same scenario,
// same rules, same seed, same figures.
//
// What it has: requests that arrive at their home shards, in steps of a
// millisecond; levels that are 15 ms old; transfers that take 2 to 10 ms, half of
// it until the giver decides and half until the units arrive; homes that park what
// they can't serve, in order of arrival, and pull in rounds; givers that keep what
// their own older parked requests need; refusals when all levels together, with
// what is in transit, are less than is asked.
//
// What it leaves out: shards that fail or can't be reached, queues that are full,
// deadlines, carts, limits per buyer, the time a commit takes for a request itself,
// and how levels are made consistent: it takes its totals from one moment.

// micros is virtual time, from the start of the simulation.
type micros int64

const (
	ms         micros = 1000
	second            = 1000 * ms
	levelAge          = 15 * ms  // of what shards know of each other
	saleStarts        = 100 * ms // after the creation of the SKU
	ringSize          = 64       // levels kept, one a millisecond
	staleLimit        = 50 * ms  // a refusal may be so much out of date
)

// rules are what decides in a simulation: the planner, or something else to compare.
type rules struct {
	name       string
	asks       func(allocator.ShardID, allocator.Quantity, []Bucket, int) []Ask
	grant      func(Asked) allocator.Quantity
	level      func([]Bucket) []Move // nil: no levelling
	spread     func(allocator.ShardID, allocator.Quantity, []Bucket) []Move
	levelEvery micros
	pause      micros // the longest after a round for nothing
	headOnly   bool   // pulls for the first in line instead of for all
}

// with is the package's rules with other numbers.
func with(name string, change func(*tuning, *rules)) rules {
	t := tuned
	r := rules{name: name, levelEvery: 20 * ms, pause: 15 * ms}
	r.asks, r.grant, r.level, r.spread = t.asks, t.grant, t.level, t.spread
	change(&t, &r)
	return r
}

// planner is what the package does.
func planner() rules { return with("the planner", func(*tuning, *rules) {}) }

// request is a parked request.
type request struct {
	arrival uint64 // over all shards
	since   micros
	units   allocator.Quantity
}

// simShard is one shard's bucket and those who wait for it.
type simShard struct {
	available allocator.Quantity
	incoming  allocator.Quantity // on the way here
	line      []request
	pulling   bool
	waiting   int // answers and arrivals that the round waits for
	served    int // of the line, in this round
	rounds    int // for nothing, one after the other
	turn      int
	returning allocator.Quantity // sold, and will come back with the next burst
	meter     Meter
}

type event struct {
	at  micros
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].seq, e[j].seq)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// snapshot is all levels at one moment.
type snapshot struct {
	available, incoming []allocator.Quantity
	total               allocator.Quantity
}

// sim is one run.
type sim struct {
	scenario
	rules
	random   *rand.Rand
	demand   *demand
	shards   []simShard
	events   events
	seq      uint64
	now      micros
	arrivals uint64
	total    allocator.Quantity // everywhere, in transit included
	pool     allocator.Quantity // the same, if there were only one bucket
	history  [ringSize]snapshot
	trail    map[[2]int]step // the last transfer from the one to the other
	levelled map[[2]int]step // the same, of levelling alone
	restocks int
	outcome
}

// run simulates a sale to its end.
func run(sc scenario, r rules, seed uint64) outcome {
	s := &sim{
		scenario: sc, rules: r,
		random:   rand.New(rand.NewPCG(seed, 0x5eed)),
		shards:   make([]simShard, sc.shards),
		trail:    map[[2]int]step{},
		levelled: map[[2]int]step{},
		restocks: sc.restocks,
	}
	s.demand = newDemand(sc, s.random)
	for i := range s.history {
		s.history[i] = snapshot{
			available: make([]allocator.Quantity, sc.shards), incoming: make([]allocator.Quantity, sc.shards),
		}
	}
	s.deposit(sc.units)
	s.after(saleStarts, s.tick)
	for s.events.Len() > 0 {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	s.left = s.total
	return s.outcome
}

func (s *sim) after(d micros, do func()) {
	s.seq++
	heap.Push(&s.events, event{s.now + d, s.seq, do})
}

// tick is a millisecond of the sale.
func (s *sim) tick() {
	s.record()
	since := s.now - saleStarts
	if s.burst > 0 && since > 0 && since%s.burst == 0 {
		s.giveBack()
	}
	if s.restocks > 0 && s.sold >= s.units*allocator.Quantity(s.scenario.restocks-s.restocks+1)/2 {
		s.restocks--
		s.deposit(s.units / 2)
	}
	if s.level != nil && since > 0 && since%s.levelEvery == 0 {
		for _, m := range s.level(s.view(-1, true)) {
			s.transfer(kindLevel, m, nil)
		}
	}
	s.demand.draw(since, s.random, s.arrive)
	parked := false
	for i := range s.shards {
		s.turnAway(i)
		parked = parked || len(s.shards[i].line) > 0
	}
	if parked {
		s.shortTime += ms
	}
	if s.total > 0 || parked || s.toComeBack() > 0 || s.restocks > 0 {
		s.after(ms, s.tick)
	}
}

func (s *sim) toComeBack() (n allocator.Quantity) {
	for i := range s.shards {
		n += s.shards[i].returning
	}
	return n
}

// record keeps the levels of this millisecond.
func (s *sim) record() {
	h := &s.history[s.now/ms%ringSize]
	h.total = s.total
	for i := range s.shards {
		h.available[i], h.incoming[i] = s.shards[i].available, s.shards[i].incoming
	}
}

// known is the levels that shards have of each other now.
func (s *sim) known() *snapshot {
	return &s.history[max(s.now-levelAge, saleStarts)/ms%ringSize]
}

// view is the buckets as shard home knows them: its own is fresh.
func (s *sim) view(home int, withIncoming bool) []Bucket {
	k := s.known()
	buckets := make([]Bucket, len(s.shards))
	for i := range s.shards {
		b := Bucket{allocator.ShardID(i), k.available[i], s.shards[i].meter.Rate(allocator.Millis(s.now / ms))}
		if i == home {
			b.Available = s.shards[i].available
		}
		if withIncoming {
			b.Available += k.incoming[i]
		}
		buckets[i] = b
	}
	return buckets
}

// deposit puts units into the anchor, which is shard 0, and spreads them.
func (s *sim) deposit(units allocator.Quantity) {
	s.deposited += units
	s.total += units
	s.pool += units
	s.shards[0].available += units
	for _, m := range s.spread(0, units, s.view(0, false)) {
		s.transfer(kindSpread, m, nil)
	}
	s.serve(0)
}

// giveBack is a burst of cancels and expiries.
func (s *sim) giveBack() {
	for i := range s.shards {
		n := s.shards[i].returning
		s.shards[i].returning = 0
		s.shards[i].available += n
		s.returned += n
		s.total += n
		s.pool += n
		s.serve(i)
	}
}

// arrive is a request for some units at its home shard.
func (s *sim) arrive(home int, units allocator.Quantity) {
	s.arrivals++
	if s.pool >= units {
		if s.pool -= units; s.pool == 0 {
			s.ideal = s.now
		}
	}
	sh := &s.shards[home]
	sh.meter.Add(units, allocator.Millis(s.now/ms))
	switch {
	case len(sh.line) == 0 && sh.available >= units:
		s.sell(home, units, 0)
	case s.known().total < units:
		s.refuse(units)
	default:
		sh.line = append(sh.line, request{s.arrivals, s.now, units})
		if !sh.pulling {
			s.round(home)
		}
	}
}

// sell sells to somebody who has waited so long.
func (s *sim) sell(home int, units allocator.Quantity, waited micros) {
	sh := &s.shards[home]
	if s.total*100 <= s.units {
		s.lastWaits = append(s.lastWaits, waited)
	}
	sh.available -= units
	s.total -= units
	s.sold += units
	if s.total == 0 {
		s.zero = s.now
	}
	if s.burst > 0 && s.random.Float64() < s.comeBack {
		sh.returning += units
	}
}

// refuse refuses a request; falsely if there was enough all the time that a
// refusal may be out of date.
func (s *sim) refuse(units allocator.Quantity) {
	if s.refused++; s.refused == 1 {
		s.leftAtRefusal = s.total
	}
	least := s.total
	for at := max(s.now-staleLimit, saleStarts); at <= s.now; at += ms {
		least = min(least, s.history[at/ms%ringSize].total)
	}
	if least >= units {
		s.falseRefusals++
	}
}

// serve serves a line in order, as far as there are units.
func (s *sim) serve(home int) {
	sh := &s.shards[home]
	for len(sh.line) > 0 && sh.line[0].units <= sh.available {
		waited := s.now - sh.line[0].since
		s.waits = append(s.waits, waited)
		s.sell(home, sh.line[0].units, waited)
		sh.line = slices.Delete(sh.line, 0, 1)
		sh.served++
	}
}

// turnAway refuses those in a line for whom there is not enough anywhere.
func (s *sim) turnAway(home int) {
	sh := &s.shards[home]
	enough := s.known().total
	sh.line = slices.DeleteFunc(sh.line, func(r request) bool {
		if r.units <= enough {
			return false
		}
		s.refuse(r.units)
		s.refusals = append(s.refusals, s.now-r.since)
		sh.served++
		return true
	})
}

// round is one look at the other shards on behalf of a line.
func (s *sim) round(home int) {
	sh := &s.shards[home]
	s.serve(home)
	sh.pulling, sh.served = true, 0
	s.turnAway(home)
	if len(sh.line) == 0 {
		sh.pulling, sh.rounds = false, 0
		return
	}
	need := -sh.available
	for _, r := range sh.line {
		need += r.units
	}
	if s.headOnly {
		need = sh.line[0].units - sh.available
	}
	sh.turn++
	asks := s.asks(allocator.ShardID(home), need, s.view(home, false), sh.turn)
	sh.waiting = len(asks)
	s.asked += len(asks)
	for _, a := range asks {
		s.transfer(kindPull, Move{a.Giver, allocator.ShardID(home), a.Quantity}, &sh.line[0])
	}
	if len(asks) == 0 {
		s.ended(home)
	}
}

// ended is the end of a round: the next one follows at once if somebody was
// answered, else after a pause.
func (s *sim) ended(home int) {
	sh := &s.shards[home]
	s.serve(home)
	var pause micros
	if sh.rounds++; sh.served > 0 {
		sh.rounds = 0
	} else {
		pause = micros(s.random.Int64N(int64(min(ms<<min(sh.rounds, 10), s.pause)))) + 1
	}
	s.after(pause, func() { s.round(home) })
}

type kind int

const (
	kindSpread kind = iota
	kindLevel
	kindPull
)

// transfer lets the giver decide, and the units arrive. A pull is on behalf of
// the oldest of the home's line.
func (s *sim) transfer(k kind, m Move, oldest *request) {
	took := 2*ms + micros(s.random.Int64N(int64(8*ms)))
	from, to := int(m.From), int(m.To)
	var since uint64
	if oldest != nil {
		since = oldest.arrival
	}
	answered := func() {
		if k == kindPull {
			if s.shards[to].waiting--; s.shards[to].waiting == 0 {
				s.ended(to)
			}
		}
	}
	s.after(took/2, func() {
		n := s.decide(k, m, since)
		if n == 0 {
			answered()
			return
		}
		s.count(k, from, to, n)
		s.shards[from].available -= n
		s.shards[to].incoming += n
		s.after(took-took/2, func() {
			s.shards[to].incoming -= n
			s.shards[to].available += n
			s.serve(to)
			answered()
		})
	})
}

// decide is how much the giver sends.
func (s *sim) decide(k kind, m Move, since uint64) allocator.Quantity {
	g := &s.shards[m.From]
	left := g.available
	for _, r := range g.line {
		if k != kindPull || r.arrival < since {
			left -= r.units
		}
	}
	if k != kindPull {
		return max(0, min(m.Quantity, left))
	}
	now := allocator.Millis(s.now / ms)
	return s.grant(Asked{
		Need: m.Quantity, Left: left,
		HomeRate: s.shards[m.To].meter.Rate(now), GiverRate: g.meter.Rate(now),
	})
}
