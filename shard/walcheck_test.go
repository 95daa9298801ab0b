package shard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// walWith makes a wal with entries of one write each, all in one segment, and
// returns its directory and the whole content of the segment.
func walWith(t *testing.T, entries uint64) (dir, file string, content []byte) {
	t.Helper()
	dir = t.TempDir()
	g := mustOpenStore(t, LogStoreWAL, dir)
	fill(g, 1, entries, 100)
	closeStore(t, g)
	file = logFile(t, LogStoreWAL, dir)
	return dir, file, readAll(t, file)
}

// The rule on every byte of a small log, for the store itself: whatever single
// byte is damaged, either the store refuses, or it has all entries but those of
// the last batch, which can't be told from a torn one.
func TestEveryDamagedByteOfAWAL(t *testing.T) {
	const entries = 8
	dir, file, whole := walWith(t, entries)
	used := walkSegment(whole).end
	lastBatch := lastCommitBefore(whole, used)
	for at := range used {
		content := bytes.Clone(whole)
		content[at] ^= 0xff
		if err := os.WriteFile(file, content, fileMode); err != nil {
			t.Fatal(err)
		}
		err := checkWAL(filepath.Join(dir, walDir), dir, fs.New())
		var damage *DamageError
		switch {
		case at < lastBatch && !errors.As(err, &damage):
			t.Fatalf("byte %d of %d: %v, want a DamageError", at, used, err)
		case at >= lastBatch && err != nil:
			t.Fatalf("byte %d of %d is in the last batch: %v", at, used, err)
		}
	}
}

// lastCommitBefore is the end of the last batch but one.
func lastCommitBefore(data []byte, end int) (before int) {
	for at := walHeaderLen; at < end; {
		typ, size, _ := frameAt(data, at)
		at += size
		if typ == walCommit && at < end {
			before = at
		}
	}
	return before
}

// raft-wal alone takes damage in the middle for the end and drops acknowledged
// entries without an error. If this fails the library has learned better, and
// checkWAL may be let go.
func TestWALAloneLosesEntries(t *testing.T) {
	dir, file, content := walWith(t, 20)
	damageFrameOf(t, content, 5)
	if err := os.WriteFile(file, content, fileMode); err != nil {
		t.Fatal(err)
	}
	w, err := wal.Open(filepath.Join(dir, walDir), wal.WithSegmentSize(testSegment))
	if err != nil {
		t.Fatalf("it refuses: %v", err)
	}
	defer w.Close()
	if last, _ := w.LastIndex(); last >= 20 {
		t.Fatalf("it has entries up to %d", last)
	}
}

// damageFrameOf breaks the header of the entry frame with this number.
func damageFrameOf(t *testing.T, content []byte, number int) {
	t.Helper()
	seen := 0
	for at := walHeaderLen; ; {
		typ, size, ok := frameAt(content, at)
		if !ok {
			t.Fatal("no such entry")
		}
		if typ == walEntry {
			if seen++; seen == number {
				content[at] = 0x77
				return
			}
		}
		at += size
	}
}

// A torn tail is cut wherever the write broke off, and nothing else is lost.
func TestTornTailIsCut(t *testing.T) {
	const entries = 8
	dir, file, whole := walWith(t, entries)
	used := walkSegment(whole).end
	for at := lastCommitBefore(whole, used); at < used; at++ {
		content := bytes.Clone(whole)
		clear(content[at:]) // as a crash in the middle of the last write leaves it
		if err := os.WriteFile(file, content, fileMode); err != nil {
			t.Fatal(err)
		}
		g, err := openForTest(t, LogStoreWAL, dir)
		if err != nil {
			t.Fatalf("broken off at byte %d of %d: %v", at, used, err)
		}
		if last := lastIndex(t, g); last != entries-1 {
			t.Fatalf("broken off at byte %d: entries up to %d", at, last)
		}
		closeStore(t, g)
	}
}

// Pages of the last write may reach the disk in any order.
func TestTornTailWithHoles(t *testing.T) {
	dir := t.TempDir()
	g := mustOpenStore(t, LogStoreWAL, dir)
	fill(g, 1, 3, 100)
	var batch []*raft.Log
	for i := uint64(4); i < 10; i++ {
		batch = append(batch, entry(i, string(bytes.Repeat([]byte{1, 0, 0, 0}, 700)))) // looks like frames
	}
	_ = g.StoreLogs(batch)
	closeStore(t, g)
	file := logFile(t, LogStoreWAL, dir)
	whole := readAll(t, file)
	begin, end := lastCommitBefore(whole, walkSegment(whole).end), walkSegment(whole).end
	for page := begin / 512; page < end/512; page++ {
		content := bytes.Clone(whole)
		clear(content[max(begin, page*512) : (page+1)*512])
		if err := os.WriteFile(file, content, fileMode); err != nil {
			t.Fatal(err)
		}
		g, err := openForTest(t, LogStoreWAL, dir)
		if err != nil {
			t.Fatalf("without page %d: %v", page, err)
		}
		if last := lastIndex(t, g); last != 3 {
			t.Fatalf("without page %d: entries up to %d", page, last)
		}
		closeStore(t, g)
	}
}

