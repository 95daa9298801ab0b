package shard

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// TestListOfSegmentsIsVerified after each of the two writes that change it, also in a log
// of before there were checksums; a list that nobody wrote is refused.
func TestListOfSegmentsIsVerified(t *testing.T) {
	dir := t.TempDir()
	var old metadb.BoltMetaDB
	_, err := old.Load(dir)
	check(t, err)
	first := types.PersistentState{NextSegmentID: 1, Segments: []types.SegmentInfo{{BaseIndex: 1, MinIndex: 1, Codec: 1}}}
	check(t, old.CommitState(first))
	check(t, old.Close())

	load := func() (types.PersistentState, error) {
		var m walMeta
		state, err := m.Load(dir)
		return state, errors.Join(err, m.Close())
	}
	_, err = load()
	check(t, err) // it has no checksum yet

	second := first
	second.NextSegmentID = 2
	var m walMeta
	_, err = m.Load(dir)
	check(t, err)
	check(t, m.CommitState(second))
	sums, err := m.GetStable(walSumKey)
	check(t, err)
	check(t, m.Close())
	if state, err := load(); err != nil || state.NextSegmentID != 2 {
		t.Errorf("%+v, %v", state, err)
	}

	// A crash between the two writes leaves the list of before, with both checksums.
	check(t, os.Remove(filepath.Join(dir, metadb.FileName)))
	_, err = old.Load(dir)
	check(t, err)
	check(t, old.CommitState(first))
	check(t, old.SetStable(walSumKey, sums))
	check(t, old.Close())
	_, err = load()
	check(t, err)

	_, err = old.Load(dir)
	check(t, err)
	second.Segments = nil
	check(t, old.CommitState(second))
	check(t, old.Close())
	if _, err := load(); !errors.Is(err, types.ErrCorrupt) {
		t.Errorf("a list without segments: %v", err)
	}
}

// TestForgottenVoteIsDamage: a key that was set and is missing, whichever store it is.
func TestForgottenVoteIsDamage(t *testing.T) {
	for _, kind := range []LogStoreKind{LogStoreWAL, LogStoreBolt} {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			g := mustOpenStore(t, kind, dir)
			for _, key := range stableKeys {
				check(t, g.SetUint64([]byte(key), 7))
			}
			closeStore(t, g)
			s, err := openLogStore(testLog(kind, testSegment), dir, newRaftLogger(testLogger(t)))
			check(t, err)
			defer s.Close()
			check(t, verifyStable(s, dir))
			check(t, s.Set([]byte("LastVoteTerm"), nil))
			var damage *DamageError
			if err := verifyStable(s, dir); !errors.As(err, &damage) || !strings.Contains(err.Error(), "LastVoteTerm") {
				t.Errorf("a forgotten vote: %v", err)
			}
		})
	}
}
