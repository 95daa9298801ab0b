//go:build linux

package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stockade/bench/hosts"
)

const (
	// nemesisDisk has room for the logs of three shards, and for a copy of them.
	nemesisDisk = 1 << 30

	// nemesisSnapshot makes snapshots often enough for a short run to have some.
	nemesisSnapshot = "500"

	// nemesisLong is how long a run is at least for faults of more than some seconds.
	nemesisLong = 10 * time.Minute
)

// TestNemesis sells through three real processes on hosts of their own, with disks of
// their own, while up to three faults at a time hit processes, network and disks. As in
// TestChaos nothing may be over or missing in the end.
func TestNemesis(t *testing.T) {
	needTracing(t)
	lab, err := hosts.New(4)
	if err != nil {
		t.Skipf("NOT TESTED: faults of networks and disks need hosts, and here none can be built: %v", err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	seed, lasts := chaosRun(t)
	n := newNemesis(t, seed, lab)
	n.long = lasts >= nemesisLong
	n.run(lasts, n.strike)
	n.verify()
	n.t.Logf("single faults: %v", n.struck)
	n.missed()
}

// missed fails when a kind of fault never struck though there were many.
func (n *nemesis) missed() {
	total := 0
	for _, times := range n.struck {
		total += times
	}
	if total < 20*len(faults) {
		return
	}
	for _, f := range faults {
		if n.struck[f.name] == 0 && (n.long || !f.long) {
			n.t.Errorf("of %d faults none was: %s", total, f.name)
		}
	}
}

// nemesis is a run of chaos on hosts.
type nemesis struct {
	*chaos
	lab     *hosts.Lab
	clients *hosts.Host
	lines   map[string]*line // between the clients and a host, by its address
	long    bool
	struck  map[string]int
}

// newNemesis starts the nodes on all hosts but the last, which is the clients'.
func newNemesis(t *testing.T, seed uint64, lab *hosts.Lab) *nemesis {
	t.Helper()
	last := len(lab.Hosts) - 1
	n := &nemesis{lab: lab, clients: lab.Hosts[last], lines: map[string]*line{}, struck: map[string]int{}}
	addrs := make([]nodeAddrs, last)
	for i, h := range lab.Hosts[:last] {
		addrs[i] = nodeAddrs{peer: h.Addr.String() + ":7000", http: h.Addr.String() + ":8080", ops: h.Addr.String() + ":9090"}
		n.lines[h.Addr.String()] = &line{}
	}
	nodes := nodesAt(t, addrs, "--shards", "3", "--insecure", "--snapshot-entries", nemesisSnapshot)
	for i, p := range nodes {
		mountDisk(t, p.disk(), nemesisDisk)
		p.on = lab.Hosts[i].Do
	}
	before := caller
	t.Cleanup(func() { caller = before })
	caller = &http.Client{Timeout: before.Timeout, Transport: &http.Transport{MaxIdleConnsPerHost: 256, DialContext: n.dial}}
	startAll(t, nodes)
	n.chaos = newChaos(t, seed, nodes)
	return n
}

// host is where a node runs.
func (n *nemesis) host(p *process) *hosts.Host { return n.lab.Hosts[slices.Index(n.nodes, p)] }

// strike draws up to three faults for as many nodes, lets them last together, and mends
// them.
func (n *nemesis) strike(r *rand.Rand) string {
	var mends []func()
	lasts, mayEnd := time.Duration(0), map[*process]bool{}
	victims := r.Perm(len(n.nodes))
	for _, f := range n.draw(r) {
		p := n.nodes[victims[len(mends)]]
		n.t.Logf("%s: %s", p.id, f.name)
		mend := f.begin(n, p, r)
		if mend == nil {
			n.t.Logf("%s: not possible now", p.id)
			continue
		}
		n.struck[f.name]++
		mends = append(mends, mend)
		lasts, mayEnd[p] = max(lasts, f.lasts(r)), f.ends
	}
	<-time.After(lasts)
	for _, mend := range slices.Backward(mends) {
		mend()
	}
	n.revive(mayEnd)
	return fmt.Sprintf("%d at once", len(mends))
}

// draw draws faults that may be combined.
func (n *nemesis) draw(r *rand.Rand) (drawn []fault) {
	want, harmed := 1+r.IntN(len(n.nodes)), false
	for _, i := range r.Perm(len(faults)) {
		f := faults[i]
		if f.long && !n.long || f.alone && len(drawn) > 0 || f.harms && harmed {
			continue
		}
		harmed = harmed || f.harms
		drawn = append(drawn, f)
		if f.alone || len(drawn) == want {
			break
		}
	}
	return drawn
}

// revive starts the nodes that have ended. Whose disk or descriptors failed is started
// again in any case, as one would; it may have ended itself, or be about to.
func (n *nemesis) revive(mayEnd map[*process]bool) {
	for _, p := range n.nodes {
		if mayEnd[p] {
			n.end(p)
		}
		select {
		case <-p.exited:
			// A panic exits with 2, which nothing excuses; signals give no code.
			if code := p.cmd.ProcessState.ExitCode(); code > 1 || code == 1 && !mayEnd[p] {
				n.t.Errorf("%s ended itself with code %d:\n%s", p.id, code, p.logTail())
			}
			p.start(n.t)
		default:
		}
	}
	for _, p := range n.nodes {
		p.ready(n.t)
	}
}

// end kills a node that may have ended.
func (n *nemesis) end(p *process) {
	if err := p.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		n.must(err)
	}
	<-p.exited
}

// cut cuts links, and mends them.
func (n *nemesis) cut(links ...[2]*hosts.Host) (mend func()) {
	for _, l := range links {
		n.must(n.lab.Cut(l[0], l[1]))
	}
	return func() {
		for _, l := range links {
			n.must(n.lab.Mend(l[0], l[1]))
		}
	}
}

// links are those between a node and the other nodes, in and out.
func (n *nemesis) links(p *process) (in, out [][2]*hosts.Host) {
	for _, other := range n.nodes {
		if other != p {
			in = append(in, [2]*hosts.Host{n.host(other), n.host(p)})
			out = append(out, [2]*hosts.Host{n.host(p), n.host(other)})
		}
	}
	return in, out
}

func (n *nemesis) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// dial connects a client to a node, over its line.
func (n *nemesis) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := n.clients.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &lineConn{Conn: conn, line: n.lines[host]}, nil
}

// line stands between clients and a node as a proxy would.
type line struct {
	lose  atomic.Int64 // percent of the answers, which have been sent
	delay atomic.Int64 // of answers, at most, in nanoseconds
}

type lineConn struct {
	net.Conn
	line *line
}

// Read reads what the node has answered.
func (c *lineConn) Read(b []byte) (int, error) {
	read, err := c.Conn.Read(b)
	if most := c.line.delay.Load(); most > 0 {
		<-time.After(time.Duration(rand.Int64N(most)))
	}
	if read > 0 && rand.Int64N(100) < c.line.lose.Load() {
		return 0, errors.Join(io.ErrUnexpectedEOF, c.Close())
	}
	return read, err
}

// wantRefusal starts a node that has to refuse to run, in a line with these words.
func (n *nemesis) wantRefusal(p *process, words ...string) {
	n.t.Helper()
	p.start(n.t)
	if code := p.wait(n.t); code != 1 {
		n.t.Errorf("%s: exit code %d", p.id, code)
	}
	for _, w := range words {
		if tail := p.logTail(); !strings.Contains(tail, w) {
			n.t.Errorf("%s says nothing of %q:\n%s", p.id, w, tail)
		}
	}
}
