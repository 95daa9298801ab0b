package main_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"stockade/router/api"
)

// agree waits until all replicas of each shard have applied as many commands, and fails
// the test if their hashes differ then. Nobody may write meanwhile.
func agree(t *testing.T, nodes []*process) {
	t.Helper()
	var view api.Cluster
	deadline := time.Now().Add(startTimeout)
	for {
		must(t, http.StatusOK, http.MethodGet, nodes[0].Ops, "/v1/cluster", "", nil).into(t, &view)
		err := sameCount(&view, len(nodes))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("replicas after %v without a command: %v", startTimeout, err)
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	for _, s := range view.Shards {
		for _, r := range s.Replicas[1:] {
			if first := s.Replicas[0]; r.Hash != first.Hash {
				t.Errorf("shard %d after %d commands: node %s has hash %s, node %s %s", s.Shard, r.Applied, first.Node, first.Hash, r.Node, r.Hash)
			}
		}
	}
}

// sameCount says where not all replicas are there, or not all have applied as much.
func sameCount(view *api.Cluster, nodes int) error {
	for _, s := range view.Shards {
		if len(s.Replicas) != nodes {
			return fmt.Errorf("shard %d: %d of %d replicas answer", s.Shard, len(s.Replicas), nodes)
		}
		for _, r := range s.Replicas[1:] {
			if first := s.Replicas[0]; r.Applied != first.Applied {
				return fmt.Errorf("shard %d: node %s has applied %d commands, node %s %d", s.Shard, first.Node, first.Applied, r.Node, r.Applied)
			}
		}
	}
	return nil
}
