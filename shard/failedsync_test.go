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
// later sync puts it. Whoever starts again on such a log, and goes on with it, must
// not lose it to a power failure.
func TestLogAfterAFailedSync(t *testing.T) {
	dir, after := t.TempDir(), t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "replica"), 0o700))
	disk := simdisk.New(1, func() time.Duration { return 0 })
	open := func(dir string) logStore {
		t.Helper()
		how := testLog(LogStoreWAL, testSegment)
		how.files = disk
		s, err := openLogStore(how, filepath.Join(dir, "replica"), newRaftLogger(testLogger(t)))
		check(t, err)
		return s
	}
	entry := func(index uint64) []*raft.Log {
		return []*raft.Log{{Index: index, Term: 1, Data: make([]byte, 1000)}}
	}

	s := open(dir)
	check(t, s.StoreLogs(entry(1)))
	disk.Fail(true)
	if err := s.StoreLogs(entry(2)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("store with a failing sync: %v", err)
	}
	check(t, s.Close())
	disk.Fail(false)

	s = open(dir)
	last, err := s.LastIndex()
	check(t, err)
	if last != 2 {
		t.Fatalf("the log ends with entry %d: the case is not there any more", last)
	}
	check(t, s.StoreLogs(entry(3)))
	check(t, s.Close())
	disk.PowerOff()
	copyDir(t, dir, after)
	_, err = disk.Lose(dir, after, simdisk.Nothing)
	check(t, err)

	disk = simdisk.New(1, func() time.Duration { return 0 })
	s = open(after)
	if last, err = s.LastIndex(); err != nil || last != 3 {
		t.Errorf("after a power failure the log ends with entry %d, %v", last, err)
	}
	check(t, s.Close())
}
