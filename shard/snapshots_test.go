package shard

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// snapshotsOf lists the snapshots of a node's replica of shard 0, oldest first.
func snapshotsOf(t *testing.T, cfg Config) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(cfg.DataDir, shardsDir, "0000", snapshotsDir, "*-*-*"))
	check(t, err)
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(snapshotIndex(a), snapshotIndex(b)) })
	return all
}

// snapshotIndex reads the index from a name like 2-17-946684800855.
func snapshotIndex(path string) int {
	i, _ := strconv.Atoi(strings.Split(filepath.Base(path), "-")[1])
	return i
}

// withSnapshots runs one node that has taken two snapshots, with commands
// before, between and after, and stops it.
func withSnapshots(t *testing.T) *testCluster {
	t.Helper()
	c := newTestCluster(t, 1, 1, nil)
	c.startAll()
	n := c.leader(0)
	for i := range 3 {
		for j := range 5 {
			c.put(n, 0, "sku-"+strconv.Itoa(5*i+j))
		}
		if i < 2 {
			check(t, n.replica(0).raft.Snapshot().Error())
		}
	}
	c.stopAll()
	if got := snapshotsOf(t, c.config("n1")); len(got) != 2 {
		t.Fatalf("%d snapshots", len(got))
	}
	return c
}

func TestSnapshotsAreUsed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := withSnapshots(t)
		c.startAll()
		defer c.stopAll()
		n := c.leader(0)
		for i := range 15 {
			if !knows(n, 0, "sku-"+strconv.Itoa(i)) {
				t.Errorf("sku-%d is gone", i)
			}
		}
	})
}

// Hazard: Raft falls back to an older snapshot, and with a log that was cut
// behind the newer one it loses what was between. A damaged newest snapshot is
// refused, whatever part of it is damaged.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	damages := map[string]func(t *testing.T, snapshot string){
		"state":           func(t *testing.T, s string) { flip(t, filepath.Join(s, "state.bin"), 0.5) },
		"first byte":      func(t *testing.T, s string) { flip(t, filepath.Join(s, "state.bin"), 0) },
		"metadata":        func(t *testing.T, s string) { flip(t, filepath.Join(s, "meta.json"), 0) },
		"term":            func(t *testing.T, s string) { replaceIn(t, filepath.Join(s, "meta.json"), `"Term":2`, `"Term":3`) },
		"index":           func(t *testing.T, s string) { replaceIn(t, filepath.Join(s, "meta.json"), `"Index":1`, `"Index":3`) },
		"state missing":   func(t *testing.T, s string) { check(t, os.Remove(filepath.Join(s, "state.bin"))) },
		"meta missing":    func(t *testing.T, s string) { check(t, os.Remove(filepath.Join(s, "meta.json"))) },
		"state truncated": func(t *testing.T, s string) { check(t, os.Truncate(filepath.Join(s, "state.bin"), 40)) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := withSnapshots(t)
				all := snapshotsOf(t, c.config("n1"))
				newest := all[len(all)-1]
				damage(t, newest)
				err := openErrors(t, time.Minute, c.config("n1"))[0]
				says(t, err, newest, "is damaged", "the snapshot can't be read", "Nothing was changed", "To repair it")
			})
		})
	}
}

// flip damages the byte at a place between 0 and 1.
func flip(t *testing.T, path string, place float64) {
	t.Helper()
	b := readAll(t, path)
	b[int(place*float64(len(b)))] ^= 0xff
	check(t, os.WriteFile(path, b, fileMode))
}

// replaceIn damages a text that must be there.
func replaceIn(t *testing.T, path, from, to string) {
	t.Helper()
	b := string(readAll(t, path))
	if !strings.Contains(b, from) {
		t.Fatalf("%s has no %s: %s", path, from, b)
	}
	check(t, os.WriteFile(path, []byte(strings.Replace(b, from, to, 1)), fileMode))
}

