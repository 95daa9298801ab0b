package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

func TestCluster(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	v, err := r.Cluster(t.Context())
	if err != nil || v.ClusterID != "c1" || len(v.Nodes) != 3 || len(v.Shards) != 4 || v.FailureTolerance != 1 || v.Retention != 15*time.Minute {
		t.Fatalf("got %+v (%v)", v, err)
	}
	c.setDown("n2", true)
	v, err = r.Cluster(t.Context())
	if err != nil || v.FailureTolerance != 0 || v.Nodes[1].Alive || v.Nodes[1].HTTP != "http-n2" || !v.Nodes[0].Alive {
		t.Errorf("with a node down: %+v (%v)", v, err)
	}
	for i, s := range v.Shards {
		want := c.leader(allocator.ShardID(i))
		if want == "n2" {
			want = ""
		}
		if s.Leader != want || s.Alive != 2 || len(s.Voters) != 3 {
			t.Errorf("shard %d: %+v, want the leader %q", i, s, want)
		}
	}
}

// TestNodesIsShared: a look at the nodes serves who asks within a second, and does not
// end with the request that began it.
func TestNodesIsShared(t *testing.T) {
	c := newFakeCluster(t, 4)
	r := c.router(t)
	now := time.Now()
	r.now = func() time.Time { return now }
	alive := func(ctx context.Context) (n int) {
		v, err := r.Nodes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range v.Nodes {
			if node.Alive {
				n++
			}
		}
		return n
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if n := alive(gone); n != 3 {
		t.Errorf("%d nodes alive for a client that has gone", n)
	}
	c.setDown("n2", true)
	if n := alive(t.Context()); n != 3 {
		t.Errorf("%d nodes alive within the second", n)
	}
	now = now.Add(nodesFreshFor)
	if n := alive(t.Context()); n != 2 {
		t.Errorf("%d nodes alive after it", n)
	}
}

// TestMergeOfStatuses lists what nodes say of one shard, and what to make of it.
func TestMergeOfStatuses(t *testing.T) {
	say := func(id string, s shardrpc.ShardStatus) shardrpc.MemberStatus {
		s.Voters = []shardrpc.NodeID{"c", "a", "b"}
		return shardrpc.MemberStatus{
			Node: shardrpc.NodeID(id), Status: shardrpc.Status{Node: shardrpc.NodeID(id), Shards: []shardrpc.ShardStatus{s}},
		}
	}
	dead := func(id string) shardrpc.MemberStatus {
		return shardrpc.MemberStatus{Node: shardrpc.NodeID(id), Err: errors.New("down")}
	}
	for name, c := range map[string]struct {
		said []shardrpc.MemberStatus
		want string
	}{
		"all well": {
			[]shardrpc.MemberStatus{
				say("a", shardrpc.ShardStatus{Leader: "b", Term: 3, CommitIndex: 9, AppliedIndex: 7}),
				say("b", shardrpc.ShardStatus{Leader: "b", Term: 3, CommitIndex: 10, AppliedIndex: 10, Ready: true}),
				say("c", shardrpc.ShardStatus{Leader: "b", Term: 3, CommitIndex: 10, AppliedIndex: 9}),
			},
			"leader b term 3 commit 10 applied 10 lag 3 alive 3 tolerance 1",
		},
		"an old leader has not noticed": {
			[]shardrpc.MemberStatus{
				say("a", shardrpc.ShardStatus{Leader: "a", Term: 3, CommitIndex: 9, AppliedIndex: 9, Ready: true}),
				say("b", shardrpc.ShardStatus{Leader: "b", Term: 4, CommitIndex: 12, AppliedIndex: 12, Ready: true}),
				say("c", shardrpc.ShardStatus{Leader: "b", Term: 4, CommitIndex: 12, AppliedIndex: 12}),
			},
			"leader b term 4 commit 12 applied 12 lag 3 alive 3 tolerance 1",
		},
		"one is cut off in a high term": {
			[]shardrpc.MemberStatus{
				say("a", shardrpc.ShardStatus{Term: 90, CommitIndex: 5, AppliedIndex: 5}),
				say("b", shardrpc.ShardStatus{Leader: "b", Term: 4, CommitIndex: 6, AppliedIndex: 6, Ready: true}),
				dead("c"),
			},
			"leader b term 4 commit 6 applied 6 lag 1 alive 2 tolerance 0",
		},
		"the leader has just died": {
			[]shardrpc.MemberStatus{
				say("a", shardrpc.ShardStatus{Leader: "b", Term: 4, CommitIndex: 6, AppliedIndex: 6}),
				dead("b"),
				say("c", shardrpc.ShardStatus{Leader: "b", Term: 4, CommitIndex: 7, AppliedIndex: 7}),
			},
			"leader  term 4 commit 7 applied 7 lag 1 alive 2 tolerance 0",
		},
		"no majority": {
			[]shardrpc.MemberStatus{say("a", shardrpc.ShardStatus{Term: 5}), dead("b"), dead("c")},
			"leader  term 5 commit 0 applied 0 lag 0 alive 1 tolerance 0",
		},
		"nobody answers": {
			[]shardrpc.MemberStatus{dead("a"), dead("b"), dead("c")},
			"leader  term 0 commit 0 applied 0 lag 0 alive 0 tolerance 0",
		},
	} {
		v := mergeStatuses(c.said, 1)
		s := v.Shards[0]
		got := fmt.Sprintf("leader %s term %d commit %d applied %d lag %d alive %d tolerance %d",
			s.Leader, s.Term, s.CommitIndex, s.AppliedIndex, s.Lag, s.Alive, v.FailureTolerance)
		if got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}

// TestReplicasOfAShard lists what the nodes that answer say of their replicas, by node.
func TestReplicasOfAShard(t *testing.T) {
	say := func(id string, s shardrpc.ShardStatus) shardrpc.MemberStatus {
		return shardrpc.MemberStatus{Node: shardrpc.NodeID(id), Status: shardrpc.Status{Shards: []shardrpc.ShardStatus{s}}}
	}
	v := mergeStatuses([]shardrpc.MemberStatus{
		say("c", shardrpc.ShardStatus{Leader: "c", Term: 3, AppliedIndex: 9, Commands: 7, StateHash: 70}),
		say("a", shardrpc.ShardStatus{Leader: "c", Term: 3, AppliedIndex: 8, Commands: 6, StateHash: 60}),
		{Node: "b", Err: errors.New("down")},
	}, 1)
	want := []ReplicaView{{Node: "a", AppliedIndex: 8, Applied: 6, Hash: 60}, {Node: "c", AppliedIndex: 9, Applied: 7, Hash: 70}}
	if got := v.Shards[0].Replicas; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestErrorsAreSentences(t *testing.T) {
	since := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		err  error
		want string
	}{
		{&Refusal{Code: allocator.CodeInsufficientStock, SKU: "a", Requested: 5, Available: 3}, "refused: insufficient-stock: 5 of SKU a asked for, 3 available"},
		{&Refusal{Code: allocator.CodeSKUPaused, SKU: "a"}, "refused: sku-paused: SKU a"},
		{&Refusal{Code: allocator.CodeKeyReused}, "refused: idempotency-key-reused"},
		{&Unavailable{Reason: shardrpc.ReasonUnreachable, Shard: 3, Since: since}, "not done: shard 3 can't be used: its node can't be reached, since 2026-11-27T18:00:00Z"},
		{&Unavailable{Reason: shardrpc.ReasonOverloaded, Local: true}, "not done: this router has as many requests under way as it takes"},
		{&Unavailable{Reason: shardrpc.ReasonDeadline, Local: true}, "not done: the time for the request ran out before it was sent"},
		{&UnknownOutcome{Shard: 3, Reason: shardrpc.ReasonDeadline}, "the outcome is unknown: shard 3 was asked and did not say: the time ran out"},
		{&Invalid{Pointer: "/lines/0/sku", Detail: "must be short"}, "invalid request: /lines/0/sku must be short"},
		{&Invalid{Detail: "limit must be small"}, "invalid request: limit must be small"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	id := allocator.ReservationID{Shard: 1, Seq: 2}
	withID := &Refusal{Code: allocator.CodeReservationExpired, Reservation: allocator.Reservation{ID: id}}
	if got, want := withID.Error(), "refused: reservation-expired: reservation "+id.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestInternalCodesDoNotLeave(t *testing.T) {
	for _, code := range allocator.Codes() {
		result := allocator.Result{Code: code}.AppendTo(nil)
		_, err := decided(shardrpc.Response{Outcome: shardrpc.Applied, Result: result})
		var refusal *Refusal
		switch code {
		case allocator.CodeOK:
			if err != nil {
				t.Errorf("%v: %v", code, err)
			}
		case allocator.CodeTransferGap, allocator.CodeOutboxFull:
			if err == nil || errors.As(err, &refusal) {
				t.Errorf("%v: %v", code, err)
			}
		case allocator.CodeSKUUnknown:
			if !refusedWith(err, allocator.CodeSKUNotFound) {
				t.Errorf("%v: %v", code, err)
			}
		default:
			if !refusedWith(err, code) {
				t.Errorf("%v: %v", code, err)
			}
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	d := newFakeCluster(t, 1).dispatcher(t)
	for name, cfg := range map[string]Config{
		"no shards":       {Dispatcher: d},
		"too many shards": {Dispatcher: d, Shards: allocator.MaxShards + 1},
		"no dispatcher":   {Shards: 1},
		"negative bound":  {Shards: 1, Dispatcher: d, MaxInFlight: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestMetricsCountByOperationAndOutcome reads what a registry would be asked for.
func TestMetricsCountByOperationAndOutcome(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	c := newFakeCluster(t, 4)
	r := c.router(t, func(cfg *Config) { cfg.Metrics = NewMetrics(registry) })
	put(t, r, "a", 1)
	reserve(t, r, one("a", 1, "k"))
	_, _ = r.Reserve(t.Context(), one("a", 1, "l"))
	_, _ = r.Reserve(t.Context(), one("?", 1, "m"))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"stockade_router_requests_total reserve ok":                 1,
		"stockade_router_requests_total reserve insufficient-stock": 1,
		"stockade_router_requests_total reserve invalid":            1,
		"stockade_router_requests_total put-sku ok":                 1,
		"stockade_router_requests_in_flight":                        0,
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
}
