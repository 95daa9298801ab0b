package allocator

import "io"

// Restore makes a state from a snapshot, which must be all that r has. It takes
// memory only as data arrives, checks every reference before it follows it, and
// checks all invariants at the end. It fails with ErrSnapshot, ErrInvariant or
// the error of r.
func Restore(r io.Reader) (*State, error) {
	in := newSnapshotReader(r)
	s := in.scalars()
	if in.err != nil {
		return nil, in.err
	}
	for _, part := range [...]func(*State){in.buckets, in.flows, in.metadata, in.purchases, in.outboxes, in.records} {
		if part(s); in.err != nil {
			return nil, in.err
		}
	}
	in.check(in.u64() == snapshotEnd, "no end mark")
	in.end()
	if in.err != nil {
		return nil, in.err
	}
	if err := s.CheckInvariants(); err != nil {
		return nil, err
	}
	return s, nil
}

// scalars reads the header and everything of a fixed size.
func (r *snapshotReader) scalars() *State {
	r.check(r.u64() == snapshotMagic, "it is something else")
	if version := r.u64(); version != snapshotVersion {
		r.fail("version %d, this program reads %d", version, snapshotVersion)
	}
	c := Config{Shard: ShardID(r.upTo(MaxShards, "shard")), Shards: int(r.upTo(MaxShards, "shards"))}
	c.Retention = Millis(r.upTo(uint64(MaxRetention), "retention"))
	c.ExpiryPerStamp = int(r.upTo(MaxExpiryPerStamp, "expiries per stamp"))
	r.check(c == c.withDefaults(), "bad configuration")
	if r.err != nil {
		return nil
	}
	s, err := New(c)
	if err != nil {
		r.fail("%v", err)
		return nil
	}
	s.clock.now = Millis(r.upTo(uint64(maxMoment), "log time"))
	s.clock.expired = int(r.upTo(MaxExpiryPerStamp, "expiries"))
	s.clock.released = int(r.upTo(releasesPerStamp, "releases"))
	s.history.hash, s.history.count, s.history.tail = r.u64(), r.u64(), r.u64()
	for i := range s.history.ring {
		s.history.ring[i] = checkpoint{r.u64(), r.u64()}
	}
	for i := range s.counts.endedBy {
		s.counts.endedBy[i] = r.u64()
	}
	s.counts.retaken, s.counts.transfers, s.counts.unitsSent = r.u64(), r.u64(), Quantity(r.u64())
	return s
}

func (r *snapshotReader) buckets(s *State) {
	for n := r.upTo(maxIndexed, "buckets"); n > 0 && r.err == nil; n-- {
		var b bucket
		if r.bucket(&b); r.err != nil {
			return
		}
		if _, twice := s.stock.find(b.sku()); twice {
			r.fail("the SKU %s stands there twice", b.sku())
			return
		}
		no := s.stock.buckets.grow(s.stock.epoch)
		*s.stock.buckets.edit(no, s.stock.epoch) = b
		s.stock.noteWatch(no, b.policy.Watch)
		s.stock.byName.insert(hashSKU(b.sku()), no)
		for i, q := range b.pots {
			s.stock.pots[i] += q
		}
		s.stock.transit += b.inTransit
	}
}

// bucket reads one bucket with its name.
func (r *snapshotReader) bucket(b *bucket) {
	c := cursor{b: r.take(bucketBytes)}
	c.fixedPolicy(&b.policy)
	for i := range b.pots {
		b.pots[i] = Quantity(c.u64())
	}
	for _, q := range [...]*Quantity{&b.deposited, &b.adjusted, &b.received, &b.sent, &b.inTransit} {
		*q = Quantity(c.u64())
	}
	b.created, b.updated = Millis(c.u64()), Millis(c.u64())
	b.flows, b.metadata = c.u32(), c.u32()
	b.anchor, b.nameLen = c.bits(1) != 0, c.u8()
	if r.check(c.done() == "" && b.nameLen <= MaxSKULen, "bad bucket"); r.err != nil {
		return
	}
	copy(b.name[:], r.take(int(b.nameLen)))
	r.check(validSKU(b.sku()), "malformed SKU")
}

