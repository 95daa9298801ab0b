package raftfsm

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"stockade/allocator"
)

func TestFSMAppliesAndAnswersInOrder(t *testing.T) {
	m := newMachine(t, nil)
	m.await()
	stamp := millis(testEpoch)
	responses := m.ApplyBatch([]*raft.Log{
		command(1, 1, stamp, putSKU()),
		configuration(2, 1),
		command(3, 1, stamp+1, reserve(1), reserve(2), reserve(1)),
		command(4, 1, stamp+2),
	})
	m.healthy(t)
	if len(responses) != 4 || responses[1] != nil {
		t.Fatalf("responses are %v", responses)
	}
	sales := responses[2].(*AppliedEntry)
	if sales.Index != 3 || sales.Stamp != stamp+1 || sales.Len() != 3 {
		t.Fatalf("entry 3 gave %+v", sales)
	}
	first, second, replay := decodeResult(t, sales.Result(0)), decodeResult(t, sales.Result(1)), decodeResult(t, sales.Result(2))
	if first.Code != allocator.CodeOK || second.Code != allocator.CodeOK || first.Reservation.ID == second.Reservation.ID {
		t.Errorf("two reservations: %v %v, %v %v", first.Code, first.Reservation.ID, second.Code, second.Reservation.ID)
	}
	if !replay.Replayed || replay.Reservation.ID != first.Reservation.ID {
		t.Errorf("the same key again: %+v", replay)
	}
	if tick := responses[3].(*AppliedEntry); tick.Len() != 0 || tick.Stamp != stamp+2 {
		t.Errorf("an entry without commands gave %+v", tick)
	}
	if !slices.Equal(m.applied, []uint64{4}) {
		t.Errorf("OnApplied got %v", m.applied)
	}
}

func TestFSMTracksEveryKindOfEntry(t *testing.T) {
	m := newMachine(t, nil)
	m.ApplyBatch([]*raft.Log{command(3, 1, 1), configuration(7, 2)})
	if m.AppliedIndex() != 7 || m.AppliedTerm() != 2 {
		t.Errorf("applied up to %d of term %d", m.AppliedIndex(), m.AppliedTerm())
	}
	m.Apply(configuration(9, 4))
	if m.AppliedIndex() != 9 || m.AppliedTerm() != 4 {
		t.Errorf("applied up to %d of term %d", m.AppliedIndex(), m.AppliedTerm())
	}
	m.healthy(t)
}

func TestFSMKeepsResultsOnlyForThoseWhoWait(t *testing.T) {
	m := newMachine(t, nil)
	if got := m.Apply(command(1, 1, 1, putSKU())); got != nil {
		t.Errorf("nobody waits, and the response is %v", got)
	}
	m.await()
	first := m.Apply(command(2, 1, 1, reserve(1))).(*AppliedEntry)
	saved := bytes.Clone(first.Result(0))
	m.release()
	m.Apply(command(3, 1, 1, reserve(2), reserve(3)))
	if !bytes.Equal(first.Result(0), saved) {
		t.Error("a result changed after it was handed out")
	}
	m.healthy(t)
}

func TestFSMSkipsWhatTheSnapshotHas(t *testing.T) {
	m := sold(t, 4)
	snapshot := snapshotOf(t, m)
	again := newMachine(t, nil)
	if err := again.Restore(io.NopCloser(bytes.NewReader(snapshot))); err != nil {
		t.Fatal(err)
	}
	if again.AppliedIndex() != 5 || again.AppliedTerm() != 2 {
		t.Fatalf("restored up to %d of term %d", again.AppliedIndex(), again.AppliedTerm())
	}
	want, count := m.hash()
	again.ApplyBatch([]*raft.Log{command(1, 1, 1, putSKU()), command(5, 2, 1, reserve(99))})
	if got, n := again.hash(); got != want || n != count {
		t.Errorf("old entries were applied: %d commands with hash %x, want %d with %x", n, got, count, want)
	}
	again.Apply(command(6, 2, 1, reserve(5)))
	if _, n := again.hash(); n != count+1 {
		t.Errorf("%d commands applied after a new entry, want %d", n, count+1)
	}
	again.healthy(t)
}

func TestFSMStopsAtAnErrorForGood(t *testing.T) {
	damaged := command(2, 1, 1, reserve(1))
	damaged.Data[len(damaged.Data)-1] ^= 1
	newer := command(2, 1, 1, reserve(1))
	newer.Data = resealed(newer.Data, func(b []byte) { b[1]++ })
	audit := (&allocator.Audit{Applied: 1, Hash: 42}).AppendTo(nil)
	for name, test := range map[string]struct {
		log  *raft.Log
		want error
	}{
		"a damaged entry":         {damaged, ErrEntryDamaged},
		"an entry of tomorrow":    {newer, ErrEntryVersion},
		"an unknown command":      {command(2, 1, 1, []byte{0xff}), allocator.ErrCommand},
		"an entry of an old term": {command(2, 0, 1, reserve(1)), errLogForeign},
		"another history":         {command(1, 2, 1, reserve(1)), errLogForeign},
		"an audit that differs":   {command(2, 1, 1, audit), allocator.ErrAudit},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, nil)
			m.await()
			m.Apply(command(1, 1, 1, putSKU()))
			responses := m.ApplyBatch([]*raft.Log{test.log, command(3, 2, 1, reserve(2))})
			if len(responses) != 2 || responses[0] != nil || responses[1] != nil {
				t.Errorf("responses are %v", responses)
			}
			if failed := m.failures(); len(failed) != 1 || !errors.Is(failed[0], test.want) ||
				!strings.Contains(failed[0].Error(), "log entry") {
				t.Fatalf("reported %v, want %v", failed, test.want)
			}
			mustHaveStopped(t, m)
		})
	}
}

