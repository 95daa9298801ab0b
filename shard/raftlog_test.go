package shard

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"stockade/shard/bubble"
)

// logBuffer is a log in memory that several nodes may write to.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// take gives what was logged and forgets it.
func (b *logBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}

// A stream that carries nonsense is worth a line of the log; that all streams
// end when a node is stopped is not.
func TestStreamsEndQuietlyAtAStop(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const cantRead = "raft: failed to decode incoming command"
		var log logBuffer
		c := newTestCluster(t, 3, 1, func(cfg *Config) {
			cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		})
		c.startAll()
		defer c.stopAll()
		leader := c.leader(0)
		c.put(leader, 0, "a") // so every follower has a stream of the leader

		stream, err := c.other(leader).port.dialRaft(t.Context(), 0, leader.replica(0).self)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if _, err := stream.Write([]byte{0xff}); err != nil { // no RPC of Raft begins so
			t.Fatal(err)
		}
		eventually(t, "nonsense is logged", func() bool { return strings.Contains(log.take(), cantRead) })

		c.stop(string(c.other(leader).ID()))
		if said := log.take(); strings.Contains(said, cantRead) {
			t.Errorf("a follower that stops says: %s", said)
		}
	})
}
