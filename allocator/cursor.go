package allocator

import "encoding/binary"

// The small encodings that commands and results are made of: little-endian
// words, minimal varints, and texts with their length before them. A value has
// exactly one encoding, so that equal things have equal bytes and a decoder can
// reject everything that no encoder writes.

// appendText appends a text with its length.
func appendText[T ~string | ~[]byte](b []byte, text T) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

// appendQuantity appends a count. A negative one takes ten bytes and is refused
// by whoever decodes it where it has no place.
func appendQuantity(b []byte, q Quantity) []byte {
	return binary.AppendUvarint(b, uint64(q))
}

// appendMillis appends a moment or a span.
func appendMillis(b []byte, m Millis) []byte {
	return binary.AppendUvarint(b, uint64(m))
}

// appendBits packs up to eight booleans, the first in the lowest bit.
func appendBits(b []byte, bits ...bool) []byte {
	var v byte
	for i, bit := range bits {
		if bit {
			v |= 1 << i
		}
	}
	return append(b, v)
}

// cursor reads encoded bytes. After the first failure it returns zeros and
// keeps the reason, so that a decoder checks once at its end.
type cursor struct {
	b   []byte
	at  int    // what comes next
	why string // empty: no failure yet
}

func (c *cursor) fail(why string) {
	if c.why == "" {
		c.why = why
	}
	c.b, c.at = nil, 0
}

// check fails with why unless ok holds.
func (c *cursor) check(ok bool, why string) {
	if !ok {
		c.fail(why)
	}
}

// done reports the reason of the first failure; bytes left over are one.
func (c *cursor) done() string {
	if c.why == "" && c.at != len(c.b) {
		c.why = "bytes left over"
	}
	return c.why
}

// noBytes is what a failed cursor reads from.
var noBytes [16]byte

// next gives the next n bytes, at most 16 of them.
func (c *cursor) next(n int) []byte {
	if len(c.b)-c.at < n {
		c.fail("too short")
		return noBytes[:n]
	}
	c.at += n
	return c.b[c.at-n : c.at]
}

func (c *cursor) u8() byte {
	if c.at >= len(c.b) {
		c.fail("too short")
		return 0
	}
	c.at++
	return c.b[c.at-1]
}

func (c *cursor) u16() uint16 { return binary.LittleEndian.Uint16(c.next(2)) }

func (c *cursor) u32() uint32 { return binary.LittleEndian.Uint32(c.next(4)) }

func (c *cursor) u64() uint64 { return binary.LittleEndian.Uint64(c.next(8)) }

func (c *cursor) bytes16() [16]byte { return [16]byte(c.next(16)) }

func (c *cursor) uvarint() uint64 {
	if c.at < len(c.b) && c.b[c.at] < 0x80 {
		c.at++
		return uint64(c.b[c.at-1])
	}
	return c.longUvarint()
}

// longUvarint reads a varint of several bytes and refuses padding.
func (c *cursor) longUvarint() uint64 {
	v, n := binary.Uvarint(c.b[c.at:])
	if n <= 0 || c.b[c.at+n-1] == 0 {
		c.fail("bad number")
		return 0
	}
	c.at += n
	return v
}

// upTo reads a number and fails with why when it is above limit.
func (c *cursor) upTo(limit uint64, why string) uint64 {
	v := c.uvarint()
	if v > limit {
		c.fail(why)
		return 0
	}
	return v
}

// quantity reads a count between low and high, which are not negative.
func (c *cursor) quantity(low, high Quantity) Quantity {
	q := Quantity(c.upTo(uint64(high), "quantity out of range"))
	c.check(q >= low, "quantity out of range")
	return q
}

// span reads a duration of at least low and at most MaxTTL.
func (c *cursor) span(low Millis) Millis {
	m := Millis(c.upTo(uint64(MaxTTL), "duration out of range"))
	c.check(m >= low, "duration out of range")
	return m
}

// moment reads a point of log time.
func (c *cursor) moment() Millis {
	return Millis(c.upTo(uint64(maxMoment), "moment out of range"))
}

// text reads a text of at most limit bytes; it is a part of the input.
func (c *cursor) text(limit int, why string) []byte {
	n := int(c.upTo(uint64(limit), why))
	if n > len(c.b)-c.at {
		c.fail("too short")
		return nil
	}
	c.at += n
	return c.b[c.at-n : c.at : c.at]
}

// sku reads a well-formed SKU; it is a part of the input. Its length takes one
// byte.
func (c *cursor) sku() []byte {
	if c.at < len(c.b) {
		if n := int(c.b[c.at]); n <= MaxSKULen && n < len(c.b)-c.at {
			v := c.b[c.at+1 : c.at+1+n : c.at+1+n]
			if c.at += 1 + n; validSKU(v) {
				return v
			}
		}
	}
	c.fail("malformed SKU")
	return nil
}

// bits reads the byte of appendBits with n booleans in it.
func (c *cursor) bits(n int) byte {
	v := c.u8()
	c.check(v>>n == 0, "unknown flag")
	return v
}
