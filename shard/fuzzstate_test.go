package shard

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	bolt "go.etcd.io/bbolt"

	"stockade/bench/fuzzing"
)

// The most that opening snapshots may take: their metadata are read three times; a server of
// nothing in a configuration is three bytes, and a struct in a list that grows. That took 155
// bytes for each.
const snapshotsPerByte, snapshotsAlways = 384, 256 << 10

// FuzzSnapshotFiles opens a directory with what claims to be a snapshot: the directory's name,
// the metadata, and their checksum, which with reseal is right all the same. What is opened is
// the snapshot that the name says, or a left-over.
func FuzzSnapshotFiles(f *testing.F) {
	const state = "state"
	dir := f.TempDir()
	s := openSnapshotsOf(f, dir)
	sink, err := s.Create(raft.SnapshotVersionMax, 17, 2, someConfiguration(), 1, inmemTransport())
	check(f, err)
	_, err = sink.Write([]byte(state))
	check(f, err)
	check(f, sink.Close())
	written := filepath.Join(dir, snapshotsDir, sink.ID())
	meta, sum := readAll(f, filepath.Join(written, snapshotMetaFile)), readAll(f, filepath.Join(written, snapshotSumFile))
	replaced := func(old, with string) []byte { return bytes.Replace(meta, []byte(old), []byte(with), 1) }
	f.Add(sink.ID(), meta, sum, false)
	f.Add(sink.ID(), meta, []byte{}, false)
	f.Add(sink.ID(), meta, sum[:3], false)
	f.Add(sink.ID(), replaced(`"Index":17`, `"Index":18`), sum, true)
	f.Add(sink.ID(), replaced(`"Size":5`, `"Size":99999999999`), sum, true)
	f.Add(sink.ID(), replaced(`"Servers":[`, `"Servers":[`+many("{}")+","), sum, true)
	f.Add("17-2-5", meta, sum, false)
	f.Add("2-17-1.tmp", []byte("{"), []byte{}, false)
	f.Fuzz(func(t *testing.T, name string, meta, sum []byte, reseal bool) {
		dir := t.TempDir()
		snapshot := filepath.Join(dir, snapshotsDir, name)
		if name != filepath.Base(name) || os.MkdirAll(snapshot, dirMode) != nil {
			return // no name of a directory
		}
		if reseal {
			sum = metaSum(meta)
		}
		check(t, os.WriteFile(filepath.Join(snapshot, snapshotMetaFile), meta, fileMode))
		check(t, os.WriteFile(filepath.Join(snapshot, "state.bin"), []byte(state), fileMode))
		if len(sum) > 0 {
			check(t, os.WriteFile(filepath.Join(snapshot, snapshotSumFile), sum, fileMode))
		}
		var s *snapshotStore
		var err error
		fuzzing.InProportion(t, meta, snapshotsPerByte, snapshotsAlways, func() { s, err = openSnapshots(dir, newRaftLogger(testLogger(t)), new(snapshotMetrics), nil) })
		var damage *DamageError
		switch {
		case err != nil && !errors.As(err, &damage):
			t.Fatal(err)
		case err == nil:
			checkOpened(t, s, snapshot)
		}
	})
}

func openSnapshotsOf(t testing.TB, dir string) *snapshotStore {
	s, err := openSnapshots(dir, newRaftLogger(testLogger(t)), newMetrics(nil).snapshots(0), nil)
	check(t, err)
	return s
}

// someConfiguration has one voter.
func someConfiguration() raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: "a.00000000", Address: "a.00000000"}}}
}

// inmemTransport is what Raft's store needs to write metadata.
func inmemTransport() raft.Transport {
	_, t := raft.NewInmemTransport("")
	return t
}

// checkOpened checks that a replica comes back with the only snapshot there is.
func checkOpened(t *testing.T, s *snapshotStore, snapshot string) {
	t.Helper()
	list, err := s.List()
	check(t, err)
	if len(s.left) > 0 {
		if len(list) > 0 {
			t.Errorf("%s is left over, and there is %+v", snapshot, list[0])
		}
		return
	}
	if len(list) == 0 {
		t.Fatalf("%s is passed over", snapshot)
	}
	if newest := list[0]; newest.ID != filepath.Base(snapshot) || s.last() != (snapshotID{newest.Index, newest.Term}) {
		t.Errorf("%s is opened as %+v, last %+v", snapshot, newest, s.last())
	}
}

// The most that reading a list of segments may take: a segment of nothing is three bytes, a
// struct in a list that grows, and 230 bytes when it is written again for its checksum. That
// took 347 bytes for each.
const listPerByte, listAlways = 768, 256 << 10

