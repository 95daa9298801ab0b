package allocator

import "errors"

// MaxSeq is the last sequence number of a shard: six bytes of an id. At a
// million records a second it lasts nine years.
const MaxSeq = 1<<48 - 1

// ReservationID names a reservation for ever: the shard that decided it and the
// number it got there. The zero value names none.
type ReservationID struct {
	Shard ShardID
	Seq   uint64 // 1..MaxSeq
}

// IDMark sets the ids of one cluster apart from another's where users see them:
// it is mixed into the check characters, so that an id of another cluster reads
// as mistyped, but for one in 65,536. Numbers begin anew in every cluster; without
// a mark an old id could name somebody else's reservation. Nothing but the text
// depends on it.
type IDMark uint16

// Errors of IDMark.Parse.
var (
	// ErrReservationIDForm is returned when the text does not look like an id.
	ErrReservationIDForm = errors.New("allocator: not a reservation id")
	// ErrReservationIDCheck is returned when it looks like an id but its check
	// characters do not fit: there is a typing error in it, or it has another mark.
	ErrReservationIDCheck = errors.New("allocator: mistyped reservation id")
)

const (
	idPrefix = "r-"
	idChars  = 16 // 80 bits in groups of five
	idBytes  = 10 // shard 2, sequence 6, check 2
)

// idAlphabet is Crockford's base 32, without letters that look like digits.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// idValues maps a character to its value, in either case; 255 is none.
var idValues = func() (t [256]uint8) {
	for i := range t {
		t[i] = 255
	}
	for i := range len(idAlphabet) {
		c := idAlphabet[i]
		t[c] = uint8(i)
		if c >= 'a' {
			t[c-'a'+'A'] = uint8(i)
		}
	}
	return t
}()

// String gives the id without a mark, as logs and tests show it.
func (id ReservationID) String() string { return IDMark(0).Format(id) }

// Format gives the id as users of the cluster see it: "r-" and 16 characters.
func (m IDMark) Format(id ReservationID) string {
	var text [len(idPrefix) + idChars]byte
	return string(m.AppendFormat(text[:0], id))
}

// AppendFormat appends what Format gives.
func (m IDMark) AppendFormat(b []byte, id ReservationID) []byte {
	var text [len(idPrefix) + idChars]byte
	copy(text[:], idPrefix)
	raw := id.bytes(m)
	var acc, n uint
	at := len(idPrefix)
	for _, c := range raw {
		acc, n = acc<<8|uint(c), n+8
		for ; n >= 5; n -= 5 {
			text[at] = idAlphabet[acc>>(n-5)&31]
			at++
		}
	}
	return append(b, text[:]...)
}

// Parse reads what Format wrote, in lower or upper case. It fails with
// ErrReservationIDForm or ErrReservationIDCheck.
func (m IDMark) Parse(text string) (ReservationID, error) {
	if len(text) != len(idPrefix)+idChars || text[0]|0x20 != 'r' || text[1] != '-' {
		return ReservationID{}, ErrReservationIDForm
	}
	var raw [idBytes]byte
	var acc, n uint
	at := 0
	for i := len(idPrefix); i < len(text); i++ {
		v := idValues[text[i]]
		if v == 255 {
			return ReservationID{}, ErrReservationIDForm
		}
		if acc, n = acc<<5|uint(v), n+5; n >= 8 {
			raw[at] = byte(acc >> (n - 8))
			at, n = at+1, n-8
		}
	}
	return m.unpack(raw)
}

// unpack checks and unpacks the bytes of an id.
func (m IDMark) unpack(raw [idBytes]byte) (ReservationID, error) {
	var id ReservationID
	id.Shard = ShardID(raw[0])<<8 | ShardID(raw[1])
	for _, c := range raw[2:8] {
		id.Seq = id.Seq<<8 | uint64(c)
	}
	if id.bytes(m) != raw {
		return ReservationID{}, ErrReservationIDCheck
	}
	if !id.valid() {
		return ReservationID{}, ErrReservationIDForm
	}
	return id, nil
}

// valid tells whether some shard could have given this id.
func (id ReservationID) valid() bool {
	return id.Shard < MaxShards && id.Seq >= 1 && id.Seq <= MaxSeq
}

// bytes packs the id with its checksum. The mark changes the checksum of all ids
// alike, so the errors that it finds stay the same.
func (id ReservationID) bytes(m IDMark) (raw [idBytes]byte) {
	raw[0], raw[1] = byte(id.Shard>>8), byte(id.Shard)
	for i := range 6 {
		raw[2+i] = byte(id.Seq >> (40 - 8*i))
	}
	check := crc16(raw[:8]) ^ uint16(m)
	raw[8], raw[9] = byte(check>>8), byte(check)
	return raw
}

// crc16 is the CCITT polynomial. It finds every error within 16 neighbouring
// bits, so every wrong character and every two swapped neighbours.
func crc16(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, c := range b {
		crc ^= uint16(c) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
	}
	return crc
}
