package shardrpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc/internal/pb"
)

// The frame format, version 2. A frame holds items one after the other, to its
// end. Numbers are unsigned varints of encoding/binary unless a width is given;
// signed ones are its signed varints.
//
//	request item:
//	  id       number    chosen by the client, unique in its stream
//	  shard    number    below allocator.MaxShards
//	  flags    1 byte    bit 0: final; bit 1: wait follows; bit 2: claims follow; bit 3: age follows; the others are 0
//	  age      signed    microseconds, rounded up, from the request's coming in to the frame's clock, at most MaxTimeout
//	  timeout  number    milliseconds left at the frame's clock, at most MaxTimeout
//	  wait     number    milliseconds left then to wait in line, at most MaxTimeout
//	  claims   number, at most MaxClaims; then for each
//	    parked number    log time in milliseconds, at most maxMillis
//	    units  number    at most allocator.MaxOnHand
//	  command  number, then that many bytes, at most allocator.MaxCommandLen
//
//	response item:
//	  id       number    of the request
//	  outcome  1 byte    an Outcome
//	  reason   1 byte    a Reason
//	  shard    number    below allocator.MaxShards
//	  leader   1 byte, then that many bytes, at most MaxNodeIDLen
//	  age      number    0: Since is not known; else 1 + milliseconds since then
//	  result   number, then that many bytes, at most MaxResultLen
//
// Times travel as spans, because the clocks of two nodes differ; a proposal's begin
// at the moment of the server's clock that the frame names (see clock.go). A frame
// without items asks the other side for any sign of life.
const frameVersion = 2

// Flags of a request item.
const (
	flagFinal = 1 << iota
	flagWait
	flagClaims
	flagAge
	flagsKnown = flagFinal | flagWait | flagClaims | flagAge
)

// clockOf is what a frame says of the server's clock.
func clockOf(frame *pb.Frame) time.Duration {
	const most = maxAge * time.Millisecond
	return time.Duration(min(frame.GetClock(), uint64(most/time.Microsecond))) * time.Microsecond
}

// maxMillis bounds a moment of log time that is believed: beyond the year 9999.
const maxMillis = 1 << 50

// maxAge bounds the age of Since that is believed: 100 years in milliseconds,
// which still fits a time.Duration.
const maxAge = 100 * 365 * 24 * 3600 * 1000

// Errors of reading a frame; each wraps errFrame.
var (
	errFrame     = errors.New("damaged frame")
	errVersion   = fmt.Errorf("%w: unknown version", errFrame)
	errTruncated = fmt.Errorf("%w: it ends within an item", errFrame)
	errNumber    = fmt.Errorf("%w: a number is out of range", errFrame)
	errFlags     = fmt.Errorf("%w: unknown flags", errFrame)
	errEnum      = fmt.Errorf("%w: unknown outcome or reason", errFrame)
)

// requestItem is a proposal as it travels.
type requestItem struct {
	id      uint64
	shard   allocator.ShardID
	final   bool
	aged    bool
	age     time.Duration // whole microseconds; for those that are aged
	timeout time.Duration // whole milliseconds
	wait    time.Duration // whole milliseconds; 0: does not wait in line
	claims  []Claim
	command []byte
}

// responseItem is an answer as it travels.
type responseItem struct {
	id  uint64
	age uint64 // as in the format
	Response
}

// maxHeaderLen bounds what an item takes besides its command or result.
const maxHeaderLen = 8*binary.MaxVarintLen64 + 3 + MaxNodeIDLen

const maxClaimLen = 2 * binary.MaxVarintLen64

func (r requestItem) size() int { return maxHeaderLen + len(r.claims)*maxClaimLen + len(r.command) }

func (r requestItem) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, r.id)
	b = binary.AppendUvarint(b, uint64(r.shard))
	var flags byte
	if r.final {
		flags |= flagFinal
	}
	wait := appendableMillis(r.wait)
	if wait > 0 {
		flags |= flagWait
	}
	claims := r.claims[:min(len(r.claims), MaxClaims)]
	if len(claims) > 0 {
		flags |= flagClaims
	}
	if r.aged {
		flags |= flagAge
	}
	b = append(b, flags)
	if r.aged {
		b = binary.AppendVarint(b, appendableMicros(r.age))
	}
	b = binary.AppendUvarint(b, appendableMillis(r.timeout))
	if wait > 0 {
		b = binary.AppendUvarint(b, wait)
	}
	if len(claims) > 0 {
		b = appendClaims(b, claims)
	}
	b = binary.AppendUvarint(b, uint64(len(r.command)))
	return append(b, r.command...)
}

func appendClaims(b []byte, claims []Claim) []byte {
	b = binary.AppendUvarint(b, uint64(len(claims)))
	for _, c := range claims {
		b = binary.AppendUvarint(b, min(uint64(max(c.Parked, 0)), maxMillis))
		b = binary.AppendUvarint(b, min(uint64(max(c.Units, 0)), uint64(allocator.MaxOnHand)))
	}
	return b
}

