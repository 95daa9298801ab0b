package allocator_test

// Random programs against the reference model of model_test.go. A world is a
// small cluster: one real State and one model per shard, and a network that
// loses, repeats, delays and reorders what the shards tell each other. After
// every step the answer, every bucket, every reservation, the outboxes and the
// totals must be equal, the invariants must hold, and the units of the whole
// cluster must add up, at the same moment and in any exact cut of older reports.

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
	"stockade/allocator"
)

const retention = 400 // short, so that records come and go within a program

var worldSKUs = []allocator.SKU{"apple", "bread", "corn", "dates", "eggs"}

// member is one shard, twice.
type member struct {
	real  *allocator.State
	model *model
	// frozen is a view taken earlier and what it looked like then: whatever
	// happens to the state later, it must look the same.
	frozen *allocator.View
	image  []byte
	past   map[allocator.SKU][]allocator.BucketReport
}

// packet is a command under way between shards. It stays on the network when it
// is delivered, so that it can come again.
type packet struct {
	to  int
	cmd allocator.Command
}

type world struct {
	*rapid.T
	shards  []*member
	network []packet
	ids     []allocator.ReservationID
	keyed   []allocator.Command // commands that had a key, for repeats
	keys    uint32
	lastSeq []uint64 // of the ids each shard made
}

func TestModelOneShard(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { runWorld(t, 1) })
}

func TestModelCluster(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { runWorld(t, rapid.IntRange(2, 4).Draw(t, "shards")) })
}

func runWorld(t *rapid.T, shards int) {
	w := newWorld(t, shards)
	w.stockUp()
	actions := w.actions()
	rounds := 3 // Repeat takes 30 steps on average
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		t.Repeat(actions)
	}
	w.drain()
}

func newWorld(t *rapid.T, shards int) *world {
	w := &world{T: t, lastSeq: make([]uint64, shards)}
	expiries := rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(t, "expiriesPerStamp")
	for i := range shards {
		cfg := allocator.Config{Shard: allocator.ShardID(i), Shards: shards, Retention: retention, ExpiryPerStamp: expiries}
		s, err := allocator.New(cfg)
		if err != nil {
			t.Fatalf("New(%+v): %v", cfg, err)
		}
		w.shards = append(w.shards, &member{real: s, model: newModel(cfg), past: map[allocator.SKU][]allocator.BucketReport{}})
		w.begin(i, 1000)
	}
	return w
}

// actions are the steps a program is made of. Those that stand first are drawn
// more often (see pick), and so are those with a weight.
func (w *world) actions() map[string]func(*rapid.T) {
	acts := map[string]func(*rapid.T){"": func(*rapid.T) { w.checkCluster() }}
	add := func(weight int, name string, do func()) {
		for range weight {
			acts[fmt.Sprintf("%02d %s", len(acts), name)] = func(*rapid.T) { do() }
		}
	}
	add(7, "reserve", w.reserve)
	add(3, "confirm", w.confirm)
	add(2, "return", w.giveBack)
	add(2, "advance", w.advance)
	add(2, "deliver", w.deliver)
	add(2, "transfer", w.transfer)
	add(2, "repeat", w.repeat)
	add(2, "send", w.send)
	add(1, "cancel", w.cancel)
	add(1, "extend", w.extend)
	add(1, "put", w.put)
	add(1, "pause", w.pause)
	add(1, "restock", w.restock)
	add(1, "adjust", w.adjust)
	add(1, "acknowledge", w.acknowledge)
	add(1, "restart", w.restart)
	add(1, "freeze", w.freeze)
	add(1, "audit", w.audit)
	add(1, "burst", w.burst)
	add(2, "leap", w.leap)
	return acts
}

// do applies one command to both sides of a shard and compares everything.
func (w *world) do(shard int, cmd allocator.Command) allocator.Result {
	got := w.compare(shard, cmd)
	w.check(shard)
	return got
}

// compare applies one command to both sides and compares the answers.
func (w *world) compare(shard int, cmd allocator.Command) allocator.Result {
	m := w.shards[shard]
	got := w.apply(m.real, cmd)
	w.checkID(shard, cmd, got)
	want := m.model.apply(cmd, got)
	if !sameResult(got, want) {
		w.Fatalf("shard %d, %T%+v:\n got %+v\nwant %+v", shard, cmd, cmd, got, want)
	}
	return got
}

// apply sends a command through the wire format into a state.
func (w *world) apply(s *allocator.State, cmd allocator.Command) allocator.Result {
	wire := cmd.AppendTo(nil)
	if err := allocator.ValidateCommand(wire); err != nil {
		w.Fatalf("ValidateCommand(%T%+v): %v", cmd, cmd, err)
	}
	prefix := []byte("before")
	var preview allocator.Preview
	outlook, previewed := preview.Reserve(s, wire)
	out, err := s.Apply(wire, prefix)
	if err != nil {
		w.Fatalf("Apply(%T%+v): %v", cmd, cmd, err)
	}
	if !bytes.HasPrefix(out, prefix) {
		w.Fatalf("Apply did not append to its output: %q", out)
	}
	var r allocator.Result
	if err := allocator.DecodeResult(out[len(prefix):], &r); err != nil {
		w.Fatalf("DecodeResult of %T%+v: %v", cmd, cmd, err)
	}
	if reserve, ok := cmd.(*allocator.Reserve); ok != previewed || ok && !foreseen(outlook, r) {
		w.Fatalf("the outlook of %+v was %+v, %v, the result is %+v", reserve, outlook, previewed, r)
	}
	return r
}

