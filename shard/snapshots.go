package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

const (
	// retainSnapshots keeps the one before the newest for repairs by hand.
	retainSnapshots = 2

	// snapshotsDir and the names below are those of raft.FileSnapshotStore.
	snapshotsDir     = "snapshots"
	snapshotMetaFile = "meta.json"
	snapshotTmp      = ".tmp"
)

// snapshotStore is raft's file store with some changes: a snapshot that can't
// be written ends the node, like a log entry that can't; the directory of a new
// snapshot is made durable before the log is cut behind it; metadata have a
// checksum; and damage is found by check, before Raft starts.
type snapshotStore struct {
	*raft.FileSnapshotStore
	dir     string // of the replica
	newest  atomic.Pointer[snapshotID]
	left    []string // what a crash left of others: half written, or half removed
	fatal   func(error)
	metrics *snapshotMetrics
	// written is called when a snapshot, own or received, is durable, by the
	// goroutine of Raft that wrote it. nil: nobody wants to know.
	written func(index, term uint64)
}

// snapshotID is the last entry of a snapshot. The zero value is none.
type snapshotID struct{ index, term uint64 }

// openSnapshots opens the snapshots of the replica in dir.
func openSnapshots(dir string, log *raftLogger, m *snapshotMetrics, fatal func(error)) (*snapshotStore, error) {
	fss, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, log.Named("snapshots"))
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	s := &snapshotStore{FileSnapshotStore: fss, dir: dir, fatal: fatal, metrics: m}
	s.newest.Store(new(snapshotID))
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// check verifies the newest snapshot. Raft would fall back to an older one, or
// not see one whose metadata is damaged, and say so in a line of its log: the
// replica would come back without entries that it once acknowledged.
func (s *snapshotStore) check() error {
	path := filepath.Join(s.dir, snapshotsDir)
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("read snapshots: %w", err)
	}
	all, err := s.List() // the newest first, those whose metadata can be read
	if err != nil {
		return err
	}
	for _, e := range entries {
		snapshot := filepath.Join(path, e.Name())
		switch {
		case !e.IsDir():
		case strings.HasSuffix(e.Name(), snapshotTmp), s.wasRemoved(snapshot, all):
			s.left = append(s.left, snapshot)
		default:
			if err := checkSnapshotMeta(snapshot); err != nil {
				return s.damage(filepath.Join(snapshot, snapshotMetaFile), err)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	meta, content, err := s.Open(all[0].ID)
	if err != nil {
		return s.damage(filepath.Join(path, all[0].ID), err)
	}
	s.newest.Store(&snapshotID{meta.Index, meta.Term})
	return content.Close()
}

// wasRemoved tells whether a snapshot is what a crash left of one that was being removed,
// because there are enough newer ones. Files go one by one, the metadata perhaps first.
func (s *snapshotStore) wasRemoved(snapshot string, all []*raft.SnapshotMeta) bool {
	if _, err := os.Stat(filepath.Join(snapshot, snapshotMetaFile)); !errors.Is(err, fs.ErrNotExist) || len(all) < retainSnapshots {
		return false
	}
	var id snapshotID
	if _, err := fmt.Sscanf(filepath.Base(snapshot), "%d-%d-", &id.term, &id.index); err != nil {
		return false
	}
	return id.index < all[retainSnapshots-1].Index
}

// clean removes what crashes left, and makes the names of the snapshots durable: entries
// are dropped from the log by the newest one.
func (s *snapshotStore) clean() error {
	for _, left := range s.left {
		if err := os.RemoveAll(left); err != nil {
			return err
		}
	}
	s.left = nil
	return syncDir(filepath.Join(s.dir, snapshotsDir))
}

// snapshotSumFile has the checksum of a snapshot's metadata, in hexadecimal digits. Raft
// gives them none, and they say who the voters are: a replica that believes in others
// stands aside, or counts a majority that is none.
const snapshotSumFile = "meta.crc32c"

// sealSnapshot writes the checksum of a snapshot's metadata. One without it, of an earlier
// version or because a crash came before it, is believed.
func sealSnapshot(snapshot string) error {
	meta, err := readSmall(filepath.Join(snapshot, snapshotMetaFile))
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(snapshot, snapshotSumFile), metaSum(meta))
}

func metaSum(meta []byte) []byte { return fmt.Appendf(nil, "%08x\n", crc32.Checksum(meta, castagnoli)) }

// checkSnapshotMeta reads a snapshot's metadata. The directory's name must say the same
// of term and index.
func checkSnapshotMeta(snapshot string) error {
	data, err := readSmall(filepath.Join(snapshot, snapshotMetaFile))
	if err != nil {
		return err
	}
	sum, err := readSmall(filepath.Join(snapshot, snapshotSumFile))
	if err == nil && !bytes.Equal(sum, metaSum(data)) || ignoreMissing(err) != nil {
		return errors.Join(err, errors.New("the checksum of its metadata is wrong"))
	}
	var meta raft.SnapshotMeta
	if err := json.Unmarshal(data, &meta); err != nil {
		return err
	}
	if meta.Version != raft.SnapshotVersionMax { // Raft would pass it over, and take an older one
		return fmt.Errorf("its metadata say that it has version %d", meta.Version)
	}
	if name := filepath.Base(snapshot); meta.ID != name || !strings.HasPrefix(name, fmt.Sprintf("%d-%d-", meta.Term, meta.Index)) {
		return fmt.Errorf("it says that it is snapshot %q of term %d and index %d", meta.ID, meta.Term, meta.Index)
	}
	return nil
}

// last is the newest snapshot that is durable; the zero value: there is none.
func (s *snapshotStore) last() snapshotID { return *s.newest.Load() }

// note keeps the newest snapshot: an own one may be written beside one that was sent.
func (s *snapshotStore) note(id *snapshotID) {
	for old := s.newest.Load(); id.index > old.index && !s.newest.CompareAndSwap(old, id); {
		old = s.newest.Load()
	}
}

func (s *snapshotStore) damage(path string, err error) error {
	return &DamageError{Path: path, Offset: -1, What: "the snapshot can't be read: " + err.Error(), Repair: repairReplica(s.dir)}
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, c, cIndex, t)
	if err != nil {
		return nil, s.fail(err)
	}
	// The files are there, and Raft will sync them, but never their names. Without these a
	// snapshot that got its own name just before a power failure looks damaged.
	if err := syncDir(filepath.Join(s.dir, snapshotsDir, sink.ID()+snapshotTmp)); err != nil {
		return nil, s.fail(errors.Join(err, sink.Cancel()))
	}
	return &snapshotSink{SnapshotSink: sink, store: s, last: snapshotID{index, term}}, nil
}

