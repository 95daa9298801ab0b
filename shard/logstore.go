package shard

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"
)

// LogStoreKind names where a replica keeps its Raft log and its votes.
type LogStoreKind string

const (
	// LogStoreWAL is raft-wal: append-only segments, one sync for each append.
	LogStoreWAL LogStoreKind = "wal"
	// LogStoreBolt is raft-boltdb: a B+ tree, two syncs for each append.
	LogStoreBolt LogStoreKind = "bolt"

	// DefaultLogStore is the one that measured better; see BenchmarkLogStore.
	DefaultLogStore = LogStoreWAL
)

const (
	walDir   = "wal"
	boltFile = "log.db"

	// boltLockTimeout bounds the wait for bolt's own file lock. The lock of the
	// data directory comes first, so nobody else can hold it.
	boltLockTimeout = time.Second
)

// logStore is what a replica needs of a log store. Both kinds lack what the
// guard adds: checksums, deadlines, an end after the first failed write.
type logStore interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

// DamageError says that what a replica stored is not what it once wrote. The
// replica must not go on with it: an acknowledged entry may be gone.
type DamageError struct {
	Path   string // the file or directory that is damaged
	Offset int64  // where in the file; -1: not known
	What   string // what was found
	Repair string // what to do
}

// Error implements error.
func (e *DamageError) Error() string {
	where := e.Path
	if e.Offset >= 0 {
		where = fmt.Sprintf("%s at offset %d", e.Path, e.Offset)
	}
	return fmt.Sprintf("%s is damaged: %s. Nothing was changed. %s", where, e.What, e.Repair)
}

// repairReplica is the advice for a damaged replica.
func repairReplica(dir string) string {
	return fmt.Sprintf("To repair it: check the disk, make sure that the other replicas of this shard are up, "+
		"move the directory %s away and start again; the replica is then rebuilt from the others", dir)
}

// advise completes damage that was found in the files of a replica.
func advise(err error, replicaDir string) error {
	var damage *DamageError
	if errors.As(err, &damage) {
		damage.Repair = repairReplica(replicaDir)
	}
	return err
}

// logSettings say how a log is opened.
type logSettings struct {
	kind        LogStoreKind
	segmentSize int       // of the wal
	files       types.VFS // of the wal's segments
}

// logSettings are those of a node's replicas.
func (c Config) logSettings() logSettings {
	s := logSettings{kind: c.LogStore, segmentSize: c.Storage.SegmentSize, files: c.Files}
	if s.files == nil {
		s.files = walfs.New()
	}
	return s
}

