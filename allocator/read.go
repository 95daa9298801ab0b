package allocator

// Reservation looks a reservation up; false when there is none, or when its
// retention is over.
func (s *State) Reservation(id ReservationID) (Reservation, bool) {
	if id.Shard != s.cfg.Shard {
		return Reservation{}, false
	}
	h, ok := s.records.byID(id.Seq)
	if !ok {
		return Reservation{}, false
	}
	p, r := s.records.at(h)
	if r.kind != KindReserve {
		return Reservation{}, false
	}
	buyerID, reference := p.textsOf(r)
	res := Reservation{
		ID: id, Status: r.status, Lines: make([]Line, r.lines), BuyerID: string(buyerID), Reference: string(reference),
		Created: p.created(r), Expires: Millis(p.expires[h.at] &^ endedBit), Ended: r.ended,
	}
	for i := range res.Lines {
		l := p.line(r, i)
		res.Lines[i] = Line{SKU: SKU(s.stock.at(l.bucket).sku()), Quantity: Quantity(l.units)}
	}
	return res, true
}

// Bucket reports everything this shard knows of a SKU, and its transfer vector.
func (s *State) Bucket(sku SKU) BucketReport {
	report, no := s.level(sku)
	report.Vector = s.Vector()
	if report.Known {
		report.Metadata, report.Outbox = s.stock.metadataOf(no), s.inTransit(no)
	}
	return report
}

// Level reports what other shards need to know of a SKU to trade with this one:
// it is Bucket without outbox, vector and metadata, which only an audit needs.
func (s *State) Level(sku SKU) BucketReport {
	report, _ := s.level(sku)
	return report
}

// level is Level, with the number of the bucket if it is known.
func (s *State) level(sku SKU) (report BucketReport, no uint32) {
	report = BucketReport{
		Shard: s.cfg.Shard, Shards: s.cfg.Shards, SKU: sku,
		Stamp: s.clock.now, Applied: s.history.count, Hash: s.history.hash,
	}
	no, ok := s.stock.find([]byte(sku))
	if ok {
		s.stock.report(no, &report)
	}
	return report, no
}

// Knows tells whether this shard has a bucket of a SKU.
func (s *State) Knows(sku []byte) bool {
	_, ok := s.stock.find(sku)
	return ok
}

// LevelMark is equal for two levels of a SKU when nothing has changed in between
// that a level shows of the SKU itself.
type LevelMark struct {
	known     bool
	version   uint64 // of the policy
	available Quantity
	reserved  Quantity
	committed Quantity
	onHand    Quantity
	sent      Quantity
	inTransit Quantity
	received  Quantity
}

// SamePolicy tells whether both are of a bucket with the same version of its policy.
func (m LevelMark) SamePolicy(o LevelMark) bool { return m.known == o.known && m.version == o.version }

// LevelMark tells whether a level has changed at a fraction of its cost.
func (s *State) LevelMark(sku SKU) LevelMark {
	no, ok := s.stock.find([]byte(sku))
	if !ok {
		return LevelMark{}
	}
	b := s.stock.at(no)
	return LevelMark{
		known: true, version: b.policy.Version, available: b.pots[potAvailable],
		reserved: b.pots[potReserved], committed: b.pots[potCommitted],
		onHand: b.onHand(), sent: b.sent, inTransit: b.inTransit, received: b.received,
	}
}

// report fills in what a bucket itself knows, without metadata.
func (s *stock) report(no uint32, r *BucketReport) {
	b := s.at(no)
	r.Known, r.Anchor, r.Policy, r.Created, r.Updated = true, b.anchor, b.policy, b.created, b.updated
	r.Deposited, r.Adjusted = b.deposited, b.adjusted
	r.Available, r.Reserved = b.pots[potAvailable], b.pots[potReserved]
	r.Committed, r.Safety = b.pots[potCommitted], b.pots[potSafety]
	for next := b.flows; next != 0; {
		f := s.flows.at(next - 1)
		r.Flows = append(r.Flows, Flow{Peer: f.peer, Sent: f.sent, Acked: f.acked, Received: f.received})
		next = f.next
	}
}

