package allocator

import "fmt"

// CheckInvariants compares everything in the state that is known in two ways:
// sums over records against buckets and counters, indexes against what they
// lead to, queues against what is due. It takes a walk over the whole state:
// about a second for ten million reservations. It fails with ErrInvariant.
func (s *State) CheckInvariants() error {
	sums := recordSums{
		reserved:  make([]Quantity, s.stock.buckets.n),
		committed: make([]Quantity, s.stock.buckets.n),
		purchased: make([]Quantity, s.purchases.entries.n),
	}
	for _, check := range [...]func() error{
		s.checkBuckets,
		s.checkOutboxes,
		func() error { return s.checkRecords(&sums) },
		func() error { return s.checkHolds(&sums) },
		func() error { return s.checkPurchases(&sums) },
		s.checkQueues,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// recordSums is what the records in memory add up to. Sold units whose records
// are forgotten are missing in it.
type recordSums struct {
	reserved  []Quantity // by bucket
	committed []Quantity // by bucket
	purchased []Quantity // by counter
}

// broken makes an ErrInvariant.
func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvariant, fmt.Sprintf(format, args...))
}

// checkBuckets checks every bucket, its name, its flows, and the totals.
func (s *State) checkBuckets() error {
	var pots [potCount]Quantity
	flows := 0
	for no := range uint32(s.stock.buckets.n) {
		b := s.stock.at(no)
		if err := b.check(); err != nil {
			return err
		}
		if found, ok := s.stock.find(b.sku()); !ok || found != no {
			return broken("the name %s of bucket %d leads to %d, %v", b.sku(), no, found, ok)
		}
		if b.anchor != (anchorOf(b.sku(), s.cfg.Shards) == s.cfg.Shard) {
			return broken("bucket of %s: anchor is %v", b.sku(), b.anchor)
		}
		n, err := s.checkFlows(no, b)
		if err != nil {
			return err
		}
		flows += n
		for i, q := range b.pots {
			pots[i] += q
		}
	}
	if pots != s.stock.pots || flows != s.stock.flows.n || s.stock.byName.count != s.stock.buckets.n {
		return broken("totals %v of %v, flows %d of %d, names %d of %d", s.stock.pots, pots,
			flows, s.stock.flows.n, s.stock.byName.count, s.stock.buckets.n)
	}
	return nil
}

// checkFlows checks that a bucket's flows are in order and add up.
func (s *State) checkFlows(no uint32, b *bucket) (n int, err error) {
	var sent, acked, received Quantity
	peer := -1
	for next := b.flows; next != 0; n++ {
		f := s.stock.flows.at(next - 1)
		if f.bucket != no || int(f.peer) <= peer || int(f.peer) >= s.cfg.Shards || min(f.sent-f.acked, f.acked, f.received) < 0 {
			return n, broken("bucket of %s: flow with %d after %d: %+v", b.sku(), f.peer, peer, *f)
		}
		peer, next = int(f.peer), f.next
		sent, acked, received = sent+f.sent, acked+f.acked, received+f.received
	}
	if sent != b.sent || sent-acked != b.inTransit || received != b.received {
		return n, broken("bucket of %s: flows sum to %d sent, %d of them acknowledged, %d received, not %d, %d, %d",
			b.sku(), sent, acked, received, b.sent, b.sent-b.inTransit, b.received)
	}
	return n, nil
}

// checkOutboxes adds up what is in transit.
func (s *State) checkOutboxes() error {
	transit := make([]Quantity, s.stock.buckets.n)
	total := Quantity(0)
	for to := range s.outboxes {
		box := &s.outboxes[to]
		if box.acked > box.sent || ShardID(to) == s.cfg.Shard && box.sent+s.received[to] != 0 {
			return broken("outbox to %d: sent %d, acknowledged %d", to, box.sent, box.acked)
		}
		for seq := box.acked + 1; seq <= box.sent; seq++ {
			l := box.at(seq)
			transit[l.bucket] += l.quantity
			total += l.quantity
		}
	}
	for no, q := range transit {
		if b := s.stock.at(uint32(no)); b.inTransit != q {
			return broken("bucket of %s: %d in transit, outboxes hold %d", b.sku(), b.inTransit, q)
		}
	}
	if total != s.stock.transit {
		return broken("%d in transit, outboxes hold %d", s.stock.transit, total)
	}
	return nil
}

// checkRecords checks every page and its records, and adds them up.
func (s *State) checkRecords(sums *recordSums) error {
	t := &s.records
	count, live, pages := 0, 0, 0
	for slot, p := range t.pages {
		if p == nil {
			continue
		}
		if found, ok := t.slotOf(p.number); !ok || found != uint32(slot) {
			return broken("page %d in slot %d is looked for in %d, %v", p.number, slot, found, ok)
		}
		open, err := s.checkPage(uint32(slot), p, sums)
		if err != nil {
			return err
		}
		if open != p.open {
			return broken("page %d: %d open, not %d", p.number, open, p.open)
		}
		count, live, pages = count+p.count, live+open, pages+1
	}
	if count != t.count || live != t.live || t.byKey.count != count || t.byNumber.count != pages {
		return broken("%d records of %d, %d live of %d, %d keys, %d pages of %d",
			count, t.count, live, t.live, t.byKey.count, pages, t.byNumber.count)
	}
	return nil
}

