package allocator_test

// What a random program may do (see model_program_test.go): commands of users
// and administrators, the network between the shards, restarts and old views.

import (
	"bytes"
	"encoding/binary"
	"slices"

	"pgregory.net/rapid"
	"stockade/allocator"
)

// pick draws 0..n-1. Low numbers come a little more often, so what should be
// rare stands at the end.
func (w *world) pick(n int, label string) int { return rapid.IntRange(0, n-1).Draw(w.T, label) }

// drawSKU seldom draws the last one, which is not there from the beginning.
func (w *world) drawSKU() allocator.SKU {
	return worldSKUs[min(w.pick(16, "sku")*4/15, len(worldSKUs)-1)]
}

func (w *world) drawSpan(label string) allocator.Millis {
	return rapid.SampledFrom([]allocator.Millis{1, 5, 20, 100, 300}).Draw(w.T, label)
}

func (w *world) anchor(sku allocator.SKU) int { return int(allocator.Anchor(sku, len(w.shards))) }

// at routes an id; one that no shard made goes to shard 0.
func (w *world) at(id allocator.ReservationID) int { return int(id.Shard) % len(w.shards) }

func (w *world) newKey() allocator.Key {
	w.keys++
	var k allocator.Key
	binary.LittleEndian.PutUint32(k[:], w.keys)
	return k
}

// drawID draws among young reservations, mostly of those in the given states.
func (w *world) drawID(prefer ...allocator.Status) allocator.ReservationID {
	if len(w.ids) == 0 || w.pick(30, "madeUp") == 29 {
		return allocator.ReservationID{Shard: allocator.ShardID(w.pick(2, "idShard")), Seq: uint64(1 + w.pick(5000, "idSeq"))}
	}
	var likely []allocator.ReservationID
	for _, id := range slices.Backward(w.ids) {
		h := w.shards[w.at(id)].model.hold(id)
		if len(likely) < 6 && h != nil && slices.Contains(prefer, h.Status) {
			likely = append(likely, id)
		}
	}
	if len(likely) == 0 || w.pick(5, "unlikely") == 4 {
		likely = w.ids[max(0, len(w.ids)-12):]
	}
	return likely[w.pick(len(likely), "id")]
}

func (w *world) drawLines(atMost int, qty allocator.Quantity) []allocator.Line {
	var lines []allocator.Line
	for i, sku := range worldSKUs {
		often := 3 + i/4*9 // but the last one seldom
		if len(lines) < atMost && w.pick(often, "inCart") == often-1 {
			lines = append(lines, allocator.Line{SKU: sku, Quantity: allocator.Quantity(rapid.Int64Range(1, int64(qty)).Draw(w.T, "quantity"))})
		}
	}
	return lines
}

func (w *world) reserve() {
	shard := w.pick(len(w.shards), "shard")
	c := &allocator.Reserve{Key: w.newKey(), Body: allocator.Fingerprint(w.pick(2, "body"))}
	c.Lines = w.drawLines(3, 8)
	if len(c.Lines) == 0 {
		c.Lines = []allocator.Line{{SKU: w.drawSKU(), Quantity: 1}}
	}
	if w.pick(2, "ownTTL") > 0 {
		c.TTL = w.drawSpan("ttl")
	}
	if who := w.pick(3, "buyer"); who > 0 {
		c.Buyer, c.BuyerID = allocator.Buyer{byte(who)}, string([]byte{'b', byte('0' + who)})
	}
	if w.pick(3, "reference") > 0 {
		c.Reference = "order-" + string(c.Lines[0].SKU)
	}
	if w.pick(4, "keyTells") == 3 {
		c.KeyTime = max(1, w.shards[shard].model.now-rapid.SampledFrom([]allocator.Millis{0, -50, retention - 1, retention, retention + 1}).Draw(w.T, "keyAge"))
	}
	w.keyed = append(w.keyed, c)
	w.do(shard, c)
}

