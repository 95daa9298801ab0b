// Package recdisk knows what a power failure leaves of the files of a process, at any
// moment of its life. strace records the process's system calls; a Disk is made from them
// again, call by call, with what can be read and what was synced, and leaves in another
// directory what a power failure might. Nothing of the process is simulated: its libraries
// write as they do.
//
// It believes in no more than POSIX does: a file's content is on the disk after a sync of
// the file, its name after a sync of the directory. What was not synced is there or not,
// sector by sector and name by name. What is not looked for: memory that is mapped to be
// written, io_uring, and that a sync fails. The idea is that of ALICE (Pillai et al., All File
// Systems Are Not Created Equal, OSDI 2014) and CrashMonkey (Mohan et al., OSDI 2018).
//
// Only tests use it.
package recdisk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// calls are the system calls that change files or where a file is written next, those that
// this package knows and those that it must not overlook.
const calls = "openat,write,read,lseek,pwrite64,ftruncate,fallocate,renameat,renameat2,unlinkat,mkdirat,fsync,fdatasync," +
	"open,creat,writev,pwritev,pwritev2,truncate,rename,unlink,mkdir,rmdir,link,linkat,symlink,symlinkat," +
	"copy_file_range,sendfile,splice,sync,syncfs,sync_file_range"

// longest is the longest buffer that is recorded as a whole.
const longest = 64 << 20

// Command is the command line that records into a file what a command does.
func Command(file string, command ...string) []string {
	return append([]string{
		"strace", "-f", "-y", "-xx", "-s", strconv.Itoa(longest), "--seccomp-bpf", "-e", "trace=" + calls, "-e", "signal=none", "-o", file,
	}, command...)
}

// Recording is what processes did to the files below a directory, in the order of the
// calls' ends.
type Recording struct {
	root    string
	steps   []step
	renames []int // the steps that change names
}

// Len is the number of its steps.
func (r *Recording) Len() int { return len(r.steps) }

// Step says what a step does.
func (r *Recording) Step(i int) string { return r.steps[i].String() }

// Find tells whether a step says something that matches.
func (r *Recording) Find(says *regexp.Regexp) bool {
	return slices.ContainsFunc(r.steps, func(s step) bool { return says.MatchString(s.String()) })
}

// Moment draws a moment to lose the power at, by the number of steps before it. One of two
// follows a change of names: these are few, and what is wrong with them shows until the next
// sync only.
func (r *Recording) Moment(random *rand.Rand) int {
	if len(r.renames) == 0 || random.IntN(2) == 0 {
		return random.IntN(len(r.steps) + 1)
	}
	return r.renames[random.IntN(len(r.renames))] + 1
}

// Read reads what strace wrote about the files below root. A call that changes one of them
// and that is not known here is an error, as is one that the recording cut short.
func Read(from io.Reader, root string) (*Recording, error) {
	p := &parser{root: root, begun: map[string]string{}, syncs: map[string]int{}, files: map[string]*open{}}
	lines := bufio.NewReaderSize(from, 1<<20)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return &Recording{root: root, steps: p.steps, renames: p.renames}, nil
		}
		if err == nil {
			err = p.line(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return nil, fmt.Errorf("line %d of the recording: %w", n, err)
		}
	}
}

// parser makes steps from lines.
type parser struct {
	root    string
	steps   []step
	renames []int
	begun   map[string]string // by thread: a call that is under way, as far as it was recorded
	syncs   map[string]int    // by thread: the sync that is under way
	count   int               // of syncs
	files   map[string]*open  // by descriptor
}

// open is an open file.
type open struct {
	at     int64
	append bool
}

const (
	unfinished = " <unfinished ...>"
	resumed    = " resumed>"
)

// line reads a line: a thread and a whole call, or the begin or the end of one.
func (p *parser) line(line string) error {
	thread, text, ok := strings.Cut(line, " ")
	text = strings.TrimLeft(text, " ")
	switch {
	case !ok || text == "":
		return fmt.Errorf("no call: %.100q", line)
	case strings.HasPrefix(text, "---"), strings.HasPrefix(text, "+++"):
		return nil // a signal; an exit
	case strings.HasSuffix(text, unfinished):
		begin := strings.TrimSuffix(text, unfinished)
		p.begun[thread] = begin
		return p.beginSync(thread, begin)
	case strings.HasPrefix(text, "<... "):
		_, rest, ok := strings.Cut(text, resumed)
		begin, known := p.begun[thread]
		if !ok || !known {
			return fmt.Errorf("the end of a call without its begin: %.100q", line)
		}
		delete(p.begun, thread)
		return p.call(thread, begin+rest)
	}
	if err := p.beginSync(thread, text); err != nil {
		return err
	}
	return p.call(thread, text)
}

