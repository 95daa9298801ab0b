package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// die gives a directory up as a killed process does: its lock is gone, its files
// are not.
func (d *devDir) die(t *testing.T) {
	t.Helper()
	if err := d.mark.Close(); err != nil {
		t.Fatal(err)
	}
}

func openDir(t *testing.T, named string) *devDir {
	t.Helper()
	d, err := openDevDir(named)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// isThere tells whether a directory and the file that files puts into it are there.
func isThere(path string) bool {
	_, err := os.Stat(filepath.Join(path, "n1", "node.json"))
	return err == nil
}

func fill(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path, "n1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "n1", "node.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLeftoversAreRemoved has one directory of each kind that may lie around, of
// which only the first kind is nobody's.
func TestLeftoversAreRemoved(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	dead := openDir(t, "")
	fill(t, dead.path)
	dead.die(t)

	inUse := openDir(t, "")
	named := filepath.Join(tmp, devDirPrefix+"named") // by a user with strange taste
	adopted := openDir(t, "")
	adopted.die(t)
	linked := openDir(t, "")
	linked.die(t)
	elsewhere := filepath.Join(tmp, "elsewhere")
	if err := os.Rename(linked.path, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, linked.path); err != nil {
		t.Fatal(err)
	}
	keptPaths := []string{inUse.path, openDir(t, named).path, openDir(t, adopted.path).path, elsewhere}
	for _, path := range keptPaths {
		fill(t, path)
	}

	if removed := removeLeftovers(); !slices.Equal(removed, []string{dead.path}) {
		t.Errorf("removed %v, want %s", removed, dead.path)
	}
	if isThere(dead.path) {
		t.Errorf("%s is still there", dead.path)
	}
	for _, path := range keptPaths {
		if !isThere(path) {
			t.Errorf("%s is gone", path)
		}
	}
	if removed := removeLeftovers(); len(removed) != 0 {
		t.Errorf("removed again: %v", removed)
	}
	if _, err := openDevDir(inUse.path); err == nil {
		t.Errorf("the directory of a running dev was taken")
	}
	inUse.close()
	if isThere(inUse.path) {
		t.Errorf("%s is still there after a stop", inUse.path)
	}
}
