package allocator

// pageHeap orders pages by the moment of their next event, and those of the
// same moment by number, which is the order in which they were made.
type pageHeap struct {
	entries []pageEvent
	places  []uint32 // by slot: where its entry is, plus one; 0: not in the heap
}

// pageEvent is a page's next event.
type pageEvent struct {
	at     Millis
	number uint64 // of the page
	slot   uint32 // of the page
	record uint32 // the record it is about, for expiries
}

func (e *pageEvent) before(o *pageEvent) bool {
	return e.at < o.at || e.at == o.at && e.number < o.number
}

// top gives the earliest event, or nil.
func (h *pageHeap) top() *pageEvent {
	if len(h.entries) == 0 {
		return nil
	}
	return &h.entries[0]
}

// of gives the event of the page in a slot, or nil.
func (h *pageHeap) of(slot uint32) *pageEvent {
	if int(slot) >= len(h.places) || h.places[slot] == 0 {
		return nil
	}
	return &h.entries[h.places[slot]-1]
}

// set enters a page's event, or replaces it.
func (h *pageHeap) set(e pageEvent) {
	for int(e.slot) >= len(h.places) {
		h.places = append(h.places, 0)
	}
	at := h.places[e.slot]
	if at == 0 {
		h.entries = append(h.entries, e)
		h.up(len(h.entries)-1, e)
		return
	}
	if old := h.entries[at-1]; e.before(&old) {
		h.up(int(at-1), e)
	} else {
		h.down(int(at-1), e)
	}
}

// remove takes a page out, if it is there.
func (h *pageHeap) remove(slot uint32) {
	if int(slot) >= len(h.places) || h.places[slot] == 0 {
		return
	}
	at := int(h.places[slot] - 1)
	h.places[slot] = 0
	last := h.entries[len(h.entries)-1]
	h.entries = h.entries[:len(h.entries)-1]
	switch {
	case at == len(h.entries):
	case at > 0 && last.before(&h.entries[(at-1)/2]):
		h.up(at, last)
	default:
		h.down(at, last)
	}
}

// up places e at i or above.
func (h *pageHeap) up(i int, e pageEvent) {
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(&h.entries[parent]) {
			break
		}
		h.place(i, h.entries[parent])
		i = parent
	}
	h.place(i, e)
}

// down places e at i or below.
func (h *pageHeap) down(i int, e pageEvent) {
	for {
		child := 2*i + 1
		if child >= len(h.entries) {
			break
		}
		if child+1 < len(h.entries) && h.entries[child+1].before(&h.entries[child]) {
			child++
		}
		if !h.entries[child].before(&e) {
			break
		}
		h.place(i, h.entries[child])
		i = child
	}
	h.place(i, e)
}

func (h *pageHeap) place(i int, e pageEvent) {
	h.entries[i] = e
	h.places[e.slot] = uint32(i + 1)
}
