package line

import (
	"cmp"
	"slices"
	"time"

	"stockade/allocator"
)

const (
	// MaxEntries bounds the proposals parked at one shard: a few hundred bytes
	// each, and more could not be served within a deadline.
	MaxEntries = 16_384

	// MaxPatient bounds those of them that wait for units to come back. They stay
	// for long and all at once may go nowhere, so they get half of the places: who
	// only waits for units of another shard must always find one.
	MaxPatient = MaxEntries / 2

	// MaxPictureAge is how old a picture may be on which a refusal stands, unless it
	// is younger than the request itself: then it is not out of date at all.
	MaxPictureAge = 50 * time.Millisecond

	// UsefulPictureAge is how old a picture may be by which units are asked for. A
	// giver that has no more says so. On a machine with no time left pictures get
	// older than MaxPictureAge, and so does everything else.
	UsefulPictureAge = 250 * time.Millisecond

	// A look that changed nothing is repeated after a pause that grows between
	// these bounds.
	minPause = time.Millisecond
	maxPause = 50 * time.Millisecond

	// idlePause is the pause between looks for entries that only wait for units to
	// come back, should nobody tell that some have.
	idlePause = 250 * time.Millisecond

	// newcomerPatience bounds how many looks of no use count against a newcomer.
	newcomerPatience = 3
)

// ID names an entry of a desk, in order of arrival.
type ID uint64

// Need is how many units of a SKU an entry takes.
type Need struct {
	SKU      allocator.SKU
	Quantity allocator.Quantity
}

// Arrival is a proposal to be parked.
type Arrival struct {
	Needs []Need // each SKU once
	// Blind: some SKU had no bucket here. Such an entry is proposed once when
	// there are buckets, because only the log knows what their policy says.
	Blind bool
	// Parked is its age, in log time.
	Parked allocator.Millis
	// At is when it came, by the caller's clock.
	At time.Time
	// Deadline is when it must have been answered.
	Deadline time.Time
	// WaitUntil is how long it waits when there are no units; zero: not at all.
	WaitUntil time.Time
}

// Local tells what this shard has applied.
type Local interface {
	Level(sku allocator.SKU) allocator.BucketReport
}

// Desk holds the lines of one shard while it is led here. It is not safe for
// concurrent use.
type Desk struct {
	home   allocator.ShardID
	shards int
	local  Local

	lines    map[allocator.SKU]*queue
	entries  map[ID]*entry
	patient  int // entries with a WaitUntil
	lastID   ID
	lastLine uint64
	alarms   alarms
	dirty    []*queue
	actions  []Action // of the step at hand
}

// entry is a parked proposal.
type entry struct {
	Arrival
	id       ID
	proposed bool    // its command is on its way through the log
	gone     bool    // it was answered
	places   []place // one for each of Needs
}

// place is where an entry stands in the line of one SKU.
type place struct {
	queue *queue
	need  allocator.Quantity
	short bool // after those before it, there are not enough units anywhere
	here  bool // after those before it, there are enough in this shard
}

// NewDesk makes the desk of a shard without lines.
func NewDesk(home allocator.ShardID, shards int, local Local) *Desk {
	return &Desk{
		home: home, shards: shards, local: local,
		lines: make(map[allocator.SKU]*queue), entries: make(map[ID]*entry),
	}
}

// Len is the number of parked proposals.
func (d *Desk) Len() int { return len(d.entries) }

// Lined tells whether there is a line for a SKU.
func (d *Desk) Lined(sku allocator.SKU) bool {
	q := d.lines[sku]
	return q != nil && len(q.entries) > 0
}

// Waiting counts the entries in the line of a SKU.
func (d *Desk) Waiting(sku allocator.SKU) (n int) {
	if q := d.lines[sku]; q != nil {
		for _, e := range q.entries {
			if !e.gone {
				n++
			}
		}
	}
	return n
}

// Park takes a proposal in; false when there are too many.
func (d *Desk) Park(a Arrival) (ID, bool) {
	waits := !a.WaitUntil.IsZero()
	if len(d.entries) >= MaxEntries || waits && d.patient >= MaxPatient {
		return 0, false
	}
	d.lastID++
	e := &entry{Arrival: a, id: d.lastID}
	d.entries[e.id] = e
	d.join(e)
	d.setAlarm(alarm{at: e.Deadline, id: e.id})
	if waits {
		d.patient++
		d.setAlarm(alarm{at: e.WaitUntil, id: e.id})
	}
	return e.id, true
}

// join puts an entry into the lines of its SKUs.
func (d *Desk) join(e *entry) {
	e.places = make([]place, len(e.Needs))
	for i, n := range e.Needs {
		q := d.lines[n.SKU]
		if q == nil {
			d.lastLine++
			q = newQueue(n.SKU, d.lastLine)
			d.lines[n.SKU] = q
		}
		q.add(e)
		e.places[i] = place{queue: q, need: n.Quantity}
		d.touch(q)
	}
}

// leave takes an entry out of its lines.
func (d *Desk) leave(e *entry) {
	for i := range e.places {
		q := e.places[i].queue
		q.entries = slices.DeleteFunc(q.entries, func(o *entry) bool { return o == e })
		d.touch(q)
	}
}

