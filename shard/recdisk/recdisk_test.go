package recdisk

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// text is what strace -y -xx writes as escapes: in quotes, or after a descriptor.
var text = regexp.MustCompile(`"[^"]*"|<(/[^>]*)>`)

// trace makes lines of strace, with texts as they are.
func trace(lines ...string) string {
	all := strings.Join(lines, "\n") + "\n"
	return text.ReplaceAllStringFunc(all, func(s string) string {
		return s[:1] + hexadecimal(s[1:len(s)-1]) + s[len(s)-1:]
	})
}

// read reads lines about files below /d.
func read(t *testing.T, lines ...string) *Recording {
	t.Helper()
	r, err := Read(strings.NewReader(trace(lines...)), "/d")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// after is what of the files below /d a power failure leaves after all steps.
func after(t *testing.T, l Leftover, seed uint64, lines ...string) string {
	t.Helper()
	r := read(t, lines...)
	d := r.Disk()
	if err := d.Go(r.Len()); err != nil {
		t.Fatal(err)
	}
	return left(t, d, l, seed)
}

// left is what a power failure leaves: the content of files by name, and directories with
// a slash.
func left(t *testing.T, d *Disk, l Leftover, seed uint64) string {
	t.Helper()
	dir := t.TempDir()
	if err := d.Leave(dir, l, rand.New(rand.NewPCG(seed, 0))); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, dir)
		if err != nil || name == "" {
			return err
		}
		if e.IsDir() {
			found[name[1:]+"/"] = ""
			return nil
		}
		b, err := os.ReadFile(path)
		found[name[1:]] = fmt.Sprintf("%q", b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		all = append(all, name+found[name])
	}
	return strings.Join(all, " ")
}

const (
	createA = `1 openat(AT_FDCWD</w>, "/d/a", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 5</d/a>`
	writeA  = `1 pwrite64(5</d/a>, "one", 3, 0) = 3`
	changeA = `1 pwrite64(5</d/a>, "two", 3, 0) = 3`
	longerA = `1 pwrite64(5</d/a>, "more and more", 13, 4) = 4`
	syncA   = `1 fsync(5</d/a>)                  = 0`
	syncD   = `2 fsync(6</d>) = 0`
)

func TestLeftovers(t *testing.T) {
	durable := []string{createA, writeA, syncA, syncD}
	for _, test := range []struct {
		what                              string
		lines                             []string
		nothing, everything, names, sizes string
	}{
		{"nothing was synced", []string{createA, writeA}, ``, `a"one"`, `a""`, `a"\x00\x00\x00"`},
		{"the content was", []string{createA, writeA, syncA}, ``, `a"one"`, `a"one"`, `a"one"`},
		{"the name was", []string{createA, syncD, writeA}, `a""`, `a"one"`, `a""`, `a"\x00\x00\x00"`},
		{"a sync that failed", []string{createA, writeA, `1 fsync(5</d/a>) = -1 EIO (Input/output error)`, syncD}, `a""`, `a"one"`, `a""`, `a"\x00\x00\x00"`},
		{"content is changed", append(slices.Clone(durable), changeA, longerA), `a"one"`, `a"two\x00more"`, `a"one"`, `a"one\x00\x00\x00\x00\x00"`},
		{
			"a file takes another's place", append(slices.Clone(durable),
				`1 openat(AT_FDCWD</d>, "b", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = 7</d/b>`,
				`1 write(7</d/b>, "ne", 2) = 2`, `1 write(7</d/b>, "w", 1) = 1`,
				`1 renameat(AT_FDCWD</w>, "/d/b", AT_FDCWD</w>, "/d/a") = 0`),
			`a"one"`, `a"new"`, `a""`, `a"\x00\x00\x00"`,
		},
		{"a removed file", append(slices.Clone(durable), `1 unlinkat(6</d>, "a", 0) = 0`, `1 pwrite64(5</d/a>(deleted), "x", 1, 0) = 1`), `a"one"`, ``, ``, ``},
		{
			"a directory", []string{
				`1 mkdirat(AT_FDCWD</w>, "/d/e", 0700) = 0`, `1 openat(AT_FDCWD</w>, "/d/e/f", O_WRONLY|O_CREAT|O_APPEND, 0600) = 8</d/e/f>`,
				`1 write(8</d/e/f>, "x", 1) = 1`, `1 fdatasync(8</d/e/f>) = 0`, syncD,
			}, `e/`, `e/ e/f"x"`, `e/ e/f"x"`, `e/ e/f"x"`,
		},
		{
			"where a file is read, it is written", append(slices.Clone(durable), `1 openat(AT_FDCWD</d>, "a", O_RDWR|O_CLOEXEC) = 7</d/a>`,
				`1 read(7</d/a>, "o", 1) = 1`, `1 write(7</d/a>, "w", 1) = 1`, `1 lseek(7</d/a>, 0, SEEK_SET) = 0`, `1 write(7</d/a>, "O", 1) = 1`),
			`a"one"`, `a"Owe"`, `a"one"`, `a"one"`,
		},
		{"shorter", append(slices.Clone(durable), `1 ftruncate(5</d/a>, 1) = 0`), `a"one"`, `a"o"`, `a"one"`, `a"o"`},
		{"room is taken", append(slices.Clone(durable), `1 fallocate(5</d/a>, 0, 0, 4) = 0`), `a"one"`, `a"one\x00"`, `a"one"`, `a"one\x00"`},
		{
			"a write while a sync is under way", []string{createA, syncD, writeA, `1 fsync(5</d/a> <unfinished ...>`,
				`2 pwrite64(5</d/a>, "two", 3, 0) = 3`, `1 <... fsync resumed>) = 0`}, `a"one"`, `a"two"`, `a"one"`, `a"one"`,
		},
		{"a sync that has not ended", []string{createA, syncD, writeA, `1 fsync(5</d/a> <unfinished ...>`}, `a""`, `a"one"`, `a""`, `a"\x00\x00\x00"`},
		{"elsewhere", []string{`1 openat(AT_FDCWD</w>, "/dd", O_RDWR|O_CREAT, 0600) = 5</dd>`, `1 write(5</dd>, "x", 1) = 1`, `1 write(1<socket:[5]>, "x", 1) = 1`}, ``, ``, ``, ``},
	} {
		t.Run(test.what, func(t *testing.T) {
			for l, want := range map[Leftover]string{Nothing: test.nothing, Everything: test.everything, Empty: test.names, Names: test.sizes} {
				if got := after(t, l, 0, test.lines...); got != want {
					t.Errorf("%v: %s; want %s", l, got, want)
				}
			}
		})
	}
}

