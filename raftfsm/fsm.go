package raftfsm

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
)

// Errors of FSM.Restore and FSM.Snapshot.
var (
	// ErrSnapshotForeign: the snapshot is of another cluster, another shard or
	// a shard with other settings.
	ErrSnapshotForeign = errors.New("snapshot belongs elsewhere")
	// ErrFailed: the state machine has stopped after an error that it reported to
	// Fatal.
	ErrFailed = errors.New("state machine has failed")
)

// errLogForeign: the log does not continue the state it is applied to.
var errLogForeign = errors.New("log does not continue the state")

// FSMConfig is what an FSM is made from. It is immutable afterwards.
type FSMConfig struct {
	ClusterID string           // goes into snapshots; others' are refused
	Allocator allocator.Config // of the shard; a snapshot's must be equal
	Clock     *LogClock        // observes the stamps that are applied
	Metrics   *Metrics
	// OnApplied is called after each batch that was applied and each snapshot
	// that was restored, with the index reached. It runs on Raft's goroutine and
	// must not block. Optional.
	OnApplied func(index uint64)

	// Fatal is called at most once, when the state must not be used any more: a
	// bug, a damaged log, or a replica that differs from its leader. In
	// production it stops the process and does not return. When it returns, the
	// FSM applies nothing any more.
	Fatal func(error)
}

// FSM is a shard's allocator as a raft.FSM and raft.BatchingFSM. Raft calls
// Apply, ApplyBatch, Snapshot and Restore from one goroutine; the other methods
// are safe from any.
type FSM struct {
	cfg     FSMConfig
	awaited atomic.Int32 // entries of this process whose results somebody waits for

	// mu guards what follows. Readers hold it shared. Lock order: mu, then the
	// clock's lock. Never call out while holding it.
	mu      sync.RWMutex
	state   *allocator.State
	index   uint64 // of the last command or configuration entry that is applied
	term    uint64
	failed  bool
	scratch []byte                      // results nobody waits for
	chunk   [allocator.WarmBatch][]byte // commands of the entry at hand
	hint    int                         // size of the last results somebody waited for

	// progress is a copy for those who must not wait for a batch to be applied.
	progressMu sync.Mutex
	progress   Progress
	restoreErr error
}

var _ raft.BatchingFSM = (*FSM)(nil)

// Progress is what has been applied, and what is to come.
type Progress struct {
	Index uint64 // last command or configuration entry applied
	Term  uint64 // its term
	Now   allocator.Millis

	Due    allocator.Millis // when the state next has something to do, if HasDue
	HasDue bool

	Commands uint64 // commands applied since the shard began
	Hash     uint64 // rolling hash after them

	Checkpoint     uint64 // commands applied at the last checkpoint, if HasCheckpoint
	CheckpointHash uint64 // rolling hash there
	HasCheckpoint  bool
}

// NewFSM returns an FSM with an empty state.
func NewFSM(cfg FSMConfig) (*FSM, error) {
	if cfg.Clock == nil || cfg.Metrics == nil || cfg.Fatal == nil {
		return nil, errors.New("new state machine: Clock, Metrics and Fatal are needed")
	}
	if cfg.ClusterID == "" || len(cfg.ClusterID) > MaxClusterIDLen {
		return nil, fmt.Errorf("new state machine: cluster id has %d bytes, not 1 to %d", len(cfg.ClusterID), MaxClusterIDLen)
	}
	state, err := allocator.New(cfg.Allocator)
	if err != nil {
		return nil, fmt.Errorf("new state machine: %w", err)
	}
	return &FSM{cfg: cfg, state: state}, nil
}

// AppliedEntry is the response to an entry: what its commands returned. Its
// methods are safe for concurrent use.
type AppliedEntry struct {
	Index uint64           // of the entry
	Stamp allocator.Millis // log time after the entry's stamp

	results []byte
	ends    []uint32 // where each result ends
}

// Len is the number of results: the number of commands in the entry.
func (a *AppliedEntry) Len() int { return len(a.ends) }

// Result is the encoded allocator.Result of the entry's command i. It must not
// be changed, and keeps the results of the whole entry in memory.
func (a *AppliedEntry) Result(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = a.ends[i-1]
	}
	return a.results[start:a.ends[i]:a.ends[i]]
}

// Apply implements raft.FSM. Raft uses ApplyBatch instead, but for recovery.
func (f *FSM) Apply(log *raft.Log) any {
	return f.ApplyBatch([]*raft.Log{log})[0]
}

