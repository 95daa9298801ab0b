package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// dev without --data-dir works in a temporary directory, and removes it when it
// stops. One that is killed can't, so the next one does it.
//
// To be removed a directory must look like dev's, be the user's own, and hold a
// mark that dev puts only into directories that it made itself; and nobody may
// hold the mark's lock, which the kernel drops when its process ends. A directory
// that the user names gets no mark, and loses one that it has.

const (
	devDirPrefix = "stockade-dev-"
	// devMark is the name of the mark. It appears in one step with its lock held,
	// so that no directory of a dev that is just starting looks left behind.
	devMark = "stockade-dev-temporary"
)

// devDir is the data directory of a dev.
type devDir struct {
	path      string
	temporary bool
	mark      *os.File // holds the lock; nil for a directory that the user named
}

// openDevDir makes a temporary directory when named is empty, else it takes the
// one that is named.
func openDevDir(named string) (*devDir, error) {
	if named != "" {
		return &devDir{path: named}, keep(named)
	}
	path, err := os.MkdirTemp("", devDirPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a temporary data directory: %w", err)
	}
	d := &devDir{path: path, temporary: true}
	unseen := filepath.Join(path, devMark+".tmp")
	if d.mark, err = os.OpenFile(unseen, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		err = lockFile(d.mark)
	}
	if err == nil {
		err = os.Rename(unseen, filepath.Join(path, devMark))
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("mark a temporary data directory: %w", err)
	}
	return d, nil
}

// keep takes the mark from a directory that the user names, if it has one and no
// running dev holds it. That one's nodes would refuse to share it anyway.
func keep(path string) error {
	mark, err := os.OpenFile(filepath.Join(path, devMark), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look whether %s (--data-dir) is temporary: %w", path, err)
	}
	defer func() { _ = mark.Close() }()
	if lockFile(mark) != nil {
		return fmt.Errorf("the directory %s (--data-dir) is the temporary one of another dev, which runs: stop it first, or choose another", path)
	}
	if err := os.Remove(mark.Name()); err != nil {
		return fmt.Errorf("make %s (--data-dir) permanent: %w", path, err)
	}
	return nil
}

// close gives the directory up, and removes it if it is temporary.
func (d *devDir) close() {
	if d.temporary {
		_ = os.RemoveAll(d.path) // the next dev removes what is left
	}
	if d.mark != nil {
		_ = d.mark.Close()
	}
}

// removeLeftovers removes the temporary directories of devs that were killed, and
// says which. One that can't be removed is left to its owner.
func removeLeftovers() (removed []string) {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), devDirPrefix+"*")) // the pattern is well-formed
	for _, path := range found {
		if removeLeftover(path) {
			removed = append(removed, path)
		}
	}
	return removed
}

func removeLeftover(path string) bool {
	info, err := os.Lstat(path) // a link may lead anywhere
	if err != nil || !info.IsDir() || !own(info) {
		return false
	}
	mark, err := os.OpenFile(filepath.Join(path, devMark), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer func() { _ = mark.Close() }()
	return lockFile(mark) == nil && os.RemoveAll(path) == nil
}

// own tells whether a file belongs to the user of this process.
func own(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}

// lockFile locks a file for the life of this process, or until it is closed.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
