package shard

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"stockade/shard/bubble"
)

// fakeStore is a log store in memory whose writes can hang, fail or panic.
type fakeStore struct {
	*raft.InmemStore
	mu     sync.Mutex
	write  func() error // instead of a write; nil: write
	writes int
}

func (s *fakeStore) StoreLogs(logs []*raft.Log) error {
	s.mu.Lock()
	s.writes++
	write := s.write
	s.mu.Unlock()
	if write != nil {
		return write()
	}
	return s.InmemStore.StoreLogs(logs)
}

func (s *fakeStore) Close() error { return nil }

// testGuard is a guard over a fake store, with what it called fatal.
type testGuard struct {
	*guard
	store *fakeStore
	fatal chan error
	// The last entry of the newest snapshot, and the last committed one.
	snapshot, commit uint64
}

func newTestGuard(t *testing.T) *testGuard {
	g := &testGuard{store: &fakeStore{InmemStore: raft.NewInmemStore()}, fatal: make(chan error, 10)}
	g.guard = newGuard(g.store, guardConfig{
		Dir: "DIR", Deadline: 10 * time.Second, Fatal: func(err error) { g.fatal <- err },
		Seconds: prometheus.NewHistogram(prometheus.HistogramOpts{}), Settled: func() (snapshot, commit uint64) { return g.snapshot, g.commit },
	})
	t.Cleanup(func() { _ = g.Close() })
	return g
}

// ends runs f as Raft would and tells whether the goroutine ended in it.
func ends(f func()) (ended bool) {
	done := make(chan bool)
	go func() {
		returned := false
		defer func() { done <- !returned }()
		f()
		returned = true
	}()
	return <-done
}

func entry(index uint64, data string) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Data: []byte(data)}
}

// Hazard: a leader with a hung disk keeps its office for ever. The guard ends
// the node, and the goroutine that wrote never acts on the write.
func TestHungWriteEndsTheNode(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newTestGuard(t)
		release := make(chan struct{})
		defer func() { close(release); synctest.Wait() }()
		g.store.write = func() error { <-release; return nil }
		began := time.Now()
		if !ends(func() { _ = g.StoreLog(entry(1, "a")) }) {
			t.Fatal("the write returned")
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("it took %v", d)
		}
		says(t, (<-g.fatal).Error(), "can't write to the log in DIR", "did not answer for 10s", "start the node again")
	})
}

// Hazard: after a failed fsync the next one succeeds without the data. Nothing
// is written after a failure, and one failure is told once.
func TestNothingIsWrittenAfterAFailure(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newTestGuard(t)
		if ends(func() { _ = g.StoreLog(entry(1, "a")) }) {
			t.Fatal("a good write ended the goroutine")
		}
		g.store.write = func() error { return errors.New("no space left on device") }
		for range 3 {
			if !ends(func() { _ = g.StoreLog(entry(2, "b")) }) {
				t.Fatal("the failed write returned")
			}
			if !ends(func() { _ = g.SetUint64([]byte("CurrentTerm"), 7) }) {
				t.Fatal("a term was written after a failure")
			}
		}
		if g.store.writes != 2 {
			t.Errorf("%d writes reached the store, want 2", g.store.writes)
		}
		if v, _ := g.store.GetUint64([]byte("CurrentTerm")); v != 0 {
			t.Errorf("term %d was written after a failure", v)
		}
		says(t, (<-g.fatal).Error(), "no space left on device", "check the disk and its free space")
		if len(g.fatal) != 0 {
			t.Errorf("it was told again: %v", <-g.fatal)
		}
	})
}

func TestPanicOfAStoreIsAnError(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newTestGuard(t)
		g.store.write = func() error { panic("page 7: invalid type") }
		if !ends(func() { _ = g.StoreLog(entry(1, "a")) }) {
			t.Fatal("the write returned")
		}
		says(t, (<-g.fatal).Error(), "panic: page 7: invalid type")
	})
}

// What is read must be what its leader made. Raft would take an error of a read
// for an entry that is not there, so damage ends the node instead.
func TestDamagedEntryEndsTheNode(t *testing.T) {
	damage := map[string]func(*raft.Log){
		"data":     func(l *raft.Log) { l.Data[0] ^= 1 },
		"term":     func(l *raft.Log) { l.Term++ },
		"type":     func(l *raft.Log) { l.Type = raft.LogNoop },
		"index":    func(l *raft.Log) { l.Index++ },
		"checksum": func(l *raft.Log) { l.Extensions = nil },
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := newTestGuard(t)
				l := entry(1, "abc")
				_ = g.StoreLog(l)
				var got raft.Log
				if err := g.GetLog(1, &got); err != nil || string(got.Data) != "abc" {
					t.Fatal(err, got)
				}
				change(l) // the store keeps the pointer
				if !ends(func() { _ = g.GetLog(1, &got) }) {
					t.Fatal("the read returned")
				}
				says(t, (<-g.fatal).Error(), "DIR is damaged", "entry 1", "To repair it")
			})
		})
	}
}

// A term or a vote that changed on disk would let a replica vote twice.
func TestDamagedVoteEndsTheNode(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newTestGuard(t)
		_ = g.SetUint64([]byte("CurrentTerm"), 7)
		if v, err := g.GetUint64([]byte("CurrentTerm")); v != 7 || err != nil {
			t.Fatal(v, err)
		}
		raw, _ := g.store.Get([]byte("CurrentTerm"))
		raw[7]--
		if !ends(func() { _, _ = g.GetUint64([]byte("CurrentTerm")) }) {
			t.Fatal("the read returned")
		}
		says(t, (<-g.fatal).Error(), "DIR is damaged", "CurrentTerm", "checksum")
	})
}

