package allocator

// record is one reservation, or one finished keyed operation, with the key it
// answers for. It is 64 bytes without pointers; what is longer stands in the
// page it belongs to. The moment a reservation runs out is a column of the page.
type record struct {
	key     Key
	body    Fingerprint
	ended   Millis // 0 while reserved
	created uint32 // ms after the page's base
	ttl     uint32 // ms, as first granted: the first answer is given again from it
	text    uint32 // where its texts begin in the page's text
	first   held   // the first line
	more    uint16 // where its further lines begin in the page's lines
	lines   uint8
	status  Status // 0 for a keyed operation
	buyer   uint8  // bytes of the buyer id
	ref     uint8  // bytes of the reference
	kind    Kind   // the command that made it
	flags   uint8
}

const (
	recordHasBuyer = 1 << iota // the text begins with the 16 bytes of the Buyer
	recordCreated              // the PutSKU created its SKU
)

// held is one line of a reservation.
type held struct {
	bucket   uint32
	units    uint32 // held or sold; after cancel or expiry: what was held
	purchase uint32 // the counter of the buyer's limit, plus one; 0: not counted
}

// reset makes an empty record. Its fields are set one by one, here and wherever
// one is made: a struct that is put together elsewhere and copied makes the
// processor wait for its parts.
func (r *record) reset() {
	r.key, r.body, r.ended = Key{}, 0, 0
	r.created, r.ttl, r.text = 0, 0, 0
	r.first.bucket, r.first.units, r.first.purchase = 0, 0, 0
	r.more, r.lines, r.status, r.buyer, r.ref, r.kind, r.flags = 0, 0, 0, 0, 0, 0, 0
}

// A keyed operation keeps its answer in fields that it has no other use for:
// the version in the first line, the length of its text in ttl. The text is
// the encoded reservation of the answer, if there is one.

func (r *record) setVersion(v uint64) {
	r.first.bucket, r.first.units = uint32(v), uint32(v>>32)
}

func (r *record) version() uint64 {
	return uint64(r.first.units)<<32 | uint64(r.first.bucket)
}

// textLen is how many bytes of the page's text belong to the record.
func (r *record) textLen() int {
	if r.kind != KindReserve {
		return int(r.ttl)
	}
	n := int(r.buyer) + int(r.ref)
	if r.flags&recordHasBuyer != 0 {
		n += len(Buyer{})
	}
	return n
}

// pageRecords is how many records share a page. The whole page is kept until
// the last of them is past its retention.
const pageRecords = 256

// ended marks a moment in a page's column as that of a finished record. Such a
// value is larger than every open one, so that the least is the next to run out.
const endedBit = 1 << 63

// never fills the unused part of the column.
const never = ^uint64(0)

// page holds records in the order in which they were made. Its records, column,
// lines and text are separate allocations without pointers.
type page struct {
	number    uint64 // of its first record, divided by pageRecords
	epoch     uint64
	base      Millis // moments of creation count from here
	lastEnded Millis
	count     int // records in it
	open      int // reservations that are not finished
	records   *[pageRecords]record
	expires   *[pageRecords]uint64 // Millis, with endedBit for finished records
	lines     []held
	text      []byte
}

func newPage(number, epoch uint64, base Millis) *page {
	p := &page{records: new([pageRecords]record), expires: new([pageRecords]uint64)}
	p.reset(number, epoch, base)
	return p
}

// reset makes an empty page of one whose records, column and lines nobody else
// sees. Its text may still be seen, by a view that shares it (see copy).
func (p *page) reset(number, epoch uint64, base Millis) {
	*p = page{number: number, epoch: epoch, base: base, records: p.records, expires: p.expires, lines: p.lines[:0]}
	for i := range p.expires {
		p.expires[i] = never
	}
}

// copy makes a page that can be written while the old one stays frozen. The
// text may be shared, because it only grows behind what the old page shows.
func (p *page) copy(epoch uint64) *page {
	fresh := *p
	fresh.epoch = epoch
	fresh.records, fresh.expires = new([pageRecords]record), new([pageRecords]uint64)
	*fresh.records, *fresh.expires = *p.records, *p.expires
	fresh.lines = append([]held(nil), p.lines...)
	return &fresh
}

// line gives a line of a record to read or write.
func (p *page) line(r *record, i int) *held {
	if i == 0 {
		return &r.first
	}
	return &p.lines[int(r.more)+i-1]
}

// textOf gives all texts of a record.
func (p *page) textOf(r *record) []byte {
	return p.text[r.text : int(r.text)+r.textLen()]
}

// buyerOf gives the buyer of a record, if it has one.
func (p *page) buyerOf(r *record) (b Buyer, ok bool) {
	if r.flags&recordHasBuyer == 0 {
		return b, false
	}
	copy(b[:], p.text[r.text:])
	return b, true
}

// textsOf gives the buyer id and the reference of a reservation.
func (p *page) textsOf(r *record) (buyerID, reference []byte) {
	text := p.textOf(r)
	text = text[len(text)-int(r.buyer)-int(r.ref):]
	return text[:r.buyer], text[r.buyer:]
}

// seq is the sequence number of a record of the page.
func (p *page) seq(i int) uint64 { return p.number*pageRecords + uint64(i) + 1 }

// created is when a record was made.
func (p *page) created(r *record) Millis { return p.base + Millis(r.created) }

// nextExpiry finds the open record that runs out first, the oldest of several;
// the moment carries endedBit when none is open.
func (p *page) nextExpiry() (moment uint64, at int) {
	moment = p.expires[0]
	for i := 1; i < pageRecords; i++ {
		if e := p.expires[i]; e < moment {
			moment, at = e, i
		}
	}
	return moment, at
}
