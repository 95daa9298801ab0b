package allocator

// planned is one line of a Reserve or of a late Confirm, with what was found
// out about it before anything changes.
type planned struct {
	lineView
	known    bool
	bucket   uint32
	purchase uint32 // the buyer's counter, plus one; 0: none yet
}

// reserve holds units of all lines, or refuses.
func (s *State) reserve(v *reserveView) error {
	h, place, seen := s.records.find(&v.key)
	if seen {
		s.repeatReserve(v, h)
		return nil
	}
	if v.keyTime != 0 && v.keyTime+s.cfg.Retention < s.clock.now {
		s.answer.code = CodeKeyExpired
		return nil
	}
	lines := s.plan[:v.lines.n]
	for i := range lines {
		p := &lines[i]
		p.sku, p.quantity, p.purchase = v.lines.store[i].sku, v.lines.store[i].quantity, 0
		p.bucket, p.known = s.stock.findAgain(p.sku)
	}
	if code, worst := s.judgeAll(v, lines); code != CodeOK {
		s.refuseReserve(code, v, &lines[worst])
		s.addShortages(code, lines)
		return nil
	}
	return s.hold(v, &place, lines)
}

// repeatReserve answers a key that was seen before. Equal bodies mean equal
// requests, so quantities and texts of the first answer stand in this one.
func (s *State) repeatReserve(v *reserveView, h handle) {
	p, r := s.records.at(h)
	if r.kind != KindReserve || r.body != v.body {
		s.answer.code = CodeKeyReused
		return
	}
	s.answer.flags |= hasReplayed
	s.answerReserved(v, p.seq(h.at), p.created(r), Millis(r.ttl))
}

// answerReserved is the answer to a reservation that was just made.
func (s *State) answerReserved(v *reserveView, seq uint64, created, ttl Millis) {
	s.answer.flags |= hasReservation
	r := &s.answer.reservation
	r.id = ReservationID{s.cfg.Shard, seq}
	r.status = StatusReserved
	r.lines, r.buyerID, r.reference = v.lines.all(), v.buyerID, v.reference
	r.created, r.expires, r.ended = created, created+ttl, 0
}

// judgeAll finds the lowest refusal over all lines, and the first line with it.
func (s *State) judgeAll(v *reserveView, lines []planned) (lowest Code, worst int) {
	for i := range lines {
		code := s.judge(v, &lines[i])
		if code != CodeOK && (lowest == CodeOK || code < lowest) {
			lowest, worst = code, i
		}
	}
	return lowest, worst
}

// judge finds the lowest refusal of one line. The cases are in the order of
// the codes.
func (s *State) judge(v *reserveView, p *planned) Code {
	if !p.known {
		return s.unknown(p.sku)
	}
	b := s.stock.at(p.bucket)
	now := s.clock.now
	switch {
	case b.policy.Paused:
		return CodeSKUPaused
	case now < b.policy.SaleStarts, b.policy.SaleEnds != 0 && now >= b.policy.SaleEnds:
		return CodeSaleNotOpen
	case b.policy.MaxPerReservation != 0 && p.quantity > b.policy.MaxPerReservation:
		return CodeQuantityLimitExceeded
	case v.ttl > b.policy.maxTTL():
		return CodeTTLLimitExceeded
	case s.beyondBuyerLimit(p, &v.buyer, b):
		return CodeBuyerLimitExceeded
	case p.quantity > b.pots[potAvailable]:
		return CodeInsufficientStock
	}
	return CodeOK
}

// unknown is what to say of a SKU without a bucket here. Only the anchor knows
// that there is no such SKU.
func (s *State) unknown(sku []byte) Code {
	if anchorOf(sku, s.cfg.Shards) == s.cfg.Shard {
		return CodeSKUNotFound
	}
	return CodeSKUUnknown
}

// beyondBuyerLimit tells whether a line is more than its buyer may still take.
// It leaves the buyer's counter in p.
func (s *State) beyondBuyerLimit(p *planned, buyer *Buyer, b *bucket) bool {
	if b.policy.MaxPerBuyer == 0 || *buyer == (Buyer{}) {
		return false
	}
	p.purchase = s.purchases.find(buyer, p.bucket)
	return s.purchases.units(p.purchase)+p.quantity > b.policy.MaxPerBuyer
}

