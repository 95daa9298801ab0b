package line

import (
	"math"
	"slices"
	"time"

	"stockade/allocator"
	"stockade/shard/rebalance"
)

// queue is the line of one SKU.
type queue struct {
	sku     allocator.SKU
	no      uint64   // in order of making
	entries []*entry // by arrival; some may be gone
	dirty   bool
	mark    allocator.LevelMark // of this shard's bucket
	marked  bool                // mark is known

	picture   picture
	looking   bool
	looked    time.Time // when the last look began
	news      bool      // something has changed elsewhere since
	alarm     time.Time // when the next look is due, if an alarm is set for it
	fruitless int       // looks and proposals in a row that got nobody further

	offers []rebalance.Bucket // what the others still have by the picture, less what was asked for
	asking map[allocator.ShardID]allocator.Quantity
	turn   int       // rounds of asking so far
	opened bool      // since the picture the anchor was asked to open the bucket
	lack   []Claim   // what is still to be asked for, as of when it was last gone through
	paid   time.Time // when a giver last said that it sent some
	// granted is what givers said they sent lately. What they said since the
	// picture's moment is on its way and not in the picture yet.
	granted map[allocator.ShardID][]grant
}

// grant is an answered ask.
type grant struct {
	at    time.Time
	units allocator.Quantity
}

// picture is what all shards had of the SKU.
type picture struct {
	cut     allocator.Cut // nil: none was taken yet
	missing []allocator.ShardID
	asOf    time.Time // nothing that was answered before is missing in it
	final   bool      // a refusal may stand on it
}

func newQueue(sku allocator.SKU, no uint64) *queue {
	return &queue{
		sku:     sku,
		no:      no,
		asking:  make(map[allocator.ShardID]allocator.Quantity),
		granted: make(map[allocator.ShardID][]grant),
	}
}

// add puts an entry where it belongs by arrival: last, but for one whose needs
// have changed.
func (q *queue) add(e *entry) {
	at := len(q.entries)
	for at > 0 && q.entries[at-1].id > e.id {
		at--
	}
	q.entries = slices.Insert(q.entries, at, e)
	q.fruitless = min(q.fruitless, newcomerPatience)
}

// judgeAnew has everybody in line proposed once more, because the SKU has another
// policy by now: only the log knows what that says to them.
func (q *queue) judgeAnew() {
	for _, e := range q.entries {
		e.Blind = true
	}
}

// Picture answers a Look with what the shards had at asOf, and which did not
// answer. final says whether a refusal may stand on it.
func (d *Desk) Picture(sku allocator.SKU, asOf time.Time, cut allocator.Cut, missing []allocator.ShardID, final bool) {
	q := d.lines[sku]
	if q == nil {
		return
	}
	q.looking = false
	q.fruitless++
	q.picture = picture{cut: cut, missing: missing, asOf: asOf, final: final}
	q.opened = false
	old := asOf.Add(-MaxPictureAge) // the next picture may be of an earlier moment
	for giver, grants := range q.granted {
		q.granted[giver] = slices.DeleteFunc(grants, func(g grant) bool { return g.at.Before(old) })
	}
	q.offers = q.offers[:0]
	for i := range cut {
		if r := &cut[i]; r.Shard != d.home {
			offer := rebalance.Bucket{Shard: r.Shard, Available: max(0, r.Available-q.asking[r.Shard]), Rate: r.Rate}
			q.offers = append(q.offers, offer)
		}
	}
	if p := &q.picture; p.misses() {
		p.final = false
		d.act(Action{Kind: Unsound, SKU: sku})
	}
	d.touch(q)
}

// Granted answers a Pull: the giver sent that many units.
func (d *Desk) Granted(now time.Time, sku allocator.SKU, giver allocator.ShardID, units allocator.Quantity) {
	q := d.lines[sku]
	if q == nil {
		return
	}
	delete(q.asking, giver)
	if units > 0 {
		q.fruitless = 0
		q.granted[giver] = append(q.granted[giver], grant{now, units})
		q.paid = now
	}
	d.touch(q)
}

// units is how many there are for sale or on their way, as far as is known.
func (p *picture) units() allocator.Quantity {
	if p.cut == nil || len(p.missing) > 0 || !p.cut.Consistent() {
		return math.MaxInt64
	}
	return p.cut.Units()
}

// misses tells whether units are missing in a picture that should have them all.
func (p *picture) misses() bool {
	if len(p.missing) > 0 || !p.cut.Consistent() {
		return false
	}
	var deposited allocator.Quantity
	for i := range p.cut {
		deposited += p.cut[i].Deposited + p.cut[i].Adjusted
	}
	return p.cut.OnHand() < deposited
}

