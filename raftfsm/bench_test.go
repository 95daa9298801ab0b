package raftfsm

import (
	"sync"
	"testing"

	"stockade/allocator"
)

// benchBatch is the number of commands in an entry of the benchmarks.
const benchBatch = 1024

// BenchmarkFSMApply measures applying entries of 1,024 reservations, with
// checksum, decoding and results. ns/op is for one command.
func BenchmarkFSMApply(b *testing.B) {
	m := benchMachine(b)
	m.await()
	b.ReportAllocs()
	for done := 0; done < b.N; done += benchBatch {
		b.StopTimer()
		commands := make([][]byte, benchBatch)
		for i := range commands {
			commands[i] = reserve(done + i)
		}
		log := command(uint64(2+done), 1, millis(testEpoch), commands...)
		b.StartTimer()
		m.Apply(log)
	}
}

// BenchmarkProposer measures the way of a command through the proposer and the
// state machine, without a disk and a network: the processor time that group
// commit leaves at best. 256 commands are under way at a time.
func BenchmarkProposer(b *testing.B) {
	m := benchMachine(b)
	m.cfg.Clock.ColdStart(testEpoch)
	idle := &fakeRaft{fsm: m, term: 1, index: 1, auto: true}
	p, err := NewProposer(ProposerConfig{Raft: idle, FSM: m, Limits: DefaultLimits()})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	if err := p.Start(1); err != nil {
		b.Fatal(err)
	}
	commands := make([][]byte, b.N)
	for i := range commands {
		commands[i] = reserve(i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	slots := make(chan struct{}, 256)
	var open sync.WaitGroup
	open.Add(b.N)
	for i := range commands {
		slots <- struct{}{}
		p.Submit(&Item{Command: commands[i], Done: func(Completion) { <-slots; open.Done() }})
	}
	open.Wait()
}

// benchMachine is a state machine with a SKU to sell.
func benchMachine(b *testing.B) *FSM {
	b.Helper()
	clock := NewLogClock(SystemClock())
	f, err := NewFSM(FSMConfig{
		ClusterID: testCluster, Allocator: testConfig, Clock: clock,
		Metrics: NewMetrics(nil, 0), Fatal: func(err error) { b.Fatal(err) },
	})
	if err != nil {
		b.Fatal(err)
	}
	f.Apply(command(1, 1, millis(testEpoch), putSKU()))
	return f
}

// BenchmarkEntryEncode measures building entries of 1,024 commands; ns/op is
// for one command.
func BenchmarkEntryEncode(b *testing.B) {
	var e EntryEncoder
	c := reserve(1)
	b.SetBytes(int64(len(c)))
	for done := 0; done < b.N; done += benchBatch {
		e.Begin(allocator.Millis(done))
		for range benchBatch {
			e.Add(c)
		}
		e.Finish()
	}
}