// A segment that was finished is verified as a whole, and must be there.
func TestDamagedOlderSegment(t *testing.T) {
	source := t.TempDir()
	g := mustOpenStore(t, LogStoreWAL, source)
	fill(g, 1, 300, 1000)
	closeStore(t, g)
	damages := map[string]func(t *testing.T, file string){
		"missing":   func(t *testing.T, file string) { check(t, os.Remove(file)) },
		"truncated": func(t *testing.T, file string) { check(t, os.Truncate(file, 20_000)) },
		"index": func(t *testing.T, file string) {
			content := readAll(t, file)
			content[walkSegment(content).indexStart+9] ^= 1
			check(t, os.WriteFile(file, content, fileMode))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			copyDir(t, source, dir)
			file := logFile(t, LogStoreWAL, dir)
			damage(t, file)
			_, err := openForTest(t, LogStoreWAL, dir)
			var d *DamageError
			if !errors.As(err, &d) || d.Path != file {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Segments whose metadata is lost are not deleted as left-overs.
func TestLostMetadata(t *testing.T) {
	dir, file, _ := walWith(t, 5)
	check(t, os.Remove(filepath.Join(dir, walDir, metadb.FileName)))
	_, err := openForTest(t, LogStoreWAL, dir)
	var d *DamageError
	if !errors.As(err, &d) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal("the segment is gone")
	}
}

// sealTail brings a wal into the state of a crash between the end of a segment
// and the note of it.
func sealTail(t *testing.T, dir string, index uint64) {
	t.Helper()
	var meta metadb.BoltMetaDB
	state, err := meta.Load(dir)
	check(t, err)
	tail, err := segment.NewFiler(dir, fs.New()).RecoverTail(state.Segments[len(state.Segments)-1])
	check(t, err)
	l := entry(index, string(make([]byte, testSegment)))
	l.Extensions = []byte{0, 0, 0, 0}
	var b bytes.Buffer
	check(t, (&wal.BinaryCodec{}).Encode(l, &b))
	check(t, tail.Append([]types.LogEntry{{Index: index, Data: b.Bytes()}}))
	if sealed, _, err := tail.Sealed(); !sealed || err != nil {
		t.Fatal("the segment is not sealed", err)
	}
	check(t, tail.Close())
	check(t, meta.Close())
}

// raft-wal v0.4.2 opens such a log and then refuses every append.
func TestInterruptedRotation(t *testing.T) {
	dir, _, _ := walWith(t, 10)
	sealTail(t, filepath.Join(dir, walDir), 11)
	t.Run("library", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "copy")
		copyDir(t, filepath.Join(dir, walDir), other)
		w, err := wal.Open(other, wal.WithSegmentSize(testSegment))
		check(t, err)
		defer w.Close()
		if err := w.StoreLog(entry(12, "")); !errors.Is(err, wal.ErrSealed) {
			t.Fatalf("the library appends by now (%v): finishRotation may be let go", err)
		}
	})
	goesOn(t, dir, 12)
}

// goesOn opens a wal, appends from an entry on, opens it again and reads all.
func goesOn(t *testing.T, dir string, next uint64) {
	t.Helper()
	check(t, checkWAL(filepath.Join(dir, walDir), dir, fs.New()))
	s, err := openLogStore(testLog(LogStoreWAL, testSegment), dir, newRaftLogger(testLogger(t)))
	check(t, err)
	for i := next; i < 20; i++ {
		check(t, s.StoreLogs([]*raft.Log{entry(i, "x")}))
	}
	check(t, s.Close())
	check(t, checkWAL(filepath.Join(dir, walDir), dir, fs.New()))
	s, err = openLogStore(testLog(LogStoreWAL, testSegment), dir, newRaftLogger(testLogger(t)))
	check(t, err)
	defer s.Close()
	for i := uint64(1); i < 20; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Index != i {
			t.Fatal(fmt.Errorf("entry %d: %w", i, err))
		}
	}
}

// The last batch of a segment has the index before its commit frame. raft-wal
// v0.4.2 takes an index without a commit, which a full disk or a crash leaves
// behind, for the end of the segment, and refuses every append.
func TestTornLastBatchOfASegment(t *testing.T) {
	dir, file, _ := walWith(t, 10)
	sealTail(t, filepath.Join(dir, walDir), 11)
	content := readAll(t, file)
	end := walkSegment(content).end
	for name, lost := range map[string][2]int{
		"the commit frame":        {end - walFrameLen, end},
		"a part of the index too": {end - walFrameLen - 16, end},
		"the file ends there":     {end - walFrameLen, len(content)},
	} {
		t.Run(name, func(t *testing.T) {
			torn := filepath.Join(t.TempDir(), "copy")
			copyDir(t, dir, torn)
			file := logFile(t, LogStoreWAL, torn)
			b := bytes.Clone(content)
			clear(b[lost[0]:lost[1]])
			if lost[1] == len(b) {
				b = b[:lost[0]]
			}
			check(t, os.WriteFile(file, b, fileMode))
			w, err := wal.Open(filepath.Join(torn, walDir), wal.WithSegmentSize(testSegment))
			check(t, err)
			if err := w.StoreLog(entry(11, "")); !errors.Is(err, wal.ErrSealed) {
				t.Errorf("the library appends by now (%v): cut may be let go", err)
			}
			check(t, w.Close())
			goesOn(t, torn, 11)
		})
	}
}
