package client

import (
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
	for range budgetMost {
		if wait := b.take(now); wait != 0 {
			t.Fatalf("waits for %v", wait)
		}
	}
	if wait := b.take(now); wait != time.Second/budgetRate {
		t.Errorf("waits for %v", wait)
	}
	for range 4 {
		b.earn()
	}
	if wait := b.take(now); wait != 0 {
		t.Errorf("waits for %v though it was earned", wait)
	}
	if wait := b.take(now.Add(time.Hour)); wait != 0 || b.tokens != budgetMost-1 {
		t.Errorf("after an hour: %v, %v tokens", wait, b.tokens)
	}
}