// beginSync notes that a sync begins: what is written from now on it need not write.
func (p *parser) beginSync(thread, text string) error {
	name, args, _ := strings.Cut(text, "(")
	if name != "fsync" && name != "fdatasync" {
		return nil
	}
	path, ok, err := p.descriptor(args)
	if err != nil || !ok {
		return err
	}
	p.count++
	p.syncs[thread] = p.count
	p.add(&beginSync{path, p.count})
	return nil
}

// call reads a call that has ended.
func (p *parser) call(thread, text string) error {
	name, rest, ok := strings.Cut(text, "(")
	at := strings.LastIndex(rest, ") ")
	if !ok || at < 0 {
		return fmt.Errorf("no call: %.100q", text)
	}
	result := strings.TrimLeft(strings.TrimLeft(rest[at+1:], " "), "= ")
	if strings.HasPrefix(result, "-1 ") || strings.HasPrefix(result, "?") {
		delete(p.syncs, thread)
		return nil // it failed, or has to be repeated
	}
	args := strings.Split(rest[:at], ", ")
	for _, a := range args {
		if strings.HasSuffix(a, `"...`) {
			return fmt.Errorf("a buffer of %s was cut short", name)
		}
	}
	if err := p.known(name, thread, args, result); err != nil {
		return fmt.Errorf("%.200s: %w", text, err)
	}
	return nil
}

func (p *parser) known(name, thread string, args []string, result string) error {
	switch name {
	case "openat":
		return p.openat(args, result)
	case "write":
		return p.write(args, result)
	case "read", "lseek":
		return p.move(name, args, result)
	case "pwrite64":
		return p.pwrite(args, result)
	case "ftruncate":
		return p.resize(args[0], args[1], true)
	case "fallocate":
		return p.fallocate(args)
	case "renameat", "renameat2":
		return p.rename(args)
	case "unlinkat":
		return p.onName(args, func(path string) step { return &remove{path} })
	case "mkdirat":
		return p.onName(args, func(path string) step { return &makeDir{path} })
	case "fsync", "fdatasync":
		if sync, ok := p.syncs[thread]; ok {
			delete(p.syncs, thread)
			p.add(&endSync{sync})
		}
		return nil
	}
	if strings.Contains(strings.Join(args, ","), hexadecimal(p.root)) {
		return errors.New("this call is not known")
	}
	return nil
}

func (p *parser) add(s step) {
	switch s.(type) {
	case *create, *makeDir, *rename, *remove:
		p.renames = append(p.renames, len(p.steps))
	}
	p.steps = append(p.steps, s)
}

// below tells whether a path is one of ours.
func (p *parser) below(path string) bool {
	return path == p.root || strings.HasPrefix(path, p.root+"/")
}

// descriptor gives the path of a descriptor; not ok: it is none of ours, or was removed.
func (p *parser) descriptor(arg string) (path string, ok bool, err error) {
	_, rest, found := strings.Cut(arg, "<")
	end := strings.LastIndex(rest, ">")
	if !found || end < 0 || strings.Contains(rest, "(deleted)") || !strings.HasPrefix(rest, `\x`) {
		return "", false, nil
	}
	path, err = unhex(rest[:end])
	return path, p.below(path), err
}

// name gives the path of a directory's descriptor and a name.
func (p *parser) name(dir, name string) (path string, ok bool, err error) {
	if path, err = unhex(strings.Trim(name, `"`)); err != nil {
		return "", false, err
	}
	if !filepath.IsAbs(path) {
		_, rest, _ := strings.Cut(dir, "<")
		base, err := unhex(strings.TrimSuffix(rest, ">"))
		if err != nil {
			return "", false, err
		}
		path = filepath.Join(base, path)
	}
	path = filepath.Clean(path)
	return path, p.below(path), nil
}

// onName adds a step for a call on a name.
func (p *parser) onName(args []string, make func(path string) step) error {
	path, ok, err := p.name(args[0], args[1])
	if ok && err == nil {
		p.add(make(path))
	}
	return err
}

