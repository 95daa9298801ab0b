package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// checksumLen is the length of an entry's checksum, which travels in the
// entry's Extensions from the leader's memory to every disk.
const checksumLen = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of a guard.
var (
	errStoreFailed = errors.New("the log store failed before; nothing is written any more")
	errStoreClosed = errors.New("the log store is closed")
	errHung        = errors.New("the disk did not answer")
)

// A guard stands between Raft and a log store, and makes four promises that
// neither gives:
//
//   - Every write ends before a deadline. Raft calls the store on its main loop;
//     with a hung disk a leader would keep its heartbeats, and its office, for
//     ever (hashicorp/raft issues 503 and 666). Time in which the process did not
//     run is not the disk's.
//   - After the first failed write there is no other. A failed fsync says that
//     data was dropped, and the next one succeeds without it. Raft would step
//     down and win again (issue 614).
//   - What is read is what was written: each entry carries a checksum over its
//     index, term, type and data, from the leader that made it, and each term
//     and vote one of its own.
//   - What was applied stays. Raft cuts entries that conflict with the leader's
//     without asking whether they were committed.
//
// When a write fails, fatal is called, which is to end the process, and the
// calling goroutine ends on the spot, with its deferred functions run: no code
// of Raft runs on after a write that did not happen, and none panics. To tell,
// a caller that is not Raft must call in a goroutine of its own (see inRaft).
//
// Reads may be concurrent with each other and with writes; writes are done one
// by one, by one goroutine, which ends with Close.
type guard struct {
	store    logStore
	where    string // for messages
	repair   string
	deadline time.Duration
	seconds  prometheus.Observer
	fatal    func(error)
	settled  func() (snapshot, commit uint64)

	writing chan struct{} // a slot: one write at a time
	work    chan func() error
	result  chan error // of the last work; buffered, an abandoned write ends too
	done    chan struct{}
	ended   chan error // of closing the store; buffered
	once    sync.Once

	known []string // keys that are noted as set; nil: not looked at yet. Of run only

	failure atomic.Pointer[error]     // the first failure, for ever
	began   atomic.Pointer[time.Time] // of the write under way; nil: there is none
}

// guardConfig is what a guard needs beside the store.
type guardConfig struct {
	Dir      string // of the replica
	Deadline time.Duration
	Seconds  prometheus.Observer // write and sync, each
	Fatal    func(error)
	// Settled gives the last entry of the newest snapshot, and the last one that is
	// committed as far as this replica knows.
	Settled func() (snapshot, commit uint64)
}

func newGuard(s logStore, cfg guardConfig) *guard {
	g := &guard{
		store: s, where: cfg.Dir, repair: repairReplica(cfg.Dir), deadline: cfg.Deadline,
		seconds: cfg.Seconds, fatal: cfg.Fatal, settled: cfg.Settled,
		writing: make(chan struct{}, 1), work: make(chan func() error), result: make(chan error, 1),
		done: make(chan struct{}), ended: make(chan error, 1),
	}
	go g.run()
	return g
}

// run does the writes, and closes the store in the end.
func (g *guard) run() {
	for {
		select {
		case f := <-g.work:
			g.result <- guardPanic(f)
		case <-g.done:
			g.ended <- guardPanic(g.store.Close)
			return
		}
	}
}

// write does one write within the deadline, or does not return.
func (g *guard) write(what string, f func() error) {
	if err := g.tryWrite(f); err != nil {
		g.fail(fmt.Errorf("can't %s in %s: %w. A write that failed is never tried again, so the node stops: "+
			"check the disk and its free space, then start the node again", what, g.where, err))
	}
}

func (g *guard) tryWrite(f func() error) error {
	g.writing <- struct{}{}
	defer func() { <-g.writing }()
	if g.failure.Load() != nil {
		return errStoreFailed
	}
	began := time.Now()
	g.began.Store(&began)
	defer g.began.Store(nil)
	select {
	case g.work <- f:
	case <-g.done:
		return errStoreClosed
	}
	err := g.await()
	if errors.Is(err, errHung) {
		g.note(errHung) // before the slot is free: nobody may write after this
		return fmt.Errorf("%w for %v", errHung, g.deadline)
	}
	g.seconds.Observe(time.Since(began).Seconds())
	return err
}

// deadlineSteps are how many steps a deadline is counted in.
const deadlineSteps = 20

// await gives the result of a write, or errHung if there is none by the deadline. A process that
// was stopped for a while, or whose machine was, finds its timers run down and the
// write as it was; so a deadline is counted in steps, and a stop counts as one.
func (g *guard) await() error {
	step := time.NewTicker(g.deadline / deadlineSteps)
	defer step.Stop()
	for range deadlineSteps {
		select {
		case err := <-g.result:
			return err
		case <-step.C:
		}
	}
	return errHung
}

