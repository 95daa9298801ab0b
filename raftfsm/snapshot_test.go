package raftfsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"stockade/allocator"
	"stockade/bench/fuzzing"
)

// sold is a machine that has created a SKU and reserved n units, in entries of
// one command from index 1 on, a second apart.
func sold(t *testing.T, n int) *machine {
	t.Helper()
	m := newMachine(t, nil)
	stamp := millis(testEpoch)
	m.Apply(command(1, 1, stamp, putSKU()))
	for i := range n {
		m.Apply(command(uint64(i)+2, 2, stamp+allocator.Millis(i)*1000, reserve(i)))
	}
	m.healthy(t)
	return m
}

// snapshotOf is the bytes of a machine's snapshot.
func snapshotOf(t testing.TB, m *machine) []byte {
	t.Helper()
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	sink := &memorySink{}
	if err := s.Persist(sink); err != nil {
		t.Fatal(err)
	}
	if !sink.closed || sink.canceled {
		t.Fatalf("the sink was closed %v and canceled %v", sink.closed, sink.canceled)
	}
	return sink.Bytes()
}

// memorySink is a raft.SnapshotSink.
type memorySink struct {
	bytes.Buffer
	closed, canceled bool
	fail             error // of Write
	failClose        error
}

func (s *memorySink) ID() string { return "memory" }

func (s *memorySink) Write(p []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Buffer.Write(p)
}

func (s *memorySink) Close() error  { s.closed = true; return s.failClose }
func (s *memorySink) Cancel() error { s.canceled = true; return nil }

// resealHeader is a snapshot with a change in the header and a checksum that
// fits it.
func resealHeader(snapshot []byte, change func([]byte)) []byte {
	b := bytes.Clone(snapshot)
	change(b)
	size := min(max(snapshotFixedLen, int(binary.LittleEndian.Uint16(b[10:]))), len(b))
	binary.LittleEndian.PutUint32(b[snapshotChecksumAt:], headerChecksum(b[:size]))
	return b
}

func TestSnapshotRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 5000} {
		m := sold(t, n)
		b := snapshotOf(t, m)
		header, state, err := ReadSnapshot(iotest.HalfReader(bytes.NewReader(b)))
		if err != nil {
			t.Fatal(err)
		}
		hash, applied := m.hash()
		want := SnapshotHeader{ClusterID: testCluster, Shard: 0, Index: m.AppliedIndex(), Term: m.AppliedTerm(), Stamp: state.Now()}
		if header != want {
			t.Errorf("header is %+v, want %+v", header, want)
		}
		if state.Hash() != hash || state.Applied() != applied {
			t.Errorf("after %d commands with hash %x came %d with %x", applied, hash, state.Applied(), state.Hash())
		}
		if err := state.CheckInvariants(); err != nil {
			t.Error(err)
		}
	}
}

func TestSnapshotDamageIsDetected(t *testing.T) {
	good := snapshotOf(t, sold(t, 3))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0xff
		mustBeDamaged(t, bad, "byte %d inverted", i)
		bad[i] = good[i] ^ 1
		mustBeDamaged(t, bad, "lowest bit of byte %d flipped", i)
		mustBeDamaged(t, good[:i], "cut to %d bytes", i)
	}
	mustBeDamaged(t, append(bytes.Clone(good), 0), "%d byte too many", 1)
	mustBeDamaged(t, append(bytes.Clone(good), good...), "%d times the same", 2)
}

// mustBeDamaged reads a snapshot that must be refused, with the place.
func mustBeDamaged(t *testing.T, b []byte, what string, n int) {
	t.Helper()
	_, state, err := ReadSnapshot(bytes.NewReader(b))
	if !errors.Is(err, ErrSnapshotDamaged) || !strings.Contains(err.Error(), "at byte ") {
		t.Fatalf(what+": %v", n, err)
	}
	if state != nil {
		t.Fatalf(what+": a state was handed out", n)
	}
}

func TestSnapshotVersion(t *testing.T) {
	good := snapshotOf(t, sold(t, 1))
	newer := resealHeader(good, func(b []byte) { b[8] = snapshotVersion + 1 })
	_, _, err := ReadSnapshot(bytes.NewReader(newer))
	if !errors.Is(err, ErrSnapshotVersion) || !strings.Contains(err.Error(), "written by a newer Stockade; upgrade this node") {
		t.Errorf("a newer version: %v", err)
	}
	// A header of another layout is a matter of version, not of damage.
	longer := append(bytes.Clone(good[:snapshotFixedLen]), make([]byte, maxHeader-snapshotFixedLen)...)
	longer = resealHeader(longer, func(b []byte) {
		b[8] = snapshotVersion + 1
		binary.LittleEndian.PutUint16(b[10:], maxHeader)
	})
	if _, _, err := ReadSnapshot(bytes.NewReader(longer)); !errors.Is(err, ErrSnapshotVersion) {
		t.Errorf("a newer version with a longer header: %v", err)
	}
}