// linesOf draws a part of a reservation, now and then too much or a stranger.
func (w *world) linesOf(id allocator.ReservationID) []allocator.Line {
	h := w.shards[w.at(id)].model.hold(id)
	if h == nil || w.pick(2, "part") == 0 {
		return nil
	}
	var lines []allocator.Line
	for _, l := range h.Lines {
		qty := l.Quantity - allocator.Quantity(w.pick(4, "less")) + allocator.Quantity(w.pick(8, "more")/7)
		if qty > 0 && w.pick(4, "leaveOut") < 3 {
			lines = append(lines, allocator.Line{SKU: l.SKU, Quantity: qty})
		}
	}
	if w.pick(12, "stranger") == 11 {
		lines = append(lines, allocator.Line{SKU: "zebra", Quantity: 1})
	}
	return lines
}

func (w *world) cancel() {
	id := w.drawID(allocator.StatusReserved)
	w.do(w.at(id), &allocator.Cancel{ID: id})
}

func (w *world) confirm() {
	id := w.drawID(allocator.StatusReserved, allocator.StatusExpired)
	w.do(w.at(id), &allocator.Confirm{ID: id, Lines: w.linesOf(id)})
}

func (w *world) extend() {
	id := w.drawID(allocator.StatusReserved)
	w.do(w.at(id), &allocator.Extend{ID: id, TTL: w.drawSpan("ttl")})
}

func (w *world) giveBack() {
	id := w.drawID(allocator.StatusConfirmed)
	c := &allocator.Return{Key: w.newKey(), Body: allocator.Fingerprint(w.pick(2, "body")), ID: id, Lines: w.linesOf(id)}
	w.keyed = append(w.keyed, c)
	w.do(w.at(id), c)
}

// repeat sends an old keyed command again, perhaps with another body.
func (w *world) repeat() {
	if len(w.keyed) == 0 {
		return
	}
	young := min(len(w.keyed), 12)
	if w.pick(3, "anyAge") == 2 {
		young = len(w.keyed)
	}
	cmd := w.keyed[len(w.keyed)-1-w.pick(young, "which")]
	other := w.pick(4, "otherBody") / 3
	switch c := cmd.(type) {
	case *allocator.Reserve:
		again := *c
		again.Body += allocator.Fingerprint(other)
		w.do(w.pick(len(w.shards), "shard"), &again)
	case *allocator.Return:
		again := *c
		again.Body += allocator.Fingerprint(other)
		w.do(w.at(c.ID), &again)
	case *allocator.PutSKU:
		again := *c
		again.Body += allocator.Fingerprint(other)
		w.do(w.anchor(c.SKU), &again)
	case *allocator.Restock:
		again := *c
		again.Body += allocator.Fingerprint(other)
		w.do(w.anchor(c.SKU), &again)
	case *allocator.Adjust:
		again := *c
		again.Body += allocator.Fingerprint(other)
		w.do(w.anchor(c.SKU), &again)
	}
}

func (w *world) advance() {
	shard := w.pick(len(w.shards), "shard")
	by := rapid.SampledFrom([]allocator.Millis{1, 0, 4, 30, 120, -7}).Draw(w.T, "by")
	w.begin(shard, w.shards[shard].model.now+by)
}

// leap takes every shard beyond the retention, so that whole pages can go.
func (w *world) leap() {
	for i, m := range w.shards {
		w.begin(i, m.model.now+retention+1)
		w.begin(i, m.model.now+1)
	}
}

// burst fills a good part of a page, which only whole pages leave. Most of its
// reservations are canceled at once, so that one unit is enough.
func (w *world) burst() {
	shard, sku, ttl := w.pick(len(w.shards), "shard"), w.drawSKU(), w.drawSpan("ttl")
	for i := range 240 {
		c := &allocator.Reserve{Key: w.newKey(), TTL: ttl, Lines: []allocator.Line{{SKU: sku, Quantity: 1}}}
		got := w.compare(shard, c)
		if got.Code == allocator.CodeOK && i%20 > 0 {
			w.compare(shard, &allocator.Cancel{ID: got.Reservation.ID})
		}
	}
	w.check(shard)
}

