package shard

import (
	"context"
	"errors"
	"testing"
	"time"

	"stockade/shard/bubble"
	"stockade/shard/memnet"
)

// A node whose peers fell silent is stopped while it dials them: the packets vanish,
// so nobody refuses, and the dial goes on for seconds.
func TestCloseDoesNotWaitForDials(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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

// A node that is stopped while its disk hangs can't end in time, and says why.
func TestCloseNamesAHungDisk(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		old := c.leader(0)
		delete(c.nodes, string(old.ID()))
		release := hang(old.replica(0))
		defer release()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		go old.Dispatcher().Do(ctx, 0, putSKU("a", 1).AppendTo(nil)) // Raft's main loop waits for the write before it
		<-time.After(100 * time.Millisecond)
		err := old.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errHung) {
			t.Fatalf("close: %v", err)
		}
		says(t, err.Error(), "shard 0 did not shut down", "the disk did not answer for 3s", "check the disk")
	})
}
