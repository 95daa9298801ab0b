package allocator

// records is every record of a shard: pages by slot, an index by key, and two
// heaps of pages that say what happens next. Slots are places in memory and say
// nothing about the order of pages; only page numbers may reach a result.
//
// A page with open reservations is in expiry, by the first that runs out. A page
// that is full and whose records are all finished is in release. An entry in
// expiry may be too early, because finding out costs a walk over the page; the
// top one never is.
type records struct {
	pages    []*page // by slot; nil: free
	free     []uint32
	byNumber index // of pages, to their slots
	byKey    index // to slot*pageRecords + place in the page
	expiry   pageHeap
	release  pageHeap
	keep     Millis // how long finished records stay
	epoch    uint64
	next     uint64 // sequence number of the next record, minus one
	newest   uint32 // slot of the page that is being filled, if there is one
	spare    []*page
	count    int
	live     int // open reservations
	text     int64
	lines    int64
}

// maxSpare bounds the pages kept for reuse: five megabytes. New pages are made
// about as fast as old ones go, so a few are enough to take no new memory.
const maxSpare = 256

// handle is where a record is.
type handle struct {
	slot uint32
	at   int
}

// maxSlots keeps slot*pageRecords + place within what an index can hold.
const maxSlots = maxIndexed/pageRecords - 1

func newRecords(keep Millis) records {
	return records{byNumber: newIndex(), byKey: newIndex(), keep: keep}
}

func hashPageNumber(number uint64) uint64 { return fold(number^hashFirst, hashSeed) }

// byID finds a record by its sequence number; 0 is that of none.
func (t *records) byID(seq uint64) (handle, bool) {
	if seq == 0 {
		return handle{}, false
	}
	number, at := (seq-1)/pageRecords, int((seq-1)%pageRecords)
	slot, ok := t.slotOf(number)
	if !ok || at >= t.pages[slot].count {
		return handle{}, false
	}
	return handle{slot, at}, true
}

// slotOf finds a page by its number.
func (t *records) slotOf(number uint64) (uint32, bool) {
	p := t.byNumber.probe(hashPageNumber(number))
	for slot, ok := p.next(); ok; slot, ok = p.next() {
		if t.pages[slot].number == number {
			return slot, true
		}
	}
	return 0, false
}

// find finds a record by its key. Without one, place is where it belongs.
func (t *records) find(key *Key) (h handle, place probe, ok bool) {
	p := t.byKey.probe(hashKey(key))
	for ref, ok := p.next(); ok; ref, ok = p.next() {
		h := handle{ref / pageRecords, int(ref % pageRecords)}
		if t.pages[h.slot].records[h.at].key == *key {
			return h, p, true
		}
	}
	return handle{}, p, false
}

// at gives a record to read, with its page.
func (t *records) at(h handle) (*page, *record) {
	p := t.pages[h.slot]
	return p, &p.records[h.at]
}

// edit gives a page to write, in the present epoch.
func (t *records) edit(slot uint32) *page {
	p := t.pages[slot]
	if p.epoch != t.epoch {
		p = p.copy(t.epoch)
		t.pages[slot] = p
	}
	return p
}

// add makes room for a record under a key that find did not find, and returns
// it with its page. The caller fills it in and then calls opened or closed.
func (t *records) add(place *probe, k *keyView, now Millis) (handle, *page, *record) {
	slot := t.filling(now)
	p := t.edit(slot)
	h := handle{slot, p.count}
	r := &p.records[h.at]
	r.reset()
	r.key, r.body, r.created = k.key, k.body, uint32(now-p.base)
	r.text, r.more = uint32(len(p.text)), uint16(len(p.lines))
	p.count++
	t.count++
	t.next++
	t.byKey.insertAt(place, slot*pageRecords+uint32(h.at))
	return h, p, r
}

// filling gives the slot of the page that takes the next record. A page whose
// base is too long ago to count milliseconds from is left unfinished.
func (t *records) filling(now Millis) uint32 {
	if t.next%pageRecords != 0 {
		if now-t.pages[t.newest].base <= 1<<32-1 {
			return t.newest
		}
		t.next += pageRecords - t.next%pageRecords
		t.settlePage(t.newest)
	}
	t.newest = t.addPage(t.makePage(t.next/pageRecords, now))
	return t.newest
}

// makePage gives an empty page, from spare memory if there is some.
func (t *records) makePage(number uint64, now Millis) *page {
	n := len(t.spare)
	if n == 0 {
		return newPage(number, t.epoch, now)
	}
	p := t.spare[n-1]
	t.spare = t.spare[:n-1]
	p.reset(number, t.epoch, now)
	return p
}