// openLogStore opens the log of the replica in dir. A torn tail, which a crash
// leaves behind, is cut. Anything else that is wrong is a DamageError.
func openLogStore(how logSettings, dir string, log *raftLogger) (logStore, error) {
	var s logStore
	err := openGuarded(dir, func() (err error) {
		switch how.kind {
		case LogStoreWAL:
			s, err = openWAL(how, dir, log)
		case LogStoreBolt:
			s, err = openBolt(filepath.Join(dir, boltFile))
		default:
			err = fmt.Errorf("unknown log store %q", how.kind)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the log in %s: %w", dir, err)
	}
	return s, nil
}

// openGuarded runs f, which opens a store of the replica in dir. A panic is
// damage that the store did not expect.
func openGuarded(dir string, f func() error) error {
	err := guardPanic(f)
	var panicked *panicError
	if errors.As(err, &panicked) {
		return &DamageError{Path: dir, Offset: -1, What: panicked.Error(), Repair: repairReplica(dir)}
	}
	return err
}

func openWAL(how logSettings, replicaDir string, log *raftLogger) (logStore, error) {
	path := filepath.Join(replicaDir, walDir)
	if err := makeDir(path); err != nil {
		return nil, err
	}
	if err := checkWAL(path, replicaDir, how.files); err != nil {
		return nil, err
	}
	notes := &walNotes{raftLogger: log}
	w, err := wal.Open(path, wal.WithSegmentSize(how.segmentSize), wal.WithLogger(notes), wal.WithMetaStore(new(walMeta)),
		wal.WithSegmentFiler(segment.NewFiler(path, how.files)))
	if errors.Is(err, wal.ErrCorrupt) {
		return nil, &DamageError{Path: path, Offset: -1, What: err.Error(), Repair: repairReplica(replicaDir)}
	}
	if err != nil {
		return nil, err
	}
	// A segment that was made just before a crash may have no durable name yet.
	if err := syncDir(path); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &walStore{WAL: w, notes: notes}, nil
}

// walStore is the wal with its errors explained.
type walStore struct {
	*wal.WAL
	notes *walNotes
}

// StoreLogs implements raft.LogStore. The wal makes the next segment in the
// background, and when it can't, it logs why and then refuses every append
// because the segment is full ("sealed").
func (s *walStore) StoreLogs(logs []*raft.Log) error {
	err := s.WAL.StoreLogs(logs)
	if why := s.notes.last.Load(); why != nil && errors.Is(err, wal.ErrSealed) {
		return fmt.Errorf("the next segment can't be made: %s", *why)
	}
	return err
}

// GetLog implements raft.LogStore. A reader that looks for an entry while others are cut
// may find its segment closed under it, in what was the log before the cut. Then it looks
// in what is the log now.
func (s *walStore) GetLog(index uint64, log *raft.Log) (err error) {
	for range 3 {
		if err = s.WAL.GetLog(index, log); !errors.Is(err, fs.ErrClosed) {
			break
		}
	}
	return err
}

// walNotes is a logger that keeps the last error.
type walNotes struct {
	*raftLogger
	last atomic.Pointer[string]
}

// Error implements hclog.Logger.
func (n *walNotes) Error(msg string, args ...any) {
	text := strings.TrimSpace(fmt.Sprintln(append([]any{msg}, args...)...))
	n.last.Store(&text)
	n.raftLogger.Error(msg, args...)
}

// boltOptions: the list of free pages can be found again by a scan; writing it
// with each append costs more than that.
func boltOptions(readOnly bool) *bbolt.Options {
	return &bbolt.Options{Timeout: boltLockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, ReadOnly: readOnly}
}

// openBolt opens what verifyUnopened has verified, or makes a new store.
func openBolt(path string) (logStore, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createBolt(path); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
	}
	if err := settleBolt(path); err != nil {
		return nil, err
	}
	s, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(false), MsgpackUseNewTimeFormat: true})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// verifyUnopened verifies the log of the replica in dir, if there is one, as far
// as opening it would write to it. That is all of bolt: opening it commits a
// transaction. A wal that is whole is opened without a write, and is verified as
// it is opened.
func verifyUnopened(kind LogStoreKind, dir string, snapshot uint64) error {
	path := filepath.Join(dir, boltFile)
	if _, err := os.Stat(path); kind != LogStoreBolt || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := checkBolt(path); err != nil {
		return advise(err, dir)
	}
	var s *raftboltdb.BoltStore
	err := openGuarded(dir, func() (err error) {
		s, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(true)})
		return err
	})
	if err != nil {
		return fmt.Errorf("open the log in %s to read: %w", dir, err)
	}
	if err = verifyLog(s, dir, snapshot); err == nil {
		err = verifyStable(s, dir)
	}
	return errors.Join(err, guardPanic(s.Close))
}

// createBolt makes an empty store beside its place and moves it there: a crash
// in the middle would leave a file that can't be told from a damaged one.
func createBolt(path string) error {
	tmp := path + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	s, err := raftboltdb.New(raftboltdb.Options{Path: tmp, BoltOptions: boltOptions(false)})
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// guardPanic runs f and turns a panic into an error: the stores panic on pages
// and frames that make no sense, and a file that bolt has mapped faults where
// the disk can't be read.
func guardPanic(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p}
		}
	}()
	return f()
}

// panicError is a panic that was caught.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// errKeyNotFound is the answer for a missing key of the stable store. Raft
// compares its text.
var errKeyNotFound = errors.New("not found")

// isKeyNotFound tells the "missing" of either store.
func isKeyNotFound(err error) bool {
	return errors.Is(err, errKeyNotFound) || errors.Is(err, raftboltdb.ErrKeyNotFound)
}
