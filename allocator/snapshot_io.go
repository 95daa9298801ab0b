package allocator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrSnapshot is returned when what is read is not a snapshot of this version,
// or one that is damaged, too short or too long. What is wrong follows.
var ErrSnapshot = errors.New("allocator: bad snapshot")

// snapshotBuffer is what is written or read at a time.
const snapshotBuffer = 64 * 1024

// snapshotWriter collects fields and writes them in large pieces. After the
// first error it drops everything.
type snapshotWriter struct {
	w   io.Writer
	buf []byte
	n   int64
	err error
}

func newSnapshotWriter(w io.Writer) *snapshotWriter {
	return &snapshotWriter{w: w, buf: make([]byte, 0, snapshotBuffer)}
}

// room makes sure that n more bytes, at most snapshotBuffer, can be appended to
// buf without growing it.
func (w *snapshotWriter) room(n int) {
	if len(w.buf)+n > snapshotBuffer {
		w.flush()
	}
}

func (w *snapshotWriter) flush() {
	if w.err == nil {
		var n int
		n, w.err = w.w.Write(w.buf)
		w.n += int64(n)
	}
	w.buf = w.buf[:0]
}

// words appends up to a thousand numbers of eight bytes.
func (w *snapshotWriter) words(values ...uint64) {
	w.room(8 * len(values))
	for _, v := range values {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, v)
	}
}

// bytes appends bytes without their length.
func (w *snapshotWriter) bytes(b []byte) {
	for len(b) > 0 {
		w.room(1)
		n := min(len(b), snapshotBuffer-len(w.buf))
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
	}
}

// snapshotReader hands out fields. After the first error it hands out zeros,
// and keeps the error.
type snapshotReader struct {
	r    io.Reader
	buf  []byte
	rest []byte // of buf: read and not handed out
	err  error
	zero [512]byte
}

func newSnapshotReader(r io.Reader) *snapshotReader {
	return &snapshotReader{r: r, buf: make([]byte, snapshotBuffer)}
}

// fail keeps the first error.
func (r *snapshotReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrSnapshot, fmt.Sprintf(format, args...))
	}
}

// check fails unless ok holds.
func (r *snapshotReader) check(ok bool, what string) {
	if !ok {
		r.fail("%s", what)
	}
}

// take hands out the next n bytes, at most the size of zero; they are valid
// until the next call.
func (r *snapshotReader) take(n int) []byte {
	if len(r.rest) < n {
		r.fill(n)
	}
	if r.err != nil {
		return r.zero[:n]
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// fill reads until n bytes are there.
func (r *snapshotReader) fill(n int) {
	have := copy(r.buf, r.rest)
	if r.err == nil {
		got, err := io.ReadAtLeast(r.r, r.buf[have:], n-have)
		have += got
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			r.fail("it ends too early")
		case err != nil:
			r.err = fmt.Errorf("allocator: read snapshot: %w", err)
		}
	}
	r.rest = r.buf[:have]
}

func (r *snapshotReader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// upTo reads a number that is at most limit.
func (r *snapshotReader) upTo(limit uint64, what string) uint64 {
	v := r.u64()
	if v > limit {
		r.fail("%s: %d is more than %d", what, v, limit)
		return 0
	}
	return v
}

// bytes reads n bytes, a buffer at a time, so that a wrong length fails
// before it takes much memory.
func (r *snapshotReader) bytes(n int) []byte {
	if n == 0 {
		return nil
	}
	all := make([]byte, 0, min(n, snapshotBuffer))
	for len(all) < n && r.err == nil {
		piece := r.take(min(n-len(all), len(r.zero)))
		all = append(all, piece...)
	}
	return all
}

// end checks that nothing follows.
func (r *snapshotReader) end() {
	if r.err != nil {
		return
	}
	r.check(len(r.rest) == 0, "something follows its end")
	switch n, err := io.ReadFull(r.r, r.buf[:1]); {
	case n > 0:
		r.fail("something follows its end")
	case err != io.EOF:
		r.err = fmt.Errorf("allocator: read snapshot: %w", err)
	}
}
