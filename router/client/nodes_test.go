package client

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stockade/router/api"
)

func listOf(cluster string, hosts ...string) api.NodeList {
	l := api.NodeList{ClusterID: cluster}
	for _, h := range hosts {
		l.Nodes = append(l.Nodes, api.NodeAddress{ID: h, HTTP: h, Alive: true})
	}
	return l
}

// TestClientFollowsNodes: it finds all nodes from one, takes only those that answer as
// the same cluster, and learns of changes.
func TestClientFollowsNodes(t *testing.T) {
	f := &fakeNodes{reply: reserved, lists: map[string]api.NodeList{
		"n1:1": listOf("c", "n1:1", "n2:1", "n3:1", "other:1", "0.0.0.0:1", "127.0.0.1:1"),
		"n2:1": listOf("c"), "other:1": listOf("d"), "0.0.0.0:1": listOf("c"), "127.0.0.1:1": listOf("c"),
	}}
	inBubble(t, Config{}, f, func(t *testing.T, c *Client) {
		synctest.Wait()
		if got := c.Nodes(); !slices.Equal(got, []string{"http://n1:1", "http://n2:1"}) {
			t.Errorf("found %v", got)
		}
		for range 4 {
			if _, err := c.Reserve(t.Context(), "", one); err != nil {
				t.Error(err)
			}
		}
		hosts := make(map[string]int)
		for _, q := range f.requests() {
			hosts[q.host]++
		}
		if hosts["n1:1"] != 2 || hosts["n2:1"] != 2 {
			t.Errorf("requests went to %v", hosts)
		}
		f.mu.Lock()
		f.lists["n3:1"], f.lists["n1:1"] = listOf("c"), listOf("c", "n2:1", "n3:1")
		f.lists["n2:1"] = f.lists["n1:1"]
		f.mu.Unlock()
		time.Sleep(followEvery + time.Second)
		if got := c.Nodes(); !slices.Equal(got, []string{"http://n2:1", "http://n3:1"}) {
			t.Errorf("later found %v", got)
		}
	})
}

// TestDeadNodeCostsNothing: a call that meets a node that is gone goes to another at
// once, and later calls go there first.
func TestDeadNodeCostsNothing(t *testing.T) {
	f := &fakeNodes{}
	f.reply = func(q *fakeRequest) fakeReply {
		if q.host == "n1:1" {
			return fakeReply{err: refusedDial()}
		}
		return reserved(q)
	}
	inBubble(t, Config{Nodes: []string{"n1:1", "n2:1"}}, f, func(t *testing.T, c *Client) {
		began := time.Now()
		for range 10 {
			if _, err := c.Reserve(t.Context(), "", one); err != nil {
				t.Error(err)
			}
		}
		dead := 0
		for _, q := range f.requests() {
			if q.host == "n1:1" {
				dead++
			}
		}
		if took := time.Since(began); took != 0 || dead != 1 {
			t.Errorf("took %v, with %d requests to the dead node", took, dead)
		}
	})
}

// TestWhoLeavesBlamesNobody: a caller that goes away says nothing about the node.
func TestWhoLeavesBlamesNobody(t *testing.T) {
	f := &fakeNodes{takes: time.Second, reply: func(*fakeRequest) fakeReply { return fakeReply{status: 200, body: api.Availability{}} }}
	inBubble(t, Config{}, f, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.Availability(ctx, "demo"); err == nil {
			t.Error("an answer before its time")
		}
		if n := c.nodes.seeds[0]; n.failures != 0 {
			t.Errorf("%d failures of a node that was not waited for", n.failures)
		}
	})
}

// TestAddressOfNoUse: one that the cluster names and nobody here can reach is tried when
// the nodes are asked for, and not all the time.
func TestAddressOfNoUse(t *testing.T) {
	f := &fakeNodes{reply: reserved, lists: map[string]api.NodeList{"n1:1": listOf("c", "n1:1", "far:1")}}
	inBubble(t, Config{}, f, func(t *testing.T, c *Client) {
		time.Sleep(10*followEvery + time.Second)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.asked["far:1"] != 11 {
			t.Errorf("it was tried %d times", f.asked["far:1"])
		}
	})
}

// TestNodesRest: a node that fails is left alone for longer and longer; when all rest
// the one whose rest ends first is taken.
func TestNodesRest(t *testing.T) {
	l, err := newNodeList([]string{"a:1", "b:1"})
	if err != nil {
		t.Fatal(err)
	}
	a, b, now := l.seeds[0], l.seeds[1], time.Now()
	l.failed(a, now)
	if n := l.pick(now, nil); n != b {
		t.Error("a resting node is taken")
	}
	if n := l.pick(now, b); n != b {
		t.Error("a resting node is taken before the one to avoid")
	}
	l.failed(a, now)
	l.failed(b, now)
	if n := l.pick(now, nil); n != b {
		t.Error("not the one whose rest ends first")
	}
	for range 20 {
		l.failed(a, now)
	}
	if a.rests.Sub(now) != longestRest {
		t.Errorf("rests for %v", a.rests.Sub(now))
	}
	l.works(a)
	if n := l.pick(now, b); n != a {
		t.Error("a node that answers still rests")
	}
}

// TestBudget: retries cost what first attempts earn; beyond that they wait.
func TestBudget(t *testing.T) {
	now := time.Now()
	b := newBudget(now)
	far := now.Add(2 * time.Hour)
	for range budgetMost {
		if wait, ok := b.take(now, far); wait != 0 || !ok {
			t.Fatalf("waits for %v", wait)
		}
	}
	if wait, ok := b.take(now, far); wait != time.Second/budgetRate || !ok {
		t.Errorf("waits for %v", wait)
	}
	for range 4 {
		b.earn()
	}
	if wait, ok := b.take(now, far); wait != 0 || !ok {
		t.Errorf("waits for %v though it was earned", wait)
	}
	for range 10_000 { // of an outage, in which calls give up
		if _, ok := b.take(now, now); ok {
			t.Fatal("a retry after its deadline")
		}
	}
	if wait, ok := b.take(now, far); wait != time.Second/budgetRate || !ok {
		t.Errorf("after an outage a retry waits for %v", wait)
	}
	if wait, _ := b.take(now.Add(time.Hour), far); wait != 0 || b.tokens != budgetMost-1 {
		t.Errorf("after an hour: %v, %v tokens", wait, b.tokens)
	}
}