// metadataOf copies a bucket's metadata.
func (s *stock) metadataOf(no uint32) []byte {
	b := s.at(no)
	if b.metadata == 0 {
		return nil
	}
	return append([]byte(nil), *s.metadata.at(b.metadata - 1)...)
}

// inTransit lists the messages that hold units of a bucket. Only outboxes to
// peers that ever got some are looked through.
func (s *State) inTransit(no uint32) (all []InTransit) {
	b := s.stock.at(no)
	if b.inTransit == 0 {
		return nil
	}
	for next := b.flows; next != 0; {
		f := s.stock.flows.at(next - 1)
		if next = f.next; f.sent == 0 {
			continue
		}
		box := &s.outboxes[f.peer]
		for seq := box.acked + 1; seq <= box.sent; seq++ {
			if l := box.at(seq); l.bucket == no && l.quantity > 0 {
				all = append(all, InTransit{To: f.peer, Seq: seq, Quantity: l.quantity})
			}
		}
	}
	return all
}

// Outbox gives up to limit messages for a shard with numbers above after, with
// the policies as they are now, and the number of the first. Messages that were
// acknowledged are gone. Without any the number is 0.
func (s *State) Outbox(to ShardID, after uint64, limit int) ([]Message, uint64) {
	if int(to) >= len(s.outboxes) || limit <= 0 {
		return nil, 0
	}
	box := &s.outboxes[to]
	if after < box.acked {
		after = box.acked
	}
	if after >= box.sent {
		return nil, 0
	}
	n := min(uint64(limit), box.sent-after)
	messages := make([]Message, n)
	for i := range messages {
		messages[i] = s.message(box.at(after + 1 + uint64(i)))
	}
	return messages, after + 1
}

// message is a letter as it is delivered now.
func (s *State) message(l letter) Message {
	b := s.stock.at(l.bucket)
	kind := MessagePolicy
	if l.quantity > 0 {
		kind = MessageUnits
	}
	return Message{Kind: kind, SKU: SKU(b.sku()), Quantity: l.quantity, Policy: b.policy}
}

// Destinations lists the shards that messages are waiting for, ascending.
func (s *State) Destinations() []ShardID {
	var all []ShardID
	for i := range s.outboxes {
		if s.outboxes[i].len() > 0 {
			all = append(all, ShardID(i))
		}
	}
	return all
}

// Vector gives the numbers of the last messages exchanged with every shard.
func (s *State) Vector() Vector {
	n := len(s.outboxes)
	all := make([]uint64, 3*n)
	v := Vector{Sent: all[:n:n], Acked: all[n : 2*n : 2*n], Received: all[2*n:]}
	for i := range s.outboxes {
		v.Sent[i], v.Acked[i] = s.outboxes[i].sent, s.outboxes[i].acked
	}
	copy(v.Received, s.received)
	return v
}

// Stats gives the shard's totals. It is cheap: nothing is counted for it but
// the lengths of the outboxes.
func (s *State) Stats() Stats {
	st := Stats{
		SKUs: s.stock.buckets.n, InTransit: s.stock.transit, Live: s.records.live, Records: s.records.count,
		Bytes:   s.stock.bytes() + s.records.bytes() + s.purchases.bytes(),
		EndedBy: s.counts.endedBy, Retaken: s.counts.retaken,
		Transfers: s.counts.transfers, UnitsSent: s.counts.unitsSent, Purchases: s.purchases.byPair.count,
	}
	pots := &s.stock.pots
	st.Available, st.Reserved, st.Committed, st.Safety =
		pots[potAvailable], pots[potReserved], pots[potCommitted], pots[potSafety]
	for i := range s.outboxes {
		st.OutboxLen += s.outboxes[i].len()
	}
	if e := s.records.expiry.top(); e != nil {
		st.ExpiryLag = max(0, s.clock.now-e.at)
	}
	return st
}
