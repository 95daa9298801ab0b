package shard

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/prometheus/client_golang/prometheus"
)

var bothKinds = []LogStoreKind{LogStoreWAL, LogStoreBolt}

const testSegment = 64 << 10

// openForTest opens a store as a replica does: checked, verified and guarded.
func openForTest(t testing.TB, kind LogStoreKind, dir string) (*guard, error) {
	t.Helper()
	return openBehind(t, kind, dir, 0)
}

// openBehind opens a store of a replica whose newest snapshot ends with an entry.
func openBehind(t testing.TB, kind LogStoreKind, dir string, snapshot uint64) (*guard, error) {
	t.Helper()
	if err := verifyUnopened(kind, dir, snapshot); err != nil {
		return nil, err
	}
	s, err := openLogStore(testLog(kind, testSegment), dir, newRaftLogger(testLogger(t)))
	if err != nil {
		return nil, err
	}
	if err := verifyLog(s, dir, snapshot); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return newGuard(s, guardConfig{
		Dir: dir, Deadline: time.Minute, Fatal: func(err error) { t.Errorf("fatal: %v", err) },
		Seconds: prometheus.NewHistogram(prometheus.HistogramOpts{}), Settled: func() (snapshot, commit uint64) { return 0, 0 },
	}), nil
}

func mustOpenStore(t testing.TB, kind LogStoreKind, dir string) *guard {
	t.Helper()
	g, err := openForTest(t, kind, dir)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// fill appends entries first to last, one write each.
func fill(g *guard, first, last uint64, size int) {
	for i := first; i <= last; i++ {
		_ = g.StoreLog(entry(i, string(bytes.Repeat([]byte{byte(i)}, size))))
	}
}

func closeStore(t testing.TB, g *guard) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

func lastIndex(t testing.TB, g *guard) uint64 {
	t.Helper()
	last, err := g.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// Both stores keep what they were given, over a change of segments, a cut at
// either end and a restart.
func TestLogStoreKeeps(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			g := mustOpenStore(t, kind, dir)
			fill(g, 1, 300, 1000) // several segments
			_ = g.DeleteRange(251, 300)
			fill(g, 251, 260, 500)
			_ = g.DeleteRange(1, 99)
			_ = g.SetUint64([]byte("CurrentTerm"), 3)
			closeStore(t, g)

			if _, err := openBehind(t, kind, dir, 98); err == nil {
				t.Fatal("entry 99 is in neither snapshot nor log")
			}
			g, err := openBehind(t, kind, dir, 99)
			check(t, err)
			defer closeStore(t, g)
			first, err := g.FirstIndex()
			if err != nil || first != 100 || lastIndex(t, g) != 260 {
				t.Fatalf("it has %d to %d: %v", first, lastIndex(t, g), err)
			}
			var l raft.Log
			if err := g.GetLog(255, &l); err != nil || len(l.Data) != 500 {
				t.Fatal(err, len(l.Data))
			}
			if err := g.GetLog(99, &l); !errors.Is(err, raft.ErrLogNotFound) {
				t.Fatalf("entry 99: %v", err)
			}
			if term, err := g.GetUint64([]byte("CurrentTerm")); term != 3 || err != nil {
				t.Fatal(term, err)
			}
		})
	}
}

// Hazard: Raft compares the text of the error for a missing key. The wal gives
// no error at all.
func TestMissingKeyIsExactlyNotFound(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			g := mustOpenStore(t, kind, t.TempDir())
			defer closeStore(t, g)
			if _, err := g.Get([]byte("LastVoteCand")); err == nil || err.Error() != "not found" {
				t.Errorf("Get: %v", err)
			}
			if _, err := g.GetUint64([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
				t.Errorf("GetUint64: %v", err)
			}
		})
	}
}

// logFile is the file with most of a store's entries.
func logFile(t *testing.T, kind LogStoreKind, dir string) string {
	t.Helper()
	if kind == LogStoreBolt {
		return filepath.Join(dir, boltFile)
	}
	files, err := filepath.Glob(filepath.Join(dir, walDir, "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatal("no segments", err)
	}
	return files[0]
}

// Hazard: damage in the middle of a log taken for its end loses acknowledged
// writes. Each bit flipped in the first of several entries' payloads is found
// when the store is opened, and the message says where and how to repair.
func TestFlippedBitIsFound(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			source := t.TempDir()
			g := mustOpenStore(t, kind, source)
			fill(g, 1, 200, 500)
			closeStore(t, g)
			for _, number := range []byte{1, 57, 120} {
				dir := filepath.Join(t.TempDir(), "copy")
				copyDir(t, source, dir)
				path := logFile(t, kind, dir)
				content := readAll(t, path)
				at := bytes.Index(content, bytes.Repeat([]byte{number}, 400))
				if at < 0 {
					path = laterFile(t, dir, number)
					content = readAll(t, path)
					at = bytes.Index(content, bytes.Repeat([]byte{number}, 400))
				}
				content[at+200] ^= 0x10
				if err := os.WriteFile(path, content, fileMode); err != nil {
					t.Fatal(err)
				}
				_, err := openForTest(t, kind, dir)
				if err == nil {
					t.Fatalf("entry %d: the damage was not found", number)
				}
				var damage *DamageError
				if !errors.As(err, &damage) {
					t.Fatalf("entry %d: %v is no DamageError", number, err)
				}
				says(t, err.Error(), dir, "is damaged", "Nothing was changed", "To repair it", "move the directory")
			}
		})
	}
}

