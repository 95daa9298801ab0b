package membership

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// tap stands before a member's gossip port, passes on what comes and remembers it.
type tap struct {
	t       *testing.T
	to      string
	packets net.PacketConn
	streams net.Listener
	done    sync.WaitGroup

	mu       sync.Mutex
	heard    [][]byte // packets
	streamed [][]byte // what one side of each connection said
}

// newTap opens a port, TCP and UDP, before an address that is set before anybody comes.
func newTap(t *testing.T) *tap {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := lc.ListenPacket(t.Context(), "udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &tap{t: t, packets: p, streams: l}
}

// open begins to pass on.
func (w *tap) open(to string) {
	w.to = to
	w.done.Go(w.passPackets)
	w.done.Go(w.passStreams)
	w.t.Cleanup(func() {
		_ = w.packets.Close()
		_ = w.streams.Close()
		w.done.Wait()
	})
}

func (w *tap) passPackets() {
	out, err := new(net.Dialer).Dial("udp", w.to)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer out.Close()
	b := make([]byte, 65536)
	for {
		n, _, err := w.packets.ReadFrom(b)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.heard = append(w.heard, slices.Clone(b[:n]))
		w.mu.Unlock()
		_, _ = out.Write(b[:n])
	}
}

func (w *tap) passStreams() {
	for {
		in, err := w.streams.Accept()
		if err != nil {
			return
		}
		w.done.Go(func() { w.passStream(in) })
	}
}

func (w *tap) passStream(in net.Conn) {
	defer in.Close()
	out, err := new(net.Dialer).Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer out.Close()
	var said recorder
	go func() {
		_, _ = io.Copy(io.MultiWriter(out, &said), in)
		_ = out.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(in, out)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streamed = append(w.streamed, said.bytes())
}

// recorder remembers what was written to it.
type recorder struct {
	mu  sync.Mutex
	all []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, b...)
	return len(b), nil
}

func (r *recorder) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// replay says everything again, many times.
func (w *tap) replay(times int) (packets, streams int) {
	w.t.Helper()
	w.mu.Lock()
	heard, streamed := slices.Clone(w.heard), slices.Clone(w.streamed)
	w.mu.Unlock()
	var d net.Dialer
	udp, err := d.DialContext(w.t.Context(), "udp", w.to)
	if err != nil {
		w.t.Fatal(err)
	}
	defer udp.Close()
	for range times {
		for _, b := range heard {
			_, _ = udp.Write(b)
			packets++
		}
		for _, b := range streamed {
			c, err := d.DialContext(w.t.Context(), "tcp", w.to)
			if err != nil {
				continue
			}
			_, _ = c.Write(b)
			_ = c.Close()
			streams++
		}
	}
	return packets, streams
}

// TestReplayedBytesChangeNothing records what comes to a member while another one joins,
// leads and leaves, and says it all again: who is gone stays gone, newer terms stay, and
// nothing is kept for it.
func TestReplayedBytesChangeNothing(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprint("sealed=", sealed), func(t *testing.T) {
			w := newTap(t)
			cfg := node("a")
			cfg.Advertise = w.streams.Addr().String()
			if sealed {
				cfg.Keys = keysOf(t, newKey())
			}
			a := begin(t, cfg)
			w.open(fmt.Sprintf("127.0.0.1:%d", a.port.boundPort()))
			join := func(id string) *party {
				cfg := node(id, a.Addr())
				cfg.Keys = a.cfg.Keys
				return begin(t, cfg)
			}
			b, c := join("b"), join("c")
			a.sees("both", alive("a", "b", "c"))
			c.Lead(Claim{Shard: 1, Term: 1})
			b.Lead(Claim{Shard: 1, Term: 2})
			leads := func(v *View) bool { return slices.Contains(v.Leaders, Claim{Shard: 1, Term: 2, Node: "b"}) }
			a.sees("that b leads", leads)
			c.vanish()
			a.sees("that c is gone", in("c", Dead))

			w.replay(1)
			before := heap()
			packets, streams := w.replay(200)
			if packets < 1000 || streams < 200 {
				t.Errorf("only %d packets and %d connections were replayed", packets, streams)
			}
			b.Lead(Claim{Shard: 2, Term: 1})
			a.sees("what b says after it", func(v *View) bool { return len(v.Leaders) == 2 })
			if v := a.View(); !leads(v) || !in("c", Dead)(v) || !in("b", Alive)(v) {
				t.Errorf("it sees %+v", v)
			}
			// With 64 KiB for each packet that waits it would be 60 MB, for a moment.
			if after := heap(); after > before+32<<20 {
				t.Errorf("%d bytes in memory before %d packets and %d connections, %d after", before, packets, streams, after)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for heap() > before+4<<20 {
				if !sleep(ctx, quick.Gossip) {
					t.Fatalf("%d bytes in memory before, and %d remain", before, heap())
				}
			}
		})
	}
}

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