// nowhere tells whether there is no such SKU. Its anchor alone knows that, and no
// other shard needs to answer.
func (p *picture) nowhere(sku allocator.SKU, shards int) bool {
	anchor := p.cut.Of(allocator.Anchor(sku, shards))
	return anchor != nil && !anchor.Known && !p.cut.Known()
}

func (p *picture) knows(shard allocator.ShardID) bool {
	r := p.cut.Of(shard)
	return r != nil && r.Known
}

func (p *picture) useful(now time.Time) bool {
	return p.cut != nil && now.Sub(p.asOf) <= UsefulPictureAge
}

// judges tells whether an entry may be refused by the picture: if it is hardly out
// of date, or younger than the request and the end of its waiting.
func (p *picture) judges(e *entry, now time.Time) bool {
	return p.final && (now.Sub(p.asOf) <= MaxPictureAge || !p.asOf.Before(e.At) && !p.asOf.Before(e.WaitUntil))
}

// serve goes through a line.
func (d *Desk) serve(q *queue, now time.Time) {
	here := d.local.Level(q.sku)
	d.refuse(q, &here, now)
	q.entries = slices.DeleteFunc(q.entries, func(e *entry) bool { return e.gone })
	if len(q.entries) == 0 {
		q.fruitless = 0
		if !q.looking && len(q.asking) == 0 { // else the next line must know of it
			delete(d.lines, q.sku)
		}
		return
	}
	due := d.giveOut(q, &here)
	d.fetch(q, &here, due, now)
}

// refuse answers those for whom there are not enough units anywhere, all shards
// together and nobody else in line, unless they wait for some to come back.
func (d *Desk) refuse(q *queue, here *allocator.BucketReport, now time.Time) {
	p := &q.picture
	if !p.final {
		return
	}
	unknown := !here.Known && p.nowhere(q.sku, d.shards)
	if !unknown && !here.Known {
		return // first there must be a bucket, whose policy may say something else
	}
	units := p.units()
	for _, e := range q.entries {
		need := e.place(q).need
		if e.gone || e.proposed || !p.judges(e, now) || !unknown && (e.Blind || need <= max(units, here.Available) || e.patient(now)) {
			continue // a blind one first has to find out whether all its SKUs exist
		}
		a := Action{Kind: Refuse, ID: e.id, SKU: q.sku, Quantity: need, Unknown: unknown}
		if !unknown {
			a.Units = units
		}
		d.act(a)
		d.drop(e)
	}
}

// giveOut gives out units on paper, in order: those that are here, those on their
// way or asked for, and those that are anywhere. It proposes whoever has all of
// his here, notes who lacks how many that are to be asked for, and tells how many
// are due without that.
func (d *Desk) giveOut(q *queue, here *allocator.BucketReport) (due allocator.Quantity) {
	due = q.coming(d.home, here)
	free, left := here.Available, q.reach(d.home, here, due)
	for _, asked := range q.asking {
		due += asked
	}
	paid := due
	q.lack = q.lack[:0]
	for _, e := range q.entries {
		p := e.place(q)
		if e.proposed {
			free, left = free-p.need, left-p.need
			continue
		}
		if e.Blind && here.Known && d.opened(e) {
			e.Blind = false
			d.propose(e)
			continue
		}
		d.judge(e, p, p.need > max(left, free))
		p.here = e.claims() && free >= p.need
		switch {
		case p.here:
			free, left = free-p.need, left-p.need
			if e.complete() {
				d.propose(e)
			}
		case e.claims():
			want := p.need - max(free, 0)
			free, left = 0, left-p.need
			q.lack = addClaim(q.lack, Claim{e.Parked, want - paid})
			paid = max(0, paid-want)
		}
	}
	return due
}

// reach is how many units there are for the entries of the line as far as is
// known. Those that only a silent shard may have are nobody's for now.
func (q *queue) reach(home allocator.ShardID, here *allocator.BucketReport, coming allocator.Quantity) allocator.Quantity {
	if len(q.picture.missing) == 0 {
		return q.picture.units()
	}
	sum := here.Available + coming
	for i := range q.picture.cut {
		if r := &q.picture.cut[i]; r.Shard != home {
			sum += r.Available
		}
	}
	return sum
}

func (d *Desk) propose(e *entry) {
	e.proposed = true
	d.act(Action{Kind: Propose, ID: e.id})
}

// judge notes whether there are enough units for an entry anywhere. Its other
// lines change by it: what it can't use it must not keep.
func (d *Desk) judge(e *entry, p *place, short bool) {
	if p.short == short {
		return
	}
	p.short = short
	for i := range e.places {
		if o := &e.places[i]; o != p {
			d.touch(o.queue)
		}
	}
}

