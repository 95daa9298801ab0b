package allocator

// purchase counts what one buyer holds and has bought of one SKU. Entries live
// as long as the count is above zero: longer than the reservations that make it
// up, because a limit counts for the whole sale.
type purchase struct {
	buyer  Buyer
	units  Quantity
	bucket uint32
	next   uint32 // while free: the next free entry, plus one
}

// purchases holds the counters of all (buyer, SKU) pairs that have a limit.
type purchases struct {
	entries paged[purchase]
	byPair  index
	free    uint32 // first free entry, plus one; 0: none
	epoch   uint64
}

func newPurchases() purchases { return purchases{byPair: newIndex()} }

func hashPurchase(buyer *Buyer, bucket uint32) uint64 {
	return hashKey((*Key)(buyer)) ^ fold(uint64(bucket)+hashSeed, hashFirst)
}

// find gives the number of a pair's counter plus one, or 0.
func (p *purchases) find(buyer *Buyer, bucket uint32) uint32 {
	probe := p.byPair.probe(hashPurchase(buyer, bucket))
	for no, ok := probe.next(); ok; no, ok = probe.next() {
		if e := p.entries.at(no); e.bucket == bucket && e.buyer == *buyer {
			return no + 1
		}
	}
	return 0
}

// units is what a counter stands at; 0 for the number 0.
func (p *purchases) units(slot uint32) Quantity {
	if slot == 0 {
		return 0
	}
	return p.entries.at(slot - 1).units
}

// add counts units for a pair whose counter is slot, or a new one if that is 0,
// and returns the counter.
func (p *purchases) add(slot uint32, buyer *Buyer, bucket uint32, q Quantity) uint32 {
	if slot == 0 {
		slot = p.open(buyer, bucket)
	}
	p.entries.edit(slot-1, p.epoch).units += q
	return slot
}

// open makes a counter at zero.
func (p *purchases) open(buyer *Buyer, bucket uint32) uint32 {
	no := p.free - 1
	if p.free == 0 {
		no = p.entries.grow(p.epoch)
	} else {
		p.free = p.entries.at(no).next
	}
	*p.entries.edit(no, p.epoch) = purchase{buyer: *buyer, bucket: bucket}
	p.byPair.insert(hashPurchase(buyer, bucket), no)
	return no + 1
}

// sub takes units off a counter and frees it at zero.
func (p *purchases) sub(slot uint32, q Quantity) {
	e := p.entries.edit(slot-1, p.epoch)
	if e.units -= q; e.units > 0 {
		return
	}
	p.byPair.remove(hashPurchase(&e.buyer, e.bucket), slot-1)
	*e = purchase{next: p.free}
	p.free = slot
}

// bytes estimates the memory of the counters.
func (p *purchases) bytes() int64 {
	const entryBytes = 32
	return int64(len(p.entries.chunks))*chunkItems*entryBytes + p.byPair.bytes()
}