// mustHaveStopped checks that a failed machine does nothing any more.
func mustHaveStopped(t *testing.T, m *machine) {
	t.Helper()
	hash, count := m.hash()
	if got := m.Apply(command(4, 2, 1, reserve(3))); got != nil {
		t.Errorf("a failed machine responded %v", got)
	}
	if h, n := m.hash(); h != hash || n != count {
		t.Error("a failed machine applied an entry")
	}
	if _, err := m.Snapshot(); !errors.Is(err, ErrFailed) {
		t.Errorf("a failed machine gave a snapshot: %v", err)
	}
	good := snapshotOf(t, sold(t, 1))
	if err := m.Restore(io.NopCloser(bytes.NewReader(good))); !errors.Is(err, ErrFailed) {
		t.Errorf("a failed machine restored a snapshot: %v", err)
	}
	if n := len(m.failures()); n != 1 {
		t.Errorf("Fatal was called %d times", n)
	}
}

func TestFSMRefusesSnapshotsOfOthers(t *testing.T) {
	snapshot := snapshotOf(t, sold(t, 1))
	for name, change := range map[string]func(*FSMConfig){
		"another cluster":   func(c *FSMConfig) { c.ClusterID = "elsewhere" },
		"another shard":     func(c *FSMConfig) { c.Allocator = allocator.Config{Shard: 1, Shards: 2} },
		"other settings":    func(c *FSMConfig) { c.Allocator.Retention = 1000 },
		"more shards":       func(c *FSMConfig) { c.Allocator.Shards = 2 },
		"another expiry":    func(c *FSMConfig) { c.Allocator.ExpiryPerStamp = 1 },
		"none of the above": nil,
	} {
		m := newMachine(t, change)
		err := m.Restore(io.NopCloser(bytes.NewReader(snapshot)))
		if change == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, ErrSnapshotForeign) || !errors.Is(m.RestoreErr(), ErrSnapshotForeign) {
			t.Errorf("%s: %v, and later %v", name, err, m.RestoreErr())
		}
		if _, n := m.hash(); n != 0 || m.AppliedIndex() != 0 {
			t.Errorf("%s: the state was replaced", name)
		}
	}
}

func TestFSMKeepsItsStateWhenARestoreFails(t *testing.T) {
	m := sold(t, 2)
	hash, count := m.hash()
	snapshot := snapshotOf(t, m)
	snapshot[len(snapshot)/2] ^= 1
	if err := m.Restore(io.NopCloser(bytes.NewReader(snapshot))); !errors.Is(err, ErrSnapshotDamaged) {
		t.Fatal(err)
	}
	if h, n := m.hash(); h != hash || n != count || m.AppliedIndex() != 3 {
		t.Error("the state changed")
	}
	m.Apply(command(4, 2, 1, reserve(9)))
	m.healthy(t)
}

func TestFSMSnapshotGoesBackInTime(t *testing.T) {
	m := sold(t, 2)
	snapshot := snapshotOf(t, m)
	later := command(4, 3, millis(testEpoch)+5000, reserve(7))
	m.Apply(later)
	want, _ := m.hash()
	// Raft installs a snapshot that is behind, and the entries after it again.
	if err := m.Restore(io.NopCloser(bytes.NewReader(snapshot))); err != nil {
		t.Fatal(err)
	}
	if m.AppliedIndex() != 3 {
		t.Fatalf("applied up to %d", m.AppliedIndex())
	}
	m.Apply(later)
	if got, _ := m.hash(); got != want {
		t.Errorf("hash is %x, want %x", got, want)
	}
	m.healthy(t)
}

func TestFSMPersistCancelsWhatItCannotWrite(t *testing.T) {
	full := errors.New("no space left on device")
	for name, sink := range map[string]*memorySink{
		"write": {fail: full},
		"close": {failClose: full},
	} {
		s, err := sold(t, 1).Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Persist(sink); !errors.Is(err, full) {
			t.Errorf("%s: %v", name, err)
		}
		if canceled := name == "write"; sink.canceled != canceled {
			t.Errorf("%s: canceled %v", name, sink.canceled)
		}
		s.Release()
	}
}

