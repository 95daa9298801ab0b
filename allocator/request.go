package allocator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrCommand is returned when bytes are not a command, or a command beyond the
// limits. What is wrong follows in the text.
var ErrCommand = errors.New("allocator: malformed command")

// request is a command as it is read from its bytes: texts are parts of those
// bytes, so reading allocates nothing. Only the part of its kind is set.
type request struct {
	kind     Kind
	reserve  reserveView
	finish   finishView
	sku      skuView
	transfer transferView
	audit    Audit
}

// keyView is what makes a command repeatable.
type keyView struct {
	key  Key
	body Fingerprint
}

// lineView is a Line whose SKU is a part of other memory.
type lineView struct {
	sku      []byte
	quantity Quantity
}

// lineList holds the lines of one command.
type lineList struct {
	n     int
	store [MaxLines]lineView
}

func (l *lineList) all() []lineView { return l.store[:l.n] }

// reserveView is a Reserve.
type reserveView struct {
	keyView
	keyTime   Millis
	ttl       Millis
	buyer     Buyer
	buyerID   []byte
	reference []byte
	lines     lineList
}

// finishView is a Confirm, Cancel, Extend or Return.
type finishView struct {
	keyView
	id    ReservationID
	ttl   Millis
	lines lineList
}

// skuView is a PutSKU, SetPaused, Restock or Adjust.
type skuView struct {
	keyView
	sku         []byte
	policy      Policy
	hasOnHand   bool
	ifNoneMatch bool
	paused      bool
	quantity    Quantity // OnHand, Quantity or Delta
	ifMatch     uint64
	metadata    []byte
	text        []byte // Reference or Reason
}

// transferView is a TransferOut, TransferIn or TransferAck.
type transferView struct {
	peer     ShardID // To or From
	sku      []byte
	quantity Quantity
	open     bool
	seq      uint64 // First or Through
	messages []messageView
}

// messageView is a Message whose SKU is a part of other memory.
type messageView struct {
	kind     MessageKind
	sku      []byte
	quantity Quantity
	policy   Policy
}

// parse reads a command into r. Messages are only kept when keep is set.
func (r *request) parse(b []byte, keep bool) error {
	c := cursor{b: b}
	c.check(len(b) <= MaxCommandLen, "too long")
	r.kind = Kind(c.u8())
	switch r.kind {
	case KindReserve:
		r.reserve.parse(&c)
	case KindConfirm, KindCancel, KindExtend, KindReturn:
		r.finish.parse(&c, r.kind)
	case KindPutSKU, KindSetPaused, KindRestock, KindAdjust:
		r.sku.parse(&c, r.kind)
	case KindTransferOut:
		r.transfer.parseOut(&c)
	case KindTransferIn:
		r.transfer.parseIn(&c, keep)
	case KindTransferAck:
		r.transfer.peer = c.shard()
		r.transfer.seq = c.uvarint()
	case KindAudit:
		r.audit = Audit{Applied: c.uvarint(), Hash: c.u64()}
	default:
		c.fail("unknown kind")
	}
	if why := c.done(); why != "" {
		return fmt.Errorf("%w: kind %d: %s", ErrCommand, r.kind, why)
	}
	return nil
}

func (v *reserveView) parse(c *cursor) {
	c.key(&v.keyView)
	flags := c.u8()
	if v.key == (Key{}) {
		c.fail("no key")
	}
	v.keyTime, v.ttl, v.buyer, v.buyerID, v.reference = 0, 0, Buyer{}, nil, nil
	if flags != 0 {
		v.parseParts(c, flags)
	}
	c.lines(&v.lines)
	if v.lines.n == 0 {
		c.fail("no lines")
	}
}

// parseParts reads what not every Reserve has. A part that is there is not zero.
func (v *reserveView) parseParts(c *cursor, flags byte) {
	c.check(flags < reserveEnd, "unknown flag")
	if flags&reserveKeyTime != 0 {
		v.keyTime = c.moment()
		c.check(v.keyTime != 0, "empty key time")
	}
	if flags&reserveTTL != 0 {
		v.ttl = c.span(1)
	}
	if flags&reserveBuyer != 0 {
		v.buyer = c.bytes16()
		c.check(v.buyer != Buyer{}, "empty buyer")
	}
	if flags&reserveBuyerID != 0 {
		v.buyerID = c.text(MaxBuyerLen, "buyer too long")
		c.check(len(v.buyerID) != 0, "empty buyer id")
	}
	if flags&reserveReference != 0 {
		v.reference = c.text(MaxReferenceLen, "reference too long")
		c.check(len(v.reference) != 0, "empty reference")
	}
}

func (v *finishView) parse(c *cursor, kind Kind) {
	v.lines.n = 0
	if kind == KindReturn {
		c.key(&v.keyView)
	}
	v.id = c.id()
	switch kind {
	case KindExtend:
		v.ttl = c.span(1)
	case KindConfirm, KindReturn:
		c.lines(&v.lines)
	}
}

