package raftfsm

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
)

const (
	testCluster = "6f1c2d3e-0000-4000-8000-000000000001"
	testSKU     = allocator.SKU("tee-black-m")
	testStock   = 1_000_000
)

// testConfig is a cluster of one shard, which anchors every SKU.
var testConfig = allocator.Config{Shard: 0, Shards: 1}

// key makes the idempotency key number n.
func key(n int) (k allocator.Key) {
	binary.LittleEndian.PutUint64(k[:], uint64(n)+1)
	return k
}

// putSKU creates the SKU that the other commands sell.
func putSKU() []byte {
	return (&allocator.PutSKU{
		Key: allocator.Key{15: 1}, Body: 1, SKU: testSKU, HasOnHand: true, OnHand: testStock,
		Policy: allocator.Policy{DefaultTTL: allocator.DefaultTTL, MaxTTL: allocator.MaxTTL},
	}).AppendTo(nil)
}

// reserve takes one unit under key number n.
func reserve(n int) []byte { return reserveFor(n, allocator.DefaultTTL) }

// reserveFor takes one unit for a time.
func reserveFor(n int, ttl allocator.Millis) []byte {
	return (&allocator.Reserve{
		Key: key(n), Body: 1, TTL: ttl,
		Lines: []allocator.Line{{SKU: testSKU, Quantity: 1}},
	}).AppendTo(nil)
}

// decodeResult decodes a result or ends the test.
func decodeResult(t *testing.T, b []byte) (r allocator.Result) {
	t.Helper()
	if err := allocator.DecodeResult(b, &r); err != nil {
		t.Fatalf("result %x: %v", b, err)
	}
	return r
}

// machine is a state machine under test with what it reported.
type machine struct {
	*FSM
	clock    *LogClock
	registry *prometheus.Registry

	mu      sync.Mutex
	fatals  []error
	applied []uint64 // indexes that OnApplied was called with
}

// newMachine makes a machine for testConfig. change may be nil.
func newMachine(t *testing.T, change func(*FSMConfig)) *machine {
	t.Helper()
	m := &machine{registry: prometheus.NewRegistry()}
	cfg := FSMConfig{
		ClusterID: testCluster,
		Allocator: testConfig,
		Clock:     NewLogClock(SystemClock()),
		Metrics:   NewMetrics(m.registry, testConfig.Shard),
		OnApplied: func(index uint64) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.applied = append(m.applied, index)
		},
		Fatal: func(err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fatals = append(m.fatals, err)
		},
	}
	if change != nil {
		change(&cfg)
	}
	fsm, err := NewFSM(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.FSM, m.clock = fsm, cfg.Clock
	return m
}

// failures are the errors that Fatal was called with.
func (m *machine) failures() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]error(nil), m.fatals...)
}

// healthy ends the test when the machine has failed.
func (m *machine) healthy(t *testing.T) {
	t.Helper()
	if failed := m.failures(); len(failed) > 0 {
		t.Fatalf("the state machine failed: %v", failed)
	}
}

// hash is the state's rolling hash and count of commands.
func (m *machine) hash() (hash, applied uint64) {
	m.Read(func(s *allocator.State) { hash, applied = s.Hash(), s.Applied() })
	return hash, applied
}

// invariants checks the state.
func (m *machine) invariants(t *testing.T) {
	t.Helper()
	m.Read(func(s *allocator.State) {
		if err := s.CheckInvariants(); err != nil {
			t.Error(err)
		}
	})
}

// command is a log entry of commands.
func command(index, term uint64, stamp allocator.Millis, commands ...[]byte) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: encode(stamp, commands...)}
}

// configuration is an entry that changes the members.
func configuration(index, term uint64) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogConfiguration, Data: []byte("not for the state machine")}
}

// fakeRaft is a Raft of one replica in which the test decides when an entry is
// committed, and what becomes of it.
type fakeRaft struct {
	fsm  *FSM
	term uint64

	mu      sync.Mutex
	index   uint64
	refuse  error         // what Apply's future says at once, if not nil
	auto    bool          // commit at once
	block   chan struct{} // Apply waits until it is closed, if not nil
	waiting []*fakeFuture
	entries [][]byte // all that were handed over
}

// fakeFuture is an entry that is being committed.
type fakeFuture struct {
	data     []byte
	done     chan struct{}
	err      error
	response any
	index    uint64
}

func (f *fakeFuture) Error() error  { <-f.done; return f.err }
func (f *fakeFuture) Response() any { return f.response }
func (f *fakeFuture) Index() uint64 { return f.index }

// end ends the future.
func (f *fakeFuture) end(err error) { f.err = err; close(f.done) }

// Apply implements Applier.
func (r *fakeRaft) Apply(data []byte, timeout time.Duration) raft.ApplyFuture {
	f := &fakeFuture{data: data, done: make(chan struct{})}
	if !r.enqueue(timeout) {
		f.end(raft.ErrEnqueueTimeout)
		return f
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		f.end(r.refuse)
		return f
	}
	r.entries = append(r.entries, data)
	r.waiting = append(r.waiting, f)
	if r.auto {
		r.commitLocked(len(r.waiting))
	}
	return f
}

// enqueue waits like Raft's main loop makes one wait.
func (r *fakeRaft) enqueue(timeout time.Duration) bool {
	r.mu.Lock()
	block := r.block
	r.mu.Unlock()
	if block == nil {
		return true
	}
	select {
	case <-block:
		return true
	case <-time.After(timeout):
		return false
	}
}

// set changes how the fake behaves.
func (r *fakeRaft) set(change func(*fakeRaft)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// commit commits and applies the first n entries that wait, as one batch.
func (r *fakeRaft) commit(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commitLocked(n)
}

func (r *fakeRaft) commitLocked(n int) {
	logs := make([]*raft.Log, n)
	for i, f := range r.waiting[:n] {
		r.index++
		f.index = r.index
		logs[i] = &raft.Log{Index: r.index, Term: r.term, Type: raft.LogCommand, Data: f.data}
	}
	responses := r.fsm.ApplyBatch(logs)
	for i, f := range r.waiting[:n] {
		f.response = responses[i]
		f.end(nil)
	}
	r.waiting = r.waiting[n:]
}

// lose ends the first n entries that wait with an error.
func (r *fakeRaft) lose(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.waiting[:n] {
		f.end(err)
	}
	r.waiting = r.waiting[n:]
}

// inFlight is the number of entries that wait.
func (r *fakeRaft) inFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// commands is the number of commands in each entry handed over so far.
func (r *fakeRaft) commands(t *testing.T) (counts []int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, data := range r.entries {
		e, err := DecodeEntry(data)
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, e.Count)
	}
	return counts
}
