package allocator

// index finds numbers by hash: records by key, buckets by name, pages by
// number. It keeps 32 bits of each hash and no keys, so whoever asks compares
// what a number stands for with what it looks for.
//
// It is extendible hashing: a directory of small open-addressing tables, of
// which one is split when it is full. So an insertion never moves more than
// segmentSlots entries, however many there are. Half-empty tables are not
// joined again: a sale that came once may come again.
type index struct {
	directory []uint32 // segments by the top bits of a hash; 1<<depth entries
	segments  []segment
	depth     uint
	count     int
	slots     int // of all segments, for the estimate of memory
}

const (
	segmentFirst = 16   // slots of a new index
	segmentSlots = 1024 // slots of a segment that is split when full: one entry's move costs at most 8 KiB
	// lineSlots share a cache line. An entry's home is the beginning of one, so
	// that most searches fetch a single line.
	lineSlots = 8
	// directoryDepth bounds the directory to a million segments, beyond a
	// shard's memory. Segments that are full at that depth (equal hashes) grow.
	directoryDepth = 20
)

// segment is one open-addressing table with linear probing. A slot holds the
// upper 32 bits of the hash and the number plus one; 0 is empty.
type segment struct {
	slots []uint64 // a power of two
	count uint32
	depth uint8 // how many top bits of a hash all entries share
}

// maxIndexed is the largest number an index can hold.
const maxIndexed = 1<<32 - 2

func newIndex() index {
	return index{
		directory: []uint32{0}, segments: []segment{{slots: make([]uint64, segmentFirst)}}, slots: segmentFirst,
	}
}

// home is where an entry should be; the upper half of a slot decides it, so
// that an entry can be moved without its key. The lowest bits of that half are
// used here, its top bits in the directory.
func (s *segment) home(slot uint64) uint64 {
	return slot >> 32 * lineSlots & uint64(len(s.slots)-1)
}

func (x *index) segment(hash uint64) *segment {
	return &x.segments[x.directory[hash>>1>>(63-x.depth)]]
}

// probe walks over the numbers that may belong to a hash, a cache line at a
// time. The full slots of a line are always its first ones, because an entry
// goes to the first free slot from the beginning of a line on, and because gaps
// are closed.
type probe struct {
	segment *segment
	hash    uint64
	at      uint64 // the next slot to look at
}

func (x *index) probe(hash uint64) probe {
	s := x.segment(hash)
	return probe{segment: s, hash: hash, at: s.home(hash)}
}

// next returns the next number, or false when there is none left.
func (p *probe) next() (uint32, bool) {
	slots := p.segment.slots
	mask := uint64(len(slots) - 1)
	for {
		if p.at%lineSlots == 0 {
			line := (*[lineSlots]uint64)(slots[p.at&mask:])
			if p.noneIn(line) {
				if line[lineSlots-1] == 0 {
					return 0, false
				}
				p.at += lineSlots
				continue
			}
		}
		slot := slots[p.at&mask]
		if slot == 0 {
			return 0, false
		}
		p.at++
		if slot>>32 == p.hash>>32 {
			return uint32(slot) - 1, true
		}
	}
}

// noneIn tells whether no slot of a line has the tag. Most lines have none; so
// it is worth more to have no branch to guess than to stop early.
func (p *probe) noneIn(line *[lineSlots]uint64) bool {
	var some uint64
	tag := p.hash >> 32
	for _, slot := range line {
		some |= (slot>>32 ^ tag) - 1 // wraps around to a set top bit when they are equal
	}
	return some>>63 == 0
}

// insert adds a number that is not there yet.
func (x *index) insert(hash uint64, number uint32) {
	p := x.probe(hash)
	for _, ok := p.next(); ok; _, ok = p.next() {
	}
	x.insertAt(&p, number)
}

// insertAt adds a number where a probe has come to its end. The index has not
// changed since the probe began.
func (x *index) insertAt(p *probe, number uint32) {
	s := p.segment
	for s.full() {
		x.makeRoom(s, p.hash)
		s = x.segment(p.hash)
		p.at = s.home(p.hash)
	}
	s.put(p.at&^(lineSlots-1), p.hash>>32<<32|uint64(number+1))
	x.count++
}

