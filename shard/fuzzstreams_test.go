package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"stockade/bench/fuzzing"
	"stockade/shard/internal/formationpb"
)

// The most that an introduction may take. A member of nothing in a cluster's file is three
// bytes, and one in a fingerprint two; both are structs in lists, and the latter is told
// of in an error. That took 137 bytes for each.
const helloPerByte, helloAlways = 512, 64 << 10

// FuzzIntroduction takes what claims to be another node's introduction, as a question and
// as an answer, before this node's cluster has formed and after. A cluster that forms by
// it is one, and this node's.
func FuzzIntroduction(f *testing.F) {
	cfg, formed := DefaultConfig(), someCluster()
	cfg.NodeID, cfg.Initial, cfg.Logger = "a", []Peer{{"a", "h:1"}, {"b", "h:2"}}, testLogger(f)
	self, other := formed.Members[0], formed.Members[1]
	introduce := func(change func(*formationpb.Introduction)) {
		in := &formationpb.Introduction{NodeId: string(other.ID), Incarnation: other.Incarnation, Fingerprint: cfg.fingerprint(), View: formed.ClusterID}
		change(in)
		b, err := proto.Marshal(in)
		check(f, err)
		f.Add(b)
	}
	file, err := json.Marshal(formed)
	check(f, err)
	introduce(func(*formationpb.Introduction) {})
	introduce(func(in *formationpb.Introduction) { in.Cluster = file })
	introduce(func(in *formationpb.Introduction) { in.Cluster = file[:len(file)-1] })
	introduce(func(in *formationpb.Introduction) {
		in.Cluster = bytes.Replace(file, []byte(`"shards":16`), []byte(`"shards":-1`), 1)
	})
	introduce(func(in *formationpb.Introduction) { in.Incarnation, in.Fingerprint = "0b", nil })
	introduce(func(in *formationpb.Introduction) { in.Cluster = []byte(`{"members":[` + many("{}") + `]}`) })
	introduce(func(in *formationpb.Introduction) {
		in.Fingerprint.Initial = slices.Repeat([]*formationpb.Member{{}}, 5000)
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		asked, asking, member := newFormation(cfg, self, nil), newFormation(cfg, self, nil), newFormation(cfg, self, &formed)
		fuzzing.InProportion(t, data, helloPerByte, helloAlways, func() {
			var in formationpb.Introduction
			if proto.Unmarshal(data, &in) != nil {
				return
			}
			// Each may refuse it.
			_, _ = asked.Hello(t.Context(), &in)
			_ = asking.take(cfg.Initial[1], &in)
			_, _ = member.Hello(t.Context(), &in)
			_ = member.same(other.ID, &in)
		})
		for _, formation := range []*formation{asked, asking, member} {
			checkFormation(t, formation)
		}
	})
}

// many repeats an item of a document, for what takes more memory than it is long.
func many(item string) string { return strings.Repeat(item+",", 5000) + item }

// checkFormation checks what a node relies on, and what others can be told.
func checkFormation(t *testing.T, f *formation) {
	t.Helper()
	for id := range f.heard {
		if f.cfg.address(id) == "" {
			t.Errorf("heard %q, which is not among the initial nodes", id)
		}
	}
	c := f.cluster
	if c != nil && errors.Join(c.check("it"), c.admits(f.self.ID, f.self.Incarnation), c.matches(f.cfg)) != nil {
		t.Errorf("formed %+v", c)
	}
	in, err := f.Describe(t.Context(), &formationpb.Question{})
	if (err == nil) != (c != nil) {
		t.Fatalf("%+v is described as %v (%v)", c, in, err)
	}
	if c == nil {
		return
	}
	var told clusterInfo
	check(t, json.Unmarshal(in.GetCluster(), &told))
	check(t, told.check("what is told"))
	if d := told.describe(f.cfg.Initial); len(d.Nodes) != len(c.Members) || d.ID != c.ClusterID || d.Shards != c.Shards {
		t.Errorf("%+v is told as %+v", c, d)
	}
}

// recording is a stream on which one side has said all it says; what is said to it is kept.
type recording struct {
	net.Conn
	from   *bytes.Reader
	to     bytes.Buffer
	once   sync.Once
	closed chan struct{}
}

func newRecording(said []byte) *recording {
	return &recording{from: bytes.NewReader(said), closed: make(chan struct{})}
}

func (r *recording) Read(b []byte) (int, error)       { return r.from.Read(b) }
func (r *recording) Write(b []byte) (int, error)      { return r.to.Write(b) }
func (r *recording) Close() error                     { r.once.Do(func() { close(r.closed) }); return nil }
func (r *recording) SetDeadline(time.Time) error      { return nil }
func (r *recording) SetReadDeadline(time.Time) error  { return nil }
func (r *recording) SetWriteDeadline(time.Time) error { return nil }
func (r *recording) RemoteAddr() net.Addr             { return serverAddr("a.00000000") }

// oneStream is a raft.StreamLayer with one stream in and one out.
type oneStream struct {
	*connQueue
	out net.Conn
}

