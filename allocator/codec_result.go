package allocator

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrResult is returned when bytes are not an encoded result. What is wrong
// follows in the text.
var ErrResult = errors.New("allocator: malformed result")

// resultVersion is the first byte of an encoded result. The code, the flags and
// the log time follow, then the parts that the flags name, in their order.
const resultVersion = 1

// The parts of a result, and its booleans, as bits of the flags. A part is
// there exactly when it is not all zero.
const (
	hasReplayed = 1 << iota
	hasCreated
	hasReservation
	hasRefusal
	hasShortages
	hasVersion
	hasGranted
	hasThrough
)

// answer is a result whose texts are parts of other memory, so that applying a
// command allocates nothing. Parts whose flag is not set mean nothing.
type answer struct {
	code        Code
	flags       uint8
	at          Millis
	reservation reservationView
	encoded     []byte // the reservation as it was encoded earlier, instead
	refusal     refusalView
	shortages   []shortageView
	version     uint64
	granted     Quantity
	through     uint64
}

// reservationView is a Reservation.
type reservationView struct {
	id        ReservationID
	status    Status
	lines     []lineView
	buyerID   []byte
	reference []byte
	created   Millis
	expires   Millis
	ended     Millis
}

// refusalView is the part of a result that explains a refusal.
type refusalView struct {
	sku       []byte
	limit     Quantity
	requested Quantity
	available Quantity
}

// shortageView is a Shortage.
type shortageView struct {
	sku       []byte
	requested Quantity
	available Quantity
	known     bool
}

// reset makes a the OK answer without any part.
func (a *answer) reset(at Millis) {
	a.code, a.flags, a.at, a.encoded, a.shortages = CodeOK, 0, at, nil, a.shortages[:0]
}

// explain sets the part that explains a refusal.
func (a *answer) explain(why refusalView) {
	a.flags |= hasRefusal
	a.refusal = why
}

// short adds a shortage.
func (a *answer) short(s shortageView) {
	a.flags |= hasShortages
	a.shortages = append(a.shortages, s)
}

// setVersion sets the version part; so do the others below, each for its part.
func (a *answer) setVersion(v uint64) {
	a.flags &^= hasVersion
	if a.version = v; v != 0 {
		a.flags |= hasVersion
	}
}

func (a *answer) setGranted(q Quantity) {
	if a.granted = q; q != 0 {
		a.flags |= hasGranted
	}
}

func (a *answer) setThrough(seq uint64) {
	a.flags &^= hasThrough
	if a.through = seq; seq != 0 {
		a.flags |= hasThrough
	}
}

// appendTo appends the encoded answer to b.
func (a *answer) appendTo(b []byte) []byte {
	b = append(b, resultVersion, byte(a.code), a.flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.at))
	if a.flags&hasReservation != 0 {
		if len(a.encoded) != 0 {
			b = append(b, a.encoded...)
		} else {
			b = a.reservation.appendTo(b)
		}
	}
	if a.flags&(hasRefusal|hasShortages) != 0 {
		b = a.appendRefusal(b)
	}
	if a.flags&hasVersion != 0 {
		b = binary.AppendUvarint(b, a.version)
	}
	if a.flags&hasGranted != 0 {
		b = appendQuantity(b, a.granted)
	}
	if a.flags&hasThrough != 0 {
		b = binary.AppendUvarint(b, a.through)
	}
	return b
}

func (a *answer) appendRefusal(b []byte) []byte {
	if a.flags&hasRefusal != 0 {
		b = appendText(b, a.refusal.sku)
		b = appendQuantity(b, a.refusal.limit)
		b = appendQuantity(b, a.refusal.requested)
		b = appendQuantity(b, a.refusal.available)
	}
	if a.flags&hasShortages == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(a.shortages)))
	for i := range a.shortages {
		s := &a.shortages[i]
		b = appendText(b, s.sku)
		b = appendQuantity(b, s.requested)
		b = appendQuantity(b, s.available)
		b = appendBits(b, s.known)
	}
	return b
}

// appendTo appends a reservation. Words of fixed size stand where numbers are
// large, which is faster and hardly longer.
func (v *reservationView) appendTo(b []byte) []byte {
	b = append(b, byte(v.status))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.id.Shard)<<48|v.id.Seq&MaxSeq)
	b = binary.LittleEndian.AppendUint64(b, uint64(v.created))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.expires))
	b = appendMillis(b, v.ended)
	b = appendText(b, v.buyerID)
	b = appendText(b, v.reference)
	b = binary.AppendUvarint(b, uint64(len(v.lines)))
	for i := range v.lines {
		b = appendText(b, v.lines[i].sku)
		b = appendQuantity(b, v.lines[i].quantity)
	}
	return b
}

