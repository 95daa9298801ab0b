// Package fuzzing measures what decoders take from the heap, so that fuzz targets also
// notice one that believes a length before it has seen as many bytes. Only tests use it.
package fuzzing

import (
	"runtime"
	"testing"
)

// Allocated is how many bytes a call takes from the heap, freed or not. What other
// goroutines take meanwhile is counted as well.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// InProportion calls f, which decodes the input, and fails the test when that takes more
// from the heap than perByte for each byte of the input, and always in any case.
func InProportion(t testing.TB, input []byte, perByte, always uint64, f func()) {
	t.Helper()
	size := uint64(len(input)) // f may change what input stands for
	if took, most := Allocated(f), size*perByte+always; took > most {
		t.Errorf("%d bytes were taken from the heap for %d bytes of input: at most %d are in proportion", took, size, most)
	}
}
