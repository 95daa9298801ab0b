//go:build !race

package shard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
)

// TestSlowDamagedMetadata flips bits of what raft-wal notes of its segments, and of Raft's
// votes beside it, which bolt keeps without a checksum: either a bit does not matter, or
// it is damage; no entry and no vote is ever lost without a word.
func TestSlowDamagedMetadata(t *testing.T) {
	const entries = 50 // one segment that is full, and a second one
	dir := t.TempDir()
	g := mustOpenStore(t, LogStoreWAL, dir)
	check(t, g.SetUint64([]byte("CurrentTerm"), 3))
	check(t, g.SetUint64([]byte("LastVoteTerm"), 3))
	check(t, g.Set([]byte("LastVoteCand"), []byte("n2")))
	fill(g, 1, entries, 2000)
	closeStore(t, g)
	path := filepath.Join(dir, walDir, metadb.FileName)
	whole := readAll(t, path)
	damaged := filepath.Join(t.TempDir(), "copy")
	flips, refused := 0, 0
	for _, at := range usedBytes(whole) {
		for bit := range 8 {
			content := bytes.Clone(whole)
			content[at] ^= 1 << bit
			flips++
			check(t, os.RemoveAll(damaged))
			copyDir(t, dir, damaged)
			check(t, os.WriteFile(filepath.Join(damaged, walDir, metadb.FileName), content, fileMode))
			what := fmt.Sprintf("%q instead of %q at %d, after %q", content[at], whole[at], at, whole[max(0, at-12):at])
			var damage *DamageError
			switch err := lookedAt(t, damaged, entries); {
			case errors.As(err, &damage):
				refused++
			case err != nil:
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if t.Logf("%d of %d flips are damage", refused, flips); refused < flips/10 {
		t.Error("hardly any flip is noticed")
	}
}

// usedBytes are the places of a bolt file that are worth a look: one in so many of those
// that are not zero, and all that are text, where names and lists are.
func usedBytes(file []byte) (at []int) {
	const oneIn = 7
	n := 0
	for i, b := range file {
		if b == 0 {
			continue
		}
		n++
		if n%oneIn == 0 || b >= ' ' && b < 0x7f {
			at = append(at, i)
		}
	}
	return at
}

// lookedAt opens a log as a replica does, and reads everything.
func lookedAt(t *testing.T, dir string, entries uint64) error {
	t.Helper()
	s, err := openLogStore(testLog(LogStoreWAL, testSegment), dir, newRaftLogger(testLogger(t)))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := errors.Join(verifyLog(s, dir, 0), verifyStable(s, dir)); err != nil {
		return err
	}
	for i := uint64(1); i <= entries; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Index != i {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	for _, key := range stableKeys {
		if v, err := s.Get([]byte(key)); err != nil || v == nil {
			return fmt.Errorf("the value of %s is lost (%w)", key, err)
		}
	}
	return nil
}