// fixedPolicy reads what appendFixed wrote.
func (c *cursor) fixedPolicy(p *Policy) {
	p.Version = c.u64()
	p.SafetyStock, p.MaxPerReservation, p.MaxPerBuyer = Quantity(c.u64()), Quantity(c.u64()), Quantity(c.u64())
	p.DefaultTTL, p.MaxTTL = Millis(c.u64()), Millis(c.u64())
	p.SaleStarts, p.SaleEnds = Millis(c.u64()), Millis(c.u64())
	p.LateConfirm = LateConfirm(c.u8())
	p.Paused, p.Watch = c.bits(1) != 0, c.bits(1) != 0
	ok := p.SafetyStock >= 0 && p.MaxPerReservation >= 0 && p.MaxPerBuyer >= 0 && p.DefaultTTL >= 0 &&
		p.MaxTTL >= 0 && max(p.DefaultTTL, p.MaxTTL) <= MaxTTL && p.LateConfirm <= LateConfirmReject
	c.check(ok, "bad policy")
}

func (r *snapshotReader) flows(s *State) {
	n := r.upTo(maxIndexed, "flows")
	for i := uint64(0); i < n && r.err == nil; i++ {
		c := cursor{b: r.take(flowBytes)}
		f := flow{sent: Quantity(c.u64()), acked: Quantity(c.u64()), received: Quantity(c.u64())}
		f.bucket, f.next, f.peer = c.u32(), c.u32(), ShardID(c.u16())
		r.check(uint64(f.next) <= n, "bad flow")
		*s.stock.flows.edit(s.stock.flows.grow(s.stock.epoch), s.stock.epoch) = f
	}
	for no := range uint32(s.stock.buckets.n) {
		r.check(uint64(s.stock.at(no).flows) <= n, "bad flow of a bucket")
	}
}

func (r *snapshotReader) metadata(s *State) {
	n := r.upTo(uint64(s.stock.buckets.n), "metadata")
	for i := uint64(0); i < n && r.err == nil; i++ {
		text := r.bytes(int(r.upTo(MaxMetadataLen, "length of metadata")))
		*s.stock.metadata.edit(s.stock.metadata.grow(s.stock.epoch), s.stock.epoch) = text
		s.stock.meta += int64(len(text))
	}
	for no := range uint32(s.stock.buckets.n) {
		r.check(uint64(s.stock.at(no).metadata) <= n, "bad metadata of a bucket")
	}
}

func (r *snapshotReader) purchases(s *State) {
	p := &s.purchases
	n := r.upTo(maxIndexed, "purchases")
	p.free = uint32(r.upTo(n, "free purchase"))
	for i := uint64(0); i < n && r.err == nil; i++ {
		c := cursor{b: r.take(purchaseBytes)}
		e := purchase{buyer: c.bytes16(), units: Quantity(c.u64()), bucket: c.u32(), next: c.u32()}
		r.check(uint64(e.next) <= n && (e.units == 0 || int(e.bucket) < s.stock.buckets.n), "bad purchase")
		no := p.entries.grow(p.epoch)
		*p.entries.edit(no, p.epoch) = e
		if e.units != 0 {
			p.byPair.insert(hashPurchase(&e.buyer, e.bucket), no)
		}
	}
}

func (r *snapshotReader) outboxes(s *State) {
	for i := range s.received {
		s.received[i] = r.upTo(MaxSeq, "message number")
	}
	for to := range s.outboxes {
		box := &s.outboxes[to]
		acked, sent := r.upTo(MaxSeq, "message number"), r.upTo(MaxSeq, "message number")
		r.check(acked <= sent && sent-acked <= MaxOutbox, "outbox too long")
		box.acked, box.sent = acked, acked
		for box.sent < sent && r.err == nil {
			c := cursor{b: r.take(letterBytes)}
			l := letter{quantity: Quantity(c.u64()), bucket: c.u32()}
			r.check(int(l.bucket) < s.stock.buckets.n && l.quantity >= 0, "bad message")
			box.push(l)
		}
	}
}