// A snapshot is of the moment it was taken, however long it takes to write.
func TestFSMSnapshotDoesNotSeeWhatComesLater(t *testing.T) {
	m := sold(t, 100)
	want, _ := m.hash()
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		m.Apply(command(uint64(200+i), 2, millis(testEpoch)+allocator.Millis(i), reserve(1000+i)))
	}
	sink := &memorySink{}
	if err := s.Persist(sink); err != nil {
		t.Fatal(err)
	}
	_, state, err := ReadSnapshot(&sink.Buffer)
	if err != nil {
		t.Fatal(err)
	}
	if state.Hash() != want || state.Applied() != 101 {
		t.Errorf("the snapshot has %d commands", state.Applied())
	}
}

// TestFSMObservesStamps: an entry says how late it is at least, and nothing about
// now: it may be replayed or caught up on long after its stamp. So it never rules
// a cold start out, not even an entry of the present leader.
func TestFSMObservesStamps(t *testing.T) {
	m := newMachine(t, nil)
	stamp := millis(testEpoch)
	m.Apply(command(1, 1, stamp, putSKU()))
	m.Apply(command(2, 2, stamp+60_000))
	if now, warm := m.clock.Reading(); now < stamp+60_000 || warm {
		t.Errorf("after entries: reading %d, warm %v", now, warm)
	}
	restored := newMachine(t, nil)
	if err := restored.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, m)))); err != nil {
		t.Fatal(err)
	}
	if now, warm := restored.clock.Reading(); now < stamp+60_000 || warm {
		t.Errorf("a snapshot: reading %d, warm %v", now, warm)
	}
}

func TestFSMReadersRunBesideApply(t *testing.T) {
	m := sold(t, 0)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				m.Read(func(s *allocator.State) {
					b := s.Bucket(testSKU)
					if b.Available+b.Reserved != testStock {
						t.Errorf("available %d and reserved %d", b.Available, b.Reserved)
					}
				})
				m.Progress()
				m.Freeze()
			}
		})
	}
	for i := range 500 {
		m.Apply(command(uint64(i)+2, 2, millis(testEpoch)+allocator.Millis(i), reserve(i), reserve(i)))
	}
	close(stop)
	readers.Wait()
	m.healthy(t)
	m.invariants(t)
}

// The same commands under the same stamps give the same state, whatever batches
// Raft makes of them, and with restarts from snapshots in between.
func TestFSMReplay(t *testing.T) {
	logs := history(1500)
	straight := newMachine(t, nil)
	straight.ApplyBatch(logs)
	straight.healthy(t)
	straight.invariants(t)
	want, count := straight.hash()
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := newMachine(t, nil)
		for rest := logs; len(rest) > 0; {
			n := min(1+random.IntN(60), len(rest))
			m.ApplyBatch(rest[:n])
			rest = rest[n:]
			if random.IntN(6) == 0 {
				next := newMachine(t, nil)
				if err := next.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, m)))); err != nil {
					t.Fatal(err)
				}
				m = next
				if overlap := random.IntN(20); overlap < len(logs)-len(rest) {
					rest = logs[len(logs)-len(rest)-overlap:]
				}
			}
		}
		m.healthy(t)
		m.invariants(t)
		if got, n := m.hash(); got != want || n != count {
			t.Fatalf("seed %d: %d commands with hash %x, want %d with %x", seed, n, got, count, want)
		}
	}
}

// history is a log of n entries: sales that expire, repeats, configurations.
func history(n int) []*raft.Log {
	random := rand.New(rand.NewPCG(3, 4))
	stamp, term := millis(testEpoch), uint64(1)
	logs := []*raft.Log{command(1, term, stamp, putSKU())}
	for i := 2; i <= n; i++ {
		stamp += allocator.Millis(random.IntN(300))
		if random.IntN(100) == 0 {
			term++
			logs = append(logs, configuration(uint64(i), term))
			continue
		}
		var commands [][]byte
		for range random.IntN(8) {
			k := random.IntN(4000) // so that some come again
			commands = append(commands, reserveFor(k, allocator.Millis(1000+k)))
		}
		logs = append(logs, command(uint64(i), term, stamp, commands...))
	}
	return logs
}

func TestNewFSMChecksItsConfiguration(t *testing.T) {
	good := FSMConfig{
		ClusterID: testCluster, Allocator: testConfig, Clock: NewLogClock(SystemClock()),
		Metrics: NewMetrics(nil, 0), Fatal: func(error) {},
	}
	for name, change := range map[string]func(*FSMConfig){
		"no clock":      func(c *FSMConfig) { c.Clock = nil },
		"no metrics":    func(c *FSMConfig) { c.Metrics = nil },
		"no fatal":      func(c *FSMConfig) { c.Fatal = nil },
		"no cluster":    func(c *FSMConfig) { c.ClusterID = "" },
		"a long id":     func(c *FSMConfig) { c.ClusterID = strings.Repeat("x", MaxClusterIDLen+1) },
		"no such shard": func(c *FSMConfig) { c.Allocator.Shard = 1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewFSM(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := NewFSM(good); err != nil {
		t.Error(err)
	}
}
