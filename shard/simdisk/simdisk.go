// Package simdisk is a disk for tests that forgets what was not synced when its
// power fails, makes syncs take virtual time, and fails, stalls and fills up when a
// test wants it to.
//
// It lies under the segments of raft-wal, which is where a node keeps what it
// acknowledged. Files are real ones below a directory, so that whatever else reads
// them sees what a process would see: the page cache. What the disk itself has is
// known by what was written since the last sync: for each such sector the disk
// remembers what was there before.
package simdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// sector is what a disk writes as a whole.
const sector = 512

// Errors of a disk, as a kernel would say them.
var (
	// ErrIO is what a failing disk, or one without power, answers.
	ErrIO = fmt.Errorf("the simulated disk: %w", syscall.EIO)
	// ErrFull is what a full disk answers.
	ErrFull = fmt.Errorf("the simulated disk: %w", syscall.ENOSPC)
)

// Disk is one disk. It implements types.VFS; its methods are safe for concurrent
// use.
type Disk struct {
	real     types.VFS
	syncTime func() time.Duration

	mu      sync.Mutex // guards what follows, and is held while a file is changed
	rand    *rand.Rand
	pending map[string]*pending // by path: what is not on the disk yet
	off     bool
	failing bool // syncs
	full    bool
	stalled chan struct{} // closed when syncs go on; nil: they do
}

var _ types.VFS = (*Disk)(nil)

// pending is what of a file is not on the disk.
type pending struct {
	created bool // the file's name is not on the disk either
	sectors map[int64]*unsynced
}

// unsynced is a sector whose content on the disk is not the file's.
type unsynced struct {
	disk  []byte
	dirty bool // the next sync writes it; not so after a sync failed, as with a kernel
}

// New makes a disk whose syncs take what syncTime says, in the time of the test.
// seed decides what a failing power leaves.
func New(seed uint64, syncTime func() time.Duration) *Disk {
	return &Disk{
		real: fs.New(), syncTime: syncTime,
		rand: rand.New(rand.NewPCG(seed, 1)), pending: make(map[string]*pending),
	}
}

// Fail makes syncs fail, or work again. As with a kernel, what a failed sync should
// have written is never written by a later one, though it can be read.
func (d *Disk) Fail(fail bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = fail
}

// Fill makes writes fail for want of room, or work again.
func (d *Disk) Fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// Stall makes syncs take until it is lifted.
func (d *Disk) Stall(stall bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case stall && d.stalled == nil:
		d.stalled = make(chan struct{})
	case !stall && d.stalled != nil:
		close(d.stalled)
		d.stalled = nil
	}
}

// PowerOff makes everything fail from now on. Whoever waits for a sync gets an
// error.
func (d *Disk) PowerOff() {
	d.Stall(false)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// Leftover is how a power failure treats what was not synced.
type Leftover int

// What may be left of writes that were not synced.
const (
	Nothing    Leftover = iota // all of them are lost
	Everything                 // all of them made it
	Sectors                    // some sectors did, in any order: torn writes
	leftovers
)

// Draw draws one of them.
func (d *Disk) Draw() Leftover {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Leftover(d.rand.IntN(int(leftovers)))
}

// Lose makes of to, which is a copy of the directory from that the disk served so
// far, what a power failure leaves. It tells how many sectors were not synced. The
// disk must be off.
func (d *Disk) Lose(from, to string, left Leftover) (lost int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.off {
		return 0, errors.New("the disk still has power")
	}
	for _, path := range slices.Sorted(maps.Keys(d.pending)) {
		name, err := filepath.Rel(from, path)
		if err != nil {
			return lost, err
		}
		lost += len(d.pending[path].sectors)
		if err := d.lose(filepath.Join(to, name), d.pending[path], left); err != nil {
			return lost, err
		}
	}
	return lost, nil
}

// lose puts into one file what the disk has of it, as far as nothing newer made it.
func (d *Disk) lose(path string, p *pending, left Leftover) error {
	if p.created && left == Nothing {
		return os.RemoveAll(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // somebody removed it, not by way of the disk
	}
	if err != nil {
		return err
	}
	for _, at := range slices.Sorted(maps.Keys(p.sectors)) {
		s := p.sectors[at]
		made := s.dirty && (left == Everything || left == Sectors && d.rand.IntN(2) == 0)
		if !made && err == nil {
			_, err = f.WriteAt(s.disk, at)
		}
	}
	return errors.Join(err, f.Close())
}

// Killed is the disk after the process that used it was killed and its directory
// from was copied to: everything can be read that was written, and what the disk has
// of it is what it had. The disk must be off; it is of no use any more.
func (d *Disk) Killed(from, to string) (*Disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.off {
		return nil, errors.New("the disk still has power")
	}
	again := New(d.rand.Uint64(), d.syncTime)
	again.failing, again.full = d.failing, d.full
	for path, p := range d.pending {
		name, err := filepath.Rel(from, path)
		if err != nil {
			return nil, err
		}
		again.pending[filepath.Join(to, name)] = p
	}
	return again, nil
}

// ListDir implements types.VFS.
func (d *Disk) ListDir(dir string) ([]string, error) {
	if d.without() {
		return nil, ErrIO
	}
	return d.real.ListDir(dir)
}

func (d *Disk) without() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

// Create implements types.VFS. The name is durable after the file's first sync.
func (d *Disk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, ErrIO
	}
	if d.full {
		return nil, ErrFull
	}
	f, err := d.real.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	d.pending[path] = &pending{created: true}
	return &file{WritableFile: f, disk: d, path: path}, nil
}

// Delete implements types.VFS: it is durable at once.
func (d *Disk) Delete(dir, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return ErrIO
	}
	delete(d.pending, filepath.Join(dir, name))
	return d.real.Delete(dir, name)
}

