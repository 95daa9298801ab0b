package shard

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stockade/shard/bubble"
)

// openErrors opens nodes with their own configurations side by side, expects all
// to fail before timeout, and returns the errors.
func openErrors(t *testing.T, timeout time.Duration, cfgs ...Config) []string {
	t.Helper()
	errs := make([]string, len(cfgs))
	var wg sync.WaitGroup
	for i, cfg := range cfgs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			n, err := Open(ctx, cfg)
			if err == nil {
				t.Errorf("%s was opened", cfg.NodeID)
				_ = n.Close(context.Background())
				return
			}
			errs[i] = err.Error()
		})
	}
	wg.Wait()
	return errs
}

func says(t *testing.T, err string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(err, w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// A node that waits says for whom and why, and nothing is formed without all.
func TestFormationWaitsForAll(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		for _, err := range openErrors(t, 20*time.Second, c.config("n1"), c.config("n2")) {
			says(t, err, "the cluster has not formed", "waiting for n3 at n3 since", "connection refused")
		}
		if _, err := os.Stat(filepath.Join(c.config("n1").DataDir, clusterFile)); err == nil {
			t.Fatal("a cluster was formed without n3")
		}
		// What they waited with is still good.
		c.startAll()
		defer c.stopAll()
		c.leader(0)
	})
}

func TestFormationSaysWhatDiffers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 2, 4, nil)
		other := c.config("n2")
		other.Shards, other.Retention = 8, time.Hour
		for _, err := range openErrors(t, time.Minute, c.config("n1"), other) {
			says(t, err, "don't agree", "--shards", "4", "8", "retention", "same settings")
		}
	})
}

func TestFormationNeedsTheSameList(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 2, 1, nil)
		other := c.config("n2")
		other.Initial = append(append([]Peer{}, other.Initial...), Peer{ID: "n3", Addr: "n3"})
		errs := openErrors(t, time.Minute, c.config("n1"), other)
		says(t, errs[0], "--initial-cluster: n1=n1,n2=n2", "n1=n1,n2=n2,n3=n3")
	})
}

func TestFormationNoticesMixedUpAddresses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		misled := c.config("n1")
		misled.Network = translated{misled.Network, map[string]string{"n2": "n3"}}
		errs := openErrors(t, time.Minute, misled, c.config("n3"))
		says(t, errs[0], "answers", "check --initial-cluster")
	})
}

// A node that lost its disk is not let back in under its old name, and the
// cluster goes on without it.
func TestWipedNodeIsRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		c.put(c.leader(0), 0, "a")
		c.stop("n3")
		if err := os.RemoveAll(c.config("n3").DataDir); err != nil {
			t.Fatal(err)
		}
		err := openErrors(t, time.Minute, c.config("n3"))[0]
		says(t, err, `node "n3" is a member`, "another identity", "old data directory", "one node less")
		c.put(c.leader(0), 0, "b")
	})
}

// A stranger to the cluster is told who is in it.
func TestStrangerIsRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1, 1, nil)
		c.startAll()
		defer c.stopAll()
		stranger := c.config("n9")
		stranger.Initial = []Peer{{"n1", "n1"}, {"n9", "n9"}}
		says(t, openErrors(t, time.Minute, stranger)[0], `node "n9" is not a member`, "formed with n1")
	})
}

// A node that crashed after the others had formed the cluster, and before it
// knew, learns it from them.
func TestLatecomerAdoptsTheCluster(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		c.leader(0)
		c.stop("n2")
		dir := c.config("n2").DataDir
		for _, name := range []string{clusterFile, shardsDir} {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		forget(t, filepath.Join(dir, nodeFile))
		c.start("n2")
		c.put(c.leader(0), 0, "a")
		eventually(t, "n2 follows", func() bool { return knows(c.nodes["n2"], 0, "a") })
	})
}

// forget takes the cluster's id out of an identity, as it was before forming.
func forget(t *testing.T, path string) {
	t.Helper()
	var id identity
	if found, err := readJSON(path, &id); err != nil || !found {
		t.Fatal(found, err)
	}
	id.ClusterID = ""
	if err := writeJSON(path, id); err != nil {
		t.Fatal(err)
	}
}

