package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"stockade/allocator"
)

// A snapshot is a header, frames with the allocator's own format inside, and an
// end frame. All integers are little-endian.
//
// Header:
//
//	0   magic       8 bytes, "STKDSNAP"
//	8   version     2 bytes
//	10  length      2 bytes, of the whole header
//	12  checksum    4 bytes, CRC-32C of the header without these four bytes
//	16  shard       2 bytes
//	18  index       8 bytes, of the last entry that is included
//	26  term        8 bytes, of that entry
//	34  stamp       8 bytes, the highest stamp applied
//	42  cluster id  1 byte length, then the id
//
// The first 16 bytes mean the same in every version; see entry.go for why.
//
// Frame:
//
//	0   kind        1 byte: 1 data, 2 end
//	1   length      4 bytes, of the payload, at most maxFrame
//	5   checksum    4 bytes, CRC-32C of the frame's number (8 bytes, from 0),
//	                kind, length and payload
//	9   payload
//
// The number is not written: it makes a frame that is missing, doubled or out
// of order fail its checksum. The end frame's payload is the number of data
// frames (8 bytes) and of bytes in them (8 bytes). Nothing follows it.
const (
	snapshotMagic = "STKDSNAP"
	// snapshotVersion stands for the allocator's format inside as well: it is
	// raised with either, so that an upgrade that is due is called that.
	snapshotVersion = 1

	snapshotFixedLen    = 16
	snapshotChecksumAt  = 12
	snapshotClusterIDAt = 42

	// maxHeader bounds the header of any version, so that its length can be
	// believed enough to read it before the checksum is verified.
	maxHeader = 512

	// MaxClusterIDLen bounds the cluster id in a snapshot; a UUID takes 36 bytes.
	MaxClusterIDLen = 64

	// maxFrame bounds the memory that reading takes, and how much is read before
	// damage shows.
	maxFrame       = 1 << 20
	frameHeaderLen = 9
	frameData      = 1
	frameEnd       = 2
	endPayloadLen  = 16

	// writeFrame is the payload of the frames that are written: large enough for
	// few writes, small enough to hold one per replica without a thought.
	writeFrame = 256 << 10
)

// Errors of ReadSnapshot. What wraps them says where and what.
var (
	// ErrSnapshotDamaged: the bytes are not what was written, or not all of it.
	ErrSnapshotDamaged = errors.New("snapshot is damaged")
	// ErrSnapshotVersion: the snapshot is whole but in a format this build can't
	// read.
	ErrSnapshotVersion = errors.New("snapshot has an unknown version")
)

// SnapshotHeader says what a snapshot is of.
type SnapshotHeader struct {
	ClusterID string // 1 to MaxClusterIDLen bytes
	Shard     allocator.ShardID
	Index     uint64 // of the last entry included
	Term      uint64 // of that entry
	Stamp     allocator.Millis
}

// WriteSnapshot writes a snapshot of view and returns its size. It does not
// close w.
func WriteSnapshot(w io.Writer, h SnapshotHeader, view *allocator.View) (int64, error) {
	header, err := encodeHeader(h)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(header); err != nil {
		return 0, fmt.Errorf("write snapshot header: %w", err)
	}
	fw := newFrameWriter(w)
	if _, err := view.WriteTo(fw); err != nil {
		return 0, fmt.Errorf("write snapshot: %w", err)
	}
	if err := fw.finish(); err != nil {
		return 0, fmt.Errorf("write snapshot: %w", err)
	}
	return int64(len(header)) + fw.written, nil
}

// ReadSnapshot reads a whole snapshot and builds the state in it. A state is
// returned only when every byte was verified, the state's own invariants
// included, and nothing follows the end. Errors of the format wrap
// ErrSnapshotDamaged or ErrSnapshotVersion; others come from r.
func ReadSnapshot(r io.Reader) (SnapshotHeader, *allocator.State, error) {
	src := &source{r: r}
	h, err := readHeader(src)
	if err != nil {
		return SnapshotHeader{}, nil, err
	}
	frames := &frameReader{src: src}
	state, err := allocator.Restore(frames)
	if frames.err != nil {
		return SnapshotHeader{}, nil, frames.err // the reason, where err is a consequence
	}
	if err != nil {
		return SnapshotHeader{}, nil, fmt.Errorf("%w: at byte %d: restore state: %w", ErrSnapshotDamaged, src.offset, err)
	}
	if err := frames.expectEnd(); err != nil {
		return SnapshotHeader{}, nil, err
	}
	if state.Now() != h.Stamp {
		return SnapshotHeader{}, nil, fmt.Errorf("%w: header says stamp %d, the state says %d", ErrSnapshotDamaged, h.Stamp, state.Now())
	}
	return h, state, nil
}