// stockUp creates all SKUs but the last and lets most shards know them.
func (w *world) stockUp() {
	for _, sku := range worldSKUs[:len(worldSKUs)-1] {
		c := w.drawPut(sku, true)
		c.Policy.SafetyStock = min(c.Policy.SafetyStock, c.OnHand)
		from := w.anchor(sku)
		if r := w.do(from, c); r.Code != allocator.CodeOK {
			continue
		}
		for to := range w.shards {
			if to != from && w.pick(4, "spread") > 0 {
				w.do(from, &allocator.TransferOut{SKU: sku, To: allocator.ShardID(to), Quantity: c.OnHand / 4, Open: true})
			}
		}
	}
	for from, m := range w.shards {
		for _, to := range m.real.Destinations() {
			w.drainBox(from, to)
		}
	}
}

func (w *world) drawPut(sku allocator.SKU, create bool) *allocator.PutSKU {
	c := &allocator.PutSKU{Key: w.newKey(), SKU: sku, HasOnHand: create}
	if w.pick(4, "noKey") == 3 {
		c.Key = allocator.Key{}
	}
	c.Policy = w.drawPolicy(w.shards[w.anchor(sku)].model.now)
	if create {
		c.OnHand = allocator.Quantity(rapid.SampledFrom([]int{60, 400, 10, 1}).Draw(w.T, "onHand"))
	}
	if w.pick(2, "metadata") > 0 {
		c.Metadata = []byte(`{"colour":"red"}`)
	}
	return c
}

func (w *world) drawPolicy(now allocator.Millis) allocator.Policy {
	p := allocator.Policy{
		Version:           uint64(w.pick(3, "ignored")),
		SafetyStock:       allocator.Quantity(rapid.SampledFrom([]int{0, 0, 1, 7}).Draw(w.T, "safety")),
		MaxPerReservation: allocator.Quantity(rapid.SampledFrom([]int{0, 0, 0, 7, 4}).Draw(w.T, "maxPerReservation")),
		MaxPerBuyer:       allocator.Quantity(rapid.SampledFrom([]int{0, 12, 6}).Draw(w.T, "maxPerBuyer")),
		DefaultTTL:        w.drawSpan("defaultTTL"),
		LateConfirm:       allocator.LateConfirm(w.pick(4, "late") / 3),
		Watch:             w.pick(2, "watch") > 0,
		Paused:            w.pick(2, "paused") > 0,
	}
	p.MaxTTL = max(p.DefaultTTL, w.drawSpan("maxTTL"))
	switch w.pick(12, "window") {
	case 4:
		p.SaleStarts = now + w.drawSpan("starts")
	case 5:
		p.SaleEnds = now + w.drawSpan("ends")
	}
	return p
}

func (w *world) put() {
	sku := w.drawSKU()
	c := w.drawPut(sku, w.pick(3, "create") == 0)
	c.IfNoneMatch = w.pick(6, "ifNoneMatch") == 5
	if !c.IfNoneMatch && w.pick(3, "ifMatch") == 2 {
		c.IfMatch = uint64(rapid.IntRange(1, 4).Draw(w.T, "version"))
	}
	if c.Key != (allocator.Key{}) {
		w.keyed = append(w.keyed, c)
	}
	w.do(w.anchor(sku), c)
}

func (w *world) pause() {
	sku := w.drawSKU()
	w.do(w.anchor(sku), &allocator.SetPaused{SKU: sku, Paused: w.pick(4, "paused") == 3})
}

func (w *world) restock() {
	c := &allocator.Restock{Key: w.newKey(), SKU: w.drawSKU(), Quantity: allocator.Quantity(1 + w.pick(30, "quantity")), Reference: "truck"}
	w.keyed = append(w.keyed, c)
	w.do(w.anchor(c.SKU), c)
}

func (w *world) adjust() {
	c := &allocator.Adjust{Key: w.newKey(), SKU: w.drawSKU(), Delta: allocator.Quantity(w.pick(40, "delta") - 20), Reason: "counted"}
	if c.Delta == 0 {
		c.Delta = 1
	}
	w.keyed = append(w.keyed, c)
	w.do(w.anchor(c.SKU), c)
}