// ApplyBatch implements raft.BatchingFSM. The response to an entry is an
// *AppliedEntry, or nil when it is no command or nobody in this process waits.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	if f.stopped() {
		return responses
	}
	start := time.Now()
	for i, log := range logs {
		applied, err := f.applyEntry(log)
		if err != nil {
			f.fail(fmt.Errorf("shard %d: apply log entry %d of term %d: %w", f.cfg.Allocator.Shard, log.Index, log.Term, err))
			return responses
		}
		if applied != nil {
			responses[i] = applied
		}
	}
	f.cfg.Metrics.apply.Observe(time.Since(start).Seconds())
	f.publish()
	return responses
}

// applyEntry applies one entry of any type. It takes the lock for each entry
// and not for the batch, so that a replica that catches up can be read.
func (f *FSM) applyEntry(log *raft.Log) (*AppliedEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	skip, err := f.position(log)
	if skip || err != nil {
		return nil, err
	}
	var applied *AppliedEntry
	if log.Type == raft.LogCommand {
		if applied, err = f.applyCommands(log); err != nil {
			return nil, err
		}
	}
	// Configuration entries count: the index says how far the log was followed.
	f.index, f.term = log.Index, log.Term
	return applied, nil
}

// position tells whether the entry is part of the state already: a snapshot may
// be older than the log beside it. An entry that is both older and of a later
// term belongs to another history, and skipping it would lose what it promised.
func (f *FSM) position(log *raft.Log) (skip bool, err error) {
	old := log.Index <= f.index
	if old && log.Term > f.term || !old && log.Term < f.term {
		return false, fmt.Errorf("%w: the state is at entry %d of term %d", errLogForeign, f.index, f.term)
	}
	return old, nil
}

// applyCommands applies the batch in a command entry. The caller holds mu.
func (f *FSM) applyCommands(log *raft.Log) (*AppliedEntry, error) {
	entry, err := DecodeEntry(log.Data)
	if err != nil {
		return nil, err
	}
	if err := f.state.Begin(entry.Stamp); err != nil {
		return nil, fmt.Errorf("begin stamp %d: %w", entry.Stamp, err)
	}
	// Raft drops the responses of entries that this process did not propose.
	// While nobody waits the results go to scratch; see await.
	wanted := f.awaited.Load() > 0
	results, ends := f.scratch[:0], []uint32(nil)
	if wanted {
		results, ends = make([]byte, 0, f.hint), make([]uint32, 0, entry.Count)
	}
	for commands := f.nextChunk(&entry); len(commands) > 0; commands = f.nextChunk(&entry) {
		f.state.Warm(commands)
		for _, command := range commands {
			if results, err = f.state.Apply(command, results); err != nil {
				return nil, fmt.Errorf("command: %w", err)
			}
			if wanted {
				ends = append(ends, uint32(len(results)))
			} else {
				results = results[:0]
			}
		}
	}
	// Not live: an entry may be replayed, or caught up on, hours after its stamp.
	f.cfg.Clock.Observe(entry.Stamp, false)
	if !wanted {
		f.scratch = results
		return nil, nil
	}
	f.hint = len(results)
	return &AppliedEntry{Index: log.Index, Stamp: f.state.Now(), results: results, ends: ends}, nil
}

// nextChunk reads the commands that are warmed and applied together. The caller
// holds mu; what it gets is good until the next call.
func (f *FSM) nextChunk(entry *Entry) [][]byte {
	chunk := f.chunk[:0]
	for len(chunk) < cap(chunk) {
		command, ok := entry.Next()
		if !ok {
			break
		}
		chunk = append(chunk, command)
	}
	return chunk
}

// await makes the FSM keep results until release is called. The proposer calls
// it before it hands an entry to Raft, and release when the future has ended.
func (f *FSM) await() { f.awaited.Add(1) }

// release ends what await began.
func (f *FSM) release() { f.awaited.Add(-1) }

// publish copies the progress and tells the owner.
func (f *FSM) publish() {
	f.mu.RLock()
	p := Progress{Index: f.index, Term: f.term, Now: f.state.Now()}
	p.Commands, p.Hash = f.state.Applied(), f.state.Hash()
	p.Due, p.HasDue = f.state.NextDue()
	p.Checkpoint, p.CheckpointHash, p.HasCheckpoint = f.state.Checkpoint()
	f.mu.RUnlock()

	f.progressMu.Lock()
	f.progress = p
	f.progressMu.Unlock()
	if f.cfg.OnApplied != nil {
		f.cfg.OnApplied(p.Index)
	}
}