// encodeHeader lays out the header.
func encodeHeader(h SnapshotHeader) ([]byte, error) {
	if h.ClusterID == "" || len(h.ClusterID) > MaxClusterIDLen {
		return nil, fmt.Errorf("write snapshot header: cluster id has %d bytes, not 1 to %d", len(h.ClusterID), MaxClusterIDLen)
	}
	size := snapshotClusterIDAt + 1 + len(h.ClusterID)
	b := make([]byte, 0, size)
	b = append(b, snapshotMagic...)
	b = binary.LittleEndian.AppendUint16(b, snapshotVersion)
	b = binary.LittleEndian.AppendUint16(b, uint16(size))
	b = append(b, 0, 0, 0, 0) // the checksum
	b = binary.LittleEndian.AppendUint16(b, uint16(h.Shard))
	b = binary.LittleEndian.AppendUint64(b, h.Index)
	b = binary.LittleEndian.AppendUint64(b, h.Term)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Stamp))
	b = append(b, byte(len(h.ClusterID)))
	b = append(b, h.ClusterID...)
	binary.LittleEndian.PutUint32(b[snapshotChecksumAt:], headerChecksum(b))
	return b, nil
}

// headerChecksum covers everything but the checksum itself.
func headerChecksum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:snapshotChecksumAt])
	return crc32.Update(sum, castagnoli, b[snapshotFixedLen:])
}

// readHeader reads and verifies the header, and leaves src behind it.
func readHeader(src *source) (SnapshotHeader, error) {
	var buf [maxHeader]byte
	fixed := buf[:snapshotFixedLen]
	if err := src.full(fixed, "header"); err != nil {
		return SnapshotHeader{}, err
	}
	if string(fixed[:len(snapshotMagic)]) != snapshotMagic {
		return SnapshotHeader{}, fmt.Errorf("%w: at byte 0: it begins with %q, not %q", ErrSnapshotDamaged, fixed[:len(snapshotMagic)], snapshotMagic)
	}
	size := int(binary.LittleEndian.Uint16(fixed[10:]))
	if size < snapshotFixedLen || size > maxHeader {
		return SnapshotHeader{}, fmt.Errorf("%w: at byte 10: header claims %d bytes", ErrSnapshotDamaged, size)
	}
	if err := src.full(buf[snapshotFixedLen:size], "header"); err != nil {
		return SnapshotHeader{}, err
	}
	b := buf[:size]
	if want, got := binary.LittleEndian.Uint32(b[snapshotChecksumAt:]), headerChecksum(b); want != got {
		return SnapshotHeader{}, fmt.Errorf("%w: at byte %d: header checksum is %08x, computed %08x", ErrSnapshotDamaged, snapshotChecksumAt, want, got)
	}
	if v := int(binary.LittleEndian.Uint16(b[8:])); v != snapshotVersion {
		return SnapshotHeader{}, versionError(ErrSnapshotVersion, v, snapshotVersion)
	}
	return decodeHeader(b)
}

// decodeHeader decodes a header of this version whose checksum is right.
func decodeHeader(b []byte) (SnapshotHeader, error) {
	if len(b) <= snapshotClusterIDAt {
		return SnapshotHeader{}, fmt.Errorf("%w: at byte 10: header claims %d bytes", ErrSnapshotDamaged, len(b))
	}
	id := b[snapshotClusterIDAt+1:]
	if n := int(b[snapshotClusterIDAt]); n != len(id) || n == 0 || n > MaxClusterIDLen {
		return SnapshotHeader{}, fmt.Errorf("%w: at byte %d: cluster id claims %d bytes, the header has %d", ErrSnapshotDamaged, snapshotClusterIDAt, n, len(id))
	}
	return SnapshotHeader{
		ClusterID: string(id),
		Shard:     allocator.ShardID(binary.LittleEndian.Uint16(b[16:])),
		Index:     binary.LittleEndian.Uint64(b[18:]),
		Term:      binary.LittleEndian.Uint64(b[26:]),
		Stamp:     allocator.Millis(binary.LittleEndian.Uint64(b[34:])),
	}, nil
}