func (v *skuView) parse(c *cursor, kind Kind) {
	if kind != KindSetPaused {
		c.key(&v.keyView)
	}
	v.sku = c.sku()
	switch kind {
	case KindPutSKU:
		v.parsePut(c)
	case KindSetPaused:
		v.paused = c.bits(1) != 0
	case KindRestock:
		v.quantity = c.quantity(1, MaxQuantity)
		v.text = c.text(MaxReferenceLen, "reference too long")
	case KindAdjust:
		v.quantity = c.delta()
		v.text = c.text(MaxReferenceLen, "reason too long")
	}
}

func (v *skuView) parsePut(c *cursor) {
	c.policy(&v.policy)
	bits := c.bits(2)
	v.hasOnHand, v.ifNoneMatch = bits&1 != 0, bits&2 != 0
	v.quantity = c.quantity(0, MaxQuantity)
	c.check(v.hasOnHand || v.quantity == 0, "stock without a deposit")
	v.ifMatch = c.uvarint()
	v.metadata = c.text(MaxMetadataLen, "metadata too long")
}

func (v *transferView) parseOut(c *cursor) {
	v.sku = c.sku()
	v.peer = c.shard()
	v.quantity = c.quantity(0, MaxOnHand)
	v.open = c.bits(1) != 0
}

func (v *transferView) parseIn(c *cursor, keep bool) {
	v.peer = c.shard()
	v.seq = c.uvarint()
	c.check(v.seq >= 1 && v.seq <= MaxSeq, "message number out of range")
	n := int(c.upTo(MaxMessages, "too many messages"))
	c.check(n > 0, "no messages")
	v.messages = v.messages[:0]
	for i := 0; i < n && c.why == ""; i++ {
		m := c.message()
		if keep {
			v.messages = append(v.messages, m)
		}
	}
}

func (c *cursor) key(k *keyView) {
	if len(c.b)-c.at < 24 {
		c.fail("too short")
		*k = keyView{}
		return
	}
	b := c.b[c.at : c.at+24]
	c.at += 24
	k.key, k.body = Key(b), Fingerprint(binary.LittleEndian.Uint64(b[16:]))
}

func (c *cursor) shard() ShardID {
	return ShardID(c.upTo(MaxShards-1, "shard out of range"))
}

func (c *cursor) id() ReservationID {
	id := ReservationID{Shard: c.shard(), Seq: c.upTo(MaxSeq, "id out of range")}
	c.check(id.Seq > 0, "id out of range")
	return id
}

func (c *cursor) delta() Quantity {
	u := c.uvarint()
	d := Quantity(u>>1) ^ -Quantity(u&1)
	c.check(d != 0 && d >= -MaxQuantity && d <= MaxQuantity, "quantity out of range")
	return d
}

// lines reads lines in ascending order of SKU.
func (c *cursor) lines(l *lineList) {
	n := c.uvarint()
	if n > MaxLines {
		c.fail("too many lines")
		n = 0
	}
	l.n = int(n)
	for i := range l.all() {
		line := &l.store[i]
		line.sku = c.sku()
		q := c.uvarint()
		if q-1 >= MaxQuantity {
			c.fail("quantity out of range")
		}
		line.quantity = Quantity(q)
		if i > 0 && bytes.Compare(l.store[i-1].sku, line.sku) >= 0 {
			c.fail("lines out of order")
		}
	}
}

func (c *cursor) policy(p *Policy) {
	p.Version = c.uvarint()
	p.SafetyStock = c.quantity(0, MaxOnHand)
	p.MaxPerReservation = c.quantity(0, MaxOnHand)
	p.MaxPerBuyer = c.quantity(0, MaxOnHand)
	p.DefaultTTL = c.span(0)
	p.MaxTTL = c.span(0)
	p.SaleStarts = c.moment()
	p.SaleEnds = c.moment()
	p.LateConfirm = LateConfirm(c.u8())
	c.check(p.LateConfirm <= LateConfirmReject, "unknown late confirm")
	bits := c.bits(2)
	p.Paused, p.Watch = bits&1 != 0, bits&2 != 0
}

func (c *cursor) message() (m messageView) {
	m.kind = MessageKind(c.u8())
	m.sku = c.sku()
	switch m.kind {
	case MessageUnits:
		m.quantity = c.quantity(1, MaxOnHand)
	case MessagePolicy:
		m.quantity = c.quantity(0, 0)
	default:
		c.fail("unknown message")
	}
	c.policy(&m.policy)
	return m
}

// ValidateCommand checks that b is a command within all limits, as
// DecodeCommand does, but allocates nothing. A command that passes can be
// applied; one that fails would stop every replica that has it in its log.
// Safe for concurrent use. It fails with ErrCommand.
func ValidateCommand(b []byte) error {
	_, err := InspectCommand(b)
	return err
}

// InspectCommand is ValidateCommand that also gives the first SKU which a Reserve asks
// for, as a part of b; nil for other commands.
func InspectCommand(b []byte) (sku []byte, err error) {
	var r request
	if err := r.parse(b, false); err != nil || r.kind != KindReserve {
		return nil, err
	}
	return r.reserve.lines.store[0].sku, nil
}
