package recdisk

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Disk is the files of a recording at one moment.
type Disk struct {
	recording *Recording
	at        int
	top       *node
	syncs     map[int]*syncing
}

// node is a file or a directory.
type node struct {
	dir bool

	// Of a file: its content as it is read, and as it was synced.
	content, synced []byte

	// Of a directory: its names as they are read, as they were synced, and what was
	// changed since, in order.
	names, durable map[string]*node
	changes        []change

	latest int // the youngest sync that has ended
}

// change is a change of a directory's names; a file that moves has two of them at once.
type change struct {
	set, unset string
	node       *node
}

// syncing is a sync that is under way: what it writes is what there was when it began.
type syncing struct {
	node    *node
	content []byte
	names   map[string]*node
	changes int
}

func newDir() *node { return &node{dir: true, names: map[string]*node{}, durable: map[string]*node{}} }

// Disk is what there was before the first step: an empty directory.
func (r *Recording) Disk() *Disk {
	return &Disk{recording: r, top: newDir(), syncs: map[int]*syncing{}}
}

// DiskOn is a disk that has what is in a directory, all of it synced, before the first step.
func (r *Recording) DiskOn(dir string) (*Disk, error) {
	d := r.Disk()
	return d, d.top.load(dir)
}

// load takes a directory for what is on the disk.
func (n *node) load(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path, child := filepath.Join(dir, e.Name()), &node{}
		if e.IsDir() {
			child = newDir()
			err = child.load(path)
		} else if child.content, err = os.ReadFile(path); err == nil {
			child.synced = slices.Clone(child.content)
		}
		if err != nil {
			return err
		}
		n.names[e.Name()], n.durable[e.Name()] = child, child
	}
	return nil
}

// Continue goes on with another recording, of a process that found everything as it can be
// read at this moment, in whatever directory: the one before was killed.
func (d *Disk) Continue(r *Recording) {
	clear(d.syncs)
	d.recording, d.at = r, 0
	d.top.forgetSyncs()
}

// forgetSyncs has the syncs of another recording, with other numbers, be younger.
func (n *node) forgetSyncs() {
	n.latest = 0
	for _, child := range n.names {
		child.forgetSyncs()
	}
}

// Go goes on until so many steps have been made.
func (d *Disk) Go(to int) error {
	for ; d.at < to; d.at++ {
		s := d.recording.steps[d.at]
		if err := s.do(d); err != nil {
			return fmt.Errorf("step %d, %s: %w", d.at, s, err)
		}
	}
	return nil
}

// Content is what can be read of a file below the recorded directory; nil: there is none.
func (d *Disk) Content(name string) []byte {
	n, err := d.find(filepath.Join(d.recording.root, name))
	if err != nil {
		return nil
	}
	return n.content
}

var errNotThere = errors.New("there is no such file")

func (d *Disk) find(path string) (*node, error) {
	n := d.top
	rest := strings.TrimPrefix(path, d.recording.root)
	for _, name := range strings.FieldsFunc(rest, func(c rune) bool { return c == '/' }) {
		if n = n.names[name]; n == nil {
			return nil, errNotThere
		}
	}
	return n, nil
}

// parent finds the directory of a path.
func (d *Disk) parent(path string) (dir *node, name string, err error) {
	dir, err = d.find(filepath.Dir(path))
	return dir, filepath.Base(path), err
}

// change changes a directory's names.
func (n *node) change(c change) {
	n.changes = append(n.changes, c)
	c.apply(n.names)
}

func (c change) apply(names map[string]*node) {
	if c.unset != "" {
		delete(names, c.unset)
	}
	if c.set != "" {
		names[c.set] = c.node
	}
}

// step is something that was done.
type step interface {
	do(d *Disk) error
	fmt.Stringer
}

type (
	create struct{ path string }
	write  struct {
		path string
		at   int64 // -1: the end
		b    []byte
	}
	resize struct {
		path   string
		size   int64
		shrink bool // if it is longer
	}
	rename    struct{ from, to string }
	remove    struct{ path string }
	makeDir   struct{ path string }
	beginSync struct {
		path string
		no   int
	}
	endSync struct{ no int }
)

func (s *create) String() string { return "create " + s.path }
func (s *write) String() string {
	return fmt.Sprintf("write %d bytes at %d of %s", len(s.b), s.at, s.path)
}
func (s *resize) String() string    { return fmt.Sprintf("make %s %d bytes long", s.path, s.size) }
func (s *rename) String() string    { return "rename " + s.from + " to " + filepath.Base(s.to) }
func (s *remove) String() string    { return "remove " + s.path }
func (s *makeDir) String() string   { return "make directory " + s.path }
func (s *beginSync) String() string { return fmt.Sprintf("begin sync %d of %s", s.no, s.path) }
func (s *endSync) String() string   { return fmt.Sprintf("end sync %d", s.no) }

func (s *create) do(d *Disk) error {
	dir, name, err := d.parent(s.path)
	if err == nil && dir.names[name] == nil {
		dir.change(change{set: name, node: &node{}})
	}
	return err
}

func (s *makeDir) do(d *Disk) error {
	if s.path == d.recording.root {
		return nil
	}
	dir, name, err := d.parent(s.path)
	if err == nil {
		dir.change(change{set: name, node: newDir()})
	}
	return err
}

func (s *remove) do(d *Disk) error {
	if s.path == d.recording.root {
		return nil
	}
	dir, name, err := d.parent(s.path)
	if err == nil {
		dir.change(change{unset: name})
	}
	return err
}

func (s *rename) do(d *Disk) error {
	dir, name, err := d.parent(s.from)
	if err != nil {
		return err
	}
	moved := dir.names[name]
	if moved == nil {
		return errNotThere
	}
	dir.change(change{unset: name, set: filepath.Base(s.to), node: moved})
	return nil
}

func (s *write) do(d *Disk) error {
	n, err := d.find(s.path)
	if err != nil {
		return err
	}
	at := s.at
	if at < 0 {
		at = int64(len(n.content))
	}
	n.grow(at + int64(len(s.b)))
	copy(n.content[at:], s.b)
	return nil
}

// grow makes a file so long at least, with zeros.
func (n *node) grow(size int64) {
	if more := size - int64(len(n.content)); more > 0 {
		n.content = append(n.content, make([]byte, more)...)
	}
}

func (s *resize) do(d *Disk) error {
	n, err := d.find(s.path)
	if err != nil {
		return err
	}
	n.grow(s.size)
	if s.shrink {
		n.content = n.content[:s.size:s.size]
	}
	return nil
}

func (s *beginSync) do(d *Disk) error {
	n, err := d.find(s.path)
	if err == nil {
		d.syncs[s.no] = &syncing{node: n, content: slices.Clone(n.content), names: maps.Clone(n.names), changes: len(n.changes)}
	}
	return err
}

func (s *endSync) do(d *Disk) error {
	w := d.syncs[s.no]
	delete(d.syncs, s.no)
	n := w.node
	if s.no < n.latest { // a younger one was faster, and wrote more
		return nil
	}
	n.latest = s.no
	if !n.dir {
		n.synced = w.content
		return nil
	}
	n.durable = w.names
	n.changes = slices.Clone(n.changes[w.changes:])
	for no, other := range d.syncs { // these begin later in what is left
		if other.node == n && no != s.no {
			other.changes = max(0, other.changes-w.changes)
		}
	}
	return nil
}