// Short says that an entry's proposal came back: units are missing. It keeps its
// place. Needs may have changed; nil: they have not.
func (d *Desk) Short(id ID, needs []Need) {
	e := d.entries[id]
	if e == nil {
		return
	}
	e.proposed = false
	if needs != nil && !slices.Equal(needs, e.Needs) {
		d.leave(e)
		e.Needs = needs
		d.join(e)
	}
	for i := range e.places {
		e.places[i].here = false // as it turned out
		e.places[i].queue.fruitless++
		d.touch(e.places[i].queue)
	}
	d.setAlarm(alarm{at: e.Deadline, id: e.id}) // it may have rung meanwhile
}

// Done says that an entry's proposal was answered.
func (d *Desk) Done(id ID) {
	if e := d.entries[id]; e != nil {
		for i := range e.places {
			e.places[i].queue.fruitless = 0
		}
		d.drop(e)
	}
}

// drop forgets an entry. Its lines lose it when they are next gone through: many
// entries often go at once.
func (d *Desk) drop(e *entry) {
	e.gone = true
	delete(d.entries, e.id)
	if !e.WaitUntil.IsZero() {
		d.patient--
	}
	for i := range e.places {
		d.touch(e.places[i].queue)
	}
}

// Changed says that another shard's level of a SKU has changed.
func (d *Desk) Changed(sku allocator.SKU) {
	if q := d.lines[sku]; q != nil {
		q.news = true
		d.touch(q)
	}
}

// Applied says that this shard has applied something. It goes on with the lines
// whose bucket has changed by it.
func (d *Desk) Applied(mark func(allocator.SKU) allocator.LevelMark) {
	for sku, q := range d.lines {
		m := mark(sku)
		if m == q.mark {
			continue
		}
		if q.marked && !m.SamePolicy(q.mark) {
			q.judgeAnew()
		}
		q.mark, q.marked = m, true
		d.touch(q)
	}
}

// touch has a line gone through at the next step.
func (d *Desk) touch(q *queue) {
	if !q.dirty {
		q.dirty = true
		d.dirty = append(d.dirty, q)
	}
}

// Step goes through the lines in which something happened and tells what is to be
// done, and when the next step is due if nothing happens before; zero: never.
func (d *Desk) Step(now time.Time) (actions []Action, next time.Time) {
	d.ring(now)
	// The order of a map must not show in what is done: the oldest line is first.
	slices.SortFunc(d.dirty, func(a, b *queue) int { return cmp.Compare(b.no, a.no) })
	for len(d.dirty) > 0 {
		q := d.dirty[len(d.dirty)-1]
		d.dirty = d.dirty[:len(d.dirty)-1]
		q.dirty = false
		d.serve(q, now)
	}
	actions, d.actions = d.actions, nil
	return actions, d.nextAlarm()
}

// late gives up on an entry.
func (d *Desk) late(e *entry) {
	var missing []allocator.ShardID
	for i := range e.places {
		if p := &e.places[i]; !p.here && len(missing) == 0 {
			missing = p.queue.picture.missing
		}
	}
	if len(missing) == 0 {
		missing = d.unopened(e)
	}
	d.act(Action{Kind: Late, ID: e.id, Missing: missing})
	d.drop(e)
}

// unopened names the anchor that an entry without a bucket still waits for: whether
// there is such a SKU was not found out.
func (d *Desk) unopened(e *entry) []allocator.ShardID {
	if !e.Blind {
		return nil
	}
	for _, n := range e.Needs {
		if here := d.local.Level(n.SKU); !here.Known {
			return []allocator.ShardID{allocator.Anchor(n.SKU, d.shards)}
		}
	}
	return nil
}

func (d *Desk) act(a Action) { d.actions = append(d.actions, a) }

// Kind says what an Action asks for.
type Kind uint8

// Kinds of actions.
const (
	// Propose: all units of entry ID are here. Short or Done follows.
	Propose Kind = iota + 1
	// Refuse: entry ID needs Quantity units of SKU, and there are only Units in all
	// shards together. With Unknown there is no such SKU. The entry is forgotten.
	Refuse
	// Late: the deadline of entry ID is over; Missing are shards that kept it from
	// a verdict. The entry is forgotten.
	Late
	// Look: take a picture of SKU in all shards. Picture follows.
	Look
	// Unsound: a picture of SKU looked fit to refuse and misses units. It is not
	// used; a bug, or damage.
	Unsound
	// Pull: ask Giver for Quantity units of SKU, or with Open at least for the
	// bucket. Granted follows.
	Pull
)

// Action is something to be done.
type Action struct {
	Kind     Kind
	ID       ID
	SKU      allocator.SKU
	Units    allocator.Quantity
	Unknown  bool
	Missing  []allocator.ShardID
	Giver    allocator.ShardID
	Quantity allocator.Quantity
	Open     bool
	// Claims is what a Pull is for, oldest first; they add up to Quantity.
	Claims []Claim
}

// place is where the entry stands in a line.
func (e *entry) place(q *queue) *place {
	for i := range e.places {
		if e.places[i].queue == q {
			return &e.places[i]
		}
	}
	return nil
}

// claims tells whether there are units for all needs of the entry somewhere, so
// that it may keep them from others.
func (e *entry) claims() bool {
	for i := range e.places {
		if e.places[i].short {
			return false
		}
	}
	return true
}

// complete tells whether all units of the entry are here.
func (e *entry) complete() bool {
	for i := range e.places {
		if !e.places[i].here {
			return false
		}
	}
	return true
}

// patient tells whether the entry still waits for units to come back.
func (e *entry) patient(now time.Time) bool { return now.Before(e.WaitUntil) }
