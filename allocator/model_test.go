package allocator_test

// The reference model: the stock of one shard as plain maps and slices, written
// from the specification, for reading and not for speed. It shares nothing with
// the implementation but the contract types. model_program_test.go holds the
// two side by side; the model may look at an answer for two things only: the id
// a new reservation got, and whether a record past its retention is gone yet.

import (
	"slices"
	"sort"

	"stockade/allocator"
)

// purchase is what a buyer limit counts: one buyer, one SKU.
type purchase struct {
	buyer allocator.Buyer
	sku   allocator.SKU
}

// modelBucket is one SKU's stock in one shard.
type modelBucket struct {
	allocator.BucketReport
	sent, acked, received map[allocator.ShardID]allocator.Quantity
}

// modelHold is a reservation with what its outside view does not show.
type modelHold struct {
	allocator.Reservation
	key     allocator.Key
	buyer   allocator.Buyer
	counted map[allocator.SKU]bool // lines that count against the buyer's limit
}

// modelRecord is what a key stands for.
type modelRecord struct {
	kind  allocator.Kind
	body  allocator.Fingerprint
	first allocator.Result
	hold  *modelHold // nil for keyed operations
}

// modelMessage is one entry of an outbox.
type modelMessage struct {
	seq  uint64
	kind allocator.MessageKind
	sku  allocator.SKU
	qty  allocator.Quantity
}

// model is one shard.
type model struct {
	cfg     allocator.Config
	now     allocator.Millis
	budget  int // expiries left at this stamp
	buckets map[allocator.SKU]*modelBucket
	holds   []*modelHold // by id
	keys    map[allocator.Key]*modelRecord
	bought  map[purchase]allocator.Quantity
	outbox  [][]modelMessage // by destination
	vector  allocator.Vector
	applied uint64
	stats   allocator.Stats // the counters that only grow
}

func newModel(cfg allocator.Config) *model {
	return &model{
		cfg:     cfg,
		buckets: map[allocator.SKU]*modelBucket{},
		keys:    map[allocator.Key]*modelRecord{},
		bought:  map[purchase]allocator.Quantity{},
		outbox:  make([][]modelMessage, cfg.Shards),
		vector: allocator.Vector{
			Sent:     make([]uint64, cfg.Shards),
			Acked:    make([]uint64, cfg.Shards),
			Received: make([]uint64, cfg.Shards),
		},
	}
}

// begin moves time on and expires what is due, oldest first.
func (m *model) begin(stamp allocator.Millis) {
	if stamp > m.now {
		m.now = stamp
		m.budget = m.cfg.ExpiryPerStamp
	}
	due := m.due()
	for _, h := range due[:min(len(due), m.budget)] {
		m.release(h)
		m.end(h, allocator.StatusExpired)
		m.budget--
	}
}

// due lists the open reservations whose time is up, by (time, id).
func (m *model) due() []*modelHold {
	var due []*modelHold
	for _, h := range m.holds {
		if h.Status == allocator.StatusReserved && h.Expires <= m.now {
			due = append(due, h)
		}
	}
	sort.SliceStable(due, func(i, j int) bool { return due[i].Expires < due[j].Expires })
	return due
}

func (m *model) end(h *modelHold, s allocator.Status) {
	h.Status, h.Ended = s, m.now
	m.stats.EndedBy[s]++
}

// release gives back all units of an open reservation; its lines keep their
// quantities, as a memory of what was asked.
func (m *model) release(h *modelHold) {
	for _, l := range h.Lines {
		b := m.buckets[l.SKU]
		b.Reserved -= l.Quantity
		b.Available += l.Quantity
		m.uncount(h, l.SKU, l.Quantity)
	}
}

func (m *model) uncount(h *modelHold, sku allocator.SKU, qty allocator.Quantity) {
	if h.counted[sku] {
		m.bought[purchase{h.buyer, sku}] -= qty
	}
}

// apply is the state machine. got is the answer of the implementation.
func (m *model) apply(cmd allocator.Command, got allocator.Result) allocator.Result {
	m.applied++
	r := m.decide(cmd, got)
	r.At = m.now
	return r
}