func (p *parser) openat(args []string, result string) error {
	path, ok, err := p.name(args[0], args[1])
	if err != nil || !ok {
		return err
	}
	flags := args[2]
	if strings.Contains(flags, "O_CREAT") {
		p.add(&create{path})
	}
	if strings.Contains(flags, "O_TRUNC") {
		p.add(&resize{path, 0, true})
	}
	fd, _, _ := strings.Cut(result, "<")
	p.files[fd] = &open{append: strings.Contains(flags, "O_APPEND")}
	return nil
}

// written is what a call has written to which of our files, which may be less than it was
// given; not ok: to none.
func (p *parser) written(args []string, result string) (path string, b []byte, ok bool, err error) {
	path, ok, err = p.descriptor(args[0])
	if err != nil || !ok {
		return "", nil, false, err
	}
	text, err := unhex(strings.Trim(args[1], `"`))
	if err != nil {
		return "", nil, false, err
	}
	n, err := strconv.Atoi(result)
	if err != nil || n > len(text) {
		return "", nil, false, fmt.Errorf("%s of %d bytes were written", result, len(text))
	}
	return path, []byte(text[:n]), true, nil
}

func (p *parser) write(args []string, result string) error {
	path, b, ok, err := p.written(args, result)
	if err != nil || !ok {
		return err
	}
	fd, _, _ := strings.Cut(args[0], "<")
	f := p.files[fd]
	switch {
	case f == nil:
		return errors.New("where this writes is not known")
	case f.append:
		p.add(&write{path, -1, b})
	default:
		p.add(&write{path, f.at, b})
		f.at += int64(len(b))
	}
	return nil
}

// move follows where a file is written next.
func (p *parser) move(name string, args []string, result string) error {
	fd, _, _ := strings.Cut(args[0], "<")
	_, ok, err := p.descriptor(args[0])
	f := p.files[fd]
	if err != nil || !ok || f == nil {
		return err
	}
	n, err := strconv.ParseInt(result, 10, 64)
	if name == "read" {
		n += f.at
	}
	f.at = n
	return err
}

func (p *parser) pwrite(args []string, result string) error {
	path, b, ok, err := p.written(args, result)
	if err != nil || !ok {
		return err
	}
	at, err := strconv.ParseInt(args[3], 10, 64)
	p.add(&write{path, at, b})
	return err
}

func (p *parser) fallocate(args []string) error {
	at, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	length, err := strconv.ParseInt(args[3], 10, 64)
	switch {
	case err != nil:
		return err
	case args[1] == "0":
		return p.resize(args[0], strconv.FormatInt(at+length, 10), false)
	case args[1] == "FALLOC_FL_KEEP_SIZE":
		return nil
	}
	return errors.New("this way to allocate is not known")
}

func (p *parser) resize(fd, size string, shrink bool) error {
	path, ok, err := p.descriptor(fd)
	if err != nil || !ok {
		return err
	}
	n, err := strconv.ParseInt(size, 10, 64)
	p.add(&resize{path, n, shrink})
	return err
}

func (p *parser) rename(args []string) error {
	from, ok, err := p.name(args[0], args[1])
	if err != nil {
		return err
	}
	to, also, err := p.name(args[2], args[3])
	switch {
	case err != nil || !ok && !also:
		return err
	case filepath.Dir(from) != filepath.Dir(to):
		return errors.New("a move to another directory is not known")
	}
	p.add(&rename{from, to})
	return nil
}

// unhex reads a text that is all escapes of two hexadecimal digits, which strace's -xx
// makes of any.
func unhex(text string) (string, error) {
	if len(text)%4 != 0 {
		return "", fmt.Errorf("%.40q is no text of hexadecimal escapes", text)
	}
	b := make([]byte, len(text)/4)
	for i := range b {
		high, low := digit(text[4*i+2]), digit(text[4*i+3])
		if text[4*i] != '\\' || text[4*i+1] != 'x' || high < 0 || low < 0 {
			return "", fmt.Errorf("%.40q is no text of hexadecimal escapes", text)
		}
		b[i] = byte(high<<4 | low)
	}
	return string(b), nil
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// hexadecimal is a text as unhex reads it.
func hexadecimal(text string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, `\x%02x`, text[i])
	}
	return b.String()
}
