package raftfsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stockade/allocator"
	"stockade/bench/fuzzing"
)

// update writes the fixtures of the formats instead of reading them. A format
// that was released is never written again: it gets a new version and file.
var update = flag.Bool("update", false, "write testdata/*-v1.bin")

// encode makes an entry of some commands.
func encode(stamp allocator.Millis, commands ...[]byte) []byte {
	var e EntryEncoder
	e.Begin(stamp)
	for _, c := range commands {
		e.Add(c)
	}
	return e.Finish()
}

// decodeAll decodes an entry with all its commands.
func decodeAll(t *testing.T, b []byte) (allocator.Millis, [][]byte) {
	t.Helper()
	e, err := DecodeEntry(b)
	if err != nil {
		t.Fatal(err)
	}
	var commands [][]byte
	for c, ok := e.Next(); ok; c, ok = e.Next() {
		commands = append(commands, c)
	}
	if len(commands) != e.Count {
		t.Fatalf("entry says %d commands and has %d", e.Count, len(commands))
	}
	return e.Stamp, commands
}

// resealed is an entry with a change and a checksum that fits it.
func resealed(entry []byte, change func([]byte)) []byte {
	b := bytes.Clone(entry)
	change(b)
	binary.LittleEndian.PutUint32(b[entryChecksumAt:], entryChecksum(b))
	return b
}

// fixture reads a file from testdata, or writes it with -update.
func fixture(t *testing.T, name string, current []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, current, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEntryRoundTrip(t *testing.T) {
	long := bytes.Repeat([]byte{7}, allocator.MaxCommandLen)
	for _, commands := range [][][]byte{
		{},
		{{1}},
		{{1}, {2, 3}, long, {4}},
	} {
		stamp, got := decodeAll(t, encode(1234567, commands...))
		if stamp != 1234567 || len(got) != len(commands) {
			t.Fatalf("stamp %d and %d commands came back as %d and %d", 1234567, len(commands), stamp, len(got))
		}
		for i := range got {
			if !bytes.Equal(got[i], commands[i]) {
				t.Errorf("command %d came back changed", i)
			}
		}
	}
}

func TestEntryEncoderKeepsNothingOfAFinishedEntry(t *testing.T) {
	var e EntryEncoder
	e.Begin(1)
	e.Add([]byte("first"))
	first := e.Finish()
	saved := bytes.Clone(first)
	e.Begin(2)
	e.Add([]byte("other"))
	e.Add([]byte("again"))
	e.Finish()
	if !bytes.Equal(first, saved) {
		t.Fatal("an entry changed when the next was made")
	}
}

func TestEntryDecodingTakesNoMemory(t *testing.T) {
	b := encode(1, []byte("one"), []byte("two"))
	allocs := testing.AllocsPerRun(100, func() {
		if err := walkEntry(b); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Fatalf("%v allocations", allocs)
	}
}

func TestEntryDamageIsDetected(t *testing.T) {
	good := encode(99, []byte("alpha"), []byte("beta"))
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := DecodeEntry(bad); !errors.Is(err, ErrEntryDamaged) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
		if _, err := DecodeEntry(good[:i]); !errors.Is(err, ErrEntryDamaged) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := DecodeEntry(append(bytes.Clone(good), 0)); !errors.Is(err, ErrEntryDamaged) {
		t.Fatalf("a byte too many: %v", err)
	}
}

// What a writer with a bug could make, under a checksum that is right.
func TestEntryLengthsAreChecked(t *testing.T) {
	good := encode(99, []byte("alpha"), []byte("beta"))
	second := entryHeaderLen + entryPrefixLen + len("alpha")
	put := binary.LittleEndian.PutUint32
	for name, change := range map[string]func([]byte){
		"one command fewer than counted": func(b []byte) { put(b[entryCountAt:], 3) },
		"one command more than counted":  func(b []byte) { put(b[entryCountAt:], 1) },
		"four billion commands":          func(b []byte) { put(b[entryCountAt:], 1<<32-1) },
		"an empty command":               func(b []byte) { put(b[second:], 0) },
		"a command beyond the end":       func(b []byte) { put(b[second:], 5) },
		"a command of four billion":      func(b []byte) { put(b[second:], 1<<32-1) },
		"a short last command":           func(b []byte) { put(b[second:], 3) },
	} {
		if _, err := DecodeEntry(resealed(good, change)); !errors.Is(err, ErrEntryDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEntryVersion(t *testing.T) {
	good := encode(1, []byte("x"))
	newer := resealed(good, func(b []byte) { b[1] = entryVersion + 1 })
	_, err := DecodeEntry(newer)
	if !errors.Is(err, ErrEntryVersion) || !strings.Contains(err.Error(), "written by a newer Stockade; upgrade this node") {
		t.Errorf("a newer version: %v", err)
	}
	_, err = DecodeEntry(resealed(good, func(b []byte) { b[1] = 0 }))
	if !errors.Is(err, ErrEntryVersion) || strings.Contains(err.Error(), "newer") {
		t.Errorf("version 0: %v", err)
	}
}

func TestEntryFixtureOfVersion1(t *testing.T) {
	commands := [][]byte{
		(&allocator.Audit{Applied: 3, Hash: 4}).AppendTo(nil),
		(&allocator.SetPaused{SKU: "tee-black-m", Paused: true}).AppendTo(nil),
	}
	const stamp = 1_767_225_600_123
	b := fixture(t, "entry-v1.bin", encode(stamp, commands...))
	got, decoded := decodeAll(t, b)
	if got != stamp || len(decoded) != len(commands) {
		t.Fatalf("stamp %d, %d commands", got, len(decoded))
	}
	for i := range commands {
		if !bytes.Equal(decoded[i], commands[i]) {
			t.Errorf("command %d is %x, want %x", i, decoded[i], commands[i])
		}
		if err := allocator.ValidateCommand(decoded[i]); err != nil {
			t.Errorf("command %d: %v", i, err)
		}
	}
}

// walkEntry decodes an entry and takes its commands one by one.
func walkEntry(b []byte) error {
	e, err := DecodeEntry(b)
	for _, ok := e.Next(); ok; _, ok = e.Next() {
	}
	return err
}

// Whatever decodes is what the encoder would have written.
func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add(encode(1), false)
	f.Add(encode(1<<40, []byte("alpha"), []byte("beta")), true)
	f.Fuzz(func(t *testing.T, b []byte, reseal bool) {
		if reseal && len(b) >= entryHeaderLen {
			b = resealed(b, func(b []byte) { b[0], b[1] = entryMagic, entryVersion })
		}
		var err error
		// Commands are parts of the entry: only an error takes memory.
		fuzzing.InProportion(t, b, 0, 32<<10, func() { err = walkEntry(b) })
		if err != nil {
			if !errors.Is(err, ErrEntryDamaged) && !errors.Is(err, ErrEntryVersion) {
				t.Fatalf("neither damage nor version: %v", err)
			}
			return
		}
		stamp, commands := decodeAll(t, b)
		if again := encode(stamp, commands...); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes and encodes to %x", b, again)
		}
	})
}