// full tells whether a segment would become slow, at seven slots of eight.
func (s *segment) full() bool { return int(s.count) >= len(s.slots)/8*7 }

// put places a slot in the first line from at on that has room; there is some.
func (s *segment) put(at, slot uint64) {
	mask := uint64(len(s.slots) - 1)
	for at &= mask; s.slots[at+lineSlots-1] != 0; {
		at = (at + lineSlots) & mask
	}
	line := (*[lineSlots]uint64)(s.slots[at:])
	full := uint64(lineSlots)
	for _, old := range line {
		full -= (old&(1<<32-1) - 1) >> 63 // one less for each empty slot
	}
	line[full%lineSlots] = slot
	s.count++
}

// remove takes a number out and reports whether it was there. Entries behind
// it move up, so that there are no graves to walk over.
func (x *index) remove(hash uint64, number uint32) bool {
	s := x.segment(hash)
	mask := uint64(len(s.slots) - 1)
	want := hash>>32<<32 | uint64(number+1)
	at := s.home(want)
	for s.slots[at] != want {
		if s.slots[at] == 0 {
			return false
		}
		at = (at + 1) & mask
	}
	s.closeGap(at)
	s.count--
	x.count--
	return true
}

// closeGap empties a slot and moves up whatever may be nearer to its home.
func (s *segment) closeGap(gap uint64) {
	mask := uint64(len(s.slots) - 1)
	for at := (gap + 1) & mask; s.slots[at] != 0; at = (at + 1) & mask {
		if away := (at - s.home(s.slots[at])) & mask; away >= (at-gap)&mask {
			s.slots[gap] = s.slots[at]
			gap = at
		}
	}
	s.slots[gap] = 0
}

// makeRoom grows a full segment, or splits it.
func (x *index) makeRoom(s *segment, hash uint64) {
	if len(s.slots) < segmentSlots || uint(s.depth) == directoryDepth {
		x.slots += len(s.slots)
		s.refill(make([]uint64, 2*len(s.slots)), s.slots)
		return
	}
	if uint(s.depth) == x.depth {
		x.doubleDirectory()
	}
	x.split(s, hash)
}

// refill puts old entries into new slots.
func (s *segment) refill(slots, old []uint64) {
	s.slots, s.count = slots, 0
	for _, slot := range old {
		if slot != 0 {
			s.put(s.home(slot), slot)
		}
	}
}

func (x *index) doubleDirectory() {
	wide := make([]uint32, 2*len(x.directory))
	for i, s := range x.directory {
		wide[2*i], wide[2*i+1] = s, s
	}
	x.directory = wide
	x.depth++
}

// split divides a segment by the next bit of its hashes.
func (x *index) split(s *segment, hash uint64) {
	var old [segmentSlots]uint64
	copy(old[:], s.slots)
	clear(s.slots)
	s.count = 0
	s.depth++
	depth := s.depth
	x.segments = append(x.segments, segment{slots: make([]uint64, segmentSlots), depth: depth})
	x.slots += segmentSlots
	lower := &x.segments[len(x.segments)-1]
	halves := [2]*segment{lower, x.segment(hash)} // s may have moved
	for _, slot := range old {
		if slot != 0 {
			half := halves[slot>>(64-depth)&1]
			half.put(half.home(slot), slot)
		}
	}
	// The directory entries of the old segment are neighbours: the first half
	// of them leads to the lower part from now on.
	span := 1 << (x.depth - uint(depth))
	first := int(hash>>1>>(63-x.depth)) &^ (2*span - 1)
	for i := range span {
		x.directory[first+i] = uint32(len(x.segments) - 1)
	}
}

// bytes estimates the memory of the index.
func (x *index) bytes() int64 {
	return int64(x.slots)*8 + int64(len(x.directory))*4 + int64(len(x.segments))*32
}
