package allocator

// WarmBatch is how many commands Warm takes at once: enough that the processor
// always has reads under way, few enough that all of it stays in its cache.
const WarmBatch = 64

// Warm reads what commands are about to need: the place in the index where a
// key belongs, the record that an id names. With millions of records none of
// that is in the processor's cache, and fetching it takes longer than all the
// rest of a command. Apply has to wait for it each time; here the reads do not
// depend on each other, so the processor fetches many at once.
//
// Warm changes nothing that any other method shows, and needs the same
// exclusion as Apply. It is for whoever has a batch: call it with up to
// WarmBatch commands (it ignores more) before they are applied one by one. The
// commands need not be valid.
func (s *State) Warm(cmds [][]byte) {
	cmds = cmds[:min(len(cmds), WarmBatch)]
	s.warmed ^= s.warmKeys(cmds) ^ s.warmRecords(cmds)
}

// warmKeys reads where the keys of commands belong. The sum of what it read
// keeps the compiler from leaving the reads out.
func (s *State) warmKeys(cmds [][]byte) (sum uint64) {
	var segments [WarmBatch]*segment
	var hashes [WarmBatch]uint64
	n := 0
	for _, cmd := range cmds {
		if len(cmd) > len(Key{}) && Kind(cmd[0]).keyed() {
			hash := hashKey((*Key)(cmd[1:]))
			segments[n], hashes[n] = s.records.byKey.segment(hash), hash
			n++
		}
	}
	for i, segment := range segments[:n] {
		sum ^= segment.slots[segment.home(hashes[i])]
	}
	return sum
}

// warmRecords reads the records that commands name, and when they run out.
func (s *State) warmRecords(cmds [][]byte) (sum uint64) {
	var handles [WarmBatch]handle
	n := 0
	for _, cmd := range cmds {
		if len(cmd) > 0 && Kind(cmd[0]).named() {
			c := cursor{b: cmd, at: 1}
			if h, ok := s.records.byID(c.id().Seq); ok {
				handles[n] = h
				n++
			}
		}
	}
	for _, h := range handles[:n] {
		p, r := s.records.at(h)
		sum ^= uint64(r.status) ^ p.expires[h.at]
	}
	return sum
}

// keyed tells whether a command begins with a key.
func (k Kind) keyed() bool {
	return k == KindReserve || k == KindReturn || k >= KindPutSKU && k <= KindAdjust && k != KindSetPaused
}

// named tells whether a command begins with the id of a reservation.
func (k Kind) named() bool { return k >= KindConfirm && k <= KindExtend }
