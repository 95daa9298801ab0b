package allocator

import "slices"

// setPolicy gives a bucket a policy, and notes whether its SKU is to be watched.
func (s *stock) setPolicy(no uint32, p Policy) *bucket {
	b := s.edit(no)
	b.policy = p
	s.noteWatch(no, p.Watch)
	return b
}

// noteWatch keeps the list of buckets whose SKU is to be watched, in order of their
// numbers. It is no part of the state: it follows from the policies.
func (s *stock) noteWatch(no uint32, watch bool) {
	i, found := slices.BinarySearch(s.watched, no)
	switch {
	case watch && !found:
		s.watched = slices.Insert(s.watched, i, no)
	case !watch && found:
		s.watched = slices.Delete(s.watched, i, i+1)
	}
}

// Watched is the units of a SKU that is to have metric series of its own.
type Watched struct {
	SKU                                                  SKU
	Available, Reserved, Committed, SafetyStock, Transit Quantity
}

// Watched gives the SKUs whose policy says so, as far as this shard has buckets of them,
// the oldest buckets first and at most limit of them.
func (s *State) Watched(limit int) []Watched {
	numbers := s.stock.watched
	all := make([]Watched, min(len(numbers), limit))
	for i := range all {
		b := s.stock.at(numbers[i])
		all[i] = Watched{
			SKU: SKU(b.sku()), Available: b.pots[potAvailable], Reserved: b.pots[potReserved],
			Committed: b.pots[potCommitted], SafetyStock: b.pots[potSafety], Transit: b.inTransit,
		}
	}
	return all
}
