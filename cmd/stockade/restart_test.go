package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRestartByDirectoryAlone restarts a node of three with nothing but its data
// directory: the others must find it again. With an address where they would
// not, it must not start.
func TestRestartByDirectoryAlone(t *testing.T) {
	nodes := startNodes(t, 3, "--shards", "1")
	p := nodes[0]
	if code := p.stop(t); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, p.logTail())
	}
	alone := []string{"node", "--data-dir", p.data(), "--http", p.HTTP, "--ops", p.Ops}

	wantRefused(t, "where nobody finds it", slices.Concat(alone, []string{"--peer", "127.0.0.1:0"}),
		"stockade: ", `node "n1"`, "at "+p.Peer, "start with --peer "+p.Peer)

	p.args = alone
	p.start(t)
	p.ready(t)
	eventually(t, "the others see it", startTimeout, func() error {
		var cluster struct {
			Nodes []struct {
				ID, Peer string
				Alive    bool
			}
		}
		must(t, http.StatusOK, http.MethodGet, nodes[1].Ops, "/v1/cluster", "", nil).into(t, &cluster)
		for _, n := range cluster.Nodes {
			if n.ID == "n1" && n.Alive && n.Peer == p.Peer {
				return nil
			}
		}
		return fmt.Errorf("%+v", cluster.Nodes)
	})
}

// TestKilledDevIsCleanedUp kills a dev, whose temporary directory stays then, and
// starts the next one.
func TestKilledDevIsCleanedUp(t *testing.T) {
	p := startDev(t, "--nodes", "1", "--shards", "1")
	left := func() []string {
		found, err := filepath.Glob(filepath.Join(p.dir, "stockade-dev-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	p.kill(t)
	before := left()
	if len(before) != 1 {
		t.Fatalf("a killed dev left %v", before)
	}
	p.start(t)
	p.ready(t)
	if now := left(); len(now) != 1 || now[0] == before[0] {
		t.Errorf("%v is there, was %v", now, before)
	}
	if lines := strings.Count(p.logTail(), "level="); lines != 1 || !strings.Contains(p.logTail(), "removed the temporary directories") ||
		!strings.Contains(p.logTail(), before[0]) {
		t.Errorf("the log does not say in one line that %s was removed: %s", before[0], p.logTail())
	}
	p.stop(t)
	if now := left(); len(now) != 0 {
		t.Errorf("a stopped dev left %v", now)
	}
}
