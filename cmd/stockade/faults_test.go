//go:build linux

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stockade/bench/hosts"
)

// fault is something that happens to a node, or to what it needs.
type fault struct {
	name  string
	alone bool // needs the others whole
	ends  bool // the node may end itself, and is started again
	long  bool // not in short runs
	harms bool // takes a replica, so not two at once: a shard that lost two of three stops
	time  time.Duration

	// begin gives nil when the fault is not possible now; then it has done nothing.
	begin func(n *nemesis, p *process, r *rand.Rand) (mend func())
}

// lasts is a time that was fixed, or some seconds.
func (f fault) lasts(r *rand.Rand) time.Duration {
	if f.time > 0 {
		return f.time
	}
	return time.Duration(r.Int64N(int64(5 * time.Second)))
}

var faults = []fault{
	{name: "killed", begin: killed},
	{name: "all killed", alone: true, begin: allKilled},
	{name: "terminated", begin: terminated},
	{name: "without power", begin: withoutPower},
	{name: "all without power", alone: true, begin: allWithoutPower},
	{name: "stopped for 3 s", time: 3 * time.Second, begin: stopped},
	{name: "stopped for 15 s", time: 15 * time.Second, long: true, begin: stopped},
	{name: "stopped for 60 s", time: 60 * time.Second, long: true, begin: stopped},

	{name: "cut off", begin: cutOff},
	{name: "hears nothing", begin: hearsNothing},
	{name: "is not heard", begin: notHeard},
	{name: "a link cut", begin: linkCut},
	{name: "flapping links", begin: flapping},
	{name: "slow link", begin: slowLink},
	{name: "clients cut off", begin: clientsCutOff},
	{name: "answers lost", begin: answersLost},
	{name: "answers late", begin: answersLate},

	{name: "slow disk", begin: slowDisk},
	{name: "stalled disk", ends: true, time: 12 * time.Second, begin: stalledDisk}, // longer than a write may take
	{name: "failing disk", ends: true, begin: failingDisk},
	{name: "full disk", ends: true, begin: fullDisk},
	{name: "torn tail", begin: tornTail},
	{name: "flipped bit in a log", harms: true, begin: flippedLog},
	{name: "flipped bit in a snapshot", harms: true, begin: flippedSnapshot},
	{name: "wiped", alone: true, begin: wiped},
	{name: "old copy", alone: true, begin: oldCopy},

	{name: "starved of CPU", begin: starvedOfCPU},
	{name: "starved of descriptors", ends: true, begin: starvedOfDescriptors},
}

// A node that was ended, or has ended itself, is started again by revive.

func killed(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	p.kill(n.t)
	return func() {}
}

func allKilled(n *nemesis, _ *process, _ *rand.Rand) (mend func()) {
	for _, p := range n.nodes {
		p.kill(n.t)
	}
	return func() {}
}

func terminated(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	if code := p.stop(n.t); code != 0 {
		n.t.Errorf("%s ended with %d:\n%s", p.id, code, p.logTail())
	}
	return func() {}
}

// withoutPower takes a host's power until it is mended.
func withoutPower(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	losePower(n.t, p)
	return func() { p.start(n.t) }
}

func allWithoutPower(n *nemesis, _ *process, _ *rand.Rand) (mend func()) {
	losePower(n.t, n.nodes...)
	return func() {
		for _, p := range n.nodes {
			p.start(n.t)
		}
	}
}

func stopped(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	n.signal([]*process{p}, syscall.SIGSTOP)
	return func() { n.signal([]*process{p}, syscall.SIGCONT) }
}

func cutOff(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	in, out := n.links(p)
	return n.cut(slices.Concat(in, out)...)
}

func hearsNothing(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	in, _ := n.links(p)
	return n.cut(in...)
}

func notHeard(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	_, out := n.links(p)
	return n.cut(out...)
}

// linkCut cuts one link, in one direction or both: two nodes don't hear each other, and the
// third one hears both.
func linkCut(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	in, out := n.links(p)
	i := r.IntN(len(in))
	links := in[i : i+1 : i+1]
	if r.IntN(2) == 0 {
		links = append(links, out[i])
	}
	return n.cut(links...)
}

func flapping(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	in, out := n.links(p)
	links, pause := slices.Concat(in, out), time.Duration(50+r.IntN(950))*time.Millisecond
	return repeat(func() {
		again := n.cut(links...)
		<-time.After(pause)
		again()
		<-time.After(pause)
	})
}

// repeat repeats something in the background until stop returns.
func repeat(do func()) (stop func()) {
	over := make(chan struct{})
	var worker sync.WaitGroup
	worker.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				do()
			}
		}
	})
	return func() { close(over); worker.Wait() }
}

func slowLink(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	if err := n.lab.Slow(n.host(p), 2_000+r.IntN(60_000)); err != nil {
		n.t.Logf("NOT TESTED: a slow link: %v", err)
		return nil
	}
	return func() { n.must(n.lab.Fast(n.host(p))) }
}

func clientsCutOff(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	if r.IntN(2) == 0 {
		return n.cut([2]*hosts.Host{n.host(p), n.clients})
	}
	return n.cut([2]*hosts.Host{n.clients, n.host(p)})
}

func answersLost(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	l := n.lines[n.host(p).Addr.String()]
	l.lose.Store(int64(1 + r.IntN(100)))
	return func() { l.lose.Store(0) }
}

func answersLate(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	l := n.lines[n.host(p).Addr.String()]
	l.delay.Store(int64(time.Duration(1+r.IntN(3000)) * time.Millisecond))
	return func() { l.delay.Store(0) }
}

