package shardrpc

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// BenchmarkProposals sends commands of the size of a reservation through a
// dispatcher to a node that applies them at once: here, or behind loopback TCP.
// The number in the name is how many are under way at a time.
func BenchmarkProposals(b *testing.B) {
	for _, underWay := range []int{1, 64, 4096} {
		b.Run(fmt.Sprintf("local/%d", underWay), func(b *testing.B) { benchmark(b, &fakeNode{}, underWay) })
		b.Run(fmt.Sprintf("remote/%d", underWay), func(b *testing.B) { benchmark(b, remote(b), underWay) })
	}
}

func remote(b *testing.B) Node {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(ServerOptions()...)
	Register(server, &fakeNode{status: leads("n1", 1, 0)}, nil)
	go func() { _ = server.Serve(l) }()
	b.Cleanup(server.Stop)
	c, err := NewClient(ClientConfig{Node: "n1", Address: l.Addr().String()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	for c.reachable() != nil {
		<-time.After(time.Millisecond)
	}
	return c
}

func benchmark(b *testing.B, node Node, underWay int) {
	dir := NewDirectory(DirectoryConfig{Shards: 1})
	defer dir.Close()
	dir.SetMember("n1", node)
	dir.Learn(0, "n1")
	d := NewDispatcher(DispatcherConfig{Directory: dir})
	slots := make(chan struct{}, underWay)
	command := make([]byte, 120)
	var wait sync.WaitGroup
	deadline := time.Now().Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		slots <- struct{}{}
		wait.Add(1)
		d.Propose(&Proposal{Command: command, Deadline: deadline, Done: func(r Response) {
			if r.Outcome != Applied {
				b.Error(r.Outcome, r.Reason)
			}
			<-slots
			wait.Done()
		}})
	}
	wait.Wait()
}