// refuseReserve explains a refusal by the line that caused it.
func (s *State) refuseReserve(code Code, v *reserveView, p *planned) {
	s.refuseSKU(code, p.sku)
	if !p.known {
		return
	}
	why := &s.answer.refusal
	b := s.stock.at(p.bucket)
	switch code {
	case CodeQuantityLimitExceeded:
		why.limit, why.requested = b.policy.MaxPerReservation, p.quantity
	case CodeTTLLimitExceeded:
		why.limit, why.requested = Quantity(b.policy.maxTTL()), Quantity(v.ttl)
	case CodeBuyerLimitExceeded:
		why.limit, why.requested = b.policy.MaxPerBuyer, p.quantity
		why.available = max(0, why.limit-s.purchases.units(p.purchase))
	case CodeInsufficientStock:
		why.requested, why.available = p.quantity, b.pots[potAvailable]
	}
}

// addShortages lists every line that a transfer would have to help, if a
// transfer can help at all.
func (s *State) addShortages(code Code, lines []planned) {
	if code != CodeSKUUnknown && code != CodeInsufficientStock {
		return
	}
	for i := range lines {
		s.addShortage(&lines[i])
	}
}

// addShortage lists a line whose units are not all here.
func (s *State) addShortage(p *planned) {
	available := Quantity(0)
	if p.known {
		available = s.stock.at(p.bucket).pots[potAvailable]
	}
	if p.quantity > available {
		s.answer.short(shortageView{sku: p.sku, requested: p.quantity, available: available, known: p.known})
	}
}

// hold makes the reservation.
func (s *State) hold(v *reserveView, place *probe, lines []planned) error {
	if err := s.roomForRecord(); err != nil {
		return err
	}
	ttl := s.holdTime(v, lines)
	h, page, r := s.records.add(place, &v.keyView, s.clock.now)
	r.kind, r.status, r.ttl, r.lines = KindReserve, StatusReserved, uint32(ttl), uint8(len(lines))
	r.buyer, r.ref = uint8(len(v.buyerID)), uint8(len(v.reference))
	if v.buyer != (Buyer{}) {
		r.flags |= recordHasBuyer
		s.records.write(page, v.buyer[:])
	}
	s.records.write(page, v.buyerID)
	s.records.write(page, v.reference)
	for i := range lines {
		l := s.take(&lines[i], &v.buyer, potReserved)
		if i == 0 {
			r.first = l
		} else {
			s.records.addLine(page, l)
		}
	}
	s.records.opened(h, page, s.clock.now+ttl)
	s.answerReserved(v, page.seq(h.at), s.clock.now, ttl)
	return nil
}

// roomForRecord fails when the numbers of records run out: after 2^48 of them,
// or with four billion in memory.
func (s *State) roomForRecord() error {
	if s.records.next >= MaxSeq-pageRecords || len(s.records.pages)-len(s.records.free) >= maxSlots {
		return ErrFull
	}
	return nil
}

// holdTime is how long the reservation lives: what was asked for, else the
// shortest default, but not longer than any of the SKUs allows.
func (s *State) holdTime(v *reserveView, lines []planned) Millis {
	if v.ttl != 0 {
		return v.ttl
	}
	ttl := MaxTTL
	for i := range lines {
		policy := &s.stock.at(lines[i].bucket).policy
		ttl = min(ttl, policy.defaultTTL(), policy.maxTTL())
	}
	return ttl
}

// take moves a line's available units to another pot, and counts them for the
// buyer if the SKU has a limit at this moment.
func (s *State) take(p *planned, buyer *Buyer, to pot) held {
	s.stock.move(p.bucket, potAvailable, to, p.quantity)
	l := held{bucket: p.bucket, units: uint32(p.quantity)}
	if s.stock.at(p.bucket).policy.MaxPerBuyer != 0 && *buyer != (Buyer{}) {
		l.purchase = s.purchases.add(p.purchase, buyer, p.bucket, p.quantity)
	}
	return l
}

// defaultTTL is how long a hold of the SKU lives when the request does not say.
func (p *Policy) defaultTTL() Millis {
	if p.DefaultTTL == 0 {
		return DefaultTTL
	}
	return p.DefaultTTL
}

// maxTTL is how long a hold of the SKU may live.
func (p *Policy) maxTTL() Millis {
	if p.MaxTTL == 0 {
		return MaxTTL
	}
	return p.MaxTTL
}
