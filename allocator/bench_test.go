package allocator

// What the commands cost with ten million live reservations. One state is made
// for all benchmarks and filled up again where they use it up; -short makes it
// smaller. The reservations have neither buyer nor reference, whose bytes would
// come on top.
//
//	go test -bench . -run '^$' ./allocator

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"
)

const (
	benchLive      = 10_000_000
	benchLiveShort = 100_000
	// benchTTL is long enough that filling up takes less log time.
	benchTTL = 3600 * 1000
	// benchRetention is short, so that finished records don't pile up.
	benchRetention = 50
	// perStamp is how many reservations are made at one stamp: a million a second.
	perStamp = 1024
)

// shelf is a state full of live reservations, and what is needed to use them.
type shelf struct {
	s        *State
	want     int              // live reservations
	keys     uint64           // made so far
	drawn    uint64           // of the sequence that picks reservations
	resident float64          // bytes of a live reservation
	cmds     [perStamp][]byte // reserves
	out      []byte
}

// theShelf is made by the first benchmark that needs it.
var theShelf *shelf

func stocked(b *testing.B) *shelf {
	b.Helper()
	if theShelf == nil {
		theShelf = newShelf(b)
	}
	theShelf.fill(b)
	b.ReportAllocs()
	b.ResetTimer()
	return theShelf
}

func newShelf(b *testing.B) *shelf {
	b.Helper()
	f := &shelf{want: benchLive}
	if testing.Short() {
		f.want = benchLiveShort
	}
	var err error
	f.s, err = New(Config{Shards: 16, Shard: Anchor("demo", 16), Retention: benchRetention})
	if err != nil {
		b.Fatal(err)
	}
	f.stamp(b, 1_700_000_000_000)
	f.do(b, (&PutSKU{SKU: "demo", HasOnHand: true, OnHand: MaxQuantity}).AppendTo(nil))
	for i := range f.cmds {
		f.cmds[i] = (&Reserve{Key: Key{1}, TTL: benchTTL, Lines: []Line{{SKU: "demo", Quantity: 1}}}).AppendTo(nil)
	}
	before := residentBytes(b)
	f.fill(b)
	f.resident = (residentBytes(b) - before) / float64(f.want)
	return f
}

