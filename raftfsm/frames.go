package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// frameWriter cuts what is written into checksummed frames.
type frameWriter struct {
	w       io.Writer
	buf     []byte // a frame in the making: room for its header, then payload
	frames  uint64
	bytes   uint64
	written int64
}

// newFrameWriter returns a writer that keeps one frame in memory.
func newFrameWriter(w io.Writer) *frameWriter {
	return &frameWriter{w: w, buf: make([]byte, frameHeaderLen, frameHeaderLen+writeFrame)}
}

// Write implements io.Writer.
func (f *frameWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if len(f.buf) == cap(f.buf) {
			if err := f.flush(frameData); err != nil {
				return total - len(p), err
			}
		}
		n := min(len(p), cap(f.buf)-len(f.buf))
		f.buf = append(f.buf, p[:n]...)
		p = p[n:]
	}
	return total, nil
}

// finish writes what is left and the end frame.
func (f *frameWriter) finish() error {
	if len(f.buf) > frameHeaderLen {
		if err := f.flush(frameData); err != nil {
			return err
		}
	}
	f.buf = binary.LittleEndian.AppendUint64(f.buf, f.frames)
	f.buf = binary.LittleEndian.AppendUint64(f.buf, f.bytes)
	return f.flush(frameEnd)
}

// flush writes the frame in the making.
func (f *frameWriter) flush(kind byte) error {
	payload := f.buf[frameHeaderLen:]
	f.buf[0] = kind
	binary.LittleEndian.PutUint32(f.buf[1:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(f.buf[5:], frameChecksum(f.frames, f.buf))
	n, err := f.w.Write(f.buf)
	f.written += int64(n)
	if err != nil {
		return fmt.Errorf("at byte %d: %w", f.written, err)
	}
	f.frames++
	f.bytes += uint64(len(payload))
	f.buf = f.buf[:frameHeaderLen]
	return nil
}

// frameChecksum covers the frame's number and all of the frame but the
// checksum itself.
func frameChecksum(number uint64, frame []byte) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], number)
	sum := crc32.Update(0, castagnoli, n[:])
	sum = crc32.Update(sum, castagnoli, frame[:5])
	return crc32.Update(sum, castagnoli, frame[frameHeaderLen:])
}

// source reads a snapshot and knows where it is.
type source struct {
	r      io.Reader
	offset int64
}

// full fills b. An end of input within b is damage.
func (s *source) full(b []byte, what string) error {
	n, err := io.ReadFull(s.r, b)
	s.offset += int64(n)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: at byte %d: it ends in the middle of a %s", ErrSnapshotDamaged, s.offset, what)
	}
	return fmt.Errorf("read snapshot at byte %d: %w", s.offset, err)
}

// frameReader gives back what went into a frameWriter, one verified frame at a
// time. It ends with io.EOF only when the end frame was verified and nothing
// follows.
type frameReader struct {
	src     *source
	buf     []byte // the frame at hand, header included
	payload []byte // what of it is not yet read
	frames  uint64
	bytes   uint64
	ended   bool  // the end frame was verified, and nothing follows
	err     error // sticky
}

// Read implements io.Reader.
func (f *frameReader) Read(p []byte) (int, error) {
	if err := f.fill(); err != nil {
		return 0, err
	}
	if f.ended {
		return 0, io.EOF
	}
	n := copy(p, f.payload)
	f.payload = f.payload[n:]
	return n, nil
}

// expectEnd verifies that all data was read, and reads up to the end if the
// reader of the data did not.
func (f *frameReader) expectEnd() error {
	if err := f.fill(); err != nil {
		return err
	}
	if !f.ended {
		return fmt.Errorf("%w: at byte %d: data follows the end of the state", ErrSnapshotDamaged, f.src.offset)
	}
	return nil
}

// fill makes sure that there is payload to read, or the end was reached.
func (f *frameReader) fill() error {
	if len(f.payload) == 0 && !f.ended && f.err == nil {
		f.err = f.next()
	}
	return f.err
}

// next reads one frame.
func (f *frameReader) next() error {
	start := f.src.offset
	if err := f.load(start); err != nil {
		return err
	}
	if want, got := binary.LittleEndian.Uint32(f.buf[5:]), frameChecksum(f.frames, f.buf); want != got {
		return fmt.Errorf("%w: at byte %d: checksum of frame %d is %08x, computed %08x", ErrSnapshotDamaged, start, f.frames, want, got)
	}
	payload := f.buf[frameHeaderLen:]
	switch kind := f.buf[0]; {
	case kind == frameData && len(payload) > 0:
		f.frames++
		f.bytes += uint64(len(payload))
		f.payload = payload
		return nil
	case kind == frameEnd && len(payload) == endPayloadLen:
		return f.end(start, payload)
	default:
		return fmt.Errorf("%w: at byte %d: frame of kind %d with %d bytes", ErrSnapshotDamaged, start, kind, len(payload))
	}
}

// load reads the bytes of a frame that begins at start into buf.
func (f *frameReader) load(start int64) error {
	if f.buf == nil {
		f.buf = make([]byte, frameHeaderLen, frameHeaderLen+writeFrame)
	}
	f.buf = f.buf[:frameHeaderLen]
	if err := f.src.full(f.buf, "frame"); err != nil {
		return err
	}
	claimed := binary.LittleEndian.Uint32(f.buf[1:])
	if claimed > maxFrame {
		return fmt.Errorf("%w: at byte %d: frame %d claims %d bytes, the limit is %d", ErrSnapshotDamaged, start, f.frames, claimed, maxFrame)
	}
	n := int(claimed)
	if need := frameHeaderLen + n; need > cap(f.buf) {
		f.buf = append(make([]byte, 0, need), f.buf...)
	}
	f.buf = f.buf[:frameHeaderLen+n]
	return f.src.full(f.buf[frameHeaderLen:], "frame")
}

// end verifies the totals and that nothing follows.
func (f *frameReader) end(start int64, payload []byte) error {
	frames, bytes := binary.LittleEndian.Uint64(payload), binary.LittleEndian.Uint64(payload[8:])
	if frames != f.frames || bytes != f.bytes {
		return fmt.Errorf("%w: at byte %d: the end speaks of %d frames and %d bytes, there were %d and %d",
			ErrSnapshotDamaged, start, frames, bytes, f.frames, f.bytes)
	}
	var one [1]byte
	switch n, err := io.ReadFull(f.src.r, one[:]); {
	case n != 0:
		return fmt.Errorf("%w: at byte %d: data follows the end", ErrSnapshotDamaged, f.src.offset)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read snapshot at byte %d: %w", f.src.offset, err)
	}
	f.ended = true
	return nil
}
