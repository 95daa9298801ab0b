package fuzzing_test

import (
	"encoding/binary"
	"testing"

	"stockade/bench/fuzzing"
)

// witness is a test that notes whether it has failed.
type witness struct {
	testing.TB
	failed bool
}

func (w *witness) Helper()               {}
func (w *witness) Errorf(string, ...any) { w.failed = true }

var sink []byte // keeps what is allocated off the stack

// believing decodes a length and as many bytes, and looks too late whether there are so
// many; careful looks first.
func believing(input []byte) {
	sink = make([]byte, binary.LittleEndian.Uint32(input))
	copy(sink, input[4:])
}

func careful(input []byte) {
	if n := int(binary.LittleEndian.Uint32(input)); n <= len(input)-4 {
		sink = append([]byte(nil), input[4:4+n]...)
	}
}

// TestInProportion: a length of 16 MiB that is believed is noticed, with bounds as fuzz
// targets have them.
func TestInProportion(t *testing.T) {
	lie := binary.LittleEndian.AppendUint32(nil, 1<<24)
	truth := append(binary.LittleEndian.AppendUint32(nil, 1<<20), make([]byte, 1<<20)...)
	for _, c := range []struct {
		name   string
		input  []byte
		decode func([]byte)
		fails  bool
	}{
		{"a length that is believed", lie, believing, true},
		{"a length that is looked at", lie, careful, false},
		{"as many bytes as it says", truth, careful, false},
		{"the same, believed", truth, believing, false},
	} {
		w := &witness{TB: t}
		fuzzing.InProportion(w, c.input, 2, 1<<20, func() { c.decode(c.input) })
		if w.failed != c.fails {
			t.Errorf("%s: failed %v", c.name, w.failed)
		}
	}
}

func TestAllocated(t *testing.T) {
	const size = 1 << 20
	if took := fuzzing.Allocated(func() { sink = make([]byte, size) }); took < size || took > 2*size {
		t.Errorf("%d bytes taken, want about %d", took, size)
	}
	if took := fuzzing.Allocated(func() {}); took > size {
		t.Errorf("%d bytes taken for nothing", took)
	}
}
