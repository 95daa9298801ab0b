package allocator

import (
	"encoding/binary"
	"io"
)

// A snapshot is a sequence of little-endian fields: a header, the scalars,
// then buckets, flows, metadata, purchases, outboxes and pages, each with their
// number before them, and an end mark. Indexes and queues are not in it; they
// are built again. Equal states give equal bytes, on every replica.
const (
	snapshotMagic   = 0x314b4f5453 // "STOK1"
	snapshotVersion = 1
	snapshotEnd     = 0x444e45 // "END"
)

// Sizes of the fixed parts.
const (
	policyBytes   = 8*8 + 3
	bucketBytes   = policyBytes + 8*(int(potCount)+5+2) + 4 + 4 + 1 + 1 // and the name
	flowBytes     = 8 + 8 + 8 + 4 + 4 + 2
	purchaseBytes = 16 + 8 + 4 + 4
	letterBytes   = 8 + 4
	heldBytes     = 4 + 4 + 4
	recordBytes   = 64 + 8 // with its place in the column
)

// WriteTo writes a snapshot, which Restore reads. It returns the number of
// bytes written, and the error of w if that fails.
func (v *View) WriteTo(out io.Writer) (int64, error) {
	w := newSnapshotWriter(out)
	v.writeScalars(w)
	v.writeStock(w)
	v.writePurchases(w)
	v.writeOutboxes(w)
	v.writeRecords(w)
	w.words(snapshotEnd)
	w.flush()
	return w.n, w.err
}

func (v *View) writeScalars(w *snapshotWriter) {
	w.words(snapshotMagic, snapshotVersion)
	w.words(uint64(v.cfg.Shard), uint64(v.cfg.Shards), uint64(v.cfg.Retention), uint64(v.cfg.ExpiryPerStamp))
	w.words(uint64(v.clock.now), uint64(v.clock.expired), uint64(v.clock.released))
	w.words(v.history.hash, v.history.count, v.history.tail)
	for _, c := range v.history.ring {
		w.words(c.count, c.hash)
	}
	w.words(v.counts.endedBy[:]...)
	w.words(v.counts.retaken, v.counts.transfers, uint64(v.counts.unitsSent))
}

func (v *View) writeStock(w *snapshotWriter) {
	w.words(uint64(v.buckets.n))
	for no := range uint32(v.buckets.n) {
		w.room(bucketBytes + MaxSKULen)
		w.buf = v.buckets.at(no).appendTo(w.buf)
	}
	w.words(uint64(v.flows.n))
	for no := range uint32(v.flows.n) {
		w.room(flowBytes)
		w.buf = v.flows.at(no).appendTo(w.buf)
	}
	w.words(uint64(v.metadata.n))
	for no := range uint32(v.metadata.n) {
		text := *v.metadata.at(no)
		w.words(uint64(len(text)))
		w.bytes(text)
	}
}

func (v *View) writePurchases(w *snapshotWriter) {
	w.words(uint64(v.purchases.n), uint64(v.free))
	for no := range uint32(v.purchases.n) {
		e := v.purchases.at(no)
		w.room(purchaseBytes)
		w.buf = append(w.buf, e.buyer[:]...)
		w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(e.units))
		w.buf = binary.LittleEndian.AppendUint32(w.buf, e.bucket)
		w.buf = binary.LittleEndian.AppendUint32(w.buf, e.next)
	}
}

func (v *View) writeOutboxes(w *snapshotWriter) {
	w.words(v.received...)
	for to := range v.outboxes {
		box := &v.outboxes[to]
		w.words(box.acked, box.sent)
		for seq := box.acked + 1; seq <= box.sent; seq++ {
			l := box.at(seq)
			w.room(letterBytes)
			w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(l.quantity))
			w.buf = binary.LittleEndian.AppendUint32(w.buf, l.bucket)
		}
	}
}

func (v *View) writeRecords(w *snapshotWriter) {
	pages := v.sortedPages()
	w.words(v.next, uint64(len(pages)))
	for _, p := range pages {
		w.words(p.number, uint64(p.base), uint64(p.count), uint64(len(p.lines)), uint64(len(p.text)))
		for i := range p.count {
			w.room(recordBytes)
			w.buf = p.records[i].appendTo(w.buf, p.expires[i])
		}
		for i := range p.lines {
			w.room(heldBytes)
			w.buf = p.lines[i].appendTo(w.buf)
		}
		w.bytes(p.text)
	}
}

func (p *Policy) appendFixed(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, p.Version)
	b = le.AppendUint64(b, uint64(p.SafetyStock))
	b = le.AppendUint64(b, uint64(p.MaxPerReservation))
	b = le.AppendUint64(b, uint64(p.MaxPerBuyer))
	b = le.AppendUint64(b, uint64(p.DefaultTTL))
	b = le.AppendUint64(b, uint64(p.MaxTTL))
	b = le.AppendUint64(b, uint64(p.SaleStarts))
	b = le.AppendUint64(b, uint64(p.SaleEnds))
	b = append(b, byte(p.LateConfirm))
	b = appendBits(b, p.Paused)
	return appendBits(b, p.Watch)
}

func (b *bucket) appendTo(to []byte) []byte {
	le := binary.LittleEndian
	to = b.policy.appendFixed(to)
	for _, q := range b.pots {
		to = le.AppendUint64(to, uint64(q))
	}
	for _, q := range [...]Quantity{b.deposited, b.adjusted, b.received, b.sent, b.inTransit} {
		to = le.AppendUint64(to, uint64(q))
	}
	to = le.AppendUint64(to, uint64(b.created))
	to = le.AppendUint64(to, uint64(b.updated))
	to = le.AppendUint32(to, b.flows)
	to = le.AppendUint32(to, b.metadata)
	to = appendBits(to, b.anchor)
	to = append(to, b.nameLen)
	return append(to, b.sku()...)
}

func (f *flow) appendTo(to []byte) []byte {
	le := binary.LittleEndian
	to = le.AppendUint64(to, uint64(f.sent))
	to = le.AppendUint64(to, uint64(f.acked))
	to = le.AppendUint64(to, uint64(f.received))
	to = le.AppendUint32(to, f.bucket)
	to = le.AppendUint32(to, f.next)
	return le.AppendUint16(to, uint16(f.peer))
}

func (l *held) appendTo(to []byte) []byte {
	le := binary.LittleEndian
	to = le.AppendUint32(to, l.bucket)
	to = le.AppendUint32(to, l.units)
	return le.AppendUint32(to, l.purchase)
}

func (r *record) appendTo(to []byte, expires uint64) []byte {
	le := binary.LittleEndian
	to = append(to, r.key[:]...)
	to = le.AppendUint64(to, uint64(r.body))
	to = le.AppendUint64(to, uint64(r.ended))
	to = le.AppendUint32(to, r.created)
	to = le.AppendUint32(to, r.ttl)
	to = le.AppendUint32(to, r.text)
	to = r.first.appendTo(to)
	to = le.AppendUint16(to, r.more)
	to = append(to, r.lines, byte(r.status), r.buyer, r.ref, byte(r.kind), r.flags)
	return le.AppendUint64(to, expires)
}
