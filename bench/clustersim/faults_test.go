package clustersim

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"stockade/shard"
	"stockade/shard/simdisk"
)

// fault is something that happens to a cluster. Begin makes it happen and returns
// what mends it; nodes that have ended are started again by whoever called.
type fault struct {
	name  string
	begin func(r *run, d *rand.Rand) (mend func() error, err error)
}

const clockIsSet = "a clock is set"

// faults are all of them. Several may be there at once.
var faults = []fault{
	{"a host is cut off", isolate},
	{"a link is cut in one direction", cutOneWay},
	{"a link is cut", cutLink},
	{"connections break", breakStreams},
	{"the network is slow", slowDown},
	{"a host stands still", pause},
	{"processes are killed", killSome},
	{"hosts lose power", losePower},
	{"a node is stopped", stopOne},
	{"a disk stalls", stallDisk},
	{"syncs fail", failSyncs},
	{"a disk is full", fillDisk},
	{clockIsSet, setClock},
	{"a file is damaged", damage},
}

func nothing() error { return nil }

func (r *run) draw(d *rand.Rand) *host { return r.hosts[d.IntN(len(r.hosts))] }

// some draws one or more hosts.
func (r *run) some(d *rand.Rand) (all []*host) {
	for _, i := range d.Perm(len(r.hosts))[:1+d.IntN(len(r.hosts))] {
		all = append(all, r.hosts[i])
	}
	return all
}

func isolate(r *run, d *rand.Rand) (func() error, error) {
	h := r.draw(d)
	r.net.Isolate(h.name, true)
	r.note("%s is cut off", h.name)
	return func() error { r.net.Isolate(h.name, false); return nil }, nil
}

// link draws two hosts.
func (r *run) link(d *rand.Rand) (a, b string) {
	two := d.Perm(len(r.hosts))[:2]
	return r.hosts[two[0]].name, r.hosts[two[1]].name
}

func cutOneWay(r *run, d *rand.Rand) (func() error, error) {
	from, to := r.link(d)
	r.net.Wires().Cut(from, to, true)
	r.note("%s no longer hears %s", to, from)
	return func() error { r.net.Wires().Cut(from, to, false); return nil }, nil
}

func cutLink(r *run, d *rand.Rand) (func() error, error) {
	a, b := r.link(d)
	r.net.Wires().Cut(a, b, true)
	r.net.Wires().Cut(b, a, true)
	r.note("%s and %s do not hear each other", a, b)
	return func() error {
		r.net.Wires().Cut(a, b, false)
		r.net.Wires().Cut(b, a, false)
		return nil
	}, nil
}

func breakStreams(r *run, d *rand.Rand) (func() error, error) {
	a, b := r.link(d)
	r.net.Break(a, b)
	r.note("connections of %s and %s break", a, b)
	return nothing, nil
}

func slowDown(r *run, d *rand.Rand) (func() error, error) {
	delay, sync := time.Duration(1+d.Int64N(60))*time.Millisecond, time.Duration(1+d.Int64N(100))*time.Millisecond
	r.note("hops take up to %v and syncs up to %v", delay, sync)
	r.slow(delay, sync)
	return func() error { r.slow(usualDelay, usualSync); return nil }, nil
}

func pause(r *run, d *rand.Rand) (func() error, error) {
	h := r.draw(d)
	r.note("%s stands still", h.name)
	h.pause(true)
	return func() error { h.pause(false); return nil }, nil
}

func killSome(r *run, d *rand.Rand) (func() error, error) {
	for _, h := range r.some(d) {
		r.note("%s is killed", h.name)
		if err := h.kill(); err != nil {
			return nil, err
		}
	}
	return nothing, nil
}

func losePower(r *run, d *rand.Rand) (func() error, error) {
	for _, h := range r.some(d) {
		left := h.disk.Draw()
		r.note("%s loses its power; left is %v", h.name, left)
		if err := h.crash(left); err != nil {
			return nil, err
		}
	}
	return nothing, nil
}

func stopOne(r *run, d *rand.Rand) (func() error, error) {
	h := r.draw(d)
	r.note("%s is stopped", h.name)
	h.stop(r.t)
	return nothing, nil
}

func stallDisk(r *run, d *rand.Rand) (func() error, error) {
	h := r.draw(d)
	h.disk.Stall(true)
	r.note("the disk of %s stalls", h.name)
	return func() error { h.disk.Stall(false); return nil }, nil
}

// failSyncs has a node end itself. What its disk should have written is gone when
// the power fails afterwards, else still in the page cache.
func failSyncs(r *run, d *rand.Rand) (func() error, error) {
	h := r.draw(d)
	power := d.IntN(2) == 0
	r.note("syncs of %s fail; then the power: %v", h.name, power)
	h.disk.Fail(true)
	return func() error {
		h.disk.Fail(false)
		if power {
			return h.crash(simdisk.Sectors)
		}
		return nil
	}, nil
}