// checkPage checks the records of a page, and adds them up.
func (s *State) checkPage(slot uint32, p *page, sums *recordSums) (open int, err error) {
	lastEnded := Millis(0)
	for i := range p.count {
		r := &p.records[i]
		if h, _, ok := s.records.find(&r.key); !ok || h != (handle{slot, i}) {
			return 0, broken("record %d: its key leads to %v, %v", p.seq(i), h, ok)
		}
		if (p.expires[i]&endedBit == 0) != (r.status == StatusReserved) {
			return 0, broken("record %d is %v but runs out at %x", p.seq(i), r.status, p.expires[i])
		}
		if r.status == StatusReserved {
			open++
		}
		lastEnded = max(lastEnded, r.ended)
		if r.kind == KindReserve {
			sums.add(p, r)
		}
	}
	for i := p.count; i < pageRecords; i++ {
		if p.expires[i] != never {
			return 0, broken("page %d: something runs out at %d, where no record is", p.number, i)
		}
	}
	if lastEnded != p.lastEnded {
		return 0, broken("page %d: last ended at %d, not %d", p.number, lastEnded, p.lastEnded)
	}
	return open, nil
}

// add adds the lines of one reservation.
func (sums *recordSums) add(p *page, r *record) {
	for i := range int(r.lines) {
		l := p.line(r, i)
		switch r.status {
		case StatusReserved:
			sums.reserved[l.bucket] += Quantity(l.units)
		case StatusConfirmed:
			sums.committed[l.bucket] += Quantity(l.units)
		}
		if l.purchase != 0 {
			sums.purchased[l.purchase-1] += Quantity(l.units)
		}
	}
}

// checkHolds compares the buckets with the records.
func (s *State) checkHolds(sums *recordSums) error {
	for no := range sums.reserved {
		b := s.stock.at(uint32(no))
		if b.pots[potReserved] != sums.reserved[no] || b.pots[potCommitted] < sums.committed[no] {
			return broken("bucket of %s: reserved %d, committed %d; the records say %d, %d", b.sku(),
				b.pots[potReserved], b.pots[potCommitted], sums.reserved[no], sums.committed[no])
		}
	}
	return nil
}

// checkPurchases compares the buyers' counters with the records.
func (s *State) checkPurchases(sums *recordSums) error {
	used := 0
	for no := range sums.purchased {
		e := s.purchases.entries.at(uint32(no))
		if e.units < sums.purchased[no] || e.units < 0 {
			return broken("counter %d stands at %d, the records say %d", no, e.units, sums.purchased[no])
		}
		if e.units == 0 {
			continue
		}
		used++
		if found := s.purchases.find(&e.buyer, e.bucket); found != uint32(no)+1 {
			return broken("counter %d is looked for in %d", no, found)
		}
	}
	free := 0
	for next := s.purchases.free; next != 0 && free <= len(sums.purchased); free++ {
		next = s.purchases.entries.at(next - 1).next
	}
	if used != s.purchases.byPair.count || used+free != len(sums.purchased) {
		return broken("%d counters in use, %d found by their buyers, %d free, %d in all",
			used, s.purchases.byPair.count, free, len(sums.purchased))
	}
	return nil
}

// checkQueues checks that every page waits for its next event and no other.
func (s *State) checkQueues() error {
	t := &s.records
	for slot, p := range t.pages {
		expiry, release := t.expiry.of(uint32(slot)), t.release.of(uint32(slot))
		if p == nil {
			if expiry != nil || release != nil {
				return broken("a free slot %d waits for something", slot)
			}
			continue
		}
		first, _ := p.nextExpiry()
		sealed := p.open == 0 && p.number < t.next/pageRecords
		switch {
		case (expiry != nil) != (p.open > 0), (release != nil) != sealed:
			return broken("page %d with %d open waits for the wrong thing", p.number, p.open)
		case expiry != nil && (expiry.number != p.number || uint64(expiry.at) > first):
			return broken("page %d: the next expiry is %d, not %d", p.number, first, expiry.at)
		case release != nil && (release.number != p.number || release.at != t.releaseAt(p)):
			return broken("page %d: released at %d, not %d", p.number, release.at, t.releaseAt(p))
		}
	}
	if e := t.expiry.top(); e != nil && t.pages[e.slot].expires[e.record] != uint64(e.at) {
		return broken("the first expiry %d is none", e.at)
	}
	if err := t.expiry.check(); err != nil {
		return err
	}
	return t.release.check()
}

// check checks the order of a heap and that every entry knows its place.
func (h *pageHeap) check() error {
	for i := range h.entries {
		e := &h.entries[i]
		if i > 0 && e.before(&h.entries[(i-1)/2]) {
			return broken("page %d at %d waits behind a later one", e.number, e.at)
		}
		if int(e.slot) >= len(h.places) || h.places[e.slot] != uint32(i+1) {
			return broken("page %d is not where it should wait", e.number)
		}
	}
	return nil
}
