package shard

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

// behindGate puts a gate before a transport, of a replica in term 1 without history.
func behindGate(t *testing.T, s steadyTransport) *groupTransport {
	t.Helper()
	g := &groupTransport{steadyTransport: s, gate: &gate{
		out: make(chan raft.RPC), log: testLogger(t),
		term: func() uint64 { return 1 }, includes: func(uint64, uint64) bool { return false },
	}}
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
		"group": {func(t *testing.T, s steadyTransport) raft.Transport { return behindGate(t, s) }, []string{"shared"}},
		// If this one fails, the library's follower stops where the request does.
		"library": {func(_ *testing.T, s steadyTransport) raft.Transport { return s.NetworkTransport }, []string{"shared", "of nobody else"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
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
// snapshot's last entry in the log. Ours finds it.
func TestSnapshotIsTheEdgeOfTheLog(t *testing.T) {
	for _, remedy := range []bool{true, false} {
		t.Run(fmt.Sprintf("with the remedy: %v", remedy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, to := twoTransports(t)
				store, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
				sink, err := snapshots.Create(1, 2, 1, threeServers(), 1, to)
				check(t, err)
				_, err = sink.Write([]byte{0x90}) // no entries, as the test's state machine writes them
				check(t, err)
				check(t, sink.Close())
				check(t, store.StoreLog(&raft.Log{Index: 3, Term: 1, Data: []byte("of nobody else")}))
				var log raft.LogStore = store
				if remedy {
					log = edgeLog{store, func() snapshotID { return snapshotID{2, 1} }}
				}
				old, err := raft.NewRaft(oldLeader(t), &raft.MockFSM{}, log, store, snapshots, to)
				check(t, err)
				defer func() { check(t, old.Shutdown().Error()) }()
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
			})
		})
	}
}

// A replica that is being rebuilt goes by what the leader has committed, not by what a
// request shows of it: it may have had all of that once.
func TestRebuildGoesByTheLeadersCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{out: make(chan raft.RPC), votes: new(voteFilter), log: testLogger(t)}
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

// Hazard: Raft installs each snapshot it is sent, also one that was sent long ago: the
// state goes back, and the log is emptied, acknowledged entries included.
func TestLateSnapshotIsNotInstalled(t *testing.T) {
	for _, kind := range bothKinds {
		for _, remedy := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, with the remedy: %v", kind, remedy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { lateSnapshot(t, kind, remedy) })
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
	if !remedy {
		f.trans.gate.includes = func(uint64, uint64) bool { return false } // nothing has been sent yet
		f.store.settled = func() (snapshot, commit uint64) { return 0, 0 } // nor cut
	}
	c.put(leader, 0, "before")
	send := keepSnapshot(t, leader.replica(0))
	c.put(leader, 0, "after")
	eventually(t, "the follower has everything", func() bool { return knows(follower, 0, "after") })
	first, last, err := bounds(f.store)
	check(t, err)

	send(f.self)
	gotFirst, gotLast, err := bounds(f.store)
	check(t, err)
	same := gotFirst == first && gotLast == last
	if back := !knows(follower, 0, "after"); back == remedy {
		t.Errorf("the state has gone back: %v", back)
	}
	switch {
	case same != remedy:
		t.Errorf("the log has entries %d to %d, and had %d to %d", gotFirst, gotLast, first, last)
	case remedy:
		c.put(leader, 0, "later")
		eventually(t, "the follower goes on", func() bool { return knows(follower, 0, "later") })
	}
}

// keepSnapshot takes a snapshot and gives what sends it to another replica.
func keepSnapshot(t *testing.T, r *replica) (send func(to raft.ServerID)) {
	t.Helper()
	future := r.raft.Snapshot()
	check(t, future.Error())
	meta, content, err := future.Open()
	check(t, err)
	data, err := io.ReadAll(content)
	check(t, err)
	check(t, content.Close())
	return func(to raft.ServerID) {
		t.Helper()
		req := &raft.InstallSnapshotRequest{
			RPCHeader:       raft.RPCHeader{ProtocolVersion: 3, ID: []byte(r.self), Addr: []byte(r.self)},
			SnapshotVersion: meta.Version, Term: r.term(), LastLogIndex: meta.Index, LastLogTerm: meta.Term,
			Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
			Size: int64(len(data)),
		}
		var resp raft.InstallSnapshotResponse
		err := r.trans.InstallSnapshot(to, raft.ServerAddress(to), req, &resp, bytes.NewReader(data))
		if err != nil || !resp.Success {
			t.Fatal(err, resp)
		}
	}
}
