package shard

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	wal "github.com/hashicorp/raft-wal"

	"stockade/bench/fuzzing"
)

// someCluster is what two nodes agree on.
func someCluster() clusterInfo {
	cfg := DefaultConfig()
	cfg.Initial = []Peer{{"a", "h:1"}, {"b", "h:2"}}
	return newClusterInfo(cfg, []member{
		{ID: "a", Incarnation: strings.Repeat("0a", incarnationBytes), Address: "h:1"},
		{ID: "b", Incarnation: strings.Repeat("0b", incarnationBytes), Address: "h:2"},
	})
}

// A file whose cluster id is right for its members, and which makes no sense.
func TestClusterFileIsLookedAt(t *testing.T) {
	for name, change := range map[string]func(c *clusterInfo){
		"no shards":          func(c *clusterInfo) { c.Shards = 0 },
		"too many shards":    func(c *clusterInfo) { c.Shards = 1 << 40 },
		"negative shards":    func(c *clusterInfo) { c.Shards = -1 },
		"too many replicas":  func(c *clusterInfo) { c.Replicas = 3 },
		"no retention":       func(c *clusterInfo) { c.RetentionMS = 0 },
		"retention for ever": func(c *clusterInfo) { c.RetentionMS = 9223372036855 },
		"short incarnation":  func(c *clusterInfo) { c.Members[0].Incarnation = "0a" },
		"odd id":             func(c *clusterInfo) { c.Members[0].ID = "a/b" },
	} {
		c := someCluster()
		check(t, c.check("it"))
		change(&c)
		c.ClusterID, c.HashSecret = hashMembers("stockade cluster id", c.Members), hashMembers("stockade hash secret", c.Members)
		if err := c.check("it"); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The most that reading a small file may take: its text and a copy without its checksum, and
// a member of nothing is three bytes, and a struct in a list that grows. That took 66 bytes
// for each.
const filePerByte, fileAlways = 128, 64 << 10

// FuzzClusterFile reads what claims to be a cluster's file, from the disk or from
// another node. What is taken can be used and written again.
func FuzzClusterFile(f *testing.F) {
	good, err := json.Marshal(someCluster())
	check(f, err)
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"shards":16`), []byte(`"shards":99999999999`), 1))
	f.Add([]byte(`{"format":1,"members":[{}]}`))
	f.Add([]byte(`{"members":[` + strings.Repeat("{},", 5000) + `{}]}`))
	f.Add(seal([]byte("{\n  \"format\": 1\n}\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), clusterFile)
		check(t, os.WriteFile(path, data, 0o600))
		var c clusterInfo
		var err error
		fuzzing.InProportion(t, data, filePerByte, fileAlways, func() {
			if _, err = readJSON(path, &c); err == nil {
				err = c.check(path)
			}
		})
		if err != nil {
			return
		}
		_ = c.admits("a", strings.Repeat("0c", incarnationBytes)) // it may refuse
		c.describe([]Peer{{"a", "h:9"}})
		table, err := c.placement()
		if err == nil {
			c.configuration(table[0])
		}
		check(t, writeJSON(path, c))
		var again clusterInfo
		if _, err := readJSON(path, &again); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("got %+v (%v), want %+v", again, err, c)
		}
	})
}

// FuzzIdentityFile reads what claims to be a node's file.
func FuzzIdentityFile(f *testing.F) {
	id := identity{
		Format: dataFormat, NodeID: "a", Shards: 2, LogStore: LogStoreWAL,
		Incarnation: strings.Repeat("0a", incarnationBytes), Created: time.Unix(1, 0).UTC(),
	}
	good, err := json.Marshal(id)
	check(f, err)
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("0a0a"), nil, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, nodeFile), data, 0o600))
		var d *dataDir
		var err error
		fuzzing.InProportion(t, data, filePerByte, fileAlways, func() {
			_, _, _ = Inspect(dir) // it may refuse
			d, err = openDataDir(dir, id)
		})
		if err != nil {
			if after := readAll(t, filepath.Join(dir, nodeFile)); !bytes.Equal(after, data) {
				t.Errorf("%q was changed into %q", data, after)
			}
			return
		}
		if !validIncarnation(d.id.Incarnation) || d.id.NodeID != id.NodeID {
			t.Errorf("took %+v", d.id)
		}
		check(t, d.close())
	})
}

// FuzzWALSegment walks what claims to be a segment: never beyond its end, and never
// over bytes that no commit frame covers.
func FuzzWALSegment(f *testing.F) {
	dir := f.TempDir()
	w, err := wal.Open(dir, wal.WithSegmentSize(testSegment))
	check(f, err)
	for i := range uint64(3) {
		check(f, w.StoreLogs(kilobyte(i+1)))
	}
	check(f, w.Close())
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	check(f, err)
	data := bytes.TrimRight(readAll(f, files[0]), "\x00")
	f.Add(data, 0, byte(0))
	f.Add(data, 40, byte(1))
	f.Add(data[:len(data)-3], 1100, byte(128))
	f.Fuzz(func(t *testing.T, data []byte, at int, flip byte) {
		if len(data) > 0 && at >= 0 {
			data = bytes.Clone(data)
			data[at%len(data)] ^= flip
		}
		var whole walk
		// A segment is walked where it is: nothing is made of what it says.
		fuzzing.InProportion(t, data, 0, 32<<10, func() {
			whole = walkSegment(data)
			whole.provesDamage(data)
		})
		if whole.last < 0 || whole.last > whole.end || whole.end > len(data) || whole.entries < 0 {
			t.Fatalf("walked %d bytes to %+v", len(data), whole)
		}
		if whole.end == 0 {
			return
		}
		if again := walkSegment(data[:whole.end]); again != whole {
			t.Errorf("the whole part alone is %+v, with the rest %+v", again, whole)
		}
		broken := bytes.Clone(data)
		broken[whole.end-walFrameLen-1] ^= 1
		if again := walkSegment(broken); again.end >= whole.end {
			t.Errorf("a bit was changed and %d bytes count as whole", again.end)
		}
	})
}

// FuzzStableValue opens what claims to be a value of the stable store.
func FuzzStableValue(f *testing.F) {
	f.Add([]byte("CurrentTerm"), []byte{0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, key, sealed []byte) {
		var value []byte
		var err error
		// A value is a part of what is stored; an error has the key with escapes.
		fuzzing.InProportion(t, slices.Concat(key, sealed), 32, 32<<10, func() { value, err = openValue(key, sealed) })
		if err == nil && (len(value) != len(sealed)-checksumLen || !bytes.HasPrefix(sealed, value)) {
			t.Errorf("%x opens as %x", sealed, value)
		}
	})
}

// FuzzPeers reads a list of peers as flags give it.
func FuzzPeers(f *testing.F) {
	f.Add("a=h:1,b=h:2")
	f.Add("a=,b")
	f.Add(strings.Repeat("a=b,", 5000) + "a=b")
	f.Fuzz(func(t *testing.T, text string) {
		var peers []Peer
		var err error
		// A peer has three bytes, and two strings of sixteen in a list that grows.
		fuzzing.InProportion(t, []byte(text), 64, 32<<10, func() { peers, err = ParsePeers(text) })
		if err != nil {
			return
		}
		for _, p := range peers {
			if !validNodeID(p.ID) || p.Addr == "" {
				t.Errorf("took %q", p)
			}
		}
	})
}
