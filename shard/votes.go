package shard

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// stableKeys are the keys under which Raft keeps its term and its vote.
var stableKeys = []string{termKey, voteTermKey, voteKey}

const (
	termKey     = "CurrentTerm"
	voteTermKey = "LastVoteTerm"
	voteKey     = "LastVoteCand"
)

// verifyStable reads a store's term and vote, for a store that is not behind a
// guard yet.
func verifyStable(s raft.StableStore, dir string) error {
	err := guardPanic(func() error {
		known, err := namesOfKeys(s)
		if err != nil {
			return err
		}
		for _, key := range stableKeys {
			sealed, err := s.Get([]byte(key))
			if sealed == nil && err == nil || isKeyNotFound(err) {
				if slices.Contains(known, key) {
					return fmt.Errorf("the value of %q is missing", key)
				}
				continue
			}
			if err == nil {
				_, err = openValue([]byte(key), sealed)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return &DamageError{Path: dir, Offset: -1, What: "can't read a vote: " + err.Error(), Repair: repairReplica(dir)}
	}
	return nil
}

// verifyTerm looks whether the current term is at least that of everything in the log and
// of the newest snapshot. Raft writes a term before anything of it.
func verifyTerm(s logStore, newest snapshotID, dir string) error {
	err := guardPanic(func() error {
		_, last, err := bounds(s)
		if err != nil {
			return err
		}
		entry := raft.Log{Term: newest.term}
		if last > newest.index {
			if err := s.GetLog(last, &entry); err != nil {
				return err
			}
		}
		term := uint64(0)
		if sealed, err := s.Get([]byte(termKey)); err == nil && sealed != nil {
			value, err := openValue([]byte(termKey), sealed)
			if err != nil {
				return err
			}
			term = binary.BigEndian.Uint64(value)
		}
		if term < entry.Term {
			return fmt.Errorf("the current term is %d, and there are entries of term %d", term, entry.Term)
		}
		return nil
	})
	if err != nil {
		return &DamageError{Path: dir, Offset: -1, What: "the term was forgotten: " + err.Error(), Repair: repairReplica(dir)}
	}
	return nil
}

// knownKey is where the names of the keys that were ever set are. With a bit of a name
// changed its value would be missing, and a vote forgotten.
var knownKey = []byte("StockadeKeys")

// remember notes that a key is set, the first time. It is called by run only.
func (g *guard) remember(key []byte) (err error) {
	if g.known == nil {
		if g.known, err = namesOfKeys(g.store); err != nil {
			return err
		}
	}
	if slices.Contains(g.known, string(key)) {
		return nil
	}
	for _, k := range stableKeys { // a log of before names were noted has others too
		if v, err := g.store.Get([]byte(k)); err == nil && v != nil && !slices.Contains(g.known, k) {
			g.known = append(g.known, k)
		}
	}
	names := []byte(strings.Join(g.known, "\x00"))
	return g.store.Set(knownKey, binary.LittleEndian.AppendUint32(names, valueChecksum(knownKey, names)))
}

// namesOfKeys reads what remember has noted; none: nothing yet.
func namesOfKeys(s raft.StableStore) ([]string, error) {
	sealed, err := s.Get(knownKey)
	if sealed == nil || isKeyNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := openValue(knownKey, sealed)
	if err != nil {
		return nil, err
	}
	return strings.Split(string(names), "\x00"), nil
}
