package shard

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"stockade/shard/bubble"
)

// fakePast is the history of a replica that is none.
type fakePast struct {
	now, state, log uint64 // the term, and what applied and first give
	has             uint64 // the only entry that is included
}

func (p fakePast) term() uint64                  { return p.now }
func (p fakePast) applied() uint64               { return p.state }
func (p fakePast) first() uint64                 { return p.log }
func (p fakePast) includes(index, _ uint64) bool { return p.has > 0 && index == p.has }

// behindGate puts a gate before a transport.
func behindGate(t *testing.T, s steadyTransport, p past) *groupTransport {
	t.Helper()
	g := &groupTransport{steadyTransport: s, gate: &gate{out: make(chan raft.RPC), log: testLogger(t), past: p}}
	stop := make(chan struct{})
	go g.gate.pass(s.Consumer(), stop)
	t.Cleanup(func() { close(stop) })
	return g
}

// Hazard: Raft's follower commits all it has up to the leader's commit index. A leader
// that comes back has entries at its end that nobody else has; its successor may tell
// it what is committed by now in a request that ends before them. Ours hears of no more
// than the request shows.
func TestOnlySharedEntriesAreCommitted(t *testing.T) {
	tests := map[string]struct {
		wrap func(*testing.T, steadyTransport) raft.Transport
		want []string
	}{
		"group": {func(t *testing.T, s steadyTransport) raft.Transport { return behindGate(t, s, fakePast{now: 1}) }, []string{"shared"}},
		// If this one fails, the library's follower stops where the request does.
		"library": {func(_ *testing.T, s steadyTransport) raft.Transport { return s.NetworkTransport }, []string{"shared", "of nobody else"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				from, to := twoTransports(t)
				fsm := &raft.MockFSM{}
				old := openOldLeader(t, tt.wrap(t, to), fsm)
				defer func() { check(t, old.Shutdown().Error()) }()
				req := appendRequest(2, 3)
				var resp raft.AppendEntriesResponse
				if err := from.AppendEntries("b.00000000", "b.00000000", req, &resp); err != nil || !resp.Success {
					t.Fatal(err, resp)
				}
				synctest.Wait()
				var got []string
				for _, data := range fsm.Logs() {
					got = append(got, string(data))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("applied %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// appendRequest is one of a, which leads in term 2, without entries.
func appendRequest(previous, commit uint64) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a.00000000"), Addr: []byte("a.00000000")},
		Term:      2, PrevLogEntry: previous, PrevLogTerm: 1, LeaderCommitIndex: commit,
	}
}

// openOldLeader opens a replica that led in term 1: entry 2 has reached the others,
// entry 3 has not.
func openOldLeader(t *testing.T, trans raft.Transport, fsm raft.FSM) *raft.Raft {
	t.Helper()
	store, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	check(t, raft.BootstrapCluster(oldLeader(t), store, store, snapshots, trans, threeServers()))
	check(t, store.StoreLogs([]*raft.Log{
		{Index: 2, Term: 1, Data: []byte("shared")},
		{Index: 3, Term: 1, Data: []byte("of nobody else")},
	}))
	r, err := raft.NewRaft(oldLeader(t), fsm, store, store, snapshots, trans)
	check(t, err)
	return r
}

func oldLeader(t *testing.T) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = "b.00000000", newRaftLogger(testLogger(t))
	return conf
}

func threeServers() (c raft.Configuration) {
	for _, id := range []string{"a.00000000", "b.00000000", "c.00000000"} {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return c
}

// Hazard: a replica whose log begins behind its snapshot, with an entry that was never
// committed, refuses a leader whose log ends where the snapshot does: Raft looks for the
// snapshot's last entry in the log. Ours is not asked for it.
func TestWhatASnapshotHasIsNotAskedFor(t *testing.T) {
	for _, remedy := range []bool{true, false} {
		t.Run(fmt.Sprintf("with the remedy: %v", remedy), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { askBehindASnapshot(t, remedy) })
		})
	}
}

func askBehindASnapshot(t *testing.T, remedy bool) {
	from, to := twoTransports(t)
	store, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	sink, err := snapshots.Create(1, 2, 1, threeServers(), 1, to)
	check(t, err)
	_, err = sink.Write([]byte{0x90}) // no entries, as the test's state machine writes them
	check(t, err)
	check(t, sink.Close())
	check(t, store.StoreLog(&raft.Log{Index: 3, Term: 1, Data: []byte("of nobody else")}))
	var trans raft.Transport = to
	if remedy {
		trans = behindGate(t, to, fakePast{now: 1, state: 2, log: 3})
	}
	old, err := raft.NewRaft(oldLeader(t), &raft.MockFSM{}, store, store, snapshots, trans)
	check(t, err)
	defer func() { check(t, old.Shutdown().Error()) }()
	for range 2 { // the answer to the first one was lost
		req := appendRequest(2, 2)
		req.Entries = []*raft.Log{{Index: 3, Term: 2, Data: []byte("the leader's")}}
		var resp raft.AppendEntriesResponse
		check(t, from.AppendEntries("b.00000000", "b.00000000", req, &resp))
		if resp.Success != remedy {
			t.Errorf("agreed: %v", resp.Success)
		}
		var l raft.Log
		check(t, store.GetLog(3, &l))
		if replaced := string(l.Data) == "the leader's"; replaced != remedy {
			t.Errorf("entry 3 is %q", l.Data)
		}
	}
}

// TestSkipPast looks at what is left of requests.
func TestSkipPast(t *testing.T) {
	tests := map[string]struct {
		past     fakePast
		previous uint64 // the two entries after it come with the request
		left     uint64 // the one before what Raft gets
		entries  []uint64
	}{
		"the log has it":                    {fakePast{state: 9, log: 5}, 7, 7, []uint64{8, 9}},
		"it is not applied":                 {fakePast{state: 9}, 10, 10, []uint64{11, 12}},
		"all of it is applied":              {fakePast{state: 9}, 7, 0, nil},
		"some of it is":                     {fakePast{state: 9}, 8, 0, []uint64{10}},
		"none but what is before it":        {fakePast{state: 9, log: 10}, 9, 0, []uint64{10, 11}},
		"it begins with the first of all":   {fakePast{state: 9}, 0, 0, []uint64{1, 2}},
		"what is applied is in the log too": {fakePast{state: 12, log: 10}, 9, 0, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req := appendRequest(tt.previous, 100)
			req.Entries = []*raft.Log{{Index: tt.previous + 1}, {Index: tt.previous + 2}}
			limitCommit(req)
			(&gate{past: tt.past}).skipPast(req)
			var entries []uint64
			for _, l := range req.Entries {
				entries = append(entries, l.Index)
			}
			if req.PrevLogEntry != tt.left || !slices.Equal(entries, tt.entries) {
				t.Errorf("entries %v after %d", entries, req.PrevLogEntry)
			}
			if want := tt.previous + 2; req.LeaderCommitIndex != want {
				t.Errorf("committed are %d, want %d", req.LeaderCommitIndex, want)
			}
		})
	}
}

// A replica that is being rebuilt goes by what the leader has committed, not by what a
// request shows of it: it may have had all of that once.
func TestRebuildGoesByTheLeadersCommit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := &gate{out: make(chan raft.RPC), votes: new(voteFilter), past: fakePast{now: 1}, log: testLogger(t)}
		in, stop := make(chan raft.RPC), make(chan struct{})
		defer close(stop)
		go g.pass(in, stop)
		in <- raft.RPC{Command: appendRequest(2, 200)}
		passed := <-g.out
		if got := passed.Command.(*raft.AppendEntriesRequest).LeaderCommitIndex; got != 2 {
			t.Errorf("Raft hears of %d committed entries", got)
		}
		if term, commit := g.votes.leaderCommit(); term != 2 || commit != 200 {
			t.Errorf("the leader of term %d has committed %d entries", term, commit)
		}
	})
}

