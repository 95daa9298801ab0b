package shard

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/memnet"
)

// streamsID spares the tests a conversion.
func (p *peerPort) streamsID(i int) allocator.ShardID { return allocator.ShardID(i) }

// Hazard: Raft's transport hands heartbeats to Raft on its own goroutine, past
// the main loop (hashicorp/raft issue 695). Ours does not.
func TestHeartbeatsGoThroughTheMainLoop(t *testing.T) {
	tests := map[string]struct {
		wrap     func(*testing.T, steadyTransport) raft.Transport
		shortcut bool
	}{
		"steady": {func(_ *testing.T, s steadyTransport) raft.Transport { return s }, false},
		"group":  {func(t *testing.T, s steadyTransport) raft.Transport { return behindGate(t, s, fakePast{now: 1}) }, false},
		// If this one fails, the library has no shortcut any more.
		"library": {func(_ *testing.T, s steadyTransport) raft.Transport { return s.NetworkTransport }, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				from, to := twoTransports(t)
				taken := make(chan bool, 1)
				if shortcut := heartbeat(t, from, tt.wrap(t, to), taken); shortcut != tt.shortcut {
					t.Errorf("past the main loop: %v, want %v", shortcut, tt.shortcut)
				}
			})
		})
	}
}

// twoTransports are those of a and of b, to which a can send.
func twoTransports(t *testing.T) (a, b steadyTransport) {
	t.Helper()
	n := memnet.New()
	pa, pb := openTestPort(t, n, "a", 1), openTestPort(t, n, "b", 1)
	sa, sb := newRaftStreams(pa, 0, "a.00000000"), newRaftStreams(pb, 0, "b.00000000")
	pb.attach(0, sb)
	log := newRaftLogger(testLogger(t))
	a, b = newTransport(sa, log), newTransport(sb, log)
	t.Cleanup(func() {
		check(t, a.Close())
		check(t, b.Close())
		pa.close()
		pb.close()
	})
	return a, b
}

// heartbeat sends one and tells whether it took the shortcut.
func heartbeat(t *testing.T, from steadyTransport, to raft.Transport, stop chan bool) bool {
	t.Helper()
	var shortcut atomic.Bool
	to.SetHeartbeatHandler(func(rpc raft.RPC) {
		shortcut.Store(true)
		rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	})
	go func() { // the main loop
		select {
		case rpc := <-to.Consumer():
			rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
		case <-stop:
		}
	}()
	req := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a"), Addr: []byte("a")}, Term: 1}
	var resp raft.AppendEntriesResponse
	if err := from.AppendEntries("b.00000000", "b.00000000", req, &resp); err != nil || !resp.Success {
		t.Fatal(err, resp)
	}
	close(stop)
	return shortcut.Load()
}

// Hazard: the pipeline can wedge a follower (issue 612). It is switched off.
func TestThereIsNoPipeline(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := openTestPort(t, n, "a", 1)
		defer p.close()
		s := newRaftStreams(p, 0, "a.00000000")
		trans := newTransport(s, newRaftLogger(testLogger(t)))
		defer trans.Close()
		if _, err := trans.AppendEntriesPipeline("b.00000000", "b.00000000"); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
			t.Errorf("got %v", err)
		}
	})
}

// A follower that needs three snapshots within ten minutes is alarmed on, once a
// minute, however many more there are.
func TestManyInstallsAreAlarmedOn(t *testing.T) {
	g := &groupTransport{installs: map[raft.ServerID]*installWatch{}}
	began := time.Now()
	steps := []struct {
		after time.Duration
		want  bool
	}{
		{0, false}, {6 * time.Minute, false}, {11 * time.Minute, false}, // the first is too long ago
		{12 * time.Minute, true}, {12*time.Minute + 59*time.Second, false}, {13 * time.Minute, true},
		{time.Hour, false}, {61 * time.Minute, false}, {62 * time.Minute, true},
	}
	for _, s := range steps {
		if got := g.needsMany("b", began.Add(s.after)); got != s.want {
			t.Errorf("after %v: %v", s.after, got)
		}
	}
	if g.needsMany("c", began.Add(62*time.Minute)) {
		t.Error("others' installs count")
	}
	if n := len(g.installs["b"].recent); n > loopInstalls {
		t.Errorf("it remembers %d installs", n)
	}
}

// A follower's progress in an older term does not count.
func TestProgressOfFollowers(t *testing.T) {
	g := &groupTransport{match: map[raft.ServerID]acknowledged{}}
	for _, a := range []acknowledged{{3, 10}, {3, 9}, {2, 50}} {
		g.note("b", a)
	}
	if got := g.matched("b"); got != 10 {
		t.Errorf("got %d", got)
	}
	g.note("b", acknowledged{4, 7}) // its log was cut by a new leader
	if got := g.matched("b"); got != 7 {
		t.Errorf("got %d", got)
	}
}

// Raft's goroutines that replicate outlive the office. What they read of the log may be of
// two histories, and is not sent.
func TestNothingIsSentAfterTheOffice(t *testing.T) {
	g := &groupTransport{gate: &gate{past: fakePast{now: 3}}} // it could send nothing
	if err := g.AppendEntries("b", "b", &raft.AppendEntriesRequest{Term: 2}, nil); !errors.Is(err, errOfficeOver) {
		t.Errorf("entries: %v", err)
	}
	if err := g.InstallSnapshot("b", "b", &raft.InstallSnapshotRequest{Term: 2}, nil, nil); !errors.Is(err, errOfficeOver) {
		t.Errorf("a snapshot: %v", err)
	}
}
