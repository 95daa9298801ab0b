package allocator

// lookup finds the reservation a command speaks of. Without one the answer is
// set and ok is false.
func (s *State) lookup(id ReservationID) (h handle, p *page, r *record, ok bool) {
	if id.Shard == s.cfg.Shard {
		h, ok = s.records.byID(id.Seq)
	}
	if ok {
		p, r = s.records.at(h)
		ok = r.kind == KindReserve
	}
	if !ok {
		s.answer.code = CodeReservationNotFound
	}
	return h, p, r, ok
}

// show puts the reservation as it is now into the answer.
func (s *State) show(h handle) {
	p, r := s.records.at(h)
	s.answer.flags |= hasReservation
	v := &s.answer.reservation
	*v = reservationView{
		id: ReservationID{s.cfg.Shard, p.seq(h.at)}, status: r.status, lines: s.lines[:r.lines],
		created: p.created(r), expires: Millis(p.expires[h.at] &^ endedBit), ended: r.ended,
	}
	v.buyerID, v.reference = p.textsOf(r)
	for i := range v.lines {
		l := p.line(r, i)
		v.lines[i] = lineView{s.stock.at(l.bucket).sku(), Quantity(l.units)}
	}
}

// refuse answers with a code and the reservation it is about.
func (s *State) refuse(code Code, h handle) {
	s.answer.code = code
	s.show(h)
}

// again answers a command whose work was done before.
func (s *State) again(h handle) {
	s.answer.flags |= hasReplayed
	s.show(h)
}

// choose finds out how much of each line of a reservation a command means, and
// puts that into s.plan, in the reservation's order. No lines mean all of it.
// It refuses lines that are more than the reservation has.
func (s *State) choose(h handle, asked []lineView) ([]planned, bool) {
	p, r := s.records.at(h)
	lines := s.plan[:r.lines]
	for i := range lines {
		l := p.line(r, i)
		lines[i] = planned{known: true, bucket: l.bucket}
		lines[i].sku = s.stock.at(l.bucket).sku()
		if len(asked) == 0 {
			lines[i].quantity = Quantity(l.units)
		}
	}
	for _, a := range asked {
		i := lineOf(lines, a.sku)
		has := Quantity(0)
		if i >= 0 {
			has = Quantity(p.line(r, i).units)
		}
		if a.quantity > has {
			s.refuse(CodeLinesExceedReservation, h)
			s.answer.explain(refusalView{sku: a.sku, requested: a.quantity, available: has})
			return nil, false
		}
		lines[i].quantity = a.quantity
	}
	return lines, true
}

// lineOf finds the line of a SKU, or -1.
func lineOf(lines []planned, sku []byte) int {
	for i := range lines {
		if string(lines[i].sku) == string(sku) {
			return i
		}
	}
	return -1
}

// confirm sells what a reservation holds, or a part of it.
func (s *State) confirm(v *finishView) {
	h, _, r, ok := s.lookup(v.id)
	if !ok {
		return
	}
	switch r.status {
	case StatusCanceled:
		s.refuse(CodeReservationCanceled, h)
		return
	case StatusConfirmed:
		s.again(h)
		return
	}
	lines, ok := s.choose(h, v.lines.all())
	if !ok {
		return
	}
	if r.status == StatusExpired {
		s.retake(h, lines)
		return
	}
	page := s.records.edit(h.slot)
	r = &page.records[h.at]
	for i := range lines {
		l := page.line(r, i)
		sold := lines[i].quantity
		s.stock.move(l.bucket, potReserved, potCommitted, sold)
		s.putBack(l, potReserved, Quantity(l.units)-sold, sold)
		l.units = uint32(sold)
	}
	s.end(h, StatusConfirmed)
}

// end finishes a reservation and shows it.
func (s *State) end(h handle, status Status) {
	s.records.finish(h, status, s.clock.now)
	s.counts.endedBy[status]++
	s.show(h)
}

