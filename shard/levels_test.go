package shard

import (
	"testing"
	"testing/synctest"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// wantAndWait wants a SKU at a node until its levels are known there.
func wantAndWait(t *testing.T, n *Node, sku allocator.SKU) {
	t.Helper()
	began := time.Now()
	for !known(n.LevelTable(), sku) {
		n.LevelTable().Want(sku)
		if time.Since(began) > time.Second {
			t.Fatalf("%s does not know the levels of %s after %v", n.ID(), sku, time.Since(began))
		}
		<-time.After(time.Millisecond)
	}
}

func known(l *shardrpc.Levels, sku allocator.SKU) bool {
	_, _, ok := l.Cut(sku)
	return ok
}

// TestLevelsStayFresh wants a SKU on an idle cluster: from then on its levels
// must never be older than what refusals may stand on.
func TestLevelsStayFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 2, nil)
		c.startAll()
		defer c.stopAll()
		c.leader(0)
		c.leader(1)
		sku := allocator.SKU(skuOn(1, 2, "a"))
		c.put(c.nodes["n1"], 1, string(sku))
		for _, n := range c.nodes {
			wantAndWait(t, n, sku)
		}
		var oldest time.Duration
		for began := time.Now(); time.Since(began) < 5*time.Second; {
			for _, n := range c.nodes {
				n.LevelTable().Want(sku)
				cut, asOf, ok := n.LevelTable().Cut(sku)
				if !ok || cut.Units() != 100 {
					t.Fatalf("%s: %v units, known %v", n.ID(), cut.Units(), ok)
				}
				oldest = max(oldest, time.Since(asOf))
			}
			<-time.After(time.Millisecond)
		}
		t.Logf("the oldest was %v old", oldest)
		if oldest > shardrpc.MaxLevelAge {
			t.Errorf("levels were %v old", oldest)
		}
	})
}
