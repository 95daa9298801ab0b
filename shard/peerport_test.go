package shard

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"stockade/bench/fuzzing"
	"stockade/shard/bubble"
	"stockade/shard/memnet"
	"stockade/shard/shardrpc"
)

var (
	clusterA = strings.Repeat("a1", clusterIDBytes)
	clusterB = strings.Repeat("b2", clusterIDBytes)
)

// openTestPort opens the port of a node in cluster A that knows all addresses.
func openTestPort(t *testing.T, n *memnet.Network, name string, shards int) *peerPort {
	t.Helper()
	p, err := newPeerPort(Config{Network: n.Host(name), Listen: name, Shards: shards, Logger: testLogger(t)}, newPortMetrics())
	check(t, err)
	p.admit(portIdentity{
		cluster: clusterA, self: raft.ServerID(name + ".00000000"),
		resolve: func(id shardrpc.NodeID) (string, bool) { return string(id), id != "nobody" },
	})
	return p
}

// refusals is how many connections were refused for a reason.
func refusals(t *testing.T, p *peerPort, why string) (n float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(p.metrics.refused)
	families, err := r.Gather()
	check(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == why {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// dialTo connects to a host as a stranger and sends b.
func dialTo(t *testing.T, n *memnet.Network, addr string, b []byte) net.Conn {
	t.Helper()
	c, err := n.Host("stranger").Dial(context.Background(), addr)
	check(t, err)
	if len(b) > 0 {
		_, err = c.Write(b)
		check(t, err)
	}
	return c
}

// isClosed waits until the other side has closed c.
func isClosed(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "closed pipe") {
		t.Fatal(err)
	}
	_ = c.Close()
}

// A Raft stream arrives at the streams of its shard, and what is written right
// behind the greeting is not lost.
func TestStreamFindsItsShard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := openTestPort(t, n, "a", 3), openTestPort(t, n, "b", 3)
		defer a.close()
		defer b.close()
		var streams []*raftStreams
		for shard := range 3 {
			s := newRaftStreams(b, b.streamsID(shard), "b.00000000")
			b.attach(b.streamsID(shard), s)
			streams = append(streams, s)
		}
		from := newRaftStreams(a, 1, "a.00000000")
		out, err := from.Dial("b.00000000", time.Second)
		check(t, err)
		in, err := streams[1].Accept()
		check(t, err)
		go func() { _, _ = out.Write([]byte("hello")) }()
		var got [5]byte
		if _, err := io.ReadFull(in, got[:]); err != nil || string(got[:]) != "hello" {
			t.Fatal(err, string(got[:]))
		}
		// Closing one side's streams breaks both directions.
		check(t, streams[1].Close())
		isClosed(t, out)
		if _, err := from.Dial("b.00000000", time.Second); err == nil || !strings.Contains(err.Error(), "no open replica") {
			t.Errorf("a closed shard accepts: %v", err)
		}
	})
}

func TestGreetingIsJudged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := openTestPort(t, n, "b", 2)
		defer p.close()
		p.attach(0, newRaftStreams(p, 0, "b.00000000"))
		tests := []struct {
			g    greeting
			want string
		}{
			{greeting{shard: 0, cluster: clusterA, target: "b.00000000"}, ""},
			{greeting{shard: 0, cluster: clusterB, target: "b.00000000"}, "another cluster"},
			{greeting{shard: 0, cluster: clusterA, target: "b.11111111"}, "another node answers"},
			{greeting{shard: 1, cluster: clusterA, target: "b.00000000"}, "no open replica"},
			{greeting{shard: 7, cluster: clusterA, target: "b.00000000"}, "no open replica"},
		}
		for _, tt := range tests {
			c := dialTo(t, n, "b", nil)
			err := greet(c, tt.g, time.Now().Add(time.Second))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%+v: %v, want %q", tt.g, err, tt.want)
			}
			check(t, c.Close())
		}
	})
}

// A node that has not formed its cluster yet lets no Raft stream in.
func TestNoStreamsBeforeTheClusterHasFormed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		p, err := newPeerPort(Config{Network: n.Host("b"), Listen: "b", Shards: 1, Logger: testLogger(t)}, newPortMetrics())
		check(t, err)
		defer p.close()
		c := dialTo(t, n, "b", nil)
		defer c.Close()
		err = greet(c, greeting{cluster: clusterA, target: "b.00000000"}, time.Now().Add(time.Second))
		if err == nil {
			t.Fatal("welcome")
		}
	})
}

// Strangers are closed and counted: noise, silence, half a greeting.
func TestStrangersAreClosed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := openTestPort(t, n, "b", 1)
		defer p.close()
		isClosed(t, dialTo(t, n, "b", []byte("GET ")))
		isClosed(t, dialTo(t, n, "b", []byte{0x16, 3, 1, 2})) // TLS
		if got := refusals(t, p, "unknown"); got != 2 {
			t.Errorf("unknown: %v", got)
		}
		began := time.Now()
		isClosed(t, dialTo(t, n, "b", nil))
		isClosed(t, dialTo(t, n, "b", []byte(peerMagic+"\x01")))
		if d := time.Since(began); d != 2*handshakeTimeout {
			t.Errorf("two silent connections took %v", d)
		}
		if got := refusals(t, p, "silent"); got != 2 {
			t.Errorf("silent: %v", got)
		}
	})
}

// Strangers that say nothing take a bounded number of slots.
func TestHandshakesAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := openTestPort(t, n, "b", 1)
		defer p.close()
		var open []net.Conn
		for range maxHandshakes {
			open = append(open, dialTo(t, n, "b", nil))
		}
		isClosed(t, dialTo(t, n, "b", nil))
		if got := refusals(t, p, "busy"); got != 1 {
			t.Errorf("busy: %v", got)
		}
		for _, c := range open {
			check(t, c.Close())
		}
	})
}

// gRPC gets its connection with the first bytes back.
func TestGRPCIsRouted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := openTestPort(t, n, "b", 1)
		defer p.close()
		const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		out := dialTo(t, n, "b", []byte(preface[:4]))
		go func() { _, _ = out.Write([]byte(preface[4:])) }()
		in, err := p.rpc.Accept()
		check(t, err)
		got := make([]byte, len(preface))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != preface {
			t.Fatalf("%v: %q", err, got)
		}
		p.close()
		isClosed(t, out)
	})
}

func FuzzGreeting(f *testing.F) {
	good, _ := greeting{shard: 3, cluster: clusterA, target: "n1.12345678", token: "t"}.append(nil)
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		if !bytes.HasPrefix(b, []byte(peerMagic)) {
			return
		}
		var g greeting
		var version uint8
		var err error
		// A greeting has two texts of at most 255 bytes.
		fuzzing.InProportion(t, b, 0, 32<<10, func() { g, version, err = readGreeting(bytes.NewReader(b[len(peerMagic):])) })
		if err != nil {
			return
		}
		again, err := g.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if version == peerVersion && !bytes.HasPrefix(again, b[:4]) {
			t.Fatal("another magic")
		}
		if back, _, err := readGreeting(bytes.NewReader(again[len(peerMagic):])); err != nil || back != g {
			t.Fatalf("%+v became %+v: %v", g, back, err)
		}
	})
}