// appendableMillis is a span as the format takes it.
func appendableMillis(d time.Duration) uint64 {
	return uint64(min(max(d, 0), MaxTimeout) / time.Millisecond)
}

// appendableMicros is an age as the format takes it.
func appendableMicros(d time.Duration) int64 {
	d = min(max(d, -MaxTimeout), MaxTimeout)
	if d > 0 {
		d += time.Microsecond - 1
	}
	return int64(d / time.Microsecond)
}

func (r responseItem) size() int { return maxHeaderLen + len(r.Result) }

func (r responseItem) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, r.id)
	b = append(b, byte(r.Outcome), byte(r.Reason))
	b = binary.AppendUvarint(b, uint64(r.Shard))
	b = append(b, byte(len(r.Leader)))
	b = append(b, r.Leader...)
	b = binary.AppendUvarint(b, r.age)
	b = binary.AppendUvarint(b, uint64(len(r.Result)))
	return append(b, r.Result...)
}

// toResponseItem makes r fit the format. A hint that is too long is left out; a
// result that is too long can't be told, so the outcome is unknown.
func toResponseItem(id uint64, r Response, now time.Time) responseItem {
	if len(r.Leader) > MaxNodeIDLen {
		r.Leader = ""
	}
	if len(r.Result) > MaxResultLen || !r.Outcome.valid() || r.Reason >= reasonEnd {
		r = Response{Outcome: Unknown, Reason: ReasonInvalid, Shard: r.Shard}
	}
	item := responseItem{id: id, Response: r}
	if !r.Since.IsZero() {
		item.age = min(uint64(max(now.Sub(r.Since), 0)/time.Millisecond), maxAge) + 1
	}
	return item
}

// reader takes items off a frame. The byte slices it hands out are parts of
// the frame.
type reader struct {
	b   []byte
	err error
}

func (r *reader) more() bool { return r.err == nil && len(r.b) > 0 }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

// number reads a varint of at most limit.
func (r *reader) number(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.fail(errTruncated)
	case n < 0 || v > limit:
		r.fail(errNumber)
	default:
		r.b = r.b[n:]
		return v
	}
	return 0
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail(errTruncated)
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// bytes hands out n bytes, none of which is copied.
func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail(errTruncated)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) claims() (all []Claim) {
	for range r.number(MaxClaims) {
		if r.err != nil {
			return nil
		}
		all = append(all, Claim{
			Parked: allocator.Millis(r.number(maxMillis)),
			Units:  allocator.Quantity(r.number(uint64(allocator.MaxOnHand))),
		})
	}
	return all
}

// span reads a number of milliseconds of at most MaxTimeout.
func (r *reader) span() time.Duration {
	return time.Duration(r.number(uint64(MaxTimeout/time.Millisecond))) * time.Millisecond
}

// age reads a signed number of microseconds of at most MaxTimeout.
func (r *reader) age() time.Duration {
	const most = int64(MaxTimeout / time.Microsecond)
	v, n := binary.Varint(r.b)
	switch {
	case n == 0:
		r.fail(errTruncated)
	case n < 0 || v < -most || v > most:
		r.fail(errNumber)
	default:
		r.b = r.b[n:]
		return time.Duration(v) * time.Microsecond
	}
	return 0
}

// request reads the next item. It is valid only when r.err is nil afterwards.
func (r *reader) request() requestItem {
	item := requestItem{
		id:    r.number(1<<64 - 1),
		shard: allocator.ShardID(r.number(allocator.MaxShards - 1)),
	}
	flags := r.byte()
	if flags&^flagsKnown != 0 {
		r.fail(errFlags)
	}
	item.final = flags&flagFinal != 0
	if item.aged = flags&flagAge != 0; item.aged {
		item.age = r.age()
	}
	item.timeout = r.span()
	if flags&flagWait != 0 {
		item.wait = r.span()
	}
	if flags&flagClaims != 0 {
		item.claims = r.claims()
	}
	item.command = r.bytes(r.number(allocator.MaxCommandLen))
	return item
}

// response reads the next item. It is valid only when r.err is nil afterwards.
func (r *reader) response(now time.Time) responseItem {
	item := responseItem{id: r.number(1<<64 - 1)}
	item.Outcome = Outcome(r.byte())
	item.Reason = Reason(r.byte())
	if r.err == nil && (!item.Outcome.valid() || item.Reason >= reasonEnd) {
		r.fail(errEnum)
	}
	item.Shard = allocator.ShardID(r.number(allocator.MaxShards - 1))
	n := r.byte()
	if n > MaxNodeIDLen {
		r.fail(errNumber)
	}
	item.Leader = NodeID(r.bytes(uint64(n)))
	item.age = r.number(maxAge + 1)
	if item.age > 0 {
		item.Since = now.Add(-time.Duration(item.age-1) * time.Millisecond)
	}
	item.Result = r.bytes(r.number(MaxResultLen))
	return item
}