// slow is how long a write may take before the disk is blamed for what waits for it.
const slow = time.Second

// underWay tells of a slow write that has not ended, or gives nil.
func (g *guard) underWay() error {
	began := g.began.Load()
	if began == nil || time.Since(*began) < slow {
		return nil
	}
	return fmt.Errorf("%w for %v: a write in %s is under way; check the disk", errHung, time.Since(*began).Round(time.Millisecond), g.where)
}

// note keeps the first failure and tells whether err is it.
func (g *guard) note(err error) bool { return g.failure.CompareAndSwap(nil, &err) }

// fail ends the calling goroutine, and with the first failure the node.
func (g *guard) fail(err error) {
	first := g.note(err) || errors.Is(err, errHung)
	if first && !g.closed() {
		g.fatal(err)
	}
	runtime.Goexit()
}

func (g *guard) closed() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// Close closes the store. Raft must have ended. After a failed write it does not
// wait for that: the write may hang.
func (g *guard) Close() error {
	g.once.Do(func() { close(g.done) })
	if g.failure.Load() != nil {
		return nil
	}
	err := <-g.ended
	g.ended <- err // for whoever closes once more
	return err
}

// IsMonotonic implements raft.MonotonicLogStore. With either store the log is emptied
// when a snapshot was installed: what is left of it below the snapshot may never have been
// committed, and would be sent on by a replica that leads.
func (g *guard) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (g *guard) FirstIndex() (index uint64, err error) {
	err = g.read("read the first index", func() error { index, err = g.store.FirstIndex(); return err })
	return index, err
}

// LastIndex implements raft.LogStore.
func (g *guard) LastIndex() (index uint64, err error) {
	err = g.read("read the last index", func() error { index, err = g.store.LastIndex(); return err })
	return index, err
}

// GetLog implements raft.LogStore. A damaged entry is fatal: Raft would take the
// error for an entry that is not there.
func (g *guard) GetLog(index uint64, log *raft.Log) error {
	return g.read(fmt.Sprintf("read entry %d", index), func() error {
		if err := g.store.GetLog(index, log); err != nil {
			return err
		}
		return verifyEntry(log, index)
	})
}

