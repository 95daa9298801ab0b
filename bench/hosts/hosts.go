//go:build linux

// Package hosts builds hosts on one machine: network namespaces of Linux, joined by a
// switch in a namespace of its own. Real processes run on them as they would on
// machines of their own, and links between them can be cut, in one direction or both,
// or made slow. Nothing of it can be reached from outside, and nothing is left when the
// process that built it ends, however that is.
//
// It needs root, and ip and nft.
package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// network has room for all hosts; it exists in the namespaces only.
var network = netip.MustParsePrefix("10.77.0.0/24")

// Lab is some hosts and their switch. Its methods may be called concurrently.
type Lab struct {
	Hosts []*Host
	hub   *space

	mu   sync.Mutex
	cuts map[link]int // how often a link is cut
}

// link is one direction between two hosts.
type link struct{ from, to *Host }

// Host is one host. Its methods may be called concurrently.
type Host struct {
	Addr netip.Addr
	port string // of the switch, where its link ends
	in   *space
}

// New builds n hosts, at most 200. The error says what the machine does not allow.
func New(n int) (_ *Lab, err error) {
	l := &Lab{cuts: map[link]int{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("build %d hosts: %w", n, err), l.Close())
		}
	}()
	if l.hub, err = newSpace(); err != nil {
		return nil, err
	}
	if err := l.hub.run(switchLinks, "ip", "-batch", "-"); err != nil {
		return nil, err
	}
	if err := l.hub.run(switchRules, "nft", "-f", "-"); err != nil {
		return nil, err
	}
	addr := network.Addr()
	for range n {
		addr = addr.Next()
		if err := l.add(addr); err != nil {
			return nil, err
		}
	}
	return l, nil
}

const (
	switchLinks = "link add name switch type bridge\nlink set switch up\n"

	// Address resolution goes through always: without it a link that is cut in one
	// direction would soon be cut in both.
	switchRules = `table bridge lab {
	set cut { type ifname . ifname; }
	chain forward {
		type filter hook forward priority 0;
		meta protocol ip iifname . oifname @cut drop
	}
}`
)

// add links a new host to the switch.
func (l *Lab) add(addr netip.Addr) error {
	in, err := newSpace()
	if err != nil {
		return err
	}
	h := &Host{Addr: addr, port: fmt.Sprintf("port%d", len(l.Hosts)+1), in: in}
	l.Hosts = append(l.Hosts, h)
	if err := l.hub.run(fmt.Sprintf("link add name %s type veth peer name eth0 netns %d\nlink set %[1]s master switch up\n",
		h.port, in.holder.Process.Pid), "ip", "-batch", "-"); err != nil {
		return err
	}
	return in.run(fmt.Sprintf("addr add %s/%d dev eth0\nlink set lo up\nlink set eth0 up\n", addr, network.Bits()), "ip", "-batch", "-")
}

// Close takes everything down. Processes on the hosts have to be ended before; those
// that were not keep their namespace, without links.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range l.Hosts {
		errs = append(errs, h.in.close())
	}
	if l.hub != nil {
		errs = append(errs, l.hub.close())
	}
	return errors.Join(errs...)
}

// Cut lets packets from one host to another vanish. Those of the other direction pass.
func (l *Lab) Cut(from, to *Host) error { return l.count(link{from, to}, 1) }

// Mend takes one Cut back. Packets pass again when each has been.
func (l *Lab) Mend(from, to *Host) error { return l.count(link{from, to}, -1) }

// count keeps the rules of the switch in step with how often a link is cut.
func (l *Lab) count(which link, by int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.cuts[which]
	after, verb := before+by, ""
	switch {
	case after < 0:
		return fmt.Errorf("the link from %s to %s is not cut", which.from.Addr, which.to.Addr)
	case before == 0:
		verb = "add"
	case after == 0:
		verb = "delete"
	}
	if verb != "" {
		rule := fmt.Sprintf("%s element bridge lab cut { %s . %s }\n", verb, which.from.port, which.to.port)
		if err := l.hub.run(rule, "nft", "-f", "-"); err != nil {
			return err
		}
	}
	l.cuts[which] = after
	return nil
}

// Slow bounds what reaches a host to so many bytes a second. What comes faster waits
// up to two seconds, and beyond that is lost.
func (l *Lab) Slow(h *Host, bytesPerSecond int) error {
	return l.hub.run("", "tc", "qdisc", "replace", "dev", h.port, "root",
		"tbf", "rate", fmt.Sprintf("%dbps", bytesPerSecond), "burst", "4kb", "latency", "2s")
}

// Fast ends Slow.
func (l *Lab) Fast(h *Host) error {
	return l.hub.run("", "tc", "qdisc", "del", "dev", h.port, "root")
}

// Do calls f on the host: sockets that f makes and processes that it starts itself,
// not in other goroutines, are there for good. f must return.
func (h *Host) Do(f func() error) error { return h.in.do(f) }

// Dial connects from the host to an IP address and port.
func (h *Host) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// space is a network namespace. It lives as long as its holder, a process that waits
// for the end of its input, and so ends with this one.
type space struct {
	holder *exec.Cmd
	input  io.Closer
	ns     *os.File
}

func newSpace() (*space, error) {
	holder := exec.CommandContext(context.Background(), "cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	input, err := holder.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	s := &space{holder: holder, input: input}
	if s.ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *space) close() error {
	if s.ns != nil {
		_ = s.ns.Close() // was only looked at
	}
	_ = s.input.Close() // the holder ends by it, or has ended
	return s.holder.Wait()
}

// do calls f in the namespace. The goroutine never unlocks its thread, which so ends
// with it and is never anything else's in a wrong namespace.
func (s *space) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(s.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace of %d: %w", s.holder.Process.Pid, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// run runs a command in the namespace.
func (s *space) run(input, name string, args ...string) error {
	cmd := exec.CommandContext(context.Background(), name, args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &said, &said
	if err := s.do(cmd.Run); err != nil {
		return fmt.Errorf("%s %s <<<%q: %w: %s", name, strings.Join(args, " "), input, err, &said)
	}
	return nil
}
