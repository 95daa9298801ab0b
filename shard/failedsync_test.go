package shard

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"stockade/shard/simdisk"
)

// A sync that failed leaves the last batch readable and not on the disk, where no
// later sync puts it. Whoever starts again on such a log counts it as stored, and
// must not lose it to a power failure: neither when it went on with the log, nor when
// it only told its leader what it has.
func TestLogAfterAFailedSync(t *testing.T) {
	t.Run("that went on", func(t *testing.T) { testFailedSync(t, 3) })
	t.Run("that did not", func(t *testing.T) { testFailedSync(t, 2) })
}

// testFailedSync has a log with one entry, another one whose sync fails, and after a
// restart those up to last.
func testFailedSync(t *testing.T, last uint64) {
	dir, after := t.TempDir(), t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "replica"), 0o700))
	disk := simdisk.New(1, func() time.Duration { return 0 })
	s := openOn(t, disk, dir)
	check(t, s.StoreLogs(kilobyte(1)))
	disk.Fail(true)
	if err := s.StoreLogs(kilobyte(2)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("store with a failing sync: %v", err)
	}
	check(t, s.Close())
	disk.Fail(false)

	s = openOn(t, disk, dir)
	if found, err := s.LastIndex(); err != nil || found != 2 {
		t.Fatalf("the log ends with entry %d, %v: the case is not there any more", found, err)
	}
	for index := uint64(3); index <= last; index++ {
		check(t, s.StoreLogs(kilobyte(index)))
	}
	check(t, s.Close())
	disk.PowerOff()
	copyDir(t, dir, after)
	_, err := disk.Lose(dir, after, simdisk.Nothing)
	check(t, err)

	s = openOn(t, simdisk.New(1, func() time.Duration { return 0 }), after)
	if found, err := s.LastIndex(); err != nil || found != last {
		t.Errorf("after a power failure the log ends with entry %d, not %d (%v)", found, last, err)
	}
	check(t, s.Close())
}

// openOn opens the log of a replica in dir on a disk.
func openOn(t *testing.T, disk *simdisk.Disk, dir string) logStore {
	t.Helper()
	how := testLog(LogStoreWAL, testSegment)
	how.files = disk
	s, err := openLogStore(how, filepath.Join(dir, "replica"), newRaftLogger(testLogger(t)))
	check(t, err)
	return s
}

// kilobyte is one entry.
func kilobyte(index uint64) []*raft.Log {
	return []*raft.Log{{Index: index, Term: 1, Data: make([]byte, 1000)}}
}