// A snapshot is judged when Raft is done with the request before it, read to its end when
// it is declined, and left to Raft when it is of an older term.
func TestSnapshotsAtTheGate(t *testing.T) {
	tests := map[string]struct {
		term     uint64
		declined bool
	}{"this term": {3, true}, "a later one": {4, true}, "an older one": {2, false}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := &gate{out: make(chan raft.RPC), past: fakePast{now: 3, has: 7}, log: testLogger(t)}
				in, stop := make(chan raft.RPC), make(chan struct{})
				defer close(stop)
				go g.pass(in, stop)
				content, answer := strings.NewReader(strings.Repeat("x", 1<<20)), make(chan raft.RPCResponse, 1)
				in <- raft.RPC{Command: &raft.InstallSnapshotRequest{Term: tt.term, LastLogIndex: 7}, Reader: content, RespChan: answer}
				synctest.Wait()
				if content.Len() == 0 {
					t.Fatal("it was declined while Raft may be busy")
				}
				settled := <-g.out
				settled.Respond(nil, nil)
				if !tt.declined {
					if rpc := <-g.out; rpc.Command.(*raft.InstallSnapshotRequest).Term != tt.term {
						t.Errorf("Raft gets %v", rpc.Command)
					}
					return
				}
				got := <-answer
				if resp := got.Response.(*raft.InstallSnapshotResponse); !resp.Success || resp.Term != tt.term || content.Len() > 0 {
					t.Errorf("answered %+v, %d bytes are left", resp, content.Len())
				}
			})
		})
	}
}