// traceSyncs changes what a node's syncs do.
func (n *nemesis) traceSyncs(p *process, inject string) (mend func()) {
	detach, err := trace(n.t, p.cmd.Process.Pid, "-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:"+inject)
	n.must(err)
	return detach
}

func slowDisk(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	return n.traceSyncs(p, fmt.Sprintf("delay_enter=%dms", 10+r.IntN(400)))
}

func stalledDisk(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	return n.traceSyncs(p, "delay_enter=60s")
}

func failingDisk(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	return n.traceSyncs(p, "error=EIO")
}

// fullDisk takes all the space that is left. Where files can be made large without
// being written it is quick.
func fullDisk(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	path := filepath.Join(p.disk(), "filler")
	f, err := os.Create(path)
	n.must(err)
	defer f.Close()
	var at int64
	for size := int64(nemesisDisk); size >= 4096; {
		if err := unix.Fallocate(int(f.Fd()), 0, at, size); err == nil {
			at += size
		} else if errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else {
			n.must(err)
		}
	}
	return func() { n.must(os.Remove(path)) }
}

// newestLog is the newest segment of a log of some shard, and where its content ends.
func (n *nemesis) newestLog(p *process, r *rand.Rand) (path string, log []byte, end int) {
	segments, err := filepath.Glob(filepath.Join(p.data(), "shards", fmt.Sprintf("%04d", r.IntN(3)), "wal", "*.wal"))
	n.must(err)
	if len(segments) == 0 {
		n.t.Fatalf("%s has no log", p.id)
	}
	path = segments[len(segments)-1]
	log = content(n.t, path)
	return path, log, len(bytes.TrimRight(log, "\x00"))
}

// tornTail leaves a batch half written behind the end of a log, as a crash would.
func tornTail(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	p.kill(n.t)
	path, log, end := n.newestLog(p, r)
	end = (end + 7) / 8 * 8
	for i := end; i < min(end+1+r.IntN(600), len(log)); i++ {
		log[i] = byte(r.Uint32())
	}
	overwrite(n.t, path, log)
	n.sync(p)
	return func() {}
}

// flippedLog flips a bit of what the log has from before its last batch. The node has
// to notice, and is repaired as it says.
func flippedLog(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	path, _, end := n.newestLog(p, r)
	if end < 64<<10 { // its first half may be its last batch
		return nil
	}
	p.kill(n.t)
	log := content(n.t, path)
	log[r.IntN(end/2)] ^= 1 << r.IntN(8)
	overwrite(n.t, path, log)
	n.repair(p, path)
	return func() {}
}

// flippedSnapshot flips a bit of the newest snapshot of a shard.
func flippedSnapshot(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	shard := fmt.Sprintf("%04d", r.IntN(3))
	if len(snapshots(n.t, p.data(), shard)) == 0 {
		return nil
	}
	p.kill(n.t)
	all := snapshots(n.t, p.data(), shard)
	path := all[len(all)-1]
	state := content(n.t, path)
	state[r.IntN(len(state))] ^= 1 << r.IntN(8)
	overwrite(n.t, path, state)
	n.repair(p, path)
	return func() {}
}

// repair does what a node says that refuses to start because a file is damaged.
func (n *nemesis) repair(p *process, path string) {
	replica := replicaOf(p.data(), path)
	n.wantRefusal(p, "is damaged", "move the directory "+replica+" away")
	n.must(os.RemoveAll(replica))
	n.sync(p)
	p.start(n.t)
}

// wiped starts a node without its data, which has to be refused, and then with it.
func wiped(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	p.kill(n.t)
	n.must(os.Rename(p.data(), p.data()+".aside"))
	n.wantRefusal(p, "another identity", "one node less")
	n.must(os.RemoveAll(p.data()))
	n.must(os.Rename(p.data()+".aside", p.data()))
	n.sync(p)
	p.start(n.t)
	return func() {}
}

// oldCopy puts a node back to what it was some seconds ago. What it has promised to the
// others since then, they must have without it; so they go on for a while before it
// comes back.
func oldCopy(n *nemesis, p *process, r *rand.Rand) (mend func()) {
	p.kill(n.t)
	old := p.data() + ".old"
	out, err := exec.Command("cp", "-a", p.data(), old).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%v: %s", err, out)
	}
	n.revive(nil)
	<-time.After(time.Duration(r.Int64N(int64(5 * time.Second))))
	p.kill(n.t)
	n.goOn(50, p)
	n.must(os.RemoveAll(p.data()))
	n.must(os.Rename(old, p.data()))
	n.sync(p)
	return func() {}
}

// sync has what was done to a node's files by hand survive a power failure.
func (n *nemesis) sync(p *process) {
	dir, err := os.Open(p.disk())
	n.must(err)
	n.must(errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close()))
}

// starvedOfCPU leaves a node a tenth of its time.
func starvedOfCPU(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	one := []*process{p}
	return repeat(func() {
		n.signal(one, syscall.SIGSTOP)
		<-time.After(90 * time.Millisecond)
		n.signal(one, syscall.SIGCONT)
		<-time.After(10 * time.Millisecond)
	})
}

// starvedOfDescriptors lets a node open nothing more.
func starvedOfDescriptors(n *nemesis, p *process, _ *rand.Rand) (mend func()) {
	var before unix.Rlimit
	n.must(unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &before))
	n.must(unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: before.Max}, nil))
	return func() {
		err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &before, nil)
		if !errors.Is(err, unix.ESRCH) { // it has ended itself
			n.must(err)
		}
	}
}
