package allocator

import (
	"errors"
	"fmt"
)

// ErrInvariant is returned when the state contradicts itself. It is always a
// bug or damaged memory; the replica must stop.
var ErrInvariant = errors.New("allocator: invariant violated")

// pot is a place in a bucket where units lie.
type pot uint8

const (
	potAvailable pot = iota
	potReserved
	potCommitted
	potSafety
	potCount
)

// bucket is the part of one SKU's stock that this shard owns. It has no
// pointers, so the garbage collector never looks inside.
//
// Invariant: nothing in it is negative, and
// deposited + adjusted + received == the sum of all pots + sent.
type bucket struct {
	policy    Policy
	pots      [potCount]Quantity
	deposited Quantity
	adjusted  Quantity // may be negative
	received  Quantity // from other shards, ever
	sent      Quantity // to other shards, ever
	inTransit Quantity // the part of sent that is still in outboxes
	created   Millis
	updated   Millis
	flows     uint32 // first of its flows in stock.flows, plus one; 0: none
	metadata  uint32 // its metadata in stock.metadata, plus one; 0: none
	anchor    bool
	nameLen   uint8
	name      [MaxSKULen]byte
}

// flow is the sum of one SKU's units exchanged with one peer. The flows of a
// bucket form a list in ascending order of peers: there are as many as shards
// that traded this SKU, so a walk is short.
type flow struct {
	sent     Quantity
	acked    Quantity // the part of sent that the peer has acknowledged
	received Quantity
	bucket   uint32
	next     uint32 // plus one; 0: the last
	peer     ShardID
}

func (b *bucket) sku() []byte { return b.name[:b.nameLen] }

// onHand is what was put in, ever; meaningful at the anchor.
func (b *bucket) onHand() Quantity { return b.deposited + b.adjusted }

// check verifies the bucket's invariant.
func (b *bucket) check() error {
	sum, signs := b.sent, b.deposited|b.received|b.sent|b.inTransit|(b.sent-b.inTransit)
	for _, q := range b.pots {
		sum += q
		signs |= q
	}
	if signs < 0 || sum != b.onHand()+b.received {
		return fmt.Errorf("%w: bucket of %s: available %d, reserved %d, committed %d, safety %d, "+
			"deposited %d, adjusted %d, received %d, sent %d, in transit %d", ErrInvariant, b.sku(),
			b.pots[potAvailable], b.pots[potReserved], b.pots[potCommitted], b.pots[potSafety],
			b.deposited, b.adjusted, b.received, b.sent, b.inTransit)
	}
	return nil
}

// stock is all buckets of a shard. Every movement of units goes through its
// methods, which keep the totals right and note whose invariant to check.
type stock struct {
	buckets  paged[bucket]
	flows    paged[flow]
	metadata paged[[]byte]
	byName   index
	epoch    uint64
	pots     [potCount]Quantity // totals over all buckets
	transit  Quantity
	meta     int64    // bytes of all metadata
	recent   uint32   // the bucket that findAgain found last
	touched  []uint32 // buckets that changed since the last check
	watched  []uint32 // see noteWatch
}

func newStock() stock { return stock{byName: newIndex()} }

// find gives the number of a SKU's bucket.
func (s *stock) find(sku []byte) (uint32, bool) {
	p := s.byName.probe(hashSKU(sku))
	for no, ok := p.next(); ok; no, ok = p.next() {
		if string(s.buckets.at(no).sku()) == string(sku) {
			return no, true
		}
	}
	return 0, false
}

// findAgain is find for commands: in a sale most of them are about one SKU. It
// changes the state, though nothing that shows, so readers must use find.
func (s *stock) findAgain(sku []byte) (uint32, bool) {
	if int(s.recent) < s.buckets.n && string(s.at(s.recent).sku()) == string(sku) {
		return s.recent, true
	}
	no, ok := s.find(sku)
	if ok {
		s.recent = no
	}
	return no, ok
}

// at gives a bucket to read.
func (s *stock) at(no uint32) *bucket { return s.buckets.at(no) }