// FuzzSegmentList reads what claims to be the wal's list of segments with its checksums, one of
// which with reseal is right. What is taken is the same when it is written and read again,
// and files that are not there are damage.
func FuzzSegmentList(f *testing.F) {
	dir := f.TempDir()
	var m walMeta
	_, err := m.Load(dir)
	check(f, err)
	then := time.Unix(1, 0).UTC()
	state := types.PersistentState{NextSegmentID: 2, Segments: []types.SegmentInfo{
		{BaseIndex: 1, MinIndex: 1, MaxIndex: 9, Codec: 1, IndexStart: 64, SealTime: then, CreateTime: then},
		{ID: 1, BaseIndex: 10, MinIndex: 10, Codec: 1, CreateTime: then},
	}}
	check(f, m.CommitState(state))
	sums, err := m.GetStable(walSumKey)
	check(f, err)
	check(f, m.Close())
	template := readAll(f, filepath.Join(dir, metadb.FileName))
	list, err := json.Marshal(state)
	check(f, err)
	f.Add(list, sums, false)
	f.Add(list, sums[4:], false)
	f.Add(list, sums[:3], false)
	f.Add(bytes.Replace(list, []byte(`"BaseIndex":10`), []byte(`"BaseIndex":18446744073709551615`), 1), sums, true)
	f.Add([]byte(`{"Segments":[`+many("{}")+`]}`), []byte{}, true)
	f.Add([]byte(`null`), []byte{}, false)
	f.Fuzz(func(t *testing.T, list, sums []byte, reseal bool) {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, metadb.FileName), template, fileMode))
		var asRead types.PersistentState
		if reseal && json.Unmarshal(list, &asRead) == nil {
			sum, err := listSum(asRead)
			check(t, err)
			sums = binary.LittleEndian.AppendUint32(bytes.Clone(sums[:len(sums)/checksumLen*checksumLen]), sum)
		}
		putList(t, dir, list, sums)
		var m walMeta
		var state types.PersistentState
		var err error
		fuzzing.InProportion(t, list, listPerByte, listAlways, func() { state, err = m.Load(dir) })
		defer func() { check(t, m.Close()) }()
		if err != nil {
			if !errors.Is(err, types.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		_, err = checkSegments(dir, state.Segments)
		var damage *DamageError
		if err != nil && !errors.As(err, &damage) {
			t.Error(err)
		}
		check(t, m.CommitState(state))
		again, err := m.Load(dir)
		if sum, _ := listSum(again); err != nil || sum != m.sum || len(again.Segments) != len(state.Segments) {
			t.Errorf("%+v is read again as %+v (%v)", state, again, err)
		}
	})
}

// putList puts a list and its checksums into the wal's metadata as they are.
func putList(t *testing.T, dir string, list, sums []byte) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, metadb.FileName), fileMode, &bolt.Options{NoSync: true})
	check(t, err)
	check(t, db.Update(func(tx *bolt.Tx) error {
		return errors.Join(tx.Bucket([]byte(metadb.MetaBucket)).Put([]byte(metadb.MetaKey), list),
			tx.Bucket([]byte(metadb.StableBucket)).Put(walSumKey, sums))
	}))
	check(t, db.Close())
}

// The most that reading a term, a vote and the names of keys may take: a name of nothing is a
// byte, and a string of sixteen. That took 17 bytes for each.
const votesPerByte, votesAlways = 64, 32 << 10

// FuzzVotes reads what claims to be the term and the names of keys, under checksums that are
// right. There is damage, or the term is a number that the log can be of.
func FuzzVotes(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 7}, []byte(termKey+"\x00"+voteKey), uint64(7))
	f.Add([]byte{7}, []byte(termKey), uint64(0))
	f.Add([]byte{}, bytes.Repeat([]byte{0}, 5000), uint64(1<<64-1))
	f.Fuzz(func(t *testing.T, term, names []byte, newest uint64) {
		s := inmemLog{raft.NewInmemStore()}
		for key, value := range map[string][]byte{termKey: term, string(knownKey): names} {
			check(t, s.Set([]byte(key), binary.LittleEndian.AppendUint32(bytes.Clone(value), valueChecksum([]byte(key), value))))
		}
		var stableErr, termErr error
		fuzzing.InProportion(t, append(bytes.Clone(term), names...), votesPerByte, votesAlways, func() {
			stableErr = verifyStable(s, "it")
			termErr = verifyTerm(s, snapshotID{term: newest}, "it")
		})
		var damage *DamageError
		if stableErr != nil && !errors.As(stableErr, &damage) || termErr != nil && !errors.As(termErr, &damage) {
			t.Errorf("neither is damage: %v, %v", stableErr, termErr)
		}
		known := strings.Split(string(names), "\x00")
		if missing := slices.Contains(known, voteKey) || slices.Contains(known, voteTermKey); missing != (stableErr != nil) {
			t.Errorf("of the names %q a vote is missing: %v", names, stableErr)
		}
		if termErr == nil && len(term) >= 8 && binary.BigEndian.Uint64(term) < newest {
			t.Errorf("the term %x is taken beside a snapshot of term %d", term, newest)
		}
	})
}

// inmemLog is Raft's store in memory, as the wal is: it has no value for a missing key.
type inmemLog struct{ *raft.InmemStore }

func (l inmemLog) Get(key []byte) ([]byte, error) {
	value, _ := l.InmemStore.Get(key) // it fails for no other reason
	return value, nil
}

func (inmemLog) Close() error { return nil }

// FuzzLockFile starts in a directory that has nothing but what claims to be a lock file. One
// that is not Stockade's is left as it is.
func FuzzLockFile(f *testing.F) {
	f.Add([]byte("4711\n"))
	f.Add([]byte(""))
	f.Add([]byte("somebody's"))
	f.Add([]byte("12345678901234567890123"))
	f.Add([]byte("000000000000000000000 and somebody's text"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, lockFile)
		check(t, os.WriteFile(path, content, fileMode))
		var d *dataDir
		var err error
		fuzzing.InProportion(t, content, 0, fileAlways, func() { d, err = openDataDir(dir, identity{NodeID: "a", Shards: 1, LogStore: LogStoreWAL}) })
		if err != nil {
			entries, err := os.ReadDir(dir)
			check(t, err)
			if after := readAll(t, path); !bytes.Equal(after, content) || len(entries) != 1 {
				t.Errorf("%q was changed into %q, beside %v", content, after, entries)
			}
			return
		}
		if len(content) > maxHolderLen || len(bytes.Trim(content, "0123456789\n")) > 0 {
			t.Errorf("%q was taken for a lock file", content)
		}
		check(t, d.close())
	})
}