// Dial implements raft.StreamLayer.
func (s oneStream) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) { return s.out, nil }

// plainTransport is Raft's transport over one stream.
func plainTransport(t testing.TB, in, out *recording) *raft.NetworkTransport {
	s := oneStream{newConnQueue(serverAddr("b.00000000")), out}
	if in != nil {
		s.push(in)
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: maxIdleConns, MaxRPCsInFlight: maxInFlight, Timeout: rpcTimeout, Logger: newRaftLogger(testLogger(t)),
	})
}

// said is what a replica says on its stream when it sends a request.
func said(f *testing.F, send func(*raft.NetworkTransport) error) []byte {
	out := newRecording(nil)
	trans := plainTransport(f, nil, out)
	if send(trans) == nil { // nobody answers
		f.Fatal("there was an answer")
	}
	check(f, trans.Close())
	return out.to.Bytes()
}

// The most that a stream may take. Raft's transport has a buffer of 256 KiB for it, and
// msgpack believes a list or a text in it to take as much; an entry is a byte at the least,
// and a struct. Up to 527 KiB were measured.
const raftPerByte, raftAlways = 512, 1 << 20

// FuzzRaftStream reads what anybody may say on a Raft stream, and has each request pass the
// gate. No entry is committed that a request does not show, and none is left of what is
// applied already.
func FuzzRaftStream(f *testing.F) {
	const to = "b.00000000"
	entries := []*raft.Log{{Index: 4, Term: 2, Data: []byte("four")}, {Index: 5, Term: 2, Extensions: []byte{1, 2, 3, 4}}}
	request := func(previous uint64, entries []*raft.Log) []byte {
		req := appendRequest(previous, 9)
		req.Entries = entries
		return said(f, func(n *raft.NetworkTransport) error {
			return n.AppendEntries(to, to, req, new(raft.AppendEntriesResponse))
		})
	}
	f.Add(request(3, entries), uint64(4), uint64(4))
	f.Add(request(3, entries), uint64(9), uint64(0))
	f.Add(request(3, []*raft.Log{nil, nil}), uint64(9), uint64(8))
	f.Add(request(3, []*raft.Log{{Index: 4, Term: 2, Type: raft.LogConfiguration, Data: []byte("none")}}), uint64(3), uint64(3))
	// A list and a text that claim two billion, in msgpack.
	f.Add(bytes.Replace(request(3, entries), []byte("Entries\x92"), []byte("Entries\xdd\x7f\xff\xff\xff"), 1), uint64(0), uint64(0))
	f.Add(bytes.Replace(request(3, entries), []byte("Data\xa4"), []byte("Data\xdb\x7f\xff\xff\xff"), 1), uint64(0), uint64(0))
	f.Add(append(request(0, nil), request(1<<64-1, entries)...), uint64(1<<64-1), uint64(1))
	f.Add(said(f, func(n *raft.NetworkTransport) error {
		req := &raft.InstallSnapshotRequest{Term: 2, LastLogIndex: 7, Size: 5}
		return n.InstallSnapshot(to, to, req, new(raft.InstallSnapshotResponse), strings.NewReader("state"))
	}), uint64(7), uint64(3))
	f.Add(said(f, func(n *raft.NetworkTransport) error {
		return n.RequestVote(to, to, &raft.RequestVoteRequest{Term: 3}, new(raft.RequestVoteResponse))
	}), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, applied, first uint64) {
		in := newRecording(data)
		g := &gate{past: fakePast{now: 2, state: applied, log: first, has: applied}, log: testLogger(t), votes: new(voteFilter)}
		fuzzing.InProportion(t, data, raftPerByte, raftAlways, func() {
			trans := plainTransport(t, in, nil)
			for open := true; open; {
				select {
				case rpc := <-trans.Consumer():
					throughGate(t, g, rpc)
				case <-in.closed:
					open = false
				}
			}
			check(t, trans.Close())
		})
	})
}

// throughGate does what gate.pass does with a request, and answers it.
func throughGate(t *testing.T, g *gate, rpc raft.RPC) {
	t.Helper()
	if g.votes.withheld(rpc) {
		return
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		if checkEntries(req.Entries) != nil {
			break // they are not handed on
		}
		shown := req.PrevLogEntry + uint64(len(req.Entries))
		limitCommit(req)
		g.skipPast(req)
		past := g.past.(fakePast)
		if req.LeaderCommitIndex > shown {
			t.Errorf("%d are committed, and %d shown", req.LeaderCommitIndex, shown)
		}
		if req.PrevLogEntry > 0 && req.PrevLogEntry < past.log && req.PrevLogEntry <= past.state {
			t.Errorf("Raft is asked for entry %d, which is applied and not in the log", req.PrevLogEntry)
		}
	case *raft.InstallSnapshotRequest:
		if g.needless(req) {
			decline(rpc, req.Term)
			return
		}
		_, err := io.Copy(io.Discard, rpc.Reader)
		check(t, err)
	}
	rpc.Respond(nil, errOfficeOver)
}
