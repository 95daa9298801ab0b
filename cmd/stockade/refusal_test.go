package main_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// with gives args with another value for a flag.
func with(args []string, flag, value string) []string {
	out := slices.Clone(args)
	out[slices.Index(out, flag)+1] = value
	return out
}

// wantRefused starts a node that must refuse to run: it ends by itself with code
// 1, and the last line of its log has all words. The line is returned.
func wantRefused(t *testing.T, name string, args []string, words ...string) string {
	t.Helper()
	p := &process{id: "refused", dir: t.TempDir(), args: args}
	p.start(t)
	p.cleanup(t)
	if code := p.wait(t); code != 1 {
		t.Errorf("%s: exit code %d", name, code)
	}
	lines := strings.Split(strings.TrimSpace(p.logTail()), "\n")
	last := lines[len(lines)-1]
	for _, w := range words {
		if !strings.Contains(last, w) {
			t.Errorf("%s: no %q in the last line of:\n%s", name, w, p.logTail())
		}
	}
	return last
}

// tree is every file of a data directory, by its path in it: mode, length and
// hash. The lock file is left out: every start writes its process id there, for
// whoever finds the directory in use.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := everyFile(t, dir)
	delete(files, "lock")
	return files
}

// everyFile is a tree with nothing left out.
func everyFile(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || entry.IsDir() {
			files[path] = "directory"
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = fmt.Sprintf("%v, %d bytes, %x", info.Mode(), info.Size(), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// wantSame tells what has changed in a data directory since before.
func wantSame(t *testing.T, name, dir string, before map[string]string) {
	t.Helper()
	after := tree(t, dir)
	paths := slices.Concat(slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		if before[path] != after[path] {
			t.Errorf("%s: %s is %q and was %q", name, filepath.Join(dir, path), after[path], before[path])
		}
	}
}

// TestTreeShowsEveryChange changes a directory in each way that wantSame is there
// to show.
func TestTreeShowsEveryChange(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("lock", "1")
	write("shards/0000/wal/a.wal", "abc")
	for _, change := range []struct {
		name  string
		do    func()
		shows bool
	}{
		{"nothing", func() {}, false},
		{"the lock file", func() { write("lock", "2") }, false},
		{"a byte", func() { write("shards/0000/wal/a.wal", "abd") }, true},
		{"a new file", func() { write("shards/0000/b", "") }, true},
		{"a file gone", func() { _ = os.Remove(filepath.Join(dir, "shards/0000/b")) }, true},
	} {
		before := tree(t, dir)
		change.do()
		if shows := !maps.Equal(before, tree(t, dir)); shows != change.shows {
			t.Errorf("%s: shows %v, want %v", change.name, shows, change.shows)
		}
	}
}
