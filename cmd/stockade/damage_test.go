package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stockade/shard"
	"stockade/shard/shardrpc"
)

// TestDamageIsRefused damages what a stopped node keeps, as a failing disk would:
// bytes of its newest snapshot, and bytes of an early entry of a log. The node
// must refuse to start, in one clear line that says what, where and what to do,
// with exit code 1, and change no byte of any file. In the end it does what the
// line says to do, and the node must be whole again: with another node gone it
// is needed for every sale, and finds everything that was promised.
func TestDamageIsRefused(t *testing.T) {
	for _, kind := range []string{"wal", "bolt"} {
		t.Run(kind, func(t *testing.T) {
			nodes := startNodes(t, 3, "--shards", "2", "--log-store", kind)
			promised := reserveMany(t, nodes, 40)
			victim := nodes[2]
			if code := victim.stop(t); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			takeSnapshots(t, victim, nodes)

			for _, what := range []struct {
				name   string
				damage func(t *testing.T, data string) (path string, original []byte)
				words  []string
			}{
				{"snapshot", damageSnapshot, []string{"the snapshot can't be read"}},
				{"log", damageLog, nil},
			} {
				path, original := what.damage(t, victim.data())
				before := tree(t, victim.data())
				replica := replicaOf(victim.data(), path)
				line := wantRefused(t, what.name, victim.args, append(what.words, replica, "is damaged", "Nothing was changed", "To repair it", "move the directory "+replica+" away")...)
				t.Log(line)
				wantSame(t, what.name, victim.data(), before)
				if what.name != "log" { // the last one stays damaged
					overwrite(t, path, original)
					continue
				}
				move(t, replica, filepath.Join(victim.dir, "damaged"))
			}
			victim.start(t)
			victim.ready(t)
			nodes[0].kill(t)
			wantPromised(t, promised, insisting(nodes[1:]))
		})
	}
}

// early is in the SKU's policy, which the first entries of the logs carry.
const early = "early-bird"

// reserveMany makes a SKU and reserves single units of it one after the other, so
// that each is an entry of a log.
func reserveMany(t *testing.T, nodes []*process, units int) (promised []reservation) {
	t.Helper()
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/s", "", map[string]any{"on_hand": 1000, "metadata": map[string]any{"note": early}})
	for i := range units {
		promised = append(promised, hold(t, nodes[i%len(nodes)], "s", fmt.Sprintf("k%d", i)))
	}
	return promised
}

// insisting reads from one node after the other, until one has an answer.
func insisting(nodes []*process) func(first int, path string) (answer, error) {
	return func(first int, path string) (answer, error) {
		return insist(nodes, first, startTimeout, func(p *process) (answer, error) {
			return call(http.MethodGet, p.HTTP, path, "", nil)
		})
	}
}

// wantPromised reads every reservation, with 16 readers, which read knows by number.
func wantPromised(t *testing.T, promised []reservation, read func(reader int, path string) (answer, error)) {
	t.Helper()
	if len(promised) == 0 {
		t.Error("nothing was promised")
	}
	work := make(chan reservation, len(promised))
	for _, r := range promised {
		work <- r
	}
	close(work)
	var readers sync.WaitGroup
	for i := range 16 {
		readers.Go(func() {
			for want := range work {
				a, err := read(i, "/v1/reservations/"+want.ID)
				if err != nil || a.status != http.StatusOK {
					t.Errorf("reservation %s was promised: %v %d %s", want.ID, err, a.status, a.body)
					continue
				}
				var got reservation
				if err := json.Unmarshal(a.body, &got); err != nil || got.Status != want.Status || !slices.Equal(got.Lines, want.Lines) {
					t.Errorf("reservation %s was promised as %+v and is %s (%v)", want.ID, want, a.body, err)
				}
			}
		})
	}
	readers.Wait()
}

// takeSnapshots runs a stopped node's replicas in this process until each has a
// snapshot: with other sizes than the program's, which takes one after thousands
// of entries, but else the same code on the same files, as a member of its
// cluster.
func takeSnapshots(t *testing.T, p *process, nodes []*process) {
	t.Helper()
	cfg := shard.DefaultConfig()
	cfg.NodeID, cfg.DataDir, cfg.Listen, cfg.Shards = shardrpc.NodeID(p.id), p.data(), p.Peer, 2
	cfg.LogStore = shard.LogStoreKind(p.args[slices.Index(p.args, "--log-store")+1])
	for _, n := range nodes {
		cfg.Initial = append(cfg.Initial, shard.Peer{ID: shardrpc.NodeID(n.id), Addr: n.Peer})
	}
	cfg.Storage.SnapshotAfter, cfg.Storage.SnapshotEvery = 1, 20*time.Millisecond
	cfg.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	node, err := shard.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "each replica has a snapshot", startTimeout, func() error {
		if found := snapshots(t, p.data(), "*"); len(found) < cfg.Shards {
			return fmt.Errorf("%d so far", len(found))
		}
		return nil
	})
	if err := node.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// snapshots are the states of a shard's snapshots, the oldest first. Their names
// begin with term and index.
func snapshots(t *testing.T, data, shardDir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(data, "shards", shardDir, "snapshots", "*-*-*[0-9]", "state.bin"))
	if err != nil {
		t.Fatal(err)
	}
	number := func(path string) (term, index, at int) {
		if _, err := fmt.Sscanf(filepath.Base(filepath.Dir(path)), "%d-%d-%d", &term, &index, &at); err != nil {
			t.Fatal(err)
		}
		return term, index, at
	}
	slices.SortFunc(found, func(a, b string) int {
		t1, i1, at1 := number(a)
		t2, i2, at2 := number(b)
		return slices.Compare([]int{t1, i1, at1}, []int{t2, i2, at2})
	})
	return found
}

// damageSnapshot flips bytes in the middle of the newest snapshot of shard 1.
func damageSnapshot(t *testing.T, data string) (path string, original []byte) {
	t.Helper()
	all := snapshots(t, data, "0001")
	path = all[len(all)-1]
	original = content(t, path)
	damaged := bytes.Clone(original)
	for i := range 16 {
		damaged[len(damaged)/2+i] ^= 0xff
	}
	overwrite(t, path, damaged)
	return path, original
}

// damageLog flips a byte in the entry that made the SKU, wherever the log has a
// copy of it: bolt leaves old pages behind.
func damageLog(t *testing.T, data string) (path string, original []byte) {
	t.Helper()
	var logs []string
	for _, pattern := range []string{"wal/*.wal", "log.db"} {
		found, err := filepath.Glob(filepath.Join(data, "shards", "*", pattern))
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, found...)
	}
	for _, path := range slices.Backward(logs) { // one behind others that are whole, if there is one
		original := content(t, path)
		if damaged := bytes.ReplaceAll(original, []byte(early), []byte("early-bi\x8dd")); !bytes.Equal(damaged, original) {
			overwrite(t, path, damaged)
			return path, original
		}
	}
	t.Fatalf("no log of %v has the entry", logs)
	return "", nil
}

// replicaOf is the directory of the replica that a file belongs to.
func replicaOf(data, path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, filepath.Join(data, "shards")+"/"), "/")
	return filepath.Join(data, "shards", name)
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// overwrite replaces the content of a file that is there.
func overwrite(t *testing.T, path string, b []byte) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, info.Mode()); err != nil {
		t.Fatal(err)
	}
}
