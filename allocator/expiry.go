package allocator

// expireDue expires reservations whose time is up, in the order of (time, id),
// until this stamp's budget is used up.
func (s *State) expireDue() error {
	for s.clock.expired < s.cfg.ExpiryPerStamp {
		e := s.records.expiry.top()
		if e == nil || e.at > s.clock.now {
			return nil
		}
		if err := s.expire(*e); err != nil {
			return err
		}
		s.clock.expired++
	}
	return nil
}

// expire ends one reservation whose time is up.
func (s *State) expire(e pageEvent) error {
	h := handle{e.slot, int(e.record)}
	s.putBackAll(h)
	s.records.finish(h, StatusExpired, s.clock.now)
	s.counts.endedBy[StatusExpired]++
	s.history.expired(e.at, s.records.pages[h.slot].seq(h.at))
	return s.stock.checkTouched()
}

// releaseDue forgets pages past their retention, a bounded number per stamp.
func (s *State) releaseDue() {
	for s.clock.released < releasesPerStamp {
		e := s.records.release.top()
		if e == nil || e.at > s.clock.now {
			return
		}
		s.records.drop(e.slot)
		s.clock.released++
	}
}

// NextDue tells when Begin next has something to do; false if nothing is ahead.
// The moment is later than Now: what could be done by now is done.
func (s *State) NextDue() (Millis, bool) {
	due := maxMoment
	for _, e := range [...]*pageEvent{s.records.expiry.top(), s.records.release.top()} {
		if e != nil {
			due = min(due, e.at)
		}
	}
	return max(due, s.clock.now+1), due != maxMoment
}
