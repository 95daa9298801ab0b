package allocator

import (
	"math/rand/v2"
	"testing"
)

// indexModel is an index beside a map.
type indexModel struct {
	x    index
	hash map[uint32]uint64
}

func newIndexModel() *indexModel { return &indexModel{newIndex(), map[uint32]uint64{}} }

func (m *indexModel) insert(hash uint64, number uint32) {
	m.x.insert(hash, number)
	m.hash[number] = hash
}

func (m *indexModel) remove(t *testing.T, number uint32) {
	t.Helper()
	if !m.x.remove(m.hash[number], number) {
		t.Fatalf("%d was not there to be removed", number)
	}
	delete(m.hash, number)
}

func (x *index) contains(hash uint64, number uint32) bool {
	p := x.probe(hash)
	for got, ok := p.next(); ok; got, ok = p.next() {
		if got == number {
			return true
		}
	}
	return false
}

// check finds everything that was inserted, and holds the rule that the full
// slots of a line come first.
func (m *indexModel) check(t *testing.T) {
	t.Helper()
	for number, hash := range m.hash {
		if !m.x.contains(hash, number) {
			t.Fatalf("%d with hash %x is lost among %d", number, hash, len(m.hash))
		}
	}
	total := 0
	for i := range m.x.segments {
		s := &m.x.segments[i]
		total += int(s.count)
		for at := 0; at < len(s.slots); at++ {
			if at%lineSlots != 0 && s.slots[at] != 0 && s.slots[at-1] == 0 {
				t.Fatalf("segment %d: slot %d is full behind an empty one", i, at)
			}
		}
	}
	if m.x.count != len(m.hash) || total != len(m.hash) {
		t.Fatalf("count %d, in segments %d, want %d", m.x.count, total, len(m.hash))
	}
}

func TestIndexAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	m := newIndexModel()
	next := uint32(0)
	for round := range 40 {
		for range rnd.IntN(2000) {
			m.insert(rnd.Uint64(), next)
			next++
		}
		for number := range m.hash {
			if rnd.IntN(3) == 0 {
				m.remove(t, number)
			}
		}
		if m.check(t); round%10 == 0 && m.x.contains(rnd.Uint64(), next) {
			t.Fatal("found what was never there")
		}
	}
	if m.x.depth < 3 {
		t.Errorf("depth %d: nothing was split", m.x.depth)
	}
}

// TestIndexCrowded gives many entries the same home, the same directory entry,
// or the same hash altogether.
func TestIndexCrowded(t *testing.T) {
	for name, hash := range map[string]func(i uint64) uint64{
		"one home":      func(i uint64) uint64 { return i << 50 },
		"one directory": func(i uint64) uint64 { return 0xabc<<52 | i<<32 },
		"one hash":      func(uint64) uint64 { return 12345 << 32 },
		"zero tags":     func(i uint64) uint64 { return i },
	} {
		t.Run(name, func(t *testing.T) {
			m := newIndexModel()
			for i := range uint32(3000) {
				m.insert(hash(uint64(i)), i)
			}
			m.check(t)
			for i := uint32(0); i < 3000; i += 3 {
				m.remove(t, i)
			}
			m.check(t)
			if m.x.remove(hash(0), 0) {
				t.Error("removed twice")
			}
		})
	}
}

func TestHeapOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var h pageHeap
	want := map[uint32]pageEvent{}
	for range 20_000 {
		slot := uint32(rnd.IntN(200))
		if rnd.IntN(4) == 0 {
			h.remove(slot)
			delete(want, slot)
		} else {
			e := pageEvent{at: Millis(rnd.IntN(50)), number: uint64(slot) ^ 0x55, slot: slot}
			h.set(e)
			want[slot] = e
		}
		if err := h.check(); err != nil {
			t.Fatal(err)
		}
		checkTop(t, &h, want)
	}
}

func checkTop(t *testing.T, h *pageHeap, want map[uint32]pageEvent) {
	t.Helper()
	top := h.top()
	if (top == nil) != (len(want) == 0) || len(h.entries) != len(want) {
		t.Fatalf("top %v, %d entries, want %d", top, len(h.entries), len(want))
	}
	for slot, e := range want {
		if got := h.of(slot); got == nil || *got != e {
			t.Fatalf("slot %d: %v, want %v", slot, got, e)
		}
		if e.before(top) {
			t.Fatalf("%v is before the top %v", e, *top)
		}
	}
}