// residentBytes is the memory that the system holds for the process.
func residentBytes(b *testing.B) float64 {
	b.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc/self/statm to read the resident memory from")
	}
	pages, err := strconv.ParseFloat(string(bytes.Fields(text)[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * float64(os.Getpagesize())
}

// fill makes reservations until there are enough.
func (f *shelf) fill(b *testing.B) {
	b.Helper()
	for f.s.Stats().Live < f.want {
		f.stamp(b, f.s.Now()+1)
		f.sell(b, min(perStamp, f.want-f.s.Stats().Live))
	}
}

// sell makes reservations.
func (f *shelf) sell(b *testing.B, n int) {
	f.write(n)
	f.apply(b, n)
}

// write makes the next n commands, at most perStamp.
func (f *shelf) write(n int) {
	for _, cmd := range f.cmds[:n] {
		f.keys++
		setKey(cmd, f.keys)
	}
}

// apply applies the first n commands as the replicated log brings them: in
// batches that are warmed up first and then applied one by one.
func (f *shelf) apply(b *testing.B, n int) {
	for cmds := f.cmds[:n]; len(cmds) > 0; {
		batch := cmds[:min(len(cmds), WarmBatch)]
		cmds = cmds[len(batch):]
		f.s.Warm(batch)
		for _, cmd := range batch {
			f.do(b, cmd)
		}
	}
}

// setKey gives a command the n-th key, as evenly spread as a keyed hash.
func setKey(cmd []byte, n uint64) []byte {
	binary.LittleEndian.PutUint64(cmd[1:], fold(n*hashSeed, hashFirst))
	binary.LittleEndian.PutUint64(cmd[9:], fold(n*hashSeed, hashSecond))
	return cmd
}

func (f *shelf) stamp(b *testing.B, stamp Millis) {
	if err := f.s.Begin(stamp); err != nil {
		b.Fatal(err)
	}
}

func (f *shelf) do(b *testing.B, cmd []byte) {
	var err error
	if f.out, err = f.s.Apply(cmd, f.out[:0]); err != nil {
		b.Fatal(err)
	}
	if code := ResultCode(f.out); code != CodeOK {
		b.Fatal(code)
	}
}

// BenchmarkReserve and BenchmarkExpire run the same plateau: what is sold at
// each stamp is as much as expires there, and memory is used again.
func BenchmarkReserve(b *testing.B) {
	f := stocked(b)
	reserve, _ := f.plateau(b)
	b.ReportMetric(reserve, "ns/op")
	b.ReportMetric(f.resident, "B/reservation")
}

func BenchmarkExpire(b *testing.B) {
	f := stocked(b)
	_, expire := f.plateau(b)
	b.ReportMetric(expire, "ns/op")
}

// plateau makes b.N reservations while as many expire, and gives the time of
// one of each in nanoseconds.
func (f *shelf) plateau(b *testing.B) (reserve, expire float64) {
	var selling, expiring time.Duration
	if due, _ := f.s.NextDue(); due > f.s.Now()+1 {
		f.stamp(b, due-1)
	}
	sold, expired := 0, f.s.counts.endedBy[StatusExpired]
	b.ResetTimer()
	for ; sold < b.N; sold += perStamp {
		f.write(perStamp)
		start := time.Now()
		f.stamp(b, f.s.Now()+1)
		middle := time.Now()
		f.apply(b, perStamp)
		selling += time.Since(middle)
		expiring += middle.Sub(start)
	}
	expired = f.s.counts.endedBy[StatusExpired] - expired
	return float64(selling) / float64(sold), float64(expiring) / float64(max(expired, 1))
}

// BenchmarkReserveGrowing makes the state larger: all memory is new.
func BenchmarkReserveGrowing(b *testing.B) {
	f := stocked(b)
	for n := 0; b.Loop(); n++ {
		if n%WarmBatch == 0 {
			f.sell(b, WarmBatch)
		}
	}
}

// BenchmarkReserveAlone applies commands without a batch around them.
func BenchmarkReserveAlone(b *testing.B) {
	f := stocked(b)
	for b.Loop() {
		f.keys++
		f.do(b, setKey(f.cmds[0], f.keys))
	}
}

// BenchmarkReplay repeats young keys, in no order.
func BenchmarkReplay(b *testing.B) {
	f := stocked(b)
	for n := uint64(0); b.Loop(); n++ {
		f.do(b, setKey(f.cmds[0], f.keys-n*7919%(uint64(f.want)/2)))
	}
}

func BenchmarkRefuse(b *testing.B) {
	f := stocked(b)
	cmd := (&Reserve{Key: Key{9}, Lines: []Line{{SKU: "demo", Quantity: MaxQuantity}}}).AppendTo(nil)
	for b.Loop() {
		f.out, _ = f.s.Apply(cmd, f.out[:0])
	}
	if ResultCode(f.out) != CodeInsufficientStock {
		b.Fatal(ResultCode(f.out))
	}
}

func BenchmarkConfirm(b *testing.B) {
	benchmarkFinish(b, func(b []byte, id ReservationID) []byte { return (&Confirm{ID: id}).AppendTo(b) })
}

func BenchmarkCancel(b *testing.B) {
	benchmarkFinish(b, func(b []byte, id ReservationID) []byte { return (&Cancel{ID: id}).AppendTo(b) })
}

// benchmarkFinish ends reservations in no order of memory, in batches.
func benchmarkFinish(b *testing.B, command func(b []byte, id ReservationID) []byte) {
	f := stocked(b)
	ids := f.someLive()
	cmds := make([][]byte, WarmBatch)
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		if n%WarmBatch != 0 {
			continue
		}
		if len(ids) < WarmBatch {
			b.StopTimer()
			f.fill(b)
			ids = f.someLive()
			b.StartTimer()
		}
		for i := range cmds {
			cmds[i] = command(cmds[i][:0], ids[i])
		}
		ids = ids[WarmBatch:]
		f.s.Warm(cmds)
		for _, cmd := range cmds {
			f.do(b, cmd)
		}
	}
}

// someLive picks a tenth of the live reservations, in no order of memory.
func (f *shelf) someLive() []ReservationID {
	picked := make([]bool, f.s.records.next+1)
	ids := make([]ReservationID, 0, f.want/10)
	for len(ids) < cap(ids) {
		f.drawn++
		seq := f.s.records.next - fold(f.drawn*hashSeed, hashSecond)%uint64(f.want)
		h, ok := f.s.records.byID(seq)
		if !ok || picked[seq] {
			continue
		}
		picked[seq] = true
		if _, r := f.s.records.at(h); r.status == StatusReserved {
			ids = append(ids, ReservationID{f.s.cfg.Shard, seq})
		}
	}
	return ids
}

func BenchmarkFreeze(b *testing.B) {
	f := stocked(b)
	var longest time.Duration
	for b.Loop() {
		start := time.Now()
		f.s.Freeze()
		longest = max(longest, time.Since(start))
	}
	b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
}

// BenchmarkReserveAfterFreeze is a reserve while snapshots are taken: pages and
// buckets are copied when they are first written.
func BenchmarkReserveAfterFreeze(b *testing.B) {
	f := stocked(b)
	for n := 0; b.Loop(); n++ {
		if n%(1024*WarmBatch) == 0 {
			b.StopTimer()
			f.s.Freeze()
			b.StartTimer()
		}
		if n%WarmBatch == 0 {
			f.sell(b, WarmBatch)
		}
	}
}

func BenchmarkSnapshotWrite(b *testing.B) {
	f := stocked(b)
	for b.Loop() {
		n, err := f.s.Freeze().WriteTo(discard{})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
