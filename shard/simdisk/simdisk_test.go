package simdisk

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft-wal/types"

	"stockade/shard/bubble"
)

const fileName = "segment.wal"

// rig is a disk with one file.
type rig struct {
	t    *testing.T
	dir  string
	disk *Disk
	file types.WritableFile
}

func newRig(t *testing.T, seed uint64) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), disk: New(seed, func() time.Duration { return 0 })}
	f, err := r.disk.Create(r.dir, fileName, 4*sector)
	r.must(err)
	r.file = f
	t.Cleanup(func() { _ = f.Close() })
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) write(b byte, at int64, length int) {
	r.t.Helper()
	_, err := r.file.WriteAt(bytes.Repeat([]byte{b}, length), at)
	r.must(err)
}

// crash turns the power off and returns what is left of the file; nil: nothing.
func (r *rig) crash(left Leftover) []byte {
	r.t.Helper()
	to := r.t.TempDir()
	content, err := os.ReadFile(filepath.Join(r.dir, fileName))
	r.must(err)
	r.must(os.WriteFile(filepath.Join(to, fileName), content, 0o600))
	r.disk.PowerOff()
	_, err = r.disk.Lose(r.dir, to, left)
	r.must(err)
	content, err = os.ReadFile(filepath.Join(to, fileName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	r.must(err)
	return content
}

func TestWhatIsSyncedStays(t *testing.T) {
	r := newRig(t, 1)
	r.write('a', 0, 700)
	r.must(r.file.Sync())
	r.write('b', 600, 700)
	got := r.crash(Nothing)
	if want := bytes.Repeat([]byte{'a'}, 700); !bytes.Equal(got[:700], want) || got[700] != 0 {
		t.Errorf("left: %q", got[:1300])
	}
}

func TestWhatIsNotSyncedMayStay(t *testing.T) {
	r := newRig(t, 1)
	r.must(r.file.Sync())
	r.write('b', 0, 700)
	if got := r.crash(Everything); !bytes.Equal(got[:700], bytes.Repeat([]byte{'b'}, 700)) {
		t.Errorf("left: %q", got[:700])
	}
}

func TestUnsyncedNameIsLost(t *testing.T) {
	r := newRig(t, 1)
	r.write('a', 0, 10)
	if got := r.crash(Nothing); got != nil {
		t.Errorf("the file is still there: %q", got)
	}
}

// Some of the sectors of a write that was not synced make it, each as a whole.
func TestTornWrite(t *testing.T) {
	torn := 0
	for seed := range uint64(20) {
		r := newRig(t, seed)
		r.must(r.file.Sync())
		r.write('b', 0, 4*sector)
		got := r.crash(Sectors)
		var made int
		for s := range 4 {
			part := got[s*sector : (s+1)*sector]
			switch {
			case bytes.Equal(part, bytes.Repeat([]byte{'b'}, sector)):
				made++
			case !bytes.Equal(part, make([]byte, sector)):
				t.Fatalf("a sector is torn: %q", part)
			}
		}
		if made > 0 && made < 4 {
			torn++
		}
	}
	if torn == 0 {
		t.Error("no write was torn")
	}
}

// What a failed sync should have written is not written by the next one, unless
// somebody writes it again.
func TestFailedSyncForgets(t *testing.T) {
	r := newRig(t, 1)
	r.must(r.file.Sync())
	r.write('a', 0, sector)
	r.write('a', sector, sector)
	r.disk.Fail(true)
	if err := r.file.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	r.disk.Fail(false)
	r.write('b', sector, 1)
	r.must(r.file.Sync())
	got := r.crash(Everything)
	if got[0] != 0 || got[sector] != 'b' || got[sector+1] != 'a' {
		t.Errorf("left: %q and %q", got[0], got[sector:sector+2])
	}
}

func TestFullDiskTakesPart(t *testing.T) {
	r := newRig(t, 1)
	r.disk.Fill(true)
	n, err := r.file.WriteAt(make([]byte, 2*sector), 100)
	if n != sector-100 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := r.disk.Create(r.dir, "other.wal", 10); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	r.disk.Fill(false)
	r.write('a', 0, 2*sector)
}

func TestStalledSync(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.disk.Stall(true)
		synced := make(chan error, 1)
		go func() { synced <- r.file.Sync() }()
		synctest.Wait()
		select {
		case err := <-synced:
			t.Errorf("it did not wait: %v", err)
		default:
		}
		r.disk.PowerOff()
		if err := <-synced; !errors.Is(err, syscall.EIO) {
			t.Errorf("without power: %v", err)
		}
	})
}