func (r *snapshotReader) records(s *State) {
	t := &s.records
	t.next = r.upTo(MaxSeq, "sequence number")
	last := t.next / pageRecords
	for n := r.upTo(maxSlots, "pages"); n > 0 && r.err == nil; n-- {
		p := r.page(s)
		if r.err != nil {
			return
		}
		ascending := len(t.pages) == 0 || p.number > t.pages[len(t.pages)-1].number
		full := p.number == last && p.count == int(t.next%pageRecords) || p.number < last
		if r.check(ascending && full, "page in the wrong place"); r.err != nil {
			return
		}
		r.enter(t, p)
	}
	if _, ok := t.slotOf(last); !ok && t.next%pageRecords != 0 {
		r.fail("the last page is missing")
	}
	t.settleTop()
}

// enter puts a page into the indexes and queues.
func (r *snapshotReader) enter(t *records, p *page) {
	slot := t.addPage(p)
	t.newest = slot
	t.count += p.count
	t.live += p.open
	t.text += int64(len(p.text))
	t.lines += int64(len(p.lines))
	for i := range p.count {
		t.byKey.insert(hashKey(&p.records[i].key), slot*pageRecords+uint32(i))
	}
	if p.open > 0 {
		moment, at := p.nextExpiry()
		t.expiry.set(pageEvent{Millis(moment), p.number, slot, uint32(at)})
	}
	t.settlePage(slot)
}

// page reads one page.
func (r *snapshotReader) page(s *State) *page {
	number := r.upTo(MaxSeq/pageRecords, "page number")
	base := Millis(r.upTo(uint64(maxMoment), "page base"))
	p := newPage(number, s.records.epoch, base)
	p.count = int(r.upTo(pageRecords, "records of a page"))
	lines := int(r.upTo(pageRecords*(MaxLines-1), "lines of a page"))
	text := int(r.upTo(1<<32-1, "text of a page"))
	r.check(p.count > 0, "empty page")
	for i := 0; i < p.count && r.err == nil; i++ {
		r.record(p, i)
	}
	for i := 0; i < lines && r.err == nil; i++ {
		c := cursor{b: r.take(heldBytes)}
		p.lines = append(p.lines, c.held())
	}
	p.text = r.bytes(text)
	for i := 0; i < p.count && r.err == nil; i++ {
		r.check(s.soundRecord(p, &p.records[i]), "bad record")
	}
	return p
}

// record reads one record with its place in the column.
func (r *snapshotReader) record(p *page, i int) {
	rec := &p.records[i]
	c := cursor{b: r.take(recordBytes)}
	rec.key, rec.body, rec.ended = c.bytes16(), Fingerprint(c.u64()), Millis(c.u64())
	rec.created, rec.ttl, rec.text = c.u32(), c.u32(), c.u32()
	rec.first = c.held()
	rec.more = c.u16()
	rec.lines, rec.status, rec.buyer, rec.ref = c.u8(), Status(c.u8()), c.u8(), c.u8()
	rec.kind, rec.flags = Kind(c.u8()), c.u8()
	p.expires[i] = c.u64()
	ended := rec.ended >= 0 && rec.ended <= maxMoment && p.expires[i]&^endedBit <= uint64(maxMoment)
	r.check(c.done() == "" && ended, "bad record")
	p.lastEnded = max(p.lastEnded, rec.ended)
	if rec.status == StatusReserved {
		p.open++
	}
}

// soundRecord checks everything a record refers to.
func (s *State) soundRecord(p *page, r *record) bool {
	if r.key == (Key{}) || int64(r.text)+int64(r.textLen()) > int64(len(p.text)) {
		return false
	}
	switch r.kind {
	case KindReserve:
	case KindReturn, KindPutSKU, KindRestock, KindAdjust:
		return r.status == 0
	default:
		return false
	}
	if r.status < StatusReserved || r.status > StatusExpired || r.lines == 0 || r.lines > MaxLines ||
		int(r.more)+int(r.lines)-1 > len(p.lines) {
		return false
	}
	for i := range int(r.lines) {
		l := p.line(r, i)
		if int(l.bucket) >= s.stock.buckets.n || int(l.purchase) > s.purchases.entries.n {
			return false
		}
	}
	return true
}

func (c *cursor) held() held { return held{bucket: c.u32(), units: c.u32(), purchase: c.u32()} }
