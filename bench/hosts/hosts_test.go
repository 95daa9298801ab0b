//go:build linux

package hosts

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

const (
	soon    = 10 * time.Second       // what is sent arrives
	silence = 300 * time.Millisecond // and what is lost has not arrived
)

// newLab builds hosts, or skips the test where that is not allowed.
func newLab(t *testing.T, n int) *Lab {
	t.Helper()
	l, err := New(n)
	if err != nil {
		t.Skipf("NOT TESTED: hosts can't be built here: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// pair is a connection between two hosts, by its two ends.
type pair struct{ client, server net.Conn }

func connect(t *testing.T, from, to *Host) pair {
	t.Helper()
	var listener net.Listener
	must(t, to.Do(func() (err error) {
		listener, err = net.Listen("tcp", to.Addr.String()+":0")
		return err
	}))
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	client, err := from.Dial(ctx, "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return pair{client, server}
}

func say(t *testing.T, from net.Conn, word string) {
	t.Helper()
	if _, err := io.WriteString(from, word); err != nil {
		t.Fatal(err)
	}
}

// hear wants a word to arrive.
func hear(t *testing.T, at net.Conn, word string) {
	t.Helper()
	got := make([]byte, len(word))
	_ = at.SetReadDeadline(time.Now().Add(soon))
	if _, err := io.ReadFull(at, got); err != nil || string(got) != word {
		t.Fatalf("%q, %v; not %q", got, err, word)
	}
}

// hearNothing wants nothing to arrive.
func hearNothing(t *testing.T, at net.Conn) {
	t.Helper()
	_ = at.SetReadDeadline(time.Now().Add(silence))
	if n, err := at.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

// TestCut cuts one direction of a connection that is there, twice, and mends it as often.
func TestCut(t *testing.T) {
	l := newLab(t, 3)
	a, b, other := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	c, d := connect(t, a, b), connect(t, other, b)
	say(t, c.client, "one")
	hear(t, c.server, "one")

	must(t, l.Cut(b, a))
	must(t, l.Cut(b, a))
	say(t, c.client, "two") // the direction that is left
	hear(t, c.server, "two")
	say(t, c.server, "three")
	hearNothing(t, c.client)
	say(t, d.server, "elsewhere")
	hear(t, d.client, "elsewhere")

	must(t, l.Mend(b, a))
	hearNothing(t, c.client)
	must(t, l.Mend(b, a))
	hear(t, c.client, "three") // TCP sends it again
	if err := l.Mend(b, a); err == nil {
		t.Error("mended what was not cut")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNarrowLink holds up what reaches a host.
func TestNarrowLink(t *testing.T) {
	l := newLab(t, 2)
	c := connect(t, l.Hosts[0], l.Hosts[1])
	if err := l.Slow(l.Hosts[1], 20_000); err != nil {
		t.Skipf("NOT TESTED: links can't be made slow here: %v", err)
	}
	const size = 40_000
	began := time.Now()
	go func() { _, _ = c.client.Write(make([]byte, size)) }() // ends with the connection
	_ = c.server.SetReadDeadline(began.Add(3 * soon))
	if n, err := io.ReadFull(c.server, make([]byte, size)); err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if took := time.Since(began); took < time.Second { // a bound that no busy machine can break
		t.Errorf("%d bytes in %v", size, took)
	}
	must(t, l.Fast(l.Hosts[1]))
}

// TestNothingIsShared: what listens on a host can't be reached from outside.
func TestNothingIsShared(t *testing.T) {
	l := newLab(t, 1)
	var listener net.Listener
	must(t, l.Hosts[0].Do(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}))
	defer listener.Close()
	conn, err := net.DialTimeout("tcp", listener.Addr().String(), soon)
	if err == nil {
		conn.Close()
		t.Fatal("the host's loopback is ours")
	}
	if conn, err = l.Hosts[0].Dial(t.Context(), "tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
