package allocator

import "encoding/binary"

// A command is one byte of Kind and its fields in the order of the struct. A
// layout that changes gets a new Kind, so that old logs stay readable.

// The parts of a Reserve that may be missing, as bits of its flags: most have
// few of them, and this is the command that counts.
const (
	reserveKeyTime = 1 << iota
	reserveTTL
	reserveBuyer
	reserveBuyerID
	reserveReference
	reserveEnd
)

// AppendTo implements Command.
func (c *Reserve) AppendTo(b []byte) []byte {
	b = append(b, byte(KindReserve))
	b = appendKey(b, c.Key, c.Body)
	b = appendBits(b, c.KeyTime != 0, c.TTL != 0, c.Buyer != Buyer{}, c.BuyerID != "", c.Reference != "")
	if c.KeyTime != 0 {
		b = appendMillis(b, c.KeyTime)
	}
	if c.TTL != 0 {
		b = appendMillis(b, c.TTL)
	}
	if c.Buyer != (Buyer{}) {
		b = append(b, c.Buyer[:]...)
	}
	if c.BuyerID != "" {
		b = appendText(b, c.BuyerID)
	}
	if c.Reference != "" {
		b = appendText(b, c.Reference)
	}
	return appendLines(b, c.Lines)
}

// AppendTo implements Command.
func (c *Confirm) AppendTo(b []byte) []byte {
	b = append(b, byte(KindConfirm))
	b = appendID(b, c.ID)
	return appendLines(b, c.Lines)
}

// AppendTo implements Command.
func (c *Cancel) AppendTo(b []byte) []byte {
	return appendID(append(b, byte(KindCancel)), c.ID)
}

// AppendTo implements Command.
func (c *Extend) AppendTo(b []byte) []byte {
	b = append(b, byte(KindExtend))
	b = appendID(b, c.ID)
	return appendMillis(b, c.TTL)
}

// AppendTo implements Command.
func (c *Return) AppendTo(b []byte) []byte {
	b = append(b, byte(KindReturn))
	b = appendKey(b, c.Key, c.Body)
	b = appendID(b, c.ID)
	return appendLines(b, c.Lines)
}

// AppendTo implements Command.
func (c *PutSKU) AppendTo(b []byte) []byte {
	b = append(b, byte(KindPutSKU))
	b = appendKey(b, c.Key, c.Body)
	b = appendText(b, c.SKU)
	b = appendPolicy(b, &c.Policy)
	b = appendBits(b, c.HasOnHand, c.IfNoneMatch)
	b = appendQuantity(b, c.OnHand)
	b = binary.AppendUvarint(b, c.IfMatch)
	return appendText(b, c.Metadata)
}

// AppendTo implements Command.
func (c *SetPaused) AppendTo(b []byte) []byte {
	b = append(b, byte(KindSetPaused))
	b = appendText(b, c.SKU)
	return appendBits(b, c.Paused)
}

// AppendTo implements Command.
func (c *Restock) AppendTo(b []byte) []byte {
	b = append(b, byte(KindRestock))
	b = appendKey(b, c.Key, c.Body)
	b = appendText(b, c.SKU)
	b = appendQuantity(b, c.Quantity)
	return appendText(b, c.Reference)
}

// AppendTo implements Command.
func (c *Adjust) AppendTo(b []byte) []byte {
	b = append(b, byte(KindAdjust))
	b = appendKey(b, c.Key, c.Body)
	b = appendText(b, c.SKU)
	b = binary.AppendVarint(b, int64(c.Delta))
	return appendText(b, c.Reason)
}

// AppendTo implements Command.
func (c *TransferOut) AppendTo(b []byte) []byte {
	b = append(b, byte(KindTransferOut))
	b = appendText(b, c.SKU)
	b = binary.AppendUvarint(b, uint64(c.To))
	b = appendQuantity(b, c.Quantity)
	return appendBits(b, c.Open)
}

// AppendTo implements Command.
func (c *TransferIn) AppendTo(b []byte) []byte {
	b = append(b, byte(KindTransferIn))
	b = binary.AppendUvarint(b, uint64(c.From))
	b = binary.AppendUvarint(b, c.First)
	b = binary.AppendUvarint(b, uint64(len(c.Messages)))
	for i := range c.Messages {
		m := &c.Messages[i]
		b = append(b, byte(m.Kind))
		b = appendText(b, m.SKU)
		b = appendQuantity(b, m.Quantity)
		b = appendPolicy(b, &m.Policy)
	}
	return b
}

// AppendTo implements Command.
func (c *TransferAck) AppendTo(b []byte) []byte {
	b = append(b, byte(KindTransferAck))
	b = binary.AppendUvarint(b, uint64(c.To))
	return binary.AppendUvarint(b, c.Through)
}

// AppendTo implements Command.
func (c *Audit) AppendTo(b []byte) []byte {
	b = append(b, byte(KindAudit))
	b = binary.AppendUvarint(b, c.Applied)
	return binary.LittleEndian.AppendUint64(b, c.Hash)
}

// ReserveKey reads the key of an encoded Reserve; false: the command is another one. It
// looks at nothing else.
func ReserveKey(cmd []byte) (key Key, ok bool) {
	if CommandKind(cmd) != KindReserve || len(cmd) < 1+len(key) {
		return key, false
	}
	return Key(cmd[1 : 1+len(key)]), true
}

func appendKey(b []byte, key Key, body Fingerprint) []byte {
	b = append(b, key[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(body))
}

func appendID(b []byte, id ReservationID) []byte {
	b = binary.AppendUvarint(b, uint64(id.Shard))
	return binary.AppendUvarint(b, id.Seq)
}

func appendLines(b []byte, lines []Line) []byte {
	b = binary.AppendUvarint(b, uint64(len(lines)))
	for i := range lines {
		b = appendText(b, lines[i].SKU)
		b = appendQuantity(b, lines[i].Quantity)
	}
	return b
}

func appendPolicy(b []byte, p *Policy) []byte {
	b = binary.AppendUvarint(b, p.Version)
	b = appendQuantity(b, p.SafetyStock)
	b = appendQuantity(b, p.MaxPerReservation)
	b = appendQuantity(b, p.MaxPerBuyer)
	b = appendMillis(b, p.DefaultTTL)
	b = appendMillis(b, p.MaxTTL)
	b = appendMillis(b, p.SaleStarts)
	b = appendMillis(b, p.SaleEnds)
	b = append(b, byte(p.LateConfirm))
	return appendBits(b, p.Paused, p.Watch)
}
