package recdisk

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sector is what a disk writes as a whole.
const sector = 512

// Leftover is what a power failure leaves of what was not synced.
type Leftover int

// What may be left.
const (
	Nothing    Leftover = iota // only what was synced is there
	Everything                 // all is there, as after a kill
	Names                      // names and sizes, but no content: zeros
	Empty                      // names, but the content and the size of the last sync
	Some                       // sector by sector, name by name: by chance
	leftovers
)

// String names it.
func (l Leftover) String() string {
	return [...]string{"nothing", "everything", "names and sizes", "names", "some"}[l]
}

// Draw draws one of them.
func Draw(r *rand.Rand) Leftover { return Leftover(r.IntN(int(leftovers))) }

// Leave writes into a directory what a power failure leaves at this moment.
func (d *Disk) Leave(dir string, l Leftover, r *rand.Rand) error {
	return d.top.leave(dir, l, r)
}

// LeaveEach does so, and each directory below the recorded one is another host's: what is
// left of it is drawn for itself.
func (d *Disk) LeaveEach(dir string, r *rand.Rand) (drawn string, err error) {
	all := []string{}
	hosts := d.top.leftNames(Draw(r), r)
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		l := Draw(r)
		if hosts[name].dir {
			all = append(all, fmt.Sprintf("of %s %s", name, l))
		}
		if err := hosts[name].leave(filepath.Join(dir, name), l, r); err != nil {
			return "", err
		}
	}
	return strings.Join(all, ", "), nil
}

func (n *node) leave(path string, l Leftover, r *rand.Rand) error {
	if !n.dir {
		return os.WriteFile(path, n.left(l, r), 0o600)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	names := n.leftNames(l, r)
	for _, name := range slices.Sorted(maps.Keys(names)) { // in order, so that the draws are repeatable
		if err := names[name].leave(filepath.Join(path, name), l, r); err != nil {
			return err
		}
	}
	return nil
}

// leftNames is what is left of a directory.
func (n *node) leftNames(l Leftover, r *rand.Rand) map[string]*node {
	switch l {
	case Nothing:
		return n.durable
	case Some:
	default:
		return n.names
	}
	names, each := maps.Clone(n.durable), r.IntN(2) == 0
	for i, until := 0, r.IntN(len(n.changes)+1); i < len(n.changes); i++ {
		if each && r.IntN(2) == 0 || !each && i < until {
			n.changes[i].apply(names)
		}
	}
	return names
}

// left is what is left of a file.
func (n *node) left(l Leftover, r *rand.Rand) []byte {
	switch l {
	case Nothing, Empty:
		return n.synced
	case Everything:
		return n.content
	}
	if bytes.Equal(n.synced, n.content) {
		return n.content
	}
	size := len(n.content)
	if l == Some {
		least, most := min(len(n.synced), size), max(len(n.synced), size)
		size = [...]int{len(n.synced), size, least + r.IntN(most-least+1)}[r.IntN(3)]
	}
	left := make([]byte, size)
	copy(left, n.synced)
	for at := 0; l == Some && at < min(size, len(n.content)); at += sector {
		if r.IntN(2) == 0 {
			copy(left[at:], n.content[at:min(at+sector, len(n.content))])
		}
	}
	return left
}