// TestSome: sectors and names are left by chance, each one for itself.
func TestSome(t *testing.T) {
	long := strings.Repeat("x", sector) + strings.Repeat("y", sector)
	lines := []string{
		createA, syncD, fmt.Sprintf(`1 pwrite64(5</d/a>, "%s", %d, 0) = %[2]d`, long, 2*sector),
		`1 openat(AT_FDCWD</w>, "/d/b", O_RDWR|O_CREAT, 0600) = 7</d/b>`,
	}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		got := after(t, Some, seed, lines...)
		for _, piece := range []string{`a""`, "xx", "yy", `\x00`, ` b""`} {
			seen[piece] = seen[piece] || strings.Contains(got, piece)
		}
		seen["no b"] = seen["no b"] || !strings.Contains(got, "b")
		seen["y alone"] = seen["y alone"] || strings.Contains(got, "y") && !strings.Contains(got, "xxx")
	}
	if len(seen) != 7 || slices.Contains(slices.Collect(maps.Values(seen)), false) {
		t.Error(seen)
	}
}

// TestUnknown: what a recording does not tell whole is an error, not left out.
func TestUnknown(t *testing.T) {
	for _, line := range []string{
		`1 linkat(AT_FDCWD</d>, "a", AT_FDCWD</d>, "b", 0) = 0`,
		`1 write(5</d/a>, "x"..., 2000) = 2000`,
		`1 write(5</d/a>, "x", 1) = 1`, // where?
		`1 renameat(AT_FDCWD</d>, "a", AT_FDCWD</d>, "e/a") = 0`,
		`1 fallocate(5</d/a>, FALLOC_FL_PUNCH_HOLE, 0, 4) = 0`,
		`1 <... fsync resumed>) = 0`,
		`1`,
	} {
		if _, err := Read(strings.NewReader(trace(line)), "/d"); err == nil {
			t.Errorf("read: %s", line)
		}
	}
}

// TestNextLife: a process that finds what another one left can sync it, or lose it, too.
func TestNextLife(t *testing.T) {
	const openA = `1 openat(AT_FDCWD</w>, "/d/a", O_RDWR|O_CLOEXEC) = 5</d/a>`
	first, second := read(t, createA, syncD, writeA), read(t, openA, syncA)
	killed := first.Disk()
	if err := killed.Go(first.Len()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := killed.Leave(dir, Everything, nil); err != nil {
		t.Fatal(err)
	}
	off, err := second.DiskOn(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := left(t, off, Nothing, 0); got != `a"one"` {
		t.Errorf("%s was left, and is not on the disk", got)
	}
	killed.Continue(second)
	if got := left(t, killed, Nothing, 0); got != `a""` {
		t.Errorf("%s is on the disk, and nobody synced it", got)
	}
	if err := killed.Go(second.Len()); err != nil {
		t.Fatal(err)
	}
	if got := left(t, killed, Nothing, 0); got != `a"one"` {
		t.Errorf("%s is on the disk, and was synced by the next process", got)
	}
}

// TestMoment: moments are in the recording, and one of two or more follows a change of names.
func TestMoment(t *testing.T) {
	lines := []string{createA}
	for range 98 {
		lines = append(lines, writeA)
	}
	r, drawn := read(t, lines...), map[int]int{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		drawn[r.Moment(random)]++
	}
	if len(drawn) < 90 || drawn[1] < 400 || slices.Min(slices.Collect(maps.Keys(drawn))) != 0 || slices.Max(slices.Collect(maps.Keys(drawn))) != 99 {
		t.Error(drawn)
	}
}

// TestLeaveEach: hosts lose their power one by one.
func TestLeaveEach(t *testing.T) {
	r := read(t, `1 mkdirat(AT_FDCWD</w>, "/d/a", 0700) = 0`, `1 mkdirat(AT_FDCWD</w>, "/d/b", 0700) = 0`, syncD,
		`1 openat(AT_FDCWD</w>, "/d/a/f", O_WRONLY|O_CREAT, 0600) = 5</d/a/f>`, `1 openat(AT_FDCWD</w>, "/d/b/f", O_WRONLY|O_CREAT, 0600) = 5</d/b/f>`)
	seen := map[[2]bool]bool{}
	for seed := range uint64(100) {
		d, dir := r.Disk(), t.TempDir()
		if err := d.Go(r.Len()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.LeaveEach(dir, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		var left [2]bool
		for i, name := range []string{"a", "b"} {
			_, err := os.Stat(filepath.Join(dir, name, "f"))
			left[i] = err == nil
		}
		seen[left] = true
	}
	if len(seen) != 4 {
		t.Error(seen)
	}
}
