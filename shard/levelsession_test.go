package shard

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// openLevels opens a stream of a node's levels, and a way to ask on it that
// numbers the questions.
func openLevels(t *testing.T, n *Node) func(r shardrpc.LevelsRequest) shardrpc.LevelsReply {
	t.Helper()
	stream, err := n.Levels(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stream.Close)
	probe := uint64(0)
	return func(r shardrpc.LevelsRequest) shardrpc.LevelsReply {
		t.Helper()
		probe++
		r.Probe = probe
		reply, err := stream.Poll(context.Background(), r)
		if err != nil || reply.Probe != probe {
			t.Fatalf("probe %d: answer to %d, %v", probe, reply.Probe, err)
		}
		return reply
	}
}

// told writes down what a reply tells, in one line.
func told(r shardrpc.LevelsReply) string {
	s := ""
	for _, shard := range r.Shards {
		s += fmt.Sprintf("shard %d as of %d:", shard.Shard, shard.AsOf)
		slices.SortFunc(shard.Changed, func(a, b allocator.BucketReport) int { return len(a.SKU) - len(b.SKU) })
		for _, c := range shard.Changed {
			s += fmt.Sprintf(" %s=%d", c.SKU, c.Available)
		}
	}
	return s
}

func add(skus ...allocator.SKU) shardrpc.LevelsRequest  { return shardrpc.LevelsRequest{Add: skus} }
func drop(skus ...allocator.SKU) shardrpc.LevelsRequest { return shardrpc.LevelsRequest{Drop: skus} }

// TestLevelSession asks a node that is alone, so that each answer is as of its
// question.
func TestLevelSession(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1, 1, nil)
		c.startAll()
		defer c.stopAll()
		n := c.leader(0)
		c.put(n, 0, "a")
		ask := openLevels(t, n)
		for i, step := range []struct {
			do   func()
			ask  shardrpc.LevelsRequest
			want string
		}{
			{nil, shardrpc.LevelsRequest{}, "shard 0 as of 1:"},
			{nil, add("a", "aa"), "shard 0 as of 2: a=100 aa=0"},
			{nil, shardrpc.LevelsRequest{}, "shard 0 as of 3:"},
			{func() { c.put(n, 0, "aa") }, shardrpc.LevelsRequest{}, "shard 0 as of 4: aa=100"},
			{func() { c.put(n, 0, "b") }, shardrpc.LevelsRequest{}, "shard 0 as of 5:"},
			{nil, add("b"), "shard 0 as of 6: b=100"},
			{nil, drop("b"), "shard 0 as of 7:"},
			{nil, add("b"), "shard 0 as of 8: b=100"},
			{nil, shardrpc.LevelsRequest{Drop: []allocator.SKU{"b"}, Add: []allocator.SKU{"b"}}, "shard 0 as of 9: b=100"},
			{nil, add("a"), "shard 0 as of 10:"},
		} {
			if step.do != nil {
				step.do()
			}
			if got := told(ask(step.ask)); got != step.want {
				t.Errorf("step %d: %s, want %s", i, got, step.want)
			}
		}
		if other := told(openLevels(t, n)(add("a"))); other != "shard 0 as of 1: a=100" {
			t.Errorf("another stream: %s", other)
		}
		var many []allocator.SKU
		for i := range shardrpc.MaxLevels {
			many = append(many, allocator.SKU(fmt.Sprint("sku-", i)))
		}
		stream, _ := n.Levels(context.Background())
		if _, err := stream.Poll(context.Background(), add(append(many, "one-more")...)); err == nil {
			t.Error("too many SKUs are taken")
		}
		if terms := ask(shardrpc.LevelsRequest{}).Terms; len(terms) != 1 || terms[0].Term != n.replica(0).term() {
			t.Errorf("terms %v", terms)
		}
		before := n.levels.Moment()
		<-time.After(time.Minute)
		if after := n.levels.Moment(); after != before+1 {
			t.Error("a node that is alone asks others for proofs")
		}
	})
}

// TestLongRepliesAreDivided asks for more than one reply takes: what is not told
// to the end is not as of anything.
func TestLongRepliesAreDivided(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const shards = 30
		c := newTestCluster(t, 1, shards, nil)
		c.startAll()
		defer c.stopAll()
		for shard := range allocator.ShardID(shards) {
			c.leader(shard)
		}
		var request shardrpc.LevelsRequest
		for i := range shardrpc.MaxLevels {
			request.Add = append(request.Add, allocator.SKU(fmt.Sprint("sku-", i)))
		}
		ask := openLevels(t, c.nodes["n1"])
		first, second := ask(request), ask(shardrpc.LevelsRequest{})
		rows, whole, total := 0, 0, 0
		for i := range shards {
			rows += len(first.Shards[i].Changed)
			total += len(first.Shards[i].Changed) + len(second.Shards[i].Changed)
			if first.Shards[i].AsOf != 0 {
				whole++
			}
			if second.Shards[i].AsOf != 2 {
				t.Errorf("shard %d as of %d after all", i, second.Shards[i].AsOf)
			}
		}
		if rows != maxReplyRows || whole != maxReplyRows/shardrpc.MaxLevels || total != shards*shardrpc.MaxLevels {
			t.Errorf("first %d rows, %d whole shards; in all %d", rows, whole, total)
		}
	})
}

// TestNewLeaderTellsAll asks a node that is not the leader, then is, and then is
// again: each time everything comes, and nothing is as of before it was proven.
func TestNewLeaderTellsAll(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		n := c.other(c.leader(0))
		c.put(n, 0, "a")
		ask := openLevels(t, n)
		for range 2 {
			if got := ask(add("a")); len(got.Shards) != 0 || len(got.Terms) != 1 {
				t.Errorf("a follower tells %+v", got)
			}
			for c.leader(0) != n {
				if err := c.leader(0).replica(0).handOver(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if got := ask(shardrpc.LevelsRequest{}); got.Shards[0].AsOf != 0 || len(got.Shards[0].Changed) != 1 {
				t.Errorf("a new leader, without a proof: %s", told(got))
			}
			<-time.After(3 * time.Millisecond) // the others were asked for their terms
			if got := ask(shardrpc.LevelsRequest{}); got.Shards[0].AsOf != got.Probe-1 || len(got.Shards[0].Changed) != 0 {
				t.Errorf("with a proof: %s", told(got))
			}
			<-time.After(2 * time.Second) // the proof is too old for the next office
			if err := n.replica(0).handOver(context.Background()); err != nil {
				t.Fatal(err)
			}
			c.leader(0)
		}
	})
}