// fail stops applying for ever, and says why.
func (f *FSM) fail(err error) {
	f.mu.Lock()
	f.failed = true
	f.mu.Unlock()
	f.cfg.Metrics.violations.Inc()
	f.cfg.Fatal(err)
}

// stopped tells whether fail was called.
func (f *FSM) stopped() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.failed
}

// Read calls read with the state while nothing is applied. Several readers may
// run at once. read must not change the state, nor keep it or anything inside
// it, and should be quick: commands wait.
func (f *FSM) Read(read func(*allocator.State)) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	read(f.state)
}

// Progress returns what was applied up to the last batch. It never waits for a
// batch, and the state that Read shows is at least as far.
func (f *FSM) Progress() Progress {
	f.progressMu.Lock()
	defer f.progressMu.Unlock()
	return f.progress
}

// AppliedIndex is the index of the last command or configuration entry applied.
// Raft does not show its other entries (barriers, no-ops) to a state machine.
func (f *FSM) AppliedIndex() uint64 { return f.Progress().Index }

// AppliedTerm is the term of that entry.
func (f *FSM) AppliedTerm() uint64 { return f.Progress().Term }

// Freeze returns a view of the state for long reads. It waits for the batch
// being applied, then takes microseconds.
func (f *FSM) Freeze() *allocator.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Freeze()
}

// Snapshot implements raft.FSM. It takes microseconds; Persist does the work.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	start := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed {
		return nil, fmt.Errorf("take snapshot: %w", ErrFailed)
	}
	s := &fsmSnapshot{
		metrics: f.cfg.Metrics,
		view:    f.state.Freeze(),
		header: SnapshotHeader{
			ClusterID: f.cfg.ClusterID,
			Shard:     f.cfg.Allocator.Shard,
			Index:     f.index,
			Term:      f.term,
			Stamp:     f.state.Now(),
		},
	}
	f.cfg.Metrics.freeze.Observe(time.Since(start).Seconds())
	return s, nil
}

// Restore implements raft.FSM. The new state is built and verified beside the
// old one, which stays when anything is wrong. Raft closes r.
func (f *FSM) Restore(r io.ReadCloser) error {
	err := f.restore(r)
	if err != nil {
		err = fmt.Errorf("shard %d: %w", f.cfg.Allocator.Shard, err)
	}
	f.progressMu.Lock()
	f.restoreErr = err
	f.progressMu.Unlock()
	return err
}

// RestoreErr is the error of the last Restore, nil if it went well. Raft only
// logs it, and falls back to an older snapshot when it starts.
func (f *FSM) RestoreErr() error {
	f.progressMu.Lock()
	defer f.progressMu.Unlock()
	return f.restoreErr
}

// restore is Restore without the bookkeeping of its error.
func (f *FSM) restore(r io.Reader) error {
	header, state, err := ReadSnapshot(r)
	if err != nil {
		return err
	}
	if err := f.swap(header, state); err != nil {
		return err
	}
	f.cfg.Clock.Observe(header.Stamp, false)
	f.publish()
	return nil
}

// swap puts a restored state in place if it belongs here.
func (f *FSM) swap(h SnapshotHeader, state *allocator.State) error {
	if h.ClusterID != f.cfg.ClusterID {
		return fmt.Errorf("%w: it is of cluster %q, this node is of %q", ErrSnapshotForeign, h.ClusterID, f.cfg.ClusterID)
	}
	if h.Shard != f.cfg.Allocator.Shard {
		return fmt.Errorf("%w: it is of shard %d", ErrSnapshotForeign, h.Shard)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed {
		return fmt.Errorf("restore snapshot: %w", ErrFailed)
	}
	if want, got := f.state.Config(), state.Config(); want != got {
		return fmt.Errorf("%w: its settings are %+v, this shard's are %+v", ErrSnapshotForeign, got, want)
	}
	f.state, f.index, f.term = state, h.Index, h.Term
	return nil
}

// fsmSnapshot is a frozen state on its way to a sink. Raft uses it from one
// goroutine, while entries are applied.
type fsmSnapshot struct {
	metrics *Metrics
	view    *allocator.View
	header  SnapshotHeader
}

// Persist implements raft.FSMSnapshot.
func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	start := time.Now()
	if _, err := WriteSnapshot(sink, s.header, s.view); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("close snapshot: %w", err)
	}
	s.metrics.snapshot.Observe(time.Since(start).Seconds())
	return nil
}

// Release implements raft.FSMSnapshot. The view goes with its last reference.
func (s *fsmSnapshot) Release() { s.view = nil }