// edit gives a bucket to write and notes it for the check.
func (s *stock) edit(no uint32) *bucket {
	if n := len(s.touched); n == 0 || s.touched[n-1] != no {
		s.touched = append(s.touched, no)
	}
	return s.buckets.edit(no, s.epoch)
}

// open adds an empty bucket.
func (s *stock) open(sku []byte, anchor bool, now Millis) uint32 {
	no := s.buckets.grow(s.epoch)
	b := s.edit(no)
	b.nameLen = uint8(copy(b.name[:], sku))
	b.anchor, b.created, b.updated = anchor, now, now
	s.byName.insert(hashSKU(sku), no)
	return no
}

// move takes q units from one pot to another; a negative q goes the other way.
func (s *stock) move(no uint32, from, to pot, q Quantity) {
	b := s.edit(no)
	b.pots[from] -= q
	b.pots[to] += q
	s.pots[from] -= q
	s.pots[to] += q
}

// deposit brings in new units.
func (s *stock) deposit(no uint32, q Quantity) {
	s.edit(no).deposited += q
	s.add(no, q)
}

// adjust corrects the count.
func (s *stock) adjust(no uint32, delta Quantity) {
	s.edit(no).adjusted += delta
	s.add(no, delta)
}

// add changes the available units; the caller enters the other side.
func (s *stock) add(no uint32, q Quantity) {
	s.edit(no).pots[potAvailable] += q
	s.pots[potAvailable] += q
}

// send takes available units out, on their way to a peer.
func (s *stock) send(no uint32, peer ShardID, q Quantity) {
	s.add(no, -q)
	b := s.edit(no)
	b.sent += q
	b.inTransit += q
	s.transit += q
	s.flow(no, peer).sent += q
}

// receive adds units that a peer sent.
func (s *stock) receive(no uint32, peer ShardID, q Quantity) {
	s.add(no, q)
	s.edit(no).received += q
	s.flow(no, peer).received += q
}

// arrived counts units as no longer in transit to a peer.
func (s *stock) arrived(no uint32, peer ShardID, q Quantity) {
	s.edit(no).inTransit -= q
	s.transit -= q
	s.flow(no, peer).acked += q
}

// flow gives the flow between a bucket and a peer to write, new if need be.
func (s *stock) flow(no uint32, peer ShardID) *flow {
	before := uint32(0) // the flow to link a new one behind, plus one
	next := s.at(no).flows
	for next != 0 {
		f := s.flows.at(next - 1)
		if f.peer == peer {
			return s.flows.edit(next-1, s.epoch)
		}
		if f.peer > peer {
			break
		}
		before, next = next, f.next
	}
	fresh := s.flows.grow(s.epoch)
	if before == 0 {
		s.edit(no).flows = fresh + 1
	} else {
		s.flows.edit(before-1, s.epoch).next = fresh + 1
	}
	f := s.flows.edit(fresh, s.epoch)
	*f = flow{bucket: no, peer: peer, next: next}
	return f
}

// describe replaces a bucket's metadata.
func (s *stock) describe(no uint32, text []byte) {
	b := s.edit(no)
	if b.metadata == 0 {
		if len(text) == 0 {
			return
		}
		b.metadata = s.metadata.grow(s.epoch) + 1
	}
	m := s.metadata.edit(b.metadata-1, s.epoch)
	s.meta += int64(len(text) - len(*m))
	*m = append([]byte(nil), text...)
}

// checkTouched verifies the invariant of every bucket that changed.
func (s *stock) checkTouched() error {
	for _, no := range s.touched {
		if err := s.at(no).check(); err != nil {
			return err
		}
	}
	s.touched = s.touched[:0]
	return nil
}

// bytes estimates the memory of buckets, flows and metadata.
func (s *stock) bytes() int64 {
	const bucketSize, flowSize, sliceSize = 240, 40, 24
	return int64(len(s.buckets.chunks))*chunkItems*bucketSize + int64(len(s.flows.chunks))*chunkItems*flowSize +
		int64(len(s.metadata.chunks))*chunkItems*sliceSize + s.meta + s.byName.bytes()
}