// laterFile is the segment that holds the entry with this number.
func laterFile(t *testing.T, dir string, number byte) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, walDir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if bytes.Contains(readAll(t, f), bytes.Repeat([]byte{number}, 400)) {
			return f
		}
	}
	t.Fatalf("entry %d is nowhere", number)
	return ""
}

// A file that lost its second half has lost acknowledged entries. Bolt finds
// that out by itself or by a fault of the mapped file, which must not end the
// process without a word.
func TestTruncatedBolt(t *testing.T) {
	source := t.TempDir()
	g := mustOpenStore(t, LogStoreBolt, source)
	fill(g, 1, 400, 500)
	closeStore(t, g)
	size := int64(len(readAll(t, filepath.Join(source, boltFile))))
	for _, part := range []int64{1, 2, 3, 5, 7} {
		t.Run(fmt.Sprintf("%d of 8", part), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			copyDir(t, source, dir)
			if err := os.Truncate(filepath.Join(dir, boltFile), size*part/8); err != nil {
				t.Fatal(err)
			}
			opened, err := openForTest(t, LogStoreBolt, dir)
			if err == nil {
				// Whole only if nothing was in what is gone.
				if last := lastIndex(t, opened); last != 400 {
					t.Errorf("opened with entries up to %d of 400", last)
				}
				closeStore(t, opened)
				return
			}
			t.Log(err)
		})
	}
}

// The metadata of the wal is a bolt file too, with votes in it.
func TestDamagedMetadataOfWAL(t *testing.T) {
	dir, _, _ := walWith(t, 5)
	file := filepath.Join(dir, walDir, metadb.FileName)
	whole := readAll(t, file)
	for page := 0; page+4096 <= len(whole); page += 4096 {
		content := bytes.Clone(whole)
		clear(content[page : page+4096])
		check(t, os.WriteFile(file, content, fileMode))
		opened, err := openForTest(t, LogStoreWAL, dir)
		if err != nil {
			says(t, err.Error(), "is damaged", "To repair it")
			continue
		}
		if last := lastIndex(t, opened); last != 5 {
			t.Errorf("page at %d: opened with entries up to %d", page, last)
		}
		closeStore(t, opened)
	}
}

// Whatever page of a bolt file is damaged: the store refuses, or it has every
// entry. It never ends the process by a panic.
func TestDamagedPagesOfBolt(t *testing.T) {
	const entries = 120
	source := t.TempDir()
	g := mustOpenStore(t, LogStoreBolt, source)
	fill(g, 1, entries, 300)
	_ = g.DeleteRange(1, 20) // as if behind a snapshot; pages that were used and are free
	closeStore(t, g)
	whole := readAll(t, filepath.Join(source, boltFile))
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for page := 0; page+4096 <= len(whole); page += 4096 {
		for _, damage := range []func(b []byte){
			func(b []byte) { clear(b) },
			func(b []byte) { b[random.IntN(16)] ^= byte(1 << random.IntN(8)) },         // the page's header
			func(b []byte) { b[16+random.IntN(240)] ^= byte(1 + random.IntN(255)) },    // its table of elements
			func(b []byte) { copy(b, whole[(page+8192)%len(whole)/4096*4096:][:512]) }, // a misplaced write
		} {
			content := bytes.Clone(whole)
			damage(content[page : page+4096])
			dir := t.TempDir()
			check(t, os.WriteFile(filepath.Join(dir, boltFile), content, fileMode))
			opened, err := openBehind(t, LogStoreBolt, dir, 20)
			if err != nil {
				refused++
				continue
			}
			first, _ := opened.FirstIndex()
			if last := lastIndex(t, opened); first != 21 || last != entries {
				t.Errorf("page at %d: opened with entries %d to %d", page, first, last)
			}
			closeStore(t, opened)
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// A damaged meta page would make bolt go back by one transaction. Every byte of
// both is covered.
func TestDamagedMetaOfBolt(t *testing.T) {
	source := t.TempDir()
	g := mustOpenStore(t, LogStoreBolt, source)
	fill(g, 1, 5, 100)
	closeStore(t, g)
	path := filepath.Join(source, boltFile)
	whole := readAll(t, path)
	for _, page := range []int{0, 4096} {
		for i := range boltMetaLen {
			content := bytes.Clone(whole)
			content[page+boltPageHeader+i] ^= 0x40
			check(t, os.WriteFile(path, content, fileMode))
			if err := checkBolt(path); err == nil {
				t.Errorf("byte %d of the meta page at %d", i, page)
			}
		}
	}
}

// testLog are the settings of a log by itself.
func testLog(kind LogStoreKind, segmentSize int) logSettings {
	return Config{LogStore: kind, Storage: Storage{SegmentSize: segmentSize}}.logSettings()
}