// StoreLog implements raft.LogStore.
func (g *guard) StoreLog(log *raft.Log) error { return g.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. New entries get their checksum; entries
// from a leader have one, and it must be right before they touch the disk.
func (g *guard) StoreLogs(logs []*raft.Log) error {
	for _, l := range logs {
		if len(l.Extensions) == 0 {
			l.Extensions = binary.LittleEndian.AppendUint32(nil, entryChecksum(l))
		} else if err := verifyEntry(l, l.Index); err != nil {
			g.fail(fmt.Errorf("an entry for %s was damaged in memory or on its way here: %w; check the machine's memory", g.where, err))
		}
	}
	g.write("write to the log", func() error { return g.store.StoreLogs(logs) })
	return nil
}

// DeleteRange implements raft.LogStore. Raft takes entries from the beginning of the
// log when a snapshot has them, and from its end when the leader has others there.
// Among the latter is none that was committed, or two replicas have applied different
// entries; the one whose log would be cut stops.
func (g *guard) DeleteRange(low, high uint64) error {
	if err := g.verifyCut(low, high); err != nil {
		g.fail(err)
	}
	g.write("cut the log", func() error { return g.store.DeleteRange(low, high) })
	return nil
}

// verifyCut refuses a cut that would take committed entries away that no snapshot has, or
// that parts from what a snapshot has.
func (g *guard) verifyCut(low, high uint64) error {
	snapshot, commit := g.settled()
	first, err := g.FirstIndex()
	if err != nil {
		return err
	}
	beyond := max(low, snapshot+1)
	switch lost := beyond <= min(high, commit); {
	case lost && low <= first:
		return fmt.Errorf("the log in %s was to be emptied for a snapshot, with entries from %d on that were applied and that it does not have: "+
			"the node stops; nothing was changed; start it again", g.where, beyond)
	case lost:
		return g.differs(beyond)
	case 0 < first && first < low && low <= snapshot:
		return g.differs(low)
	}
	return nil
}

// differs is the damage of a replica that has applied another entry than the others.
func (g *guard) differs(index uint64) error {
	return &DamageError{Path: g.where, Offset: -1, Repair: g.repair, What: fmt.Sprintf(
		"the leader has another entry %d than the one that was applied here, so this replica differs from the others", index)}
}

// Set implements raft.StableStore.
func (g *guard) Set(key, value []byte) error {
	sealed := binary.LittleEndian.AppendUint32(bytes.Clone(value), valueChecksum(key, value))
	g.write("write a vote", func() error {
		if err := g.store.Set(key, sealed); err != nil {
			return err
		}
		return g.remember(key)
	})
	return nil
}

// Get implements raft.StableStore. A missing key is exactly "not found": that is
// the text Raft looks for.
func (g *guard) Get(key []byte) (value []byte, err error) {
	err = g.read("read a vote", func() error {
		sealed, err := g.store.Get(key)
		if err != nil {
			return err
		}
		if sealed == nil { // how the wal says that it is missing
			return errKeyNotFound
		}
		value, err = openValue(key, sealed)
		return err
	})
	return value, err
}

// SetUint64 implements raft.StableStore. Raft writes a vote in two steps, first its term;
// the candidate of the vote before is taken out first. Else a crash between the two would
// leave a vote for that one in the new term, which is given without a look at his log
// (hashicorp/raft issue 661).
func (g *guard) SetUint64(key []byte, value uint64) error {
	if string(key) == voteTermKey {
		if err := g.Set([]byte(voteKey), nil); err != nil {
			return err
		}
	}
	return g.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (g *guard) GetUint64(key []byte) (uint64, error) {
	value, err := g.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("the value of %q is no number", key)
	}
	return binary.BigEndian.Uint64(value), nil
}

// openValue takes the checksum off a value of the stable store.
func openValue(key, sealed []byte) ([]byte, error) {
	if len(sealed) < checksumLen {
		return nil, fmt.Errorf("the value of %q has no checksum", key)
	}
	value, sum := sealed[:len(sealed)-checksumLen], sealed[len(sealed)-checksumLen:]
	if binary.LittleEndian.Uint32(sum) != valueChecksum(key, value) {
		return nil, fmt.Errorf("the checksum of the value of %q is wrong", key)
	}
	return value, nil
}

func valueChecksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// read does a read. An error that says more than that nothing is there ends
// the node: Raft would take damage for an entry that is not there yet.
func (g *guard) read(what string, f func() error) error {
	err := guardPanic(f)
	switch {
	case err == nil, errors.Is(err, raft.ErrLogNotFound):
		return err
	case isKeyNotFound(err):
		return errKeyNotFound
	}
	g.fail(&DamageError{Path: g.where, Offset: -1, What: fmt.Sprintf("can't %s: %v", what, err), Repair: g.repair})
	return err // not reached
}

// verifyEntry tells whether an entry is what its leader made.
func verifyEntry(l *raft.Log, index uint64) error {
	switch {
	case l.Index != index:
		return fmt.Errorf("entry %d is where entry %d should be", l.Index, index)
	case len(l.Extensions) != checksumLen:
		return fmt.Errorf("entry %d has no checksum", index)
	case binary.LittleEndian.Uint32(l.Extensions) != entryChecksum(l):
		return fmt.Errorf("the checksum of entry %d is wrong", index)
	}
	return nil
}

// entryChecksum covers all of an entry that counts.
func entryChecksum(l *raft.Log) uint32 {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[0:], l.Index)
	binary.LittleEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
}

// bounds gives the first and the last index of a log; 0 and 0: it is empty.
func bounds(s raft.LogStore) (first, last uint64, err error) {
	if first, err = s.FirstIndex(); err != nil {
		return 0, 0, err
	}
	last, err = s.LastIndex()
	return first, last, err
}

// verifyLog reads every entry of a store once. It is called before Raft starts,
// so that damage is found while nothing depends on the replica. The log must
// follow the newest snapshot without a gap; up to the snapshot it may have gaps,
// which installing one left behind in earlier versions.
func verifyLog(s raft.LogStore, dir string, snapshot uint64) error {
	err := guardPanic(func() error {
		first, last, err := bounds(s)
		if err != nil {
			return err
		}
		if last > snapshot && first > snapshot+1 {
			return fmt.Errorf("it begins with entry %d, and the newest snapshot ends with entry %d", first, snapshot)
		}
		for i := max(first, 1); i <= last; i++ {
			var l raft.Log
			err := s.GetLog(i, &l)
			if errors.Is(err, raft.ErrLogNotFound) && i <= snapshot {
				continue
			}
			if err == nil {
				err = verifyEntry(&l, i)
			}
			if err != nil {
				return fmt.Errorf("entry %d (it has %d to %d): %w", i, first, last, err)
			}
		}
		return nil
	})
	if err != nil {
		return &DamageError{Path: dir, Offset: -1, What: "the log can't be read: " + err.Error(), Repair: repairReplica(dir)}
	}
	return nil
}

// inRaft runs f, which calls into Raft and so into the guard, in a goroutine of
// its own, and tells when a failure ended it.
func (g *guard) inRaft(f func() error) error {
	result := make(chan error, 1)
	go func() {
		err := errStoreFailed
		defer func() {
			if p := recover(); p != nil {
				err = &panicError{value: p}
			}
			if first := g.failure.Load(); first != nil {
				err = *first
			}
			result <- err
		}()
		err = f()
	}()
	return <-result
}