// OpenReader implements types.VFS.
func (d *Disk) OpenReader(dir, name string) (types.ReadableFile, error) {
	if d.without() {
		return nil, ErrIO
	}
	return d.real.OpenReader(dir, name)
}

// OpenWriter implements types.VFS.
func (d *Disk) OpenWriter(dir, name string) (types.WritableFile, error) {
	if d.without() {
		return nil, ErrIO
	}
	f, err := d.real.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &file{WritableFile: f, disk: d, path: filepath.Join(dir, name)}, nil
}

// file is an open file.
type file struct {
	types.WritableFile
	disk *Disk
	path string
}

// WriteAt implements io.WriterAt. On a full disk as much is written as fits the
// sector at hand.
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return 0, ErrIO
	}
	room := len(b)
	if d.full {
		room = min(room, int(sector-at%sector))
	}
	if err := f.touch(at, room); err != nil {
		return 0, err
	}
	n, err := f.WritableFile.WriteAt(b[:room], at)
	if err == nil && room < len(b) {
		err = ErrFull
	}
	return n, err
}

// touch remembers what the disk has of the sectors that are about to be written.
func (f *file) touch(at int64, length int) error {
	p := f.disk.pending[f.path]
	if p == nil {
		p = &pending{}
		f.disk.pending[f.path] = p
	}
	if p.sectors == nil {
		p.sectors = make(map[int64]*unsynced)
	}
	for s := at / sector * sector; s < at+int64(length); s += sector {
		if p.sectors[s] == nil {
			content, err := f.read(s)
			if err != nil {
				return err
			}
			p.sectors[s] = &unsynced{disk: content}
		}
		p.sectors[s].dirty = true
	}
	return nil
}

// read reads a sector; behind the end of the file there are zeros.
func (f *file) read(at int64) ([]byte, error) {
	content := make([]byte, sector)
	if _, err := f.ReadAt(content, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return content, nil
}

// Sync implements types.WritableFile: when it returns nil, what was written before
// it was called is on the disk.
func (f *file) Sync() error {
	d := f.disk
	d.mu.Lock()
	written, err := f.dirty()
	stalled := d.stalled
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if stalled != nil {
		<-stalled
	}
	<-time.After(d.syncTime())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return ErrIO
	}
	p := d.pending[f.path]
	if p == nil {
		return nil
	}
	if d.failing {
		for at := range written {
			p.sectors[at].dirty = false
		}
		return ErrIO
	}
	return f.settle(p, written)
}

// dirty is what a sync that begins now writes.
func (f *file) dirty() (map[int64][]byte, error) {
	p := f.disk.pending[f.path]
	if p == nil {
		return nil, nil
	}
	written := make(map[int64][]byte)
	for at, s := range p.sectors {
		if !s.dirty {
			continue
		}
		content, err := f.read(at)
		if err != nil {
			return nil, err
		}
		written[at] = content
	}
	return written, nil
}

// settle notes what has been written. A sector that was changed meanwhile is still
// to be written.
func (f *file) settle(p *pending, written map[int64][]byte) error {
	p.created = false
	for at, content := range written {
		now, err := f.read(at)
		if err != nil {
			return err
		}
		if bytes.Equal(now, content) {
			delete(p.sectors, at)
		} else {
			p.sectors[at].disk = content
		}
	}
	return nil
}
