package shard

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// walSumKey is where the checksums of the list of segments are, beside Raft's votes.
var walSumKey = []byte("StockadeSegments")

// walMeta is raft-wal's metadata with a checksum of the list of segments. Nothing else
// protects that list, and with a bit of it changed raft-wal may take a log for empty and
// delete its segments as left-overs.
//
// The list and its checksum are two writes. Before a list is written, the checksums of
// the one before and of the new one are: so one of them is right, whenever a crash comes.
// A log of before there were checksums has none until its list changes.
type walMeta struct {
	metadb.BoltMetaDB
	sum uint32 // of the list that is stored
}

var _ types.MetaStore = (*walMeta)(nil)

// Load implements types.MetaStore.
func (m *walMeta) Load(dir string) (types.PersistentState, error) {
	state, err := m.BoltMetaDB.Load(dir)
	if err != nil {
		return state, err
	}
	if m.sum, err = listSum(state); err != nil {
		return state, err
	}
	sums, err := m.GetStable(walSumKey)
	if err != nil || sums == nil {
		return state, err
	}
	for rest := sums; len(rest) >= checksumLen; rest = rest[checksumLen:] {
		if binary.LittleEndian.Uint32(rest) == m.sum {
			return state, nil
		}
	}
	return state, fmt.Errorf("%w: the list of segments is not what was written", types.ErrCorrupt)
}

// CommitState implements types.MetaStore.
func (m *walMeta) CommitState(state types.PersistentState) error {
	sum, err := listSum(state)
	if err != nil {
		return err
	}
	sums := binary.LittleEndian.AppendUint32(nil, m.sum)
	sums = binary.LittleEndian.AppendUint32(sums, sum)
	if err := m.SetStable(walSumKey, sums); err != nil {
		return err
	}
	if err := m.BoltMetaDB.CommitState(state); err != nil {
		return err
	}
	m.sum = sum
	return nil
}

// listSum is the checksum of a list as raft-wal writes it.
func listSum(state types.PersistentState) (uint32, error) {
	b, err := json.Marshal(state)
	return crc32.Checksum(b, castagnoli), err
}
