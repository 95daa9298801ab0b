package allocator

// Keyed operations (Return, PutSKU, Restock, Adjust) leave a finished record, so
// that their keys answer as those of reservations do: the same body gets the
// first answer again, another body is refused. Refusals leave none, and
// neither does an operation without a key.

// repeatKeyed answers a key that was seen before, and tells whether it was.
func (s *State) repeatKeyed(k *keyView, kind Kind) bool {
	if k.key == (Key{}) {
		return false
	}
	h, _, seen := s.records.find(&k.key)
	if !seen {
		return false
	}
	p, r := s.records.at(h)
	if r.kind != kind || r.body != k.body {
		s.answer.code = CodeKeyReused
		return true
	}
	s.answer.flags |= hasReplayed
	s.answer.setVersion(r.version())
	if r.flags&recordCreated != 0 {
		s.answer.flags |= hasCreated
	}
	if s.answer.encoded = p.textOf(r); len(s.answer.encoded) != 0 {
		s.answer.flags |= hasReservation
	}
	return true
}

// recordKeyed keeps the answer at hand for its key.
func (s *State) recordKeyed(k *keyView, kind Kind) error {
	if k.key == (Key{}) {
		return nil
	}
	if err := s.roomForRecord(); err != nil {
		return err
	}
	_, place, _ := s.records.find(&k.key)
	h, p, r := s.records.add(&place, k, s.clock.now)
	r.kind = kind
	if s.answer.flags&hasVersion != 0 {
		r.setVersion(s.answer.version)
	}
	if s.answer.flags&hasCreated != 0 {
		r.flags |= recordCreated
	}
	if s.answer.flags&hasReservation != 0 {
		s.encoded = s.answer.reservation.appendTo(s.encoded[:0])
		r.ttl = uint32(len(s.encoded))
		s.records.write(p, s.encoded)
	}
	s.records.closed(h, p, s.clock.now)
	return nil
}