func (m *model) decide(cmd allocator.Command, got allocator.Result) allocator.Result {
	switch c := cmd.(type) {
	case *allocator.Reserve:
		return m.keyed(keyOf(c, c.Key, c.Body), got, func() allocator.Result { return m.reserve(c, got.Reservation.ID) })
	case *allocator.Return:
		return m.keyed(keyOf(c, c.Key, c.Body), got, func() allocator.Result { return m.giveBack(c) })
	case *allocator.PutSKU:
		return m.keyed(keyOf(c, c.Key, c.Body), got, func() allocator.Result { return m.putSKU(c) })
	case *allocator.Restock:
		return m.keyed(keyOf(c, c.Key, c.Body), got, func() allocator.Result { return m.deposit(c.SKU, c.Quantity) })
	case *allocator.Adjust:
		return m.keyed(keyOf(c, c.Key, c.Body), got, func() allocator.Result { return m.adjust(c) })
	case *allocator.Confirm:
		return m.confirm(c)
	case *allocator.Cancel:
		return m.cancel(c)
	case *allocator.Extend:
		return m.extend(c)
	case *allocator.SetPaused:
		return m.setPaused(c)
	case *allocator.TransferOut:
		return m.transferOut(c)
	case *allocator.TransferIn:
		return m.transferIn(c)
	case *allocator.TransferAck:
		return m.transferAck(c)
	}
	return allocator.Result{}
}

// requestKey is the idempotency part of a command.
type requestKey struct {
	key  allocator.Key
	kind allocator.Kind
	body allocator.Fingerprint
}

func keyOf(c allocator.Command, k allocator.Key, b allocator.Fingerprint) requestKey {
	return requestKey{key: k, kind: c.Kind(), body: b}
}

// keyed answers a known key from memory, and else does the work and remembers
// its answer if that was OK: refusals are not recorded.
func (m *model) keyed(k requestKey, got allocator.Result, do func() allocator.Result) allocator.Result {
	if rec := m.recordOf(k.key, got); rec != nil {
		if rec.kind != k.kind || rec.body != k.body {
			return allocator.Result{Code: allocator.CodeKeyReused}
		}
		first := rec.first
		first.Replayed = true
		return first
	}
	r := do()
	if r.Code == allocator.CodeOK && k.key != (allocator.Key{}) {
		rec := &modelRecord{kind: k.kind, body: k.body, first: r}
		rec.first.At = m.now
		if k.kind == allocator.KindReserve {
			rec.hold = m.holds[len(m.holds)-1]
		}
		m.keys[k.key] = rec
	}
	return r
}

// recordOf finds what a key stands for. The record of a keyed operation lives
// at least as long as the retention; whether it is gone after that shows only
// in the answer.
func (m *model) recordOf(k allocator.Key, got allocator.Result) *modelRecord {
	rec := m.keys[k]
	if rec == nil || rec.hold != nil || rec.first.At+m.cfg.Retention > m.now {
		return rec
	}
	if got.Replayed || got.Code == allocator.CodeKeyReused {
		return rec
	}
	delete(m.keys, k)
	return nil
}

// forget drops the finished reservations past their retention that are gone,
// and reports the id of one that went too early, if any did.
func (m *model) forget(gone func(allocator.ReservationID) bool) (early allocator.ReservationID, ok bool) {
	kept := m.holds[:0:0]
	ok = true
	for _, h := range m.holds {
		switch {
		case !gone(h.ID):
			kept = append(kept, h)
		case h.Status == allocator.StatusReserved || h.Ended+m.cfg.Retention > m.now:
			early, ok = h.ID, false
		default:
			delete(m.keys, h.key)
		}
	}
	m.holds = kept
	return early, ok
}

func (m *model) hold(id allocator.ReservationID) *modelHold {
	for _, h := range m.holds {
		if h.ID == id {
			return h
		}
	}
	return nil
}

// view copies a reservation as the outside sees it now.
func (h *modelHold) view() allocator.Reservation {
	r := h.Reservation
	r.Lines = slices.Clone(h.Lines)
	return r
}

// about refuses with the reservation that is spoken of.
func about(h *modelHold, code allocator.Code) allocator.Result {
	return allocator.Result{Code: code, Reservation: h.view()}
}

// verdict collects refusals and keeps the one that comes first in precedence,
// of the first line that earned it.
type verdict struct {
	allocator.Result
	short []allocator.Shortage
}

func (v *verdict) refuse(r allocator.Result) {
	if v.Code == allocator.CodeOK || r.Code < v.Code {
		v.Result = r
	}
}

// result is the refusal, with the shortages if a transfer could mend it.
func (v *verdict) result() allocator.Result {
	r := v.Result
	if r.Code == allocator.CodeSKUUnknown || r.Code == allocator.CodeInsufficientStock {
		r.Shortages = v.short
	}
	return r
}