// What a writer with a bug could make, under a checksum that is right.
func TestSnapshotHeaderIsChecked(t *testing.T) {
	good := snapshotOf(t, sold(t, 1))
	for name, change := range map[string]func([]byte){
		"shorter than its fixed part":   func(b []byte) { binary.LittleEndian.PutUint16(b[10:], snapshotFixedLen-1) },
		"without its fields":            func(b []byte) { binary.LittleEndian.PutUint16(b[10:], snapshotFixedLen) },
		"longer than any":               func(b []byte) { binary.LittleEndian.PutUint16(b[10:], maxHeader+1) },
		"a cluster id that is too long": func(b []byte) { b[snapshotClusterIDAt]++ },
		"a cluster id that is shorter":  func(b []byte) { b[snapshotClusterIDAt]-- },
		"another stamp than the state":  func(b []byte) { b[34]++ },
	} {
		_, _, err := ReadSnapshot(bytes.NewReader(resealHeader(good, change)))
		if !errors.Is(err, ErrSnapshotDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSnapshotNeedsAClusterID(t *testing.T) {
	m := sold(t, 0)
	for _, id := range []string{"", strings.Repeat("x", MaxClusterIDLen+1)} {
		if _, err := WriteSnapshot(&bytes.Buffer{}, SnapshotHeader{ClusterID: id}, m.Freeze()); err == nil {
			t.Errorf("a cluster id of %d bytes was written", len(id))
		}
	}
}

func TestSnapshotDataBehindTheState(t *testing.T) {
	m := sold(t, 1)
	good := snapshotOf(t, m)
	size := int(binary.LittleEndian.Uint16(good[10:]))
	state, err := unframed(bytes.NewReader(good[size:]))
	if err != nil {
		t.Fatal(err)
	}
	b := append(bytes.Clone(good[:size]), framed(t, append(state, 0))...)
	mustBeDamaged(t, b, "%d byte behind the state", 1)
}

func TestSnapshotFixtureOfVersion1(t *testing.T) {
	const commands = 8
	b := fixture(t, "snapshot-v1.bin", snapshotOf(t, sold(t, commands-1)))
	header, state, err := ReadSnapshot(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	want := SnapshotHeader{ClusterID: testCluster, Shard: 0, Index: commands, Term: 2, Stamp: millis(testEpoch) + (commands-2)*1000}
	if header != want {
		t.Errorf("header is %+v, want %+v", header, want)
	}
	if state.Applied() != commands {
		t.Errorf("%d commands applied, want %d", state.Applied(), commands)
	}
	if got := state.Bucket(testSKU); got.Reserved != commands-1 || got.Available != testStock-(commands-1) {
		t.Errorf("reserved %d, available %d", got.Reserved, got.Available)
	}
}

// The most that reading a snapshot may take: what allocator.Restore does, and as much as
// a frame may claim to have, for it is read before its checksum is looked at.
const readPerByte, readAlways = 64, 1<<20 + maxFrame + writeFrame

// Nothing that is read makes the reader panic or take memory without a bound,
// also when its checksums are right.
func FuzzReadSnapshot(f *testing.F) {
	good, header := fuzzSeed(f)
	f.Add(good, uint8(0))
	f.Add(good[len(header):], uint8(1))
	f.Add([]byte("anything"), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, wrap uint8) {
		switch wrap % 3 {
		case 1: // frames under a good header
			b = append(bytes.Clone(header), b...)
		case 2: // a state in good frames under a good header
			b = append(bytes.Clone(header), framed(t, b)...)
		}
		var state *allocator.State
		var err error
		fuzzing.InProportion(t, b, readPerByte, readAlways, func() { _, state, err = ReadSnapshot(bytes.NewReader(b)) })
		if err != nil {
			if !errors.Is(err, ErrSnapshotDamaged) && !errors.Is(err, ErrSnapshotVersion) {
				t.Fatalf("neither damage nor version: %v", err)
			}
			return
		}
		if err := state.CheckInvariants(); err != nil {
			t.Fatalf("a broken state was handed out: %v", err)
		}
	})
}

// fuzzSeed is a small snapshot and its header.
func fuzzSeed(f *testing.F) (snapshot, header []byte) {
	state, err := allocator.New(testConfig)
	if err != nil {
		f.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := WriteSnapshot(&out, SnapshotHeader{ClusterID: testCluster}, state.Freeze()); err != nil {
		f.Fatal(err)
	}
	return out.Bytes(), out.Bytes()[:binary.LittleEndian.Uint16(out.Bytes()[10:])]
}
