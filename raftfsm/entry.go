package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"stockade/allocator"
)

// A log entry is one batch of commands under one stamp. All integers are
// little-endian.
//
//	0   magic      1 byte, 0xE5
//	1   version    1 byte
//	2   checksum   4 bytes, CRC-32C of bytes 0, 1 and 6 to the end
//	6   stamp      8 bytes, allocator.Millis
//	14  count      4 bytes
//	18  commands   count times: length (4 bytes, not 0), command
//
// The first six bytes mean the same in every version. So the checksum can be
// verified before the version is believed, and a damaged version byte is not
// taken for an upgrade that is due.
const (
	entryMagic   = 0xE5
	entryVersion = 1

	entryChecksumAt = 2
	entryStampAt    = 6
	entryCountAt    = 14
	entryHeaderLen  = 18
	entryPrefixLen  = 4 // length of one command
)

// Errors of DecodeEntry. Both mean that the replica can't go on.
var (
	// ErrEntryDamaged: the bytes are not what was written.
	ErrEntryDamaged = errors.New("log entry is damaged")
	// ErrEntryVersion: the entry is whole but in a format this build can't read.
	ErrEntryVersion = errors.New("log entry has an unknown version")
)

// castagnoli is the polynomial that common processors compute in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EntryEncoder builds log entries, one after the other, in a buffer that it
// keeps. Not safe for concurrent use. The zero value is ready for Begin.
type EntryEncoder struct {
	buf   []byte
	count uint32
}

// Begin starts an entry and forgets one that was not finished.
func (e *EntryEncoder) Begin(stamp allocator.Millis) {
	e.count = 0
	e.buf = append(e.buf[:0], entryMagic, entryVersion)
	e.buf = append(e.buf, 0, 0, 0, 0) // the checksum, set by Finish
	e.buf = binary.LittleEndian.AppendUint64(e.buf, uint64(stamp))
	e.buf = append(e.buf, 0, 0, 0, 0) // the count, set by Finish
}

// Add appends a command of 1 to allocator.MaxCommandLen bytes. The bytes are
// copied.
func (e *EntryEncoder) Add(command []byte) {
	e.count++
	e.buf = binary.LittleEndian.AppendUint32(e.buf, uint32(len(command)))
	e.buf = append(e.buf, command...)
}

// Finish returns the entry. The bytes are the caller's for ever: Raft keeps
// them in its cache and hands them to other goroutines, so the encoder's own
// buffer must not leave.
func (e *EntryEncoder) Finish() []byte {
	entry := make([]byte, len(e.buf))
	copy(entry, e.buf)
	binary.LittleEndian.PutUint32(entry[entryCountAt:], e.count)
	binary.LittleEndian.PutUint32(entry[entryChecksumAt:], entryChecksum(entry))
	return entry
}

// Entry is a decoded log entry. It refers to the bytes it was decoded from.
type Entry struct {
	Stamp allocator.Millis
	Count int    // commands in the entry
	rest  []byte // commands not yet returned by Next
}

// DecodeEntry verifies all of b before it returns, so that a damaged entry is
// never applied in part. It takes no memory, and keeps b. Errors wrap
// ErrEntryDamaged or ErrEntryVersion.
func DecodeEntry(b []byte) (Entry, error) {
	if len(b) < entryHeaderLen {
		return Entry{}, fmt.Errorf("%w: %d bytes are less than a header of %d", ErrEntryDamaged, len(b), entryHeaderLen)
	}
	if b[0] != entryMagic {
		return Entry{}, fmt.Errorf("%w: it begins with %#02x instead of %#02x", ErrEntryDamaged, b[0], entryMagic)
	}
	if want, got := binary.LittleEndian.Uint32(b[entryChecksumAt:]), entryChecksum(b); want != got {
		return Entry{}, fmt.Errorf("%w: checksum is %08x, computed %08x", ErrEntryDamaged, want, got)
	}
	if b[1] != entryVersion {
		return Entry{}, versionError(ErrEntryVersion, int(b[1]), entryVersion)
	}
	e := Entry{
		Stamp: allocator.Millis(binary.LittleEndian.Uint64(b[entryStampAt:])),
		rest:  b[entryHeaderLen:],
	}
	count := binary.LittleEndian.Uint32(b[entryCountAt:])
	if err := checkCommands(e.rest, count); err != nil {
		return Entry{}, err
	}
	e.Count = int(count)
	return e, nil
}

// Next returns the next command, and false after the last.
func (e *Entry) Next() ([]byte, bool) {
	if len(e.rest) == 0 {
		return nil, false
	}
	n := entryPrefixLen + int(binary.LittleEndian.Uint32(e.rest))
	command := e.rest[entryPrefixLen:n:n]
	e.rest = e.rest[n:]
	return command, true
}

// checkCommands walks the length prefixes: there must be exactly count
// commands, each of a lawful length, and nothing after them.
func checkCommands(b []byte, count uint32) error {
	for i := range count {
		if len(b) < entryPrefixLen {
			return fmt.Errorf("%w: it ends before command %d of %d", ErrEntryDamaged, i, count)
		}
		n := binary.LittleEndian.Uint32(b)
		b = b[entryPrefixLen:]
		if n == 0 || n > allocator.MaxCommandLen || int(n) > len(b) {
			return fmt.Errorf("%w: command %d of %d claims %d bytes, %d are left", ErrEntryDamaged, i, count, n, len(b))
		}
		b = b[n:]
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: %d bytes follow the last of %d commands", ErrEntryDamaged, len(b), count)
	}
	return nil
}

// entryChecksum covers everything but the checksum itself.
func entryChecksum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:entryChecksumAt])
	return crc32.Update(sum, castagnoli, b[entryStampAt:])
}

// versionError says what to do about a format that this build can't read.
func versionError(sentinel error, got, newest int) error {
	if got > newest {
		return fmt.Errorf("%w: version %d, this build reads up to %d: written by a newer Stockade; upgrade this node", sentinel, got, newest)
	}
	return fmt.Errorf("%w: version %d, this build reads %d", sentinel, got, newest)
}