func fillDisk(r *run, d *rand.Rand) (func() error, error) {
	h := r.draw(d)
	h.disk.Fill(true)
	r.note("the disk of %s is full", h.name)
	return func() error { h.disk.Fill(false); return nil }, nil
}

// setClock sets one host's time of day, for the rest of the run or until the next
// time. All others are right, and with them a majority.
func setClock(r *run, d *rand.Rand) (func() error, error) {
	for _, h := range r.hosts {
		h.clock.jump.Store(0)
	}
	by := time.Duration(d.Int64N(int64(48*time.Hour))) - 24*time.Hour
	h := r.draw(d)
	r.note("the clock of %s is set by %v", h.name, by)
	h.clock.jump.Store(int64(by))
	return nothing, nil
}

// damage flips a bit in a file of a host that is down. Before it, the other two have
// answered without it: they have everything that was acknowledged, which is what
// makes it safe to lose one replica. The damaged node starts, or says what is
// damaged and is rebuilt.
func damage(r *run, d *rand.Rand) (func() error, error) {
	r.whole()
	h := r.draw(d)
	if err := h.kill(); err != nil {
		return nil, err
	}
	r.progress()
	small, err := filepath.Glob(filepath.Join(h.dir(), "*.json"))
	if err != nil {
		return nil, err
	}
	if len(small) > 0 && d.IntN(4) == 0 {
		return damageSmall(r, h, small[d.IntN(len(small))], d)
	}
	path, err := flip(filepath.Join(h.dir(), "shards"), d)
	if err != nil {
		return nil, err
	}
	r.note("%s is damaged", path)
	return func() error { return r.repair(h, path) }, nil
}

// damageSmall flips a bit in a file that says who the node is, or which cluster this is.
// It starts as what it was, or says that the file is damaged and gets its copy back.
func damageSmall(r *run, h *host, path string, d *rand.Rand) (func() error, error) {
	whole, err := os.ReadFile(path)
	if err == nil {
		err = flipIn(path, int64(len(whole)), d)
	}
	r.note("%s is damaged", path)
	return func() error {
		h.connect()
		switch err := h.open(); {
		case err == nil:
			r.counts["damage without a consequence"]++
		case strings.Contains(err.Error(), path+" is damaged"):
			r.counts["damage found at the start"]++
			if err := errors.Join(os.WriteFile(path, whole, 0o600), h.open()); err != nil {
				return fmt.Errorf("%s: open with its own %s: %w", h.name, path, err)
			}
		default:
			return fmt.Errorf("%s: open with a damaged %s: %w", h.name, path, err)
		}
		r.whole()
		return nil
	}, err
}

// flip changes one bit of one of the files below a directory.
func flip(dir string, d *rand.Rand) (path string, err error) {
	all := map[string]int64{}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > 0 {
			all[path] = info.Size()
		}
		return err
	})
	if err != nil || len(all) == 0 {
		return "", errors.Join(err, errors.New("there is no file to damage"))
	}
	path = slices.Sorted(maps.Keys(all))[d.IntN(len(all))]
	return path, flipIn(path, all[path], d)
}

// flipIn changes one bit of a file.
func flipIn(path string, size int64, d *rand.Rand) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	at, b := d.Int64N(size), make([]byte, 1)
	_, err = f.ReadAt(b, at)
	b[0] ^= 1 << d.IntN(8)
	if err == nil {
		_, err = f.WriteAt(b, at)
	}
	return errors.Join(err, f.Close())
}

// repair does what the message of a damaged node advises.
func (r *run) repair(h *host, path string) error {
	h.connect()
	err := h.open()
	var damaged *shard.DamageError
	switch {
	case err == nil:
		r.counts["damage without a consequence"]++
	case errors.As(err, &damaged) && strings.HasPrefix(damaged.Path, h.dir()):
		r.counts["damage found at the start"]++
		name, _, _ := strings.Cut(strings.TrimPrefix(path, filepath.Join(h.dir(), "shards")+"/"), "/")
		replica := filepath.Join(h.dir(), "shards", name)
		if err := os.RemoveAll(replica); err != nil {
			return err
		}
		if err := h.open(); err != nil {
			return fmt.Errorf("%s: open without %s: %w", h.name, replica, err)
		}
	default:
		return fmt.Errorf("%s: open with a damaged %s: %w", h.name, path, err)
	}
	r.whole()
	return nil
}

// excused tells whether a node may have ended itself for this reason.
func excused(err error) bool {
	const stuck, slow = "never committed", "the disk did not answer" // shard/conflict.go, shard/guard.go
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) ||
		strings.Contains(err.Error(), stuck) || strings.Contains(err.Error(), slow)
}