// TestPastOfAReplica looks at what a real one tells its gate and its guard.
func TestPastOfAReplica(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		c.put(c.leader(0), 0, "a")
		node := c.nodes["n1"]
		eventually(t, "n1 has a", func() bool { return knows(node, 0, "a") })
		r := node.replica(0)
		last, term := r.raft.LastIndex(), r.term()
		if _, commit := r.settled(); r.applied() != last || commit != last || r.first() != 1 {
			t.Errorf("applied %d, committed %d, first %d; the log ends with %d", r.applied(), commit, r.first(), last)
		}
		// Written, and not known to be committed.
		_ = r.store.StoreLog(&raft.Log{Index: last + 1, Term: term, Type: raft.LogNoop})
		for _, tt := range []struct {
			index, term uint64
			want        bool
		}{{last, term, true}, {1, term, true}, {last + 1, term, true}, {last + 1, term + 1, false}, {last + 2, term, false}} {
			if got := r.includes(tt.index, tt.term); got != tt.want {
				t.Errorf("entry %d of term %d: %v", tt.index, tt.term, got)
			}
		}
	})
}

// Hazard: Raft installs each snapshot it is sent, also one that was sent long ago: the
// state goes back, and the log is emptied, acknowledged entries included.
func TestLateSnapshotIsNotInstalled(t *testing.T) {
	for _, kind := range bothKinds {
		for _, remedy := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, with the remedy: %v", kind, remedy), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) { lateSnapshot(t, kind, remedy) })
			})
		}
	}
}

func lateSnapshot(t *testing.T, kind LogStoreKind, remedy bool) {
	c := newTestCluster(t, 3, 1, func(cfg *Config) { cfg.LogStore = kind })
	c.startAll()
	defer c.stopAll()
	leader := c.leader(0)
	follower := c.nodes["n1"]
	if leader == follower {
		follower = c.nodes["n2"]
	}
	f := follower.replica(0)
	c.put(leader, 0, "before")
	req, data := takeSnapshot(t, leader.replica(0))
	c.put(leader, 0, "after")
	eventually(t, "the follower has everything", func() bool { return knows(follower, 0, "after") })
	first, last, err := bounds(f.store)
	check(t, err)

	var resp raft.InstallSnapshotResponse
	if remedy {
		check(t, leader.replica(0).trans.InstallSnapshot(f.self, raft.ServerAddress(f.self), req, &resp, bytes.NewReader(data)))
		if gotFirst, gotLast, err := bounds(f.store); err != nil || gotFirst != first || gotLast != last || !resp.Success {
			t.Errorf("the log has entries %d to %d, and had %d to %d; agreed: %v", gotFirst, gotLast, first, last, resp.Success)
		}
		c.put(leader, 0, "later")
		eventually(t, "the follower goes on", func() bool { return knows(follower, 0, "later") })
		return
	}
	delete(c.nodes, string(follower.ID()))
	f.trans.gate.out <- raft.RPC{Command: req, Reader: bytes.NewReader(data), RespChan: make(chan raft.RPCResponse, 1)}
	// Without the guard the log would be emptied. The state goes back before that.
	says(t, (<-follower.Fatal()).Error(), "was to be emptied for a snapshot", "start it again")
	if knows(follower, 0, "after") {
		t.Error("the state has not gone back: if the library has learned to look, the remedy may be let go")
	}
	check(t, follower.Close(context.Background()))
}

// takeSnapshot has a replica write one, and gives what it would send.
func takeSnapshot(t *testing.T, r *replica) (*raft.InstallSnapshotRequest, []byte) {
	t.Helper()
	future := r.raft.Snapshot()
	check(t, future.Error())
	meta, content, err := future.Open()
	check(t, err)
	data, err := io.ReadAll(content)
	check(t, err)
	check(t, content.Close())
	return &raft.InstallSnapshotRequest{
		RPCHeader:       raft.RPCHeader{ProtocolVersion: 3, ID: []byte(r.self), Addr: []byte(r.self)},
		SnapshotVersion: meta.Version, Term: r.term(), LastLogIndex: meta.Index, LastLogTerm: meta.Term,
		Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
		Size: int64(len(data)),
	}, data
}
