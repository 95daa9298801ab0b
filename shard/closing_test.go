package shard

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"stockade/shard/memnet"
)

// A node whose peers fell silent is stopped while it dials them: the packets vanish,
// so nobody refuses, and the dial goes on for seconds.
func TestCloseDoesNotWaitForDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.net = memnet.NewOver(memnet.NewWires(func() time.Duration { return time.Millisecond }, nil))
		c.startAll()
		defer c.stopAll()
		old := c.leader(0)
		name := string(old.ID())
		for _, other := range []string{"n1", "n2", "n3"} {
			if other != name {
				c.net.Wires().Cut(name, other, true)
				c.net.Break(name, other)
			}
		}
		<-time.After(time.Second) // its heartbeats dial by now
		began := time.Now()
		if err := old.Close(context.Background()); err != nil {
			t.Error(err)
		}
		delete(c.nodes, name)
		if took := time.Since(began); took > time.Second {
			t.Errorf("closing took %v", took)
		}
	})
}