// foreseen tells whether a preview was right.
func foreseen(o allocator.Outlook, r allocator.Result) bool {
	if o.Seen {
		return r.Replayed || r.Code == allocator.CodeKeyReused
	}
	return !r.Replayed && r.Code == o.Code
}

// checkID holds that ids of new reservations are the shard's own and ascend.
func (w *world) checkID(shard int, cmd allocator.Command, got allocator.Result) {
	if cmd.Kind() != allocator.KindReserve || got.Code != allocator.CodeOK || got.Replayed {
		return
	}
	id := got.Reservation.ID
	if id.Shard != allocator.ShardID(shard) || id.Seq <= w.lastSeq[shard] && len(w.shards[shard].model.holds) > 0 {
		w.Fatalf("shard %d made id %v after seq %d", shard, id, w.lastSeq[shard])
	}
	if back, err := allocator.IDMark(0).Parse(id.String()); err != nil || back != id {
		w.Fatalf("Parse(%q) = %v, %v", id, back, err)
	}
	w.lastSeq[shard] = id.Seq
	w.ids = append(w.ids, id)
}

// begin moves a shard's time on both sides.
func (w *world) begin(shard int, stamp allocator.Millis) {
	m := w.shards[shard]
	if err := m.real.Begin(stamp); err != nil {
		w.Fatalf("Begin(%d): %v", stamp, err)
	}
	m.model.begin(stamp)
	early, ok := m.model.forget(func(id allocator.ReservationID) bool { _, found := m.real.Reservation(id); return !found })
	if !ok {
		w.Fatalf("shard %d at %d: reservation %v is gone too early", shard, m.real.Now(), early)
	}
	w.check(shard)
}

// check compares everything that can be seen of a shard.
func (w *world) check(shard int) {
	m := w.shards[shard]
	if err := m.real.CheckInvariants(); err != nil {
		w.Fatalf("shard %d: invariants: %v", shard, err)
	}
	if m.real.Now() != m.model.now || m.real.Applied() != m.model.applied {
		w.Fatalf("shard %d: now %d, applied %d; want %d, %d", shard, m.real.Now(), m.real.Applied(), m.model.now, m.model.applied)
	}
	for _, sku := range worldSKUs {
		w.checkBucket(m, sku)
	}
	for _, h := range m.model.holds {
		got, ok := m.real.Reservation(h.ID)
		if !ok || !sameReservation(got, h.Reservation) {
			w.Fatalf("shard %d: reservation %v:\n got %+v, %v\nwant %+v", shard, h.ID, got, ok, h.Reservation)
		}
	}
	w.checkOutbox(m)
	w.checkTotals(m)
	w.checkNextDue(m)
}

func (w *world) checkBucket(m *member, sku allocator.SKU) {
	got, want := m.real.Bucket(sku), m.model.report(sku)
	if got.Hash != m.real.Hash() || got.Updated < got.Created || got.Updated > m.model.now {
		w.Fatalf("bucket %s: hash %x of %x, created %d, updated %d", sku, got.Hash, m.real.Hash(), got.Created, got.Updated)
	}
	want.SKU, want.Hash, want.Updated = sku, got.Hash, got.Updated
	if !want.Known {
		want.SKU = got.SKU // the contract leaves open whether it is echoed
	}
	level := m.real.Level(sku)
	lean := want
	lean.Outbox, lean.Metadata, lean.Vector = nil, nil, allocator.Vector{}
	if lean.SKU = sku; !sameReport(&level, &lean) {
		w.Fatalf("level of %s:\n got %+v\nwant %+v", sku, level, lean)
	}
	if !sameReport(&got, &want) {
		w.Fatalf("bucket %s:\n got %+v\nwant %+v", sku, got, want)
	}
	if past := m.past[sku]; len(past) == 0 || past[len(past)-1].Applied != got.Applied {
		m.past[sku] = append(past, got)
	}
}

func (w *world) checkOutbox(m *member) {
	var pending []allocator.ShardID
	for to := range allocator.ShardID(len(w.shards)) {
		after := m.model.vector.Acked[to]
		got, first := m.real.Outbox(to, after, allocator.MaxMessages)
		want := m.model.messages(to, after, allocator.MaxMessages)
		if !slices.Equal(got, want) || len(want) > 0 && first != after+1 {
			w.Fatalf("outbox to %d after %d:\n got %d: %+v\nwant %d: %+v", to, after, first, got, after+1, want)
		}
		if len(want) > 0 {
			pending = append(pending, to)
		}
	}
	if got := m.real.Destinations(); !slices.Equal(got, pending) {
		w.Fatalf("destinations %v, want %v", got, pending)
	}
	if got := m.real.Vector(); !sameVector(got, m.model.vector) {
		w.Fatalf("vector %+v, want %+v", got, m.model.vector)
	}
}

func (w *world) checkTotals(m *member) {
	got, want := m.real.Stats(), m.model.totals()
	if got.Records < len(m.model.holds) {
		w.Fatalf("%d records for %d reservations", got.Records, len(m.model.holds))
	}
	want.Records, want.Bytes, want.ExpiryLag = got.Records, got.Bytes, got.ExpiryLag
	if got != want {
		w.Fatalf("stats:\n got %+v\nwant %+v", got, want)
	}
}

// checkNextDue holds that nobody sleeps beyond the next expiry.
func (w *world) checkNextDue(m *member) {
	var next allocator.Millis
	for _, h := range m.model.holds {
		if h.Status == allocator.StatusReserved && (next == 0 || h.Expires < next) {
			next = h.Expires
		}
	}
	if next == 0 {
		return
	}
	if due, ok := m.real.NextDue(); !ok || due > max(next, m.model.now+1) {
		w.Fatalf("NextDue = %d, %v; a reservation is due at %d", due, ok, next)
	}
}