// What was applied is never cut from the log, whatever the leader has there. What a
// snapshot has may go, and what was not committed too.
func TestCommittedEntriesAreNotCut(t *testing.T) {
	tests := map[string]struct {
		low, high, snapshot uint64
		bad                 uint64 // the entry that must not go
	}{
		"in a snapshot":                    {1, 3, 3, 0},
		"not committed":                    {5, 6, 3, 0},
		"committed":                        {4, 6, 3, 4},
		"committed, without a snapshot":    {2, 6, 0, 2},
		"all, for a snapshot came":         {1, 6, 6, 0},
		"all, with less of a snapshot":     {1, 6, 3, 4},
		"what the snapshot has, at an end": {3, 6, 4, 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := newTestGuard(t)
			g.snapshot, g.commit = tt.snapshot, 4
			for i := range uint64(6) {
				_ = g.StoreLog(entry(i+1, "a"))
			}
			if ended := ends(func() { _ = g.DeleteRange(tt.low, tt.high) }); ended != (tt.bad > 0) {
				t.Fatalf("refused: %v", ended)
			}
			var l raft.Log
			err := g.store.GetLog(tt.low, &l)
			if tt.bad == 0 {
				if !errors.Is(err, raft.ErrLogNotFound) {
					t.Errorf("the entry is still there: %v", err)
				}
				return
			}
			if err != nil {
				t.Errorf("the entry is gone: %v", err)
			}
			want := []string{"DIR is damaged", fmt.Sprintf("another entry %d", tt.bad), "differs from the others", "To repair it"}
			if tt.low == 1 {
				want = []string{"DIR was to be emptied", fmt.Sprintf("entries from %d on", tt.bad), "start it again"}
			}
			says(t, (<-g.fatal).Error(), want...)
		})
	}
}

// An emptied log is no reason for a compaction that was under way to stop the node.
func TestCompactionOfAnEmptiedLog(t *testing.T) {
	g := newTestGuard(t)
	g.snapshot, g.commit = 6, 6
	if ends(func() { _ = g.DeleteRange(3, 5) }) {
		t.Errorf("it stopped: %v", <-g.fatal)
	}
}

// A follower does not store what was damaged on its way from the leader.
func TestEntryDamagedOnItsWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		leader, follower := newTestGuard(t), newTestGuard(t)
		l := entry(1, "abc")
		_ = leader.StoreLog(l)
		if ends(func() { _ = follower.StoreLog(l) }) {
			t.Fatal("a good entry was refused")
		}
		l = entry(2, "abc")
		_ = leader.StoreLog(l)
		l.Data = []byte("abd")
		if !ends(func() { _ = follower.StoreLog(l) }) || follower.store.writes != 1 {
			t.Fatal("a damaged entry was stored")
		}
		says(t, (<-follower.fatal).Error(), "damaged in memory or on its way", "entry 2")
	})
}

// An entry that is not there is an answer, not damage.
func TestMissingEntry(t *testing.T) {
	g := newTestGuard(t)
	var l raft.Log
	if err := g.GetLog(5, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatalf("got %v", err)
	}
}

// A failure while Raft starts is an error of the start.
func TestFailureInRaftsStart(t *testing.T) {
	g := newTestGuard(t)
	g.store.write = func() error { return errors.New("input/output error") }
	err := g.inRaft(func() error { return g.StoreLog(entry(1, "a")) })
	if err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Fatalf("got %v", err)
	}
	other := newTestGuard(t)
	if err := other.inRaft(func() error { panic("log not found") }); err == nil || !strings.Contains(err.Error(), "panic: log not found") {
		t.Fatalf("got %v", err)
	}
}

// A crash between the two writes of a vote leaves no vote for the candidate of the vote
// before, who would get it again without a look at his log.
func TestHalfAVote(t *testing.T) {
	g := newTestGuard(t)
	_ = g.SetUint64([]byte("LastVoteTerm"), 5)
	_ = g.Set([]byte("LastVoteCand"), []byte("a"))
	if got, err := g.Get([]byte("LastVoteCand")); err != nil || string(got) != "a" {
		t.Fatalf("the whole vote: %q, %v", got, err)
	}
	_ = g.SetUint64([]byte("LastVoteTerm"), 7)
	// Not nil: Raft would take that for a term without a vote.
	if got, err := g.Get([]byte("LastVoteCand")); err != nil || got == nil || len(got) > 0 {
		t.Errorf("half a vote in term 7 is one for %q, %v", got, err)
	}
}

// A write is blamed for what waits for it when it is slow, and not before.
func TestWriteUnderWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newTestGuard(t)
		g.store.write = func() error { <-time.After(2 * slow); return nil }
		go func() { _ = g.StoreLog(entry(1, "a")) }()
		<-time.After(slow / 2)
		if err := g.underWay(); err != nil {
			t.Errorf("after %v: %v", slow/2, err)
		}
		<-time.After(slow)
		if err := g.underWay(); !errors.Is(err, errHung) {
			t.Errorf("after %v: %v", slow+slow/2, err)
		}
		<-time.After(slow)
		if err := g.underWay(); err != nil {
			t.Errorf("when it has ended: %v", err)
		}
	})
}
