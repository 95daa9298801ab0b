package allocator_test

// One long random log, applied again and again: with other batch boundaries at
// the same stamps, with restarts from snapshots at random points, with views
// written while the state moves on. Every replay must give the same answers,
// the same hash and the same snapshot, byte for byte.

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"stockade/allocator"
)

// batch is one log entry: the answers are those of the first run.
type batch struct {
	stamp   allocator.Millis
	cmds    [][]byte
	answers [][]byte
	hash    uint64
	image   []byte // the snapshot after the batch, of some batches only
}

const replayShards = 3

var replayConfig = allocator.Config{Shard: 1, Shards: replayShards, Retention: 3000, ExpiryPerStamp: 40}

func replayLength() int {
	if testing.Short() {
		return 150
	}
	return 600
}

// recorder makes a log by running it.
type recorder struct {
	t     testing.TB
	rnd   *rand.Rand
	state *allocator.State
	skus  []allocator.SKU
	ids   []allocator.ReservationID
	first [replayShards]uint64 // next message of each other shard
	sent  []allocator.Reserve  // for repeats
	keys  uint64
}

// record makes a log of n batches.
func record(t testing.TB, seed uint64, n int) []batch {
	state, err := allocator.New(replayConfig)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), state: state, first: [replayShards]uint64{1, 1, 1}}
	for i := range 40 {
		r.skus = append(r.skus, allocator.SKU("sku-"+string(rune('a'+i%26))+string(rune('0'+i/26))))
	}
	log := make([]batch, 0, n)
	stamp := allocator.Millis(5000)
	for range n {
		if r.rnd.IntN(4) > 0 {
			stamp += allocator.Millis(r.rnd.IntN(60))
		}
		log = append(log, r.batch(stamp))
	}
	return log
}

func (r *recorder) batch(stamp allocator.Millis) batch {
	b := batch{stamp: stamp}
	begin(r.t, r.state, stamp)
	for range r.rnd.IntN(30) {
		cmd := r.command()
		wire := cmd.AppendTo(nil)
		answer, err := r.state.Apply(wire, nil)
		if err != nil {
			r.t.Fatalf("Apply(%T%+v): %v", cmd, cmd, err)
		}
		var res allocator.Result
		if err := allocator.DecodeResult(answer, &res); err != nil {
			r.t.Fatalf("DecodeResult of %T: %v", cmd, err)
		}
		if cmd.Kind() == allocator.KindReserve && res.Code == allocator.CodeOK {
			r.ids = append(r.ids, res.Reservation.ID)
		}
		b.cmds, b.answers = append(b.cmds, wire), append(b.answers, answer)
	}
	b.hash = r.state.Hash()
	if r.rnd.IntN(20) == 0 {
		b.image = image(r.t, r.state.Freeze())
	}
	if err := r.state.CheckInvariants(); err != nil {
		r.t.Fatalf("invariants at %d: %v", stamp, err)
	}
	return b
}

func begin(t testing.TB, s *allocator.State, stamp allocator.Millis) {
	t.Helper()
	if err := s.Begin(stamp); err != nil {
		t.Fatalf("Begin(%d): %v", stamp, err)
	}
}

func image(t testing.TB, v *allocator.View) []byte {
	t.Helper()
	var b bytes.Buffer
	if n, err := v.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo = %d, %v; wrote %d bytes", n, err, b.Len())
	}
	return b.Bytes()
}

func (r *recorder) sku() allocator.SKU { return r.skus[r.rnd.IntN(len(r.skus))] }

// ours is a SKU this shard anchors.
func (r *recorder) ours() allocator.SKU {
	for {
		if s := r.sku(); allocator.Anchor(s, replayShards) == replayConfig.Shard {
			return s
		}
	}
}

func (r *recorder) id() allocator.ReservationID {
	if len(r.ids) == 0 {
		return allocator.ReservationID{Shard: 1, Seq: 1}
	}
	return r.ids[len(r.ids)-1-r.rnd.IntN(min(len(r.ids), 300))]
}

func (r *recorder) key() allocator.Key {
	r.keys++
	var k allocator.Key
	binary.LittleEndian.PutUint64(k[4:], r.keys*0x9e3779b97f4a7c15)
	return k
}