// The list of initial nodes is checked at later starts: ids must be the same,
// addresses may be new and are used, and it may be left away.
func TestInitialListAtALaterStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		c.put(c.leader(0), 0, "a")
		c.stopAll()

		other := c.config("n1")
		other.Initial = other.Initial[:2]
		says(t, openErrors(t, time.Minute, other)[0], "formed by n1, n2, n3", "names n1, n2", "--initial-cluster")

		full := c.base.Initial
		c.base.Initial = nil
		c.start("n1", "n2", "n3")
		c.put(c.leader(0), 0, "b")
		c.stopAll()

		c.base.Initial = nil
		for _, p := range full {
			c.base.Initial = append(c.base.Initial, Peer{ID: p.ID, Addr: "new-" + p.Addr})
		}
		c.moved = "new-"
		c.startAll()
		defer c.stopAll()
		c.put(c.leader(0), 0, "c")
	})
}

// A node whose cluster file is gone does not form another cluster.
func TestClusterFileMissing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1, 1, nil)
		c.startAll()
		c.stopAll()
		if err := os.Remove(filepath.Join(c.config("n1").DataDir, clusterFile)); err != nil {
			t.Fatal(err)
		}
		says(t, openErrors(t, time.Minute, c.config("n1"))[0], clusterFile, "is missing", "copy the file")
	})
}

func TestFirstStartNeedsTheList(t *testing.T) {
	c := newTestCluster(t, 1, 1, nil)
	c.base.Initial = nil
	says(t, openErrors(t, time.Minute, c.config("n1"))[0], "--initial-cluster")
}

// Two processes with the same id are noticed while the cluster forms.
func TestFormationNoticesTwins(t *testing.T) {
	f := newFormation(newTestCluster(t, 2, 1, nil).config("n1"), member{ID: "n1", Incarnation: newIncarnation()}, nil)
	for i, want := range []string{"", "there twice"} {
		in := f.introduction()
		in.NodeId, in.Incarnation = "n2", newIncarnation()
		_, err := f.Hello(context.Background(), in)
		if got := err != nil; got != (want != "") || got && !strings.Contains(err.Error(), want) {
			t.Errorf("hello %d: %v, want %q", i, err, want)
		}
	}
}

// Whoever knows the members computes the same ids; the secret is another hash,
// and one member more or less changes both.
func TestClusterIdentity(t *testing.T) {
	cfg := newTestCluster(t, 2, 1, nil).config("n1")
	a, b := member{"a", strings.Repeat("1", 32), ""}, member{"b", strings.Repeat("2", 32), ""}
	one, two := newClusterInfo(cfg, []member{a, b}), newClusterInfo(cfg, []member{b, a})
	if one.ClusterID != two.ClusterID || one.HashSecret != two.HashSecret {
		t.Error("the order of members matters")
	}
	other := newClusterInfo(cfg, []member{a})
	if one.ClusterID == other.ClusterID || one.HashSecret == other.HashSecret || one.ClusterID == one.HashSecret {
		t.Error("ids and secrets are not different")
	}
	if err := one.check("file"); err != nil {
		t.Error(err)
	}
	one.Members[0].Incarnation = strings.Repeat("3", 32)
	if err := one.check("file"); err == nil {
		t.Error("a changed member is not noticed")
	}
}

// A node that is given the data directory of another cluster, with the same
// names in it, is told so and ends; the others go on.
func TestDirectoryOfAnotherCluster(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		other := newTestCluster(t, 3, 1, nil)
		other.startAll()
		other.leader(0)
		other.stopAll()

		c := newTestCluster(t, 3, 1, nil)
		c.startAll()
		defer c.stopAll()
		c.leader(0)
		c.stop("n2")
		wrong := c.config("n2")
		wrong.DataDir = other.config("n2").DataDir
		n, err := Open(context.Background(), wrong)
		check(t, err)
		says(t, (<-n.Fatal()).Error(), "don't accept data directory "+wrong.DataDir, "another identity", "old data directory")
		check(t, n.Close(context.Background()))
		c.put(c.leader(0), 0, "a")
		c.start("n2") // with its own
		for _, n := range c.nodes {
			if len(n.Fatal()) > 0 {
				t.Error(<-n.Fatal())
			}
		}
	})
}
