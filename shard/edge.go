package shard

import (
	"errors"

	"github.com/hashicorp/raft"
)

// edgeLog is a replica's log as Raft sees it. It knows one entry more than the log
// itself: the last one of the newest snapshot, by its index and term.
//
// When a snapshot was installed the log begins behind it. A leader whose log ends where
// the snapshot does asks for that entry first, and hashicorp/raft v1.8.0 looks for it in
// the log alone, unless nothing follows. So a replica that came back by a snapshot, led,
// and wrote what was never committed would refuse its successor for good: everything that
// it is sent, from one snapshot to the next. With the entry known it finds the conflict
// behind it, and cuts.
type edgeLog struct {
	raft.LogStore
	snapshot func() snapshotID // the newest; the zero value: there is none
}

// GetLog implements raft.LogStore.
func (l edgeLog) GetLog(index uint64, log *raft.Log) error {
	err := l.LogStore.GetLog(index, log)
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	if s := l.snapshot(); s.index == index && index > 0 {
		*log = raft.Log{Index: index, Term: s.term, Type: raft.LogNoop}
		return nil
	}
	return err
}

// IsMonotonic implements raft.MonotonicLogStore.
func (l edgeLog) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}
