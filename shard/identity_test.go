package shard

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func wantIdentity() identity {
	return identity{NodeID: "n1", Shards: 4, LogStore: LogStoreWAL}
}

// refuses opens a data directory and expects an error that says all of want. The
// directory must not change by that, but for the lock.
func refuses(t *testing.T, dir string, id identity, want ...string) {
	t.Helper()
	before := listing(t, dir)
	d, err := openDataDir(dir, id)
	if err == nil {
		t.Fatal("the directory was opened", d.close())
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the directory changed from %q to %q", before, after)
	}
}

// listing is the content of a directory as one string, without the lock.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == lockFile {
			continue
		}
		b.WriteString(e.Name() + "\n")
		if !e.IsDir() {
			b.Write(readAll(t, filepath.Join(dir, e.Name())))
		}
	}
	return b.String()
}

func mustOpenDir(t *testing.T, dir string, id identity) *dataDir {
	t.Helper()
	d, err := openDataDir(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDataDirKeepsItsIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	d := mustOpenDir(t, dir, wantIdentity())
	if !d.fresh || !validIncarnation(d.id.Incarnation) {
		t.Fatalf("a new directory has identity %+v", d.id)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpenDir(t, dir, wantIdentity())
	defer func() { check(t, again.close()) }()
	if again.fresh || again.id.Incarnation != d.id.Incarnation {
		t.Fatalf("identity %+v became %+v", d.id, again.id)
	}
	other := mustOpenDir(t, t.TempDir(), wantIdentity())
	defer func() { check(t, other.close()) }()
	if other.id.Incarnation == d.id.Incarnation {
		t.Fatal("two directories have the same incarnation")
	}
}

func TestDataDirOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	if err := mustOpenDir(t, dir, wantIdentity()).close(); err != nil {
		t.Fatal(err)
	}
	otherNode, otherShards, otherStore := wantIdentity(), wantIdentity(), wantIdentity()
	otherNode.NodeID, otherShards.Shards, otherStore.LogStore = "n2", 8, LogStoreBolt
	refuses(t, dir, otherNode, dir, `node "n1"`, `not to node "n2"`, "--id n1")
	refuses(t, dir, otherShards, dir, "4 shards", "asks for 8", "--shards 4")
	refuses(t, dir, otherStore, dir, `"wal"`, `asks for "bolt"`, "--log-store wal")
}

func TestDataDirInUse(t *testing.T) {
	dir := t.TempDir()
	d := mustOpenDir(t, dir, wantIdentity())
	refuses(t, dir, wantIdentity(), "is in use by process", "--data-dir")
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := mustOpenDir(t, dir, wantIdentity()).close(); err != nil {
		t.Fatal(err)
	}
}

// TestDataDirIsAFile: a file is left as it is.
func TestDataDirIsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, []byte("x"), fileMode))
	if _, err := openDataDir(path, wantIdentity()); err == nil || !strings.Contains(err.Error(), path+" is no directory") {
		t.Error(err)
	}
	if got := readAll(t, path); string(got) != "x" {
		t.Errorf("it is %q now", got)
	}
}

// TestLockFileAfterAPowerFailure: nobody syncs a lock file, so that it may have its length
// and no content.
func TestLockFileAfterAPowerFailure(t *testing.T) {
	for _, left := range []string{"", "\x00\x00\x00\x00", "12\x00\x00"} {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, lockFile), []byte(left), fileMode))
		check(t, mustOpenDir(t, dir, wantIdentity()).close())
	}
}

func TestDataDirNotOurs(t *testing.T) {
	tests := map[string]string{
		"notes.txt":  "is not empty and not Stockade's",
		clusterFile:  "the node's identity is lost",
		lockFile:     "is not Stockade's lock file", // the content is not a process id
		"lost+found": "",                            // what a fresh file system has
	}
	for name, want := range tests {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), fileMode); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			refuses(t, dir, wantIdentity(), want, dir, name)
			continue
		}
		if err := mustOpenDir(t, dir, wantIdentity()).close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedIdentity(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON":         "{",
		"no incarnation":  `{"format":1,"node_id":"n1","shards":4,"log_store":"wal","incarnation":"xyz"}`,
		"empty":           "",
		"another version": `{"format":7,"node_id":"n1","shards":4,"log_store":"wal"}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, nodeFile), []byte(content), fileMode); err != nil {
				t.Fatal(err)
			}
			refuses(t, dir, wantIdentity(), filepath.Join(dir, nodeFile))
		})
	}
}

// A crash while the identity is written leaves a directory that can be used.
func TestIdentityHalfWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, nodeFile+".tmp"), []byte(`{"form`), fileMode); err != nil {
		t.Fatal(err)
	}
	d := mustOpenDir(t, dir, wantIdentity())
	defer func() { check(t, d.close()) }()
	if !d.fresh {
		t.Fatal("half an identity was taken for one")
	}
}

// Hazard: AddVoter gives a vote to whoever has the id. A directory that was lost
// is another incarnation, and its replicas are other servers to Raft, on every
// node that computes the first configuration.
func TestServerIDNamesTheIncarnation(t *testing.T) {
	before, after := serverID("n1", newIncarnation()), serverID("n1", newIncarnation())
	if before == after || nodeOf(before) != "n1" || nodeOf(after) != "n1" {
		t.Errorf("the ids are %s and %s", before, after)
	}
	for range 2 {
		m := member{ID: "n1", Incarnation: newIncarnation()}
		info := newClusterInfo(newTestCluster(t, 1, 1, nil).config("n1"), []member{m})
		if first := info.configuration([]string{"n1"}).Servers; len(first) != 1 || first[0].ID != serverID("n1", m.Incarnation) {
			t.Errorf("the first configuration is %v, for incarnation %s", first, m.Incarnation)
		}
	}
}