// fail ends the node for a snapshot that could not be written.
func (s *snapshotStore) fail(err error) error {
	err = fmt.Errorf("can't write a snapshot in %s: %w. The node stops: check the disk and its free space, then start it again", s.dir, err)
	s.fatal(err)
	return err
}

// snapshotSink is a snapshot that is being written.
type snapshotSink struct {
	raft.SnapshotSink
	store *snapshotStore
	last  snapshotID
	size  int64
}

// Write implements io.Writer.
func (k *snapshotSink) Write(b []byte) (int, error) {
	n, err := k.SnapshotSink.Write(b)
	k.size += int64(n)
	if err != nil {
		return n, k.store.fail(err)
	}
	return n, nil
}

// Close implements io.Closer: the snapshot is durable when it returns nil.
func (k *snapshotSink) Close() error {
	err := k.SnapshotSink.Close()
	if err == nil {
		err = sealSnapshot(filepath.Join(k.store.dir, snapshotsDir, k.ID()))
	}
	if err != nil {
		return k.store.fail(err)
	}
	k.store.note(&k.last)
	k.store.metrics.written.Inc()
	k.store.metrics.taken.SetToCurrentTime()
	k.store.metrics.bytes.Set(float64(k.size))
	if k.store.written != nil {
		k.store.written(k.last.index, k.last.term)
	}
	return nil
}
