package shard

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// A term that is older than what is in the log or in the snapshot was forgotten.
func TestForgottenTermIsDamage(t *testing.T) {
	tests := map[string]struct {
		term   uint64
		newest snapshotID
		damage bool
	}{
		"as the log":            {5, snapshotID{}, false},
		"later":                 {6, snapshotID{1, 2}, false},
		"older than the log":    {4, snapshotID{1, 2}, true},
		"older than a snapshot": {5, snapshotID{9, 6}, true},
		"as a snapshot":         {6, snapshotID{9, 6}, false},
		"none":                  {0, snapshotID{}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := newTestGuard(t)
			_ = g.StoreLogs([]*raft.Log{{Index: 1, Term: 2}, {Index: 2, Term: 5}})
			if tt.term > 0 {
				_ = g.SetUint64([]byte("CurrentTerm"), tt.term)
			}
			err := verifyTerm(g.store, tt.newest, "DIR")
			if (err != nil) != tt.damage {
				t.Fatalf("got %v", err)
			}
			if tt.damage {
				says(t, err.Error(), "DIR is damaged", "the term was forgotten", "To repair it")
			}
		})
	}
}

// The last transaction of bolt is written again when it is opened, as it was.
func TestLastTransactionIsSettled(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpenStore(t, kind, dir)
			_ = s.SetUint64([]byte("CurrentTerm"), 7)
			check(t, s.Close())
			path := filepath.Join(dir, boltFile)
			if kind == LogStoreWAL {
				path = filepath.Join(dir, walDir, metadb.FileName)
			}
			before := readAll(t, path)
			check(t, os.Chtimes(path, time.Time{}, time.Unix(1, 0)))
			check(t, settleBolt(path))
			if info, err := os.Stat(path); err != nil || info.ModTime().Year() < 2000 {
				t.Errorf("it was not written: %v", err)
			}
			if !bytes.Equal(readAll(t, path), before) {
				t.Error("it was changed")
			}
		})
	}
}

// closingFiles are files that are found closed once.
type closingFiles struct {
	types.VFS
	closed *bool
}

func (f closingFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	w, err := f.VFS.OpenWriter(dir, name)
	return closingFile{w, f.closed}, err
}

type closingFile struct {
	types.WritableFile
	closed *bool
}

func (f closingFile) ReadAt(b []byte, at int64) (int, error) {
	if *f.closed {
		*f.closed = false
		return 0, os.ErrClosed
	}
	return f.WritableFile.ReadAt(b, at)
}

// A reader whose segment was closed under it looks once more.
func TestSegmentClosedUnderAReader(t *testing.T) {
	dir, closed := t.TempDir(), false
	s := mustOpenStore(t, LogStoreWAL, dir)
	_ = s.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Data: []byte("a")}})
	check(t, s.Close())
	how := testLog(LogStoreWAL, testSegment)
	how.files = closingFiles{how.files, &closed}
	w, err := openLogStore(how, dir, newRaftLogger(testLogger(t)))
	check(t, err)
	closed = true
	var l raft.Log
	if err := w.GetLog(1, &l); err != nil || string(l.Data) != "a" || closed {
		t.Errorf("%q, %v, closed: %v", l.Data, err, closed)
	}
	check(t, w.Close())
}
