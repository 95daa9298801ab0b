package raftfsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// framed writes data as frames with an end.
func framed(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := newFrameWriter(&out)
	if n, err := w.Write(data); err != nil || n != len(data) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(data), err)
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	if w.written != int64(out.Len()) {
		t.Fatalf("%d bytes were written, the writer says %d", out.Len(), w.written)
	}
	return out.Bytes()
}

// unframed reads frames up to their end.
func unframed(r io.Reader) ([]byte, error) {
	return io.ReadAll(&frameReader{src: &source{r: r}})
}

func TestFramesRoundTrip(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, writeFrame - 1, writeFrame, writeFrame + 1, 3*writeFrame + 17} {
		data := make([]byte, size)
		_, _ = random.Read(data) // never fails
		b := framed(t, data)
		for name, r := range map[string]io.Reader{
			"at once":      bytes.NewReader(b),
			"half by half": iotest.HalfReader(bytes.NewReader(b)),
			"data and EOF": iotest.DataErrReader(bytes.NewReader(b)),
		} {
			got, err := unframed(r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes read %s: %d bytes came back, %v", size, name, len(got), err)
			}
		}
	}
}

func TestFramesOutOfOrderAreDetected(t *testing.T) {
	b := framed(t, make([]byte, 3*writeFrame))
	const size = frameHeaderLen + writeFrame
	one, two, three, end := b[:size], b[size:2*size], b[2*size:3*size], b[3*size:]
	for name, frames := range map[string][][]byte{
		"exchanged":      {two, one, three, end},
		"missing first":  {two, three, end},
		"missing middle": {one, three, end},
		"missing last":   {one, two, end},
		"doubled":        {one, one, two, three, end},
		"two ends":       {one, two, three, end, end},
		"after the end":  {one, two, three, end, {0}},
		"no end":         {one, two, three},
	} {
		if _, err := unframed(bytes.NewReader(bytes.Join(frames, nil))); !errors.Is(err, ErrSnapshotDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sealedFrame is a frame with any contents and a checksum that fits.
func sealedFrame(number uint64, kind byte, claimed uint32, payload []byte) []byte {
	b := make([]byte, frameHeaderLen, frameHeaderLen+len(payload))
	b[0] = kind
	binary.LittleEndian.PutUint32(b[1:], claimed)
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[5:], frameChecksum(number, b))
	return b
}

// What a writer with a bug could make, under checksums that are right.
func TestFramesAreChecked(t *testing.T) {
	end := make([]byte, endPayloadLen)
	wrongBytes := bytes.Clone(end)
	wrongBytes[8] = 1
	wrongFrames := bytes.Clone(end)
	wrongFrames[0] = 1
	for name, b := range map[string][]byte{
		"an empty data frame":   sealedFrame(0, frameData, 0, nil),
		"an unknown kind":       sealedFrame(0, 3, 1, []byte{0}),
		"a short end":           sealedFrame(0, frameEnd, 15, end[:15]),
		"wrong total of bytes":  sealedFrame(0, frameEnd, endPayloadLen, wrongBytes),
		"wrong total of frames": sealedFrame(0, frameEnd, endPayloadLen, wrongFrames),
	} {
		if _, err := unframed(bytes.NewReader(b)); !errors.Is(err, ErrSnapshotDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFrameLengthIsCheckedBeforeMemoryIsTaken(t *testing.T) {
	r := &frameReader{src: &source{r: bytes.NewReader(sealedFrame(0, frameData, 1<<32-1, nil))}}
	if _, err := io.ReadAll(r); !errors.Is(err, ErrSnapshotDamaged) {
		t.Fatal(err)
	}
	if cap(r.buf) > frameHeaderLen+writeFrame {
		t.Fatalf("took %d bytes for a frame that is too long", cap(r.buf))
	}
	full := sealedFrame(0, frameData, maxFrame, make([]byte, maxFrame))
	if err := (&frameReader{src: &source{r: bytes.NewReader(full)}}).next(); err != nil {
		t.Fatalf("a frame of the largest size: %v", err)
	}
}

// A reader of the data that stops early, at the end or before it, does not
// keep the end from being verified.
func TestFramesAreReadToTheirEnd(t *testing.T) {
	good := framed(t, []byte("abc"))
	cut := good[:len(good)-1]
	for name, test := range map[string]struct {
		b    []byte
		read int
		ok   bool
	}{
		"all read":         {good, 3, true},
		"end is cut":       {cut, 3, false},
		"data left":        {good, 2, false},
		"nothing was read": {good, 0, false},
	} {
		r := &frameReader{src: &source{r: bytes.NewReader(test.b)}}
		if _, err := io.ReadFull(r, make([]byte, test.read)); err != nil {
			t.Fatal(err)
		}
		if err := r.expectEnd(); (err == nil) != test.ok || err != nil && !errors.Is(err, ErrSnapshotDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFrameReaderPassesOnErrorsOfItsSource(t *testing.T) {
	broken := errors.New("input/output error")
	r := io.MultiReader(bytes.NewReader(framed(t, []byte("abc"))[:5]), iotest.ErrReader(broken))
	if _, err := unframed(r); !errors.Is(err, broken) || errors.Is(err, ErrSnapshotDamaged) {
		t.Fatalf("a disk that fails is not damage: %v", err)
	}
}

func TestFrameWriterPassesOnErrorsOfItsTarget(t *testing.T) {
	full := errors.New("no space left on device")
	w := newFrameWriter(failAfter{full, new(int)})
	_, err := w.Write(make([]byte, 3*writeFrame))
	if !errors.Is(err, full) {
		t.Fatal(err)
	}
}

// failAfter is a writer that fails when its first write is done.
type failAfter struct {
	err   error
	calls *int
}

func (f failAfter) Write(p []byte) (int, error) {
	if *f.calls++; *f.calls > 1 {
		return 0, f.err
	}
	return len(p), nil
}