// AppendTo appends the encoded result to b. A result that breaks the limits of
// a command (lines, lengths of texts) is encoded, but does not decode.
func (r Result) AppendTo(b []byte) []byte {
	a := answer{code: r.Code, at: r.At}
	if r.Replayed {
		a.flags |= hasReplayed
	}
	if r.Created {
		a.flags |= hasCreated
	}
	if !r.Reservation.empty() {
		a.flags |= hasReservation
		a.reservation = r.Reservation.view()
	}
	if r.SKU != "" || r.Limit != 0 || r.Requested != 0 || r.Available != 0 {
		a.explain(refusalView{sku: []byte(r.SKU), limit: r.Limit, requested: r.Requested, available: r.Available})
	}
	for _, s := range r.Shortages {
		a.short(shortageView{[]byte(s.SKU), s.Requested, s.Available, s.Known})
	}
	a.setVersion(r.Version)
	a.setGranted(r.Granted)
	a.setThrough(r.Through)
	return a.appendTo(b)
}

func (r *Reservation) empty() bool {
	return r.ID == ReservationID{} && r.Status == 0 && r.Created == 0 && r.Expires == 0 && r.Ended == 0 &&
		len(r.Lines)+len(r.BuyerID)+len(r.Reference) == 0
}

func (r *Reservation) view() reservationView {
	v := reservationView{
		id: r.ID, status: r.Status, buyerID: []byte(r.BuyerID), reference: []byte(r.Reference),
		created: r.Created, expires: r.Expires, ended: r.Ended,
	}
	for _, l := range r.Lines {
		v.lines = append(v.lines, lineView{[]byte(l.SKU), l.Quantity})
	}
	return v
}

// DecodeResult reads an encoded result into r and overwrites all of it. It is
// strict, and checks every length before it takes memory. It fails with
// ErrResult, and then leaves r in no useful state. r shares no memory with b.
func DecodeResult(b []byte, r *Result) error {
	c := cursor{b: b}
	*r = Result{}
	c.check(c.u8() == resultVersion, "unknown version")
	r.Code = Code(c.u8())
	c.check(r.Code < codeEnd, "unknown code")
	flags := c.u8()
	r.Replayed, r.Created = flags&hasReplayed != 0, flags&hasCreated != 0
	r.At = Millis(c.u64())
	if flags&hasReservation != 0 {
		c.reservation(&r.Reservation)
	}
	if flags&hasRefusal != 0 {
		r.SKU = SKU(c.text(MaxSKULen, "SKU too long"))
		r.Limit, r.Requested, r.Available = Quantity(c.uvarint()), Quantity(c.uvarint()), Quantity(c.uvarint())
		c.check(r.SKU != "" || r.Limit != 0 || r.Requested != 0 || r.Available != 0, "empty refusal")
	}
	if flags&hasShortages != 0 {
		r.Shortages = c.shortages()
	}
	if flags&hasVersion != 0 {
		r.Version = c.positive()
	}
	if flags&hasGranted != 0 {
		r.Granted = Quantity(c.positive())
	}
	if flags&hasThrough != 0 {
		r.Through = c.positive()
	}
	if why := c.done(); why != "" {
		return fmt.Errorf("%w: %s", ErrResult, why)
	}
	return nil
}

// positive reads a number of a part that is only there when it is not zero.
func (c *cursor) positive() uint64 {
	v := c.uvarint()
	c.check(v != 0, "empty part")
	return v
}

func (c *cursor) reservation(r *Reservation) {
	r.Status = Status(c.u8())
	id := c.u64()
	r.ID = ReservationID{Shard: ShardID(id >> 48), Seq: id & MaxSeq}
	r.Created, r.Expires = Millis(c.u64()), Millis(c.u64())
	r.Ended = Millis(c.uvarint())
	r.BuyerID = string(c.text(MaxBuyerLen, "buyer too long"))
	r.Reference = string(c.text(MaxReferenceLen, "reference too long"))
	n := int(c.upTo(MaxLines, "too many lines"))
	if n > 0 {
		r.Lines = make([]Line, n)
	}
	for i := 0; i < n && c.why == ""; i++ {
		r.Lines[i].SKU = SKU(c.text(MaxSKULen, "SKU too long"))
		r.Lines[i].Quantity = Quantity(c.uvarint())
	}
	c.check(!r.empty(), "empty reservation")
}

func (c *cursor) shortages() []Shortage {
	n := int(c.upTo(MaxLines, "too many shortages"))
	c.check(n > 0, "empty part")
	all := make([]Shortage, n)
	for i := 0; i < n && c.why == ""; i++ {
		s := &all[i]
		s.SKU = SKU(c.text(MaxSKULen, "SKU too long"))
		s.Requested, s.Available = Quantity(c.uvarint()), Quantity(c.uvarint())
		s.Known = c.bits(1) != 0
	}
	return all
}

// ResultCode reads only the code of an encoded result; of other bytes it
// returns a code whose text is "invalid".
func ResultCode(encoded []byte) Code {
	if len(encoded) < 3 || encoded[0] != resultVersion {
		return codeEnd
	}
	return min(Code(encoded[1]), codeEnd)
}

// ResultHasShortages tells whether an encoded result names units that a
// transfer could bring.
func ResultHasShortages(encoded []byte) bool {
	return len(encoded) >= 3 && encoded[0] == resultVersion && encoded[2]&hasShortages != 0
}