// opened tells whether this shard has buckets of all SKUs of an entry.
func (d *Desk) opened(e *entry) bool {
	for _, n := range e.Needs {
		if here := d.local.Level(n.SKU); !here.Known {
			return false
		}
	}
	return true
}

// fetch pulls what the line lacks here, and looks where something is when that is
// not known.
func (d *Desk) fetch(q *queue, here *allocator.BucketReport, due allocator.Quantity, now time.Time) {
	lacking := len(q.lack) > 0
	// One round at a time: what arrives brings a share with it, which may be enough
	// for those who came meanwhile.
	between := due == 0 || len(q.asking) == 0 && now.Sub(q.paid) > maxPause
	if q.picture.useful(now) && between {
		if lacking && d.pull(q) || !here.Known && d.open(q) {
			return
		}
	}
	// Units that are due may have arrived already: what was granted lately may be in the
	// picture too. Whoever waits for them must not wait for the next idle look.
	d.look(q, lacking || !here.Known || due > 0, now)
}

// coming is how many units are on their way here.
func (q *queue) coming(home allocator.ShardID, here *allocator.BucketReport) (sum allocator.Quantity) {
	for i := range q.picture.cut {
		r := &q.picture.cut[i]
		if r.Shard == home {
			continue
		}
		sent := r.With(home).Sent
		for _, g := range q.granted[r.Shard] {
			if !g.at.Before(q.picture.asOf) {
				sent += g.units
			}
		}
		sum += max(0, sent-here.With(r.Shard).Received)
	}
	return sum
}

// pull asks the shards that have some. It tells whether it asked anybody.
func (d *Desk) pull(q *queue) bool {
	free := slices.DeleteFunc(slices.Clone(q.offers), func(b rebalance.Bucket) bool {
		_, asked := q.asking[b.Shard]
		return asked
	})
	asks := rebalance.Asks(d.home, sumOf(q.lack), free, q.turn)
	q.turn++
	var claims []Claim
	for _, a := range asks {
		claims, q.lack = cutClaims(q.lack, a.Quantity)
		d.ask(q, a, claims)
	}
	return len(asks) > 0
}

// open asks the anchor for a bucket, when nobody has units that would open one.
// With one picture it asks once: the answer comes as a message, a little later.
func (d *Desk) open(q *queue) bool {
	anchor := allocator.Anchor(q.sku, d.shards)
	if len(q.asking) > 0 || q.opened || !q.picture.knows(anchor) {
		return false
	}
	q.opened = true
	d.ask(q, rebalance.Ask{Giver: anchor}, nil)
	return true
}

// ask makes one ask; without claims it is for the bucket. A giver has one at a
// time, and by this picture no more than it offers.
func (d *Desk) ask(q *queue, a rebalance.Ask, claims []Claim) {
	q.asking[a.Giver] = a.Quantity
	for i := range q.offers {
		if o := &q.offers[i]; o.Shard == a.Giver {
			o.Available = max(0, o.Available-a.Quantity)
		}
	}
	d.act(Action{Kind: Pull, SKU: q.sku, Giver: a.Giver, Quantity: a.Quantity, Open: len(claims) == 0, Claims: claims})
}

// look takes a new picture if somebody needs one, now or after a pause.
func (d *Desk) look(q *queue, urgent bool, now time.Time) {
	if q.looking || !q.undecided() {
		return
	}
	due := q.looked.Add(q.pause(d.home, urgent || q.impatient(now)))
	if due.After(now) {
		if q.alarm.IsZero() || due.Before(q.alarm) || !q.alarm.After(now) {
			q.alarm = due
			d.setAlarm(alarm{at: due, line: q})
		}
		return
	}
	q.looking, q.looked, q.news = true, now, false
	d.act(Action{Kind: Look, SKU: q.sku})
}

// pause is the least time between two looks. It grows with the looks that were of
// no use, and differs between homes, so that they don't move in step.
func (q *queue) pause(home allocator.ShardID, urgent bool) time.Duration {
	switch {
	case q.news:
		return minPause
	case !urgent:
		return idlePause
	case q.fruitless == 0:
		return 0
	}
	longest := min(minPause<<min(q.fruitless-1, 10), maxPause)
	return longest - longest*time.Duration((int(home)*7+q.turn)%8)/16
}

// undecided tells whether anybody in line is not being decided.
func (q *queue) undecided() bool {
	return slices.ContainsFunc(q.entries, func(e *entry) bool { return !e.proposed })
}

// impatient tells whether anybody in line needs a verdict.
func (q *queue) impatient(now time.Time) bool {
	return slices.ContainsFunc(q.entries, func(e *entry) bool { return !e.proposed && !e.patient(now) })
}
