package shard

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkLogStore is what DefaultLogStore rests on: one append of one entry
// and its sync, guarded, by size of the entry. It measures the disk under the
// temporary directory.
func BenchmarkLogStore(b *testing.B) {
	for _, size := range []int{200, 16 << 10, 256 << 10} {
		for _, kind := range bothKinds {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) { benchmarkStore(b, kind, size) })
		}
	}
}

func benchmarkStore(b *testing.B, kind LogStoreKind, size int) {
	dir := b.TempDir()
	s, err := openLogStore(testLog(kind, DefaultConfig().Storage.SegmentSize), dir, newRaftLogger(testLogger(b)))
	check(b, err)
	g := newGuard(s, guardConfig{
		Dir: dir, Deadline: time.Minute, Fatal: func(err error) { b.Error(err) },
		Seconds: prometheus.NewHistogram(prometheus.HistogramOpts{}), Settled: func() (snapshot, commit uint64) { return 0, 0 },
	})
	defer closeStore(b, g)
	data := bytes.Repeat([]byte{7}, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	index := uint64(0)
	for b.Loop() {
		index++
		_ = g.StoreLog(&raft.Log{Index: index, Term: 1, Data: data})
	}
}

// BenchmarkChecksum is what the guard adds to an entry of 16 KiB, beside the
// hand-over to its goroutine.
func BenchmarkChecksum(b *testing.B) {
	l := &raft.Log{Index: 1, Term: 1, Data: make([]byte, 16<<10)}
	for b.Loop() {
		_ = entryChecksum(l)
	}
}
