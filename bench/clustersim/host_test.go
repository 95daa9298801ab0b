package clustersim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/raftfsm"
	"stockade/router"
	"stockade/router/api"
	"stockade/router/httpapi"
	"stockade/shard"
	"stockade/shard/shardrpc"
	"stockade/shard/simdisk"
)

// openLimit bounds the opening of a node, in virtual time.
const openLimit = time.Minute

// host is a machine with one node and its router. What its disk has is in a
// directory, and after a power failure in another one: the old node may still write
// to the first until it has ended.
type host struct {
	c     *cluster
	name  string
	clock *hostClock

	mu     sync.Mutex // guards what follows
	lives  int        // directories so far
	disk   *simdisk.Disk
	node   *shard.Node // nil: it does not run
	data   http.Handler
	ops    http.Handler
	down   chan struct{} // closed when the node that runs has crashed
	paused bool
	ending sync.WaitGroup // nodes that crashed and are still being closed
}

func newHost(c *cluster, number int) *host {
	h := &host{c: c, name: fmt.Sprintf("n%d", number+1), clock: newHostClock(c.drift())}
	h.disk = c.newDisk()
	return h
}

// dir is where the node has its data now.
func (h *host) dir() string { return filepath.Join(h.c.dir, fmt.Sprintf("%s-%d", h.name, h.lives)) }

// config is the node's configuration.
func (h *host) config() shard.Config {
	cfg := h.c.base
	cfg.NodeID = shardrpc.NodeID(h.name)
	cfg.DataDir, cfg.Listen = h.dir(), h.name
	cfg.Network, cfg.Files, cfg.Clock = h.c.net.Host(h.name), h.disk, h.clock
	return cfg
}

// open starts the node.
func (h *host) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), openLimit)
	defer cancel()
	node, err := shard.Open(ctx, h.config())
	if err != nil {
		return err
	}
	data, ops, err := handlers(node, h.c.base)
	if err != nil {
		return errors.Join(err, node.Close(ctx))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.node, h.data, h.ops, h.down = node, data, ops, make(chan struct{})
	return nil
}

// handlers puts a router and the API before a node, as the program does.
func handlers(node *shard.Node, cfg shard.Config) (data, ops http.Handler, err error) {
	r, err := router.New(router.Config{
		Shards: node.Shards(), Secret: node.HashSecret(), Dispatcher: node.Dispatcher(),
		Levels: node.LevelTable(), Retention: cfg.Retention,
	})
	if err != nil {
		return nil, nil, err
	}
	metrics := httpapi.NewMetrics(prometheus.NewRegistry())
	data, err = httpapi.NewData(httpapi.DataConfig{Router: r, Metrics: metrics, Log: cfg.Logger, IDs: r.IDs()})
	if err != nil {
		return nil, nil, err
	}
	ops, err = httpapi.NewOps(httpapi.OpsConfig{
		Router: r, Health: noHealth{}, Metrics: metrics, MetricsPage: http.NotFoundHandler(), Log: cfg.Logger,
	})
	return data, ops, err
}

// noHealth answers probes, which nobody asks here.
type noHealth struct{}

func (noHealth) Live() error                             { return nil }
func (noHealth) Started() bool                           { return true }
func (noHealth) Ready(context.Context) (r api.Readiness) { return r }

// running is the node, if it runs.
func (h *host) running() *shard.Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.node
}

// take gets the node out of the host; nil: none runs. Requests under way at it end
// without an answer.
func (h *host) take() *shard.Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.node
	h.node, h.data, h.ops = nil, nil, nil
	if n != nil {
		close(h.down)
		_ = h.c.ended(n)
	}
	return n
}

// ended is why a node had to end itself, if it had to. It may for few reasons.
func (c *cluster) ended(n *shard.Node) error {
	select {
	case err := <-n.Fatal():
		if !excused(err) {
			c.t.Errorf("%s ended itself: %v", n.ID(), err)
		}
		return err
	default:
		return nil
	}
}

// stop ends the node gracefully; requests under way are answered first. One whose disk
// fails or hangs does not end in time, and its process exits all the same.
func (h *host) stop(t *testing.T) {
	n := h.running()
	if n == nil {
		return
	}
	switch err := n.Close(context.Background()); {
	case err == nil:
		h.take()
		return
	case !excused(err) && h.c.ended(n) == nil:
		t.Errorf("%s: close: %v", h.name, err)
	}
	if err := h.kill(); err != nil {
		t.Error(err)
	}
}

// pause has the host hear and say nothing, without a connection that breaks, or lets it
// go on.
func (h *host) pause(stop bool) {
	h.mu.Lock()
	h.paused = stop
	h.mu.Unlock()
	h.c.net.Wires().Pause(h.name, stop)
}

// kill ends the node without a word, as kill -9 does. What it wrote can be read, and
// what the disk has of that is another question.
func (h *host) kill() error {
	from, err := h.end()
	if from == "" || err != nil {
		return err
	}
	h.disk, err = h.disk.Killed(from, h.dir())
	return err
}

// crash takes the power. The disk keeps what was synced and of the rest what left
// says.
func (h *host) crash(left simdisk.Leftover) error {
	from, err := h.end()
	if from == "" || err != nil {
		return err
	}
	lost, err := h.disk.Lose(from, h.dir(), left)
	h.c.lost.Add(int64(lost))
	h.disk = h.c.newDisk()
	return err
}

// end ends the node at this moment: its network goes silent, and its directory is a
// new one with what can be read in the old one, which is returned; empty: no node
// runs. The old one is for the node to end in.
func (h *host) end() (from string, err error) {
	n := h.take()
	if n == nil {
		return "", nil
	}
	h.c.net.Isolate(h.name, true)
	h.disk.PowerOff()
	synctest.Wait() // nobody is in the middle of a system call
	from = h.dir()
	h.lives++
	if err := os.CopyFS(h.dir(), os.DirFS(from)); err != nil {
		return "", err
	}
	h.ending.Go(func() {
		once, end := context.WithCancel(context.Background())
		end() // there is nothing to be finished, and nobody to be told
		_ = n.Close(once)
		_ = os.RemoveAll(from)
	})
	return from, nil
}

// connect lets the network reach the host again, when what ran there has ended.
func (h *host) connect() {
	h.ending.Wait()
	h.c.net.Isolate(h.name, false)
}

// hostClock is the clocks of a host: both drift, and the time of day can be set.
type hostClock struct {
	raftfsm.Clock
	ppm  int64
	jump atomic.Int64
}

func newHostClock(ppm int64) *hostClock { return &hostClock{Clock: raftfsm.SystemClock(), ppm: ppm} }

// today is the right time of day: virtual time begins in the year 2000.
func today() time.Time { return time.Now().AddDate(26, 0, 0) }

// virtual is a moment of today in the time of the test; zero stays zero.
func virtual(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Now().Add(t.Sub(today()))
}

// Monotonic implements raftfsm.Clock.
func (c *hostClock) Monotonic() time.Duration {
	m := c.Clock.Monotonic()
	return m + m/1_000_000*time.Duration(c.ppm)
}

// Wall implements raftfsm.Clock.
func (c *hostClock) Wall() time.Time {
	drifted := c.Monotonic() - c.Clock.Monotonic()
	return today().Add(drifted + time.Duration(c.jump.Load()))
}

// quiet drops what nodes log, unless the test is verbose.
func quiet() *slog.Logger {
	if os.Getenv(logEnv) == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
}