// addPage puts a page into a free slot.
func (t *records) addPage(p *page) uint32 {
	slot := uint32(len(t.pages))
	if n := len(t.free); n > 0 {
		slot = t.free[n-1]
		t.free = t.free[:n-1]
		t.pages[slot] = p
	} else {
		t.pages = append(t.pages, p)
	}
	t.byNumber.insert(hashPageNumber(p.number), slot)
	return slot
}

// write appends a text of the newest record to its page.
func (t *records) write(p *page, text []byte) {
	if len(text) == 0 {
		return
	}
	p.text = append(p.text, text...)
	t.text += int64(len(text))
}

// addLine appends a further line of the newest record to its page.
func (t *records) addLine(p *page, l held) {
	p.lines = append(p.lines, l)
	t.lines++
}

// trim gives back the room behind the texts of a page that takes no more.
func (t *records) trim(p *page) {
	if p.count == pageRecords && cap(p.text)-len(p.text) > len(p.text)/16 {
		p.text = append(make([]byte, 0, len(p.text)), p.text...)
	}
}

// opened ends the making of a reservation that runs out at a moment.
func (t *records) opened(h handle, p *page, expires Millis) {
	p.expires[h.at] = uint64(expires)
	p.open++
	t.live++
	t.trim(p)
	if e := t.expiry.of(h.slot); e == nil || expires < e.at {
		t.expiry.set(pageEvent{expires, p.number, h.slot, uint32(h.at)})
	}
}

// closed ends the making of a record that is finished from the start.
func (t *records) closed(h handle, p *page, now Millis) {
	p.expires[h.at] = uint64(now) | endedBit
	p.records[h.at].ended = now
	p.lastEnded = now
	t.settlePage(h.slot)
}

// extend moves the moment an open reservation runs out to a later one.
func (t *records) extend(h handle, expires Millis) {
	t.edit(h.slot).expires[h.at] = uint64(expires)
	t.settleTop()
}

// finish ends a reservation, or ends it again when it was sold late.
func (t *records) finish(h handle, status Status, now Millis) {
	p := t.edit(h.slot)
	r := &p.records[h.at]
	if r.status == StatusReserved {
		p.expires[h.at] |= endedBit
		p.open--
		t.live--
	}
	r.status, r.ended, p.lastEnded = status, now, now
	t.settlePage(h.slot)
	t.settleTop()
}

// settlePage enters a page into the heap it belongs to.
func (t *records) settlePage(slot uint32) {
	p := t.pages[slot]
	if p.open > 0 {
		return
	}
	t.expiry.remove(slot)
	if p.number < t.next/pageRecords {
		t.release.set(pageEvent{at: t.releaseAt(p), number: p.number, slot: slot})
	}
}

// releaseAt is when a page of finished records may go: the first moment at which
// a key that was made when the last of them ended is refused for its age.
func (t *records) releaseAt(p *page) Millis { return p.lastEnded + t.keep + 1 }

// settleTop makes the first entry of expiry exact.
func (t *records) settleTop() {
	for e := t.expiry.top(); e != nil; e = t.expiry.top() {
		p := t.pages[e.slot]
		if p.expires[e.record] == uint64(e.at) {
			return
		}
		moment, at := p.nextExpiry()
		t.expiry.set(pageEvent{Millis(moment), e.number, e.slot, uint32(at)})
	}
}

// drop forgets a page and all its keys.
func (t *records) drop(slot uint32) {
	p := t.pages[slot]
	for i := range p.count {
		t.byKey.remove(hashKey(&p.records[i].key), slot*pageRecords+uint32(i))
	}
	t.byNumber.remove(hashPageNumber(p.number), slot)
	t.release.remove(slot)
	t.pages[slot] = nil
	t.free = append(t.free, slot)
	t.count -= p.count
	t.text -= int64(len(p.text))
	t.lines -= int64(len(p.lines))
	if p.epoch == t.epoch && len(t.spare) < maxSpare {
		t.spare = append(t.spare, p) // no view has seen it
	}
}

// bytes estimates the memory of records and their indexes.
func (t *records) bytes() int64 {
	const pageBytes, lineBytes, eventBytes = pageRecords*(64+8) + 144, 12, 24 + 4
	pages := int64(len(t.pages) - len(t.free))
	return pages*(pageBytes+eventBytes) + t.lines*lineBytes + t.text + t.byKey.bytes() + t.byNumber.bytes()
}
