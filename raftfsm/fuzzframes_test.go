package raftfsm

import (
	"bytes"
	"testing"

	"stockade/bench/fuzzing"
)

// The most that reading frames may take: as much as one may claim to have, which is read
// before its checksum is looked at, a frame as they are written, and some copies of the
// content on the way to its length.
const framesPerByte, framesAlways = 8, maxFrame + 2*writeFrame

// FuzzFrames reads what claims to be checksummed frames. What is taken is what was
// once written.
func FuzzFrames(f *testing.F) {
	for _, size := range []int{0, 10, writeFrame + 1} {
		f.Add(framed(f, make([]byte, size)))
	}
	f.Add([]byte{frameData, 255, 255, 255, 255, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var content []byte
		var err error
		fuzzing.InProportion(t, data, framesPerByte, framesAlways, func() { content, err = unframed(bytes.NewReader(data)) })
		if err != nil {
			return
		}
		again, err := unframed(bytes.NewReader(framed(t, content)))
		if err != nil || !bytes.Equal(again, content) {
			t.Errorf("%x came back as %x (%v)", content, again, err)
		}
	})
}