// A snapshot of another cluster is whole by Raft's checksum; the state machine
// refuses it, and Raft must not fall back.
func TestForeignSnapshotIsRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, other := withSnapshots(t), withSnapshots(t)
		all, foreign := snapshotsOf(t, c.config("n1")), snapshotsOf(t, other.config("n1"))
		from := foreign[len(foreign)-1]
		for _, own := range all {
			check(t, os.RemoveAll(own))
		}
		copyDir(t, from, filepath.Join(filepath.Dir(all[0]), filepath.Base(from)))
		err := openErrors(t, time.Minute, c.config("n1"))[0]
		says(t, err, "is damaged", "belongs elsewhere")
	})
}

// A snapshot that was being written, or removed, when the process ended is of no account,
// and is cleared away.
func TestLeftOversOfSnapshots(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := withSnapshots(t)
		dir := filepath.Dir(snapshotsOf(t, c.config("n1"))[0])
		written, removed := filepath.Join(dir, "9-999-999.tmp"), filepath.Join(dir, "1-1-1")
		for _, left := range []string{written, removed} {
			check(t, os.MkdirAll(left, dirMode))
			check(t, os.WriteFile(filepath.Join(left, "state.bin"), []byte("some"), fileMode))
		}
		c.startAll()
		defer c.stopAll()
		c.leader(0)
		for _, left := range []string{written, removed} {
			if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", left, err)
			}
		}
	})
}

// Without its metadata the newest one is damaged, also when there are enough others.
func TestNewestSnapshotWithoutMetadata(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := withSnapshots(t)
		newest := filepath.Join(filepath.Dir(snapshotsOf(t, c.config("n1"))[0]), "9-999-1")
		check(t, os.MkdirAll(newest, dirMode))
		says(t, openErrors(t, time.Minute, c.config("n1"))[0], newest, "is damaged", "To repair it")
	})
}

// A follower that missed more than the log reaches back is sent a snapshot.
func TestFollowerCatchesUpBySnapshot(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newTestCluster(t, 3, 1, func(cfg *Config) {
					cfg.LogStore = kind
					cfg.Storage.Trailing = 2
					cfg.Storage.SegmentSize = testSegment // the wal forgets whole segments
				})
				c.startAll()
				defer c.stopAll()
				leader := c.leader(0)
				late := shardrpc.NodeID("n1")
				if leader.ID() == late {
					late = "n2"
				}
				c.net.Isolate(string(late), true)
				for i := range 40 {
					c.putLarge(leader, 0, "sku-"+strconv.Itoa(i))
				}
				check(t, leader.replica(0).raft.Snapshot().Error())
				c.put(leader, 0, "last")
				c.net.Isolate(string(late), false)
				node := c.nodes[string(late)]
				eventually(t, "the follower catches up", func() bool { return knows(node, 0, "last") && knows(node, 0, "sku-0") })
				if len(snapshotsOf(t, node.cfg)) == 0 {
					t.Error("it needed no snapshot")
				}
				rep := node.replica(0)
				if first, err := rep.store.FirstIndex(); err != nil || first <= rep.snapshots.last().index {
					t.Errorf("entries from %d on are left below a snapshot of %d: %v", first, rep.snapshots.last().index, err)
				}
				c.stop(string(late))
				c.start(string(late))
				node = c.nodes[string(late)]
				eventually(t, "it still has everything", func() bool { return knows(node, 0, "last") && knows(node, 0, "sku-0") })
			})
		})
	}
}

// A snapshot that can't be written ends the node.
func TestUnwritableSnapshotEndsTheNode(t *testing.T) {
	fatal := make(chan error, 1)
	s := &snapshotStore{dir: "DIR", fatal: func(err error) { fatal <- err }}
	sink := &snapshotSink{SnapshotSink: brokenSink{}, store: s}
	if _, err := sink.Write([]byte("x")); err == nil {
		t.Fatal("no error")
	}
	says(t, (<-fatal).Error(), "can't write a snapshot in DIR", "no space left", "The node stops")
}

type brokenSink struct{}

func (brokenSink) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
func (brokenSink) Close() error              { return nil }
func (brokenSink) Cancel() error             { return nil }
func (brokenSink) ID() string                { return "" }