func (w *world) transfer() {
	if len(w.shards) == 1 {
		return
	}
	from := w.pick(len(w.shards), "from")
	to := (from + 1 + w.pick(len(w.shards)-1, "to")) % len(w.shards)
	w.do(from, &allocator.TransferOut{
		SKU: w.drawSKU(), To: allocator.ShardID(to), Quantity: allocator.Quantity(1 + w.pick(12, "quantity")),
		Open: w.pick(2, "open") > 0,
	})
}

// send puts what an outbox holds on the network, from anywhere in it.
func (w *world) send() {
	from, to := w.pick(len(w.shards), "from"), w.pick(len(w.shards), "to")
	m := w.shards[from]
	after := m.model.vector.Acked[to] + uint64(w.pick(3, "after"))
	most := 1 + w.pick(6, "most")
	got, first := m.real.Outbox(allocator.ShardID(to), after, most)
	want := m.model.messages(allocator.ShardID(to), after, most)
	if !slices.Equal(got, want) || len(want) > 0 && first != after+1 {
		w.Fatalf("outbox %d to %d after %d, %d at most:\n got %d: %+v\nwant %+v", from, to, after, most, first, got, want)
	}
	if len(got) > 0 {
		w.network = append(w.network, packet{to, &allocator.TransferIn{From: allocator.ShardID(from), First: first, Messages: slices.Clone(got)}})
	}
}

// deliver takes any packet off the network, young ones more often, perhaps not
// for the last time.
func (w *world) deliver() {
	if len(w.network) == 0 {
		return
	}
	p := w.network[len(w.network)-1-w.pick(min(len(w.network), 10), "packet")]
	r := w.do(p.to, p.cmd)
	in, ok := p.cmd.(*allocator.TransferIn)
	if ok && w.pick(3, "loseAnswer") < 2 {
		w.network = append(w.network, packet{int(in.From), &allocator.TransferAck{To: allocator.ShardID(p.to), Through: r.Through}})
	}
}

// acknowledge tells a giver at once what has arrived: all of it, or less.
func (w *world) acknowledge() {
	from, to := w.pick(len(w.shards), "from"), w.pick(len(w.shards), "to")
	if from == to {
		return
	}
	through := w.shards[to].model.vector.Received[from]
	through -= min(through, uint64(w.pick(3, "late")))
	w.do(from, &allocator.TransferAck{To: allocator.ShardID(to), Through: through})
}

// restart puts a state through its snapshot.
func (w *world) restart() {
	m := w.shards[w.pick(len(w.shards), "shard")]
	image := w.image(m.real.Freeze())
	back, err := allocator.Restore(bytes.NewReader(image))
	if err != nil {
		w.Fatalf("Restore: %v", err)
	}
	if again := w.image(back.Freeze()); !bytes.Equal(image, again) {
		w.Fatalf("a restored state writes another snapshot: %d bytes, then %d", len(image), len(again))
	}
	if back.Config() != m.real.Config() || back.Hash() != m.real.Hash() {
		w.Fatalf("restored %+v hash %x, want %+v hash %x", back.Config(), back.Hash(), m.real.Config(), m.real.Hash())
	}
	m.real = back
}

func (w *world) image(v *allocator.View) []byte {
	var b bytes.Buffer
	n, err := v.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		w.Fatalf("WriteTo = %d, %v; wrote %d bytes", n, err, b.Len())
	}
	return b.Bytes()
}

// freeze takes a view and looks at the one before again.
func (w *world) freeze() {
	m := w.shards[w.pick(len(w.shards), "shard")]
	if m.frozen != nil && !bytes.Equal(m.image, w.image(m.frozen)) {
		w.Fatalf("a frozen view changed")
	}
	m.frozen = m.real.Freeze()
	m.image = w.image(m.frozen)
}

func (w *world) audit() {
	shard := w.pick(len(w.shards), "shard")
	s := w.shards[shard].real
	w.do(shard, &allocator.Audit{Applied: s.Applied(), Hash: s.Hash()})
}