func (r *recorder) command() allocator.Command {
	switch n := r.rnd.IntN(100); {
	case n < 40:
		return r.reserve()
	case n < 50:
		return &allocator.Confirm{ID: r.id()}
	case n < 58:
		return &allocator.Cancel{ID: r.id()}
	case n < 62:
		return &allocator.Extend{ID: r.id(), TTL: allocator.Millis(1 + r.rnd.IntN(900))}
	case n < 66:
		return &allocator.Return{Key: r.key(), ID: r.id()}
	case n < 70 && len(r.sent) > 0:
		again := r.sent[len(r.sent)-1-r.rnd.IntN(min(len(r.sent), 500))]
		return &again
	case n < 88:
		return r.admin()
	}
	return r.transfer()
}

func (r *recorder) reserve() allocator.Command {
	c := allocator.Reserve{Key: r.key(), Body: 1}
	picked := map[allocator.SKU]bool{}
	for range 1 + r.rnd.IntN(3)*r.rnd.IntN(2) {
		picked[r.sku()] = true
	}
	for _, sku := range r.skus {
		if picked[sku] {
			c.Lines = append(c.Lines, allocator.Line{SKU: sku, Quantity: allocator.Quantity(1 + r.rnd.IntN(4))})
		}
	}
	sortLines(c.Lines)
	if r.rnd.IntN(2) == 0 {
		c.TTL = allocator.Millis(1 + r.rnd.IntN(800))
	}
	if who := r.rnd.IntN(40); who < 25 {
		c.Buyer, c.BuyerID = allocator.Buyer{byte(who), 1}, "buyer"
	}
	if r.rnd.IntN(5) == 0 {
		c.Reference = string(bytes.Repeat([]byte("r"), r.rnd.IntN(allocator.MaxReferenceLen)))
	}
	r.sent = append(r.sent, c)
	return &c
}

func (r *recorder) admin() allocator.Command {
	switch r.rnd.IntN(8) {
	case 0, 1:
		return &allocator.Restock{Key: r.key(), SKU: r.ours(), Quantity: allocator.Quantity(1 + r.rnd.IntN(300))}
	case 2:
		return &allocator.Adjust{Key: r.key(), SKU: r.ours(), Delta: allocator.Quantity(r.rnd.IntN(20)*2 - 19), Reason: "counted"}
	case 3:
		return &allocator.SetPaused{SKU: r.ours(), Paused: r.rnd.IntN(4) == 0}
	}
	c := &allocator.PutSKU{Key: r.key(), SKU: r.ours(), HasOnHand: r.rnd.IntN(2) == 0}
	if c.HasOnHand {
		c.OnHand = allocator.Quantity(100 + r.rnd.IntN(400))
	}
	c.Policy = allocator.Policy{
		SafetyStock: allocator.Quantity(r.rnd.IntN(10)), MaxPerBuyer: allocator.Quantity(r.rnd.IntN(2) * 8),
		DefaultTTL: 500, MaxTTL: 1000, LateConfirm: allocator.LateConfirm(r.rnd.IntN(2)),
	}
	c.Metadata = bytes.Repeat([]byte("m"), r.rnd.IntN(40))
	return c
}

// transfer plays both directions; the other shards are made up.
func (r *recorder) transfer() allocator.Command {
	peer := allocator.ShardID(2 * r.rnd.IntN(2))
	switch r.rnd.IntN(3) {
	case 0:
		return &allocator.TransferOut{SKU: r.sku(), To: peer, Quantity: allocator.Quantity(1 + r.rnd.IntN(20)), Open: r.rnd.IntN(2) == 0}
	case 1:
		return &allocator.TransferAck{To: peer, Through: r.state.Vector().Acked[peer] + uint64(r.rnd.IntN(4))}
	}
	c := &allocator.TransferIn{From: peer, First: r.first[peer]}
	for range 1 + r.rnd.IntN(4) {
		p := allocator.Policy{Version: uint64(1 + r.rnd.IntN(9)), DefaultTTL: 300, MaxTTL: 1000}
		c.Messages = append(c.Messages, allocator.Message{Kind: allocator.MessageUnits, SKU: r.sku(), Quantity: allocator.Quantity(1 + r.rnd.IntN(50)), Policy: p})
	}
	if r.rnd.IntN(4) > 0 { // else the same numbers come again
		r.first[peer] += uint64(len(c.Messages))
	}
	return c
}