// putBack makes units of a line available again. rest is what the line still
// counts for its buyer.
func (s *State) putBack(l *held, from pot, q, rest Quantity) {
	if q != 0 {
		s.stock.move(l.bucket, from, potAvailable, q)
		if l.purchase != 0 {
			s.purchases.sub(l.purchase, q)
		}
	}
	if rest == 0 {
		l.purchase = 0
	}
}

// retake sells an expired reservation after all, if nothing speaks against it.
// If only units are missing, a transfer may mend it.
func (s *State) retake(h handle, lines []planned) {
	p, r := s.records.at(h)
	buyer, _ := p.buyerOf(r)
	allowed := true
	for i := range lines {
		if l := &lines[i]; l.quantity != 0 {
			b := s.stock.at(l.bucket)
			allowed = allowed && b.policy.LateConfirm == LateConfirmRetake && !b.policy.Paused &&
				!s.beyondBuyerLimit(l, &buyer, b)
			s.addShortage(l)
		}
	}
	if !allowed {
		s.answer.flags &^= hasShortages
	}
	if !allowed || s.answer.flags&hasShortages != 0 {
		s.refuse(CodeReservationExpired, h)
		return
	}
	p = s.records.edit(h.slot)
	r = &p.records[h.at]
	for i := range lines {
		l := p.line(r, i)
		*l = held{bucket: l.bucket}
		if lines[i].quantity != 0 {
			*l = s.take(&lines[i], &buyer, potCommitted)
		}
	}
	s.counts.retaken++
	s.end(h, StatusConfirmed)
}

// cancel gives back what a reservation holds.
func (s *State) cancel(v *finishView) {
	h, _, r, ok := s.lookup(v.id)
	if !ok {
		return
	}
	switch r.status {
	case StatusConfirmed:
		s.refuse(CodeReservationConfirmed, h)
	case StatusCanceled, StatusExpired:
		s.again(h)
	default:
		s.putBackAll(h)
		s.end(h, StatusCanceled)
	}
}

// putBackAll makes all units of an open reservation available again. Its lines
// keep their quantities, to show what it was, and for a late confirm.
func (s *State) putBackAll(h handle) {
	page := s.records.edit(h.slot)
	r := &page.records[h.at]
	for i := range int(r.lines) {
		l := page.line(r, i)
		s.putBack(l, potReserved, Quantity(l.units), 0)
	}
}

// extend lets an open reservation live longer.
func (s *State) extend(v *finishView) {
	h, p, r, ok := s.lookup(v.id)
	if !ok {
		return
	}
	switch r.status {
	case StatusCanceled:
		s.refuse(CodeReservationCanceled, h)
		return
	case StatusConfirmed:
		s.refuse(CodeReservationConfirmed, h)
		return
	case StatusExpired:
		s.refuse(CodeReservationExpired, h)
		return
	}
	for i := range int(r.lines) {
		b := s.stock.at(p.line(r, i).bucket)
		if limit := b.policy.maxTTL(); v.ttl > limit {
			s.refuse(CodeTTLLimitExceeded, h)
			s.answer.explain(refusalView{sku: b.sku(), limit: Quantity(limit), requested: Quantity(v.ttl)})
			return
		}
	}
	if until := s.clock.now + v.ttl; uint64(until) > p.expires[h.at] {
		s.records.extend(h, until)
	}
	s.show(h)
}

// giveBack returns units of a sold reservation.
func (s *State) giveBack(v *finishView) error {
	if s.repeatKeyed(&v.keyView, KindReturn) {
		return nil
	}
	h, _, r, ok := s.lookup(v.id)
	if !ok {
		return nil
	}
	if r.status != StatusConfirmed {
		s.refuse(CodeReservationNotConfirmed, h)
		return nil
	}
	lines, ok := s.choose(h, v.lines.all())
	if !ok {
		return nil
	}
	page := s.records.edit(h.slot)
	r = &page.records[h.at]
	for i := range lines {
		l := page.line(r, i)
		back := lines[i].quantity
		l.units -= uint32(back)
		s.putBack(l, potCommitted, back, Quantity(l.units))
	}
	s.show(h)
	return s.recordKeyed(&v.keyView, KindReturn)
}