// replayed walks a log; between commands it lets a hook disturb the state.
func replayed(t *testing.T, log []batch, disturb func(*allocator.State, allocator.Millis) *allocator.State) *allocator.State {
	t.Helper()
	s, err := allocator.New(replayConfig)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range log {
		begin(t, s, b.stamp)
		for j, cmd := range b.cmds {
			answer, err := s.Apply(cmd, nil)
			if err != nil || !bytes.Equal(answer, b.answers[j]) {
				t.Fatalf("batch %d, command %d: %x, %v; the first run said %x", i, j, answer, err, b.answers[j])
			}
			s = disturb(s, b.stamp)
		}
		if s.Hash() != b.hash {
			t.Fatalf("batch %d: hash %x, the first run had %x", i, s.Hash(), b.hash)
		}
		if b.image != nil && !bytes.Equal(b.image, image(t, s.Freeze())) {
			t.Fatalf("batch %d: another snapshot than in the first run", i)
		}
	}
	return s
}

func TestReplay(t *testing.T) {
	t.Parallel()
	log := record(t, 1, replayLength())
	rnd := rand.New(rand.NewPCG(7, 7))
	restart := func(s *allocator.State) *allocator.State {
		back, err := allocator.Restore(bytes.NewReader(image(t, s.Freeze())))
		if err != nil {
			t.Fatalf("Restore: %v", err)
		}
		return back
	}
	for _, c := range []struct {
		name    string
		disturb func(*allocator.State, allocator.Millis) *allocator.State
	}{
		{"same boundaries", func(s *allocator.State, _ allocator.Millis) *allocator.State { return s }},
		{"every command alone", func(s *allocator.State, now allocator.Millis) *allocator.State {
			begin(t, s, now)
			return s
		}},
		{"late stamps in between", func(s *allocator.State, now allocator.Millis) *allocator.State {
			begin(t, s, now-allocator.Millis(rnd.IntN(50)))
			return s
		}},
		{"views taken and dropped", func(s *allocator.State, _ allocator.Millis) *allocator.State {
			if rnd.IntN(10) == 0 {
				s.Freeze()
			}
			return s
		}},
		{"restarts and other boundaries", func(s *allocator.State, now allocator.Millis) *allocator.State {
			if rnd.IntN(5) == 0 {
				begin(t, s, now)
			}
			if rnd.IntN(100) == 0 {
				s = restart(s)
			}
			return s
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := replayed(t, log, c.disturb)
			if err := s.CheckInvariants(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReplayIsMeaningful holds that the log above does what it is for.
func TestReplayIsMeaningful(t *testing.T) {
	log := record(t, 1, replayLength())
	codes := map[allocator.Code]int{}
	replays := 0
	for _, b := range log {
		for _, a := range b.answers {
			var r allocator.Result
			if err := allocator.DecodeResult(a, &r); err != nil {
				t.Fatal(err)
			}
			codes[r.Code]++
			if r.Replayed {
				replays++
			}
		}
	}
	s := replayed(t, log, func(s *allocator.State, _ allocator.Millis) *allocator.State { return s })
	ended := s.Stats().EndedBy
	t.Logf("codes %v, replays %d, stats %+v", codes, replays, s.Stats())
	if len(codes) < 10 || replays < 10 || ended[allocator.StatusExpired] < 100 {
		t.Errorf("a dull log: codes %v, %d replays, ended %v", codes, replays, ended)
	}
}

// TestOtherLogsDiffer: a hash that never changes would pass the tests above.
func TestOtherLogsDiffer(t *testing.T) {
	a, b := newShop(t), newShop(t)
	if a.Hash() != b.Hash() {
		t.Fatalf("two empty states: hashes %x and %x", a.Hash(), b.Hash())
	}
	a.stock("a", 5, openPolicy())
	b.stock("a", 6, openPolicy())
	if a.Hash() == b.Hash() {
		t.Errorf("another deposit, the same hash %x", a.Hash())
	}
	seen := map[uint64]bool{a.Hash(): true}
	for range 100 { // also the same command again, also one that is refused
		a.do(&allocator.Cancel{ID: allocator.ReservationID{Seq: 1}})
		if seen[a.Hash()] {
			t.Fatalf("hash %x came twice", a.Hash())
		}
		seen[a.Hash()] = true
	}
}

// TestHashSeesWhatHappened: the same commands, but one state expires slower, or
// its stamps are others. What the replicas hold differs, so the hash must.
func TestHashSeesWhatHappened(t *testing.T) {
	run := func(expiries int, later allocator.Millis) *shop {
		state, err := allocator.New(allocator.Config{Shards: 2, Retention: shopRetention, ExpiryPerStamp: expiries})
		if err != nil {
			t.Fatal(err)
		}
		s := &shop{TB: t, State: state}
		s.begin(10_000)
		a := s.stock("a", 5, openPolicy())
		s.held(a, 1, 0)
		s.held(a, 1, 0)
		s.begin(10_100 + later)
		s.ok(&allocator.SetPaused{SKU: a}) // says nothing of the reservations
		return s
	}
	first, same, slow, late := run(2, 0), run(2, 0), run(1, 0), run(2, 1)
	if first.Hash() != same.Hash() {
		t.Error("the same history, another hash")
	}
	if first.Hash() == slow.Hash() {
		t.Error("one reservation expired less, the same hash")
	}
	if first.Hash() == late.Hash() {
		t.Error("another stamp in an answer, the same hash")
	}
}

// TestAuditFindsADifference: the leader's hash at a checkpoint passes, also
// when it comes late or says nothing; any other stops the replica.
func TestAuditFindsADifference(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 5, openPolicy())
	if _, _, ok := s.Checkpoint(); ok {
		t.Error("a checkpoint after one command")
	}
	idle := (&allocator.SetPaused{SKU: a}).AppendTo(nil)
	for range 10_000 {
		if _, err := s.Apply(idle, nil); err != nil {
			t.Fatal(err)
		}
	}
	applied, hash, ok := s.Checkpoint()
	if !ok || applied == 0 || applied > s.Applied() {
		t.Fatalf("Checkpoint = %d, %x, %v after %d commands", applied, hash, ok, s.Applied())
	}
	s.ok(&allocator.Audit{Applied: applied, Hash: hash})
	s.ok(&allocator.Audit{Applied: s.Applied() + 1_000_000, Hash: hash}) // a moment that is no checkpoint here
	wrong := &allocator.Audit{Applied: applied, Hash: hash + 1}
	if _, err := s.Apply(wrong.AppendTo(nil), nil); err == nil {
		t.Error("a wrong hash was accepted")
	}
}

// TestViewsOutliveDroppedPages: pages that a view still shows are changed, then
// forgotten, and their memory may be used again for other records.
func TestViewsOutliveDroppedPages(t *testing.T) {
	s := newShop(t)
	a := s.stock("a", 10_000, openPolicy())
	fill := func(text string) {
		for range 1500 {
			c := &allocator.Reserve{Key: s.key(), BuyerID: text, Reference: text, Lines: []allocator.Line{{SKU: a, Quantity: 1}}}
			s.ok(c)
		}
	}
	fill("first")
	early := s.Freeze()
	before := image(t, early)
	fill("still the first page")
	s.pass(2*shopRetention, 50) // all expire, then go
	fill("other")
	s.Freeze()
	s.pass(2*shopRetention, 50)
	fill("another")
	if !bytes.Equal(before, image(t, early)) {
		t.Error("the view changed when its pages were used again")
	}
}

// TestViewsWhileTheStateMovesOn writes views from other goroutines while
// commands are applied (the race detector looks on), several views at once.
func TestViewsWhileTheStateMovesOn(t *testing.T) {
	log := record(t, 3, replayLength()/3)
	s, err := allocator.New(replayConfig)
	if err != nil {
		t.Fatal(err)
	}
	type written struct{ before, after []byte }
	var open []chan written
	for i, b := range log {
		begin(t, s, b.stamp)
		for _, cmd := range b.cmds {
			if _, err := s.Apply(cmd, nil); err != nil {
				t.Fatal(err)
			}
		}
		if i%20 != 7 {
			continue
		}
		view, before := s.Freeze(), image(t, s.Freeze())
		done := make(chan written, 1)
		go func() {
			var b bytes.Buffer
			_, _ = view.WriteTo(&b) // an error shows as another image
			done <- written{before, b.Bytes()}
		}()
		open = append(open, done)
	}
	for _, done := range slices.Backward(open) {
		if w := <-done; !bytes.Equal(w.before, w.after) {
			t.Error("a view changed while the state moved on")
		}
	}
}
