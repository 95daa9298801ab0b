package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stockade/shard"
)

// The tests of this file let the disks of two nodes of three fail in the middle
// of a sale, so that for the last entries there is no majority without them. Each
// must stop by itself, with a line that says what, where and what to do, and exit
// code 1. Then the third node is killed and stays away, the two start again on
// mended disks, and have to know every reservation that any client was promised:
// what a client was answered was on one of their disks at least.

// TestFullDisk fills the disks, which are small file systems in files.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"wal", "bolt"} {
		t.Run(kind, func(t *testing.T) {
			nodes := newNodes(t, 3, "--shards", "1", "--log-store", kind)
			victims := nodes[1:]
			for _, p := range victims {
				mountDisk(t, p.disk(), 48<<20)
			}
			startAll(t, nodes)
			breakDisks(t, nodes, diskFailure{
				begin: func(p *process) { fill(t, filepath.Join(p.disk(), "filler")) },
				end: func(p *process) {
					if err := os.Remove(filepath.Join(p.disk(), "filler")); err != nil {
						t.Fatal(err)
					}
				},
				pad:  true, // the log has room that it took before
				says: "no space left on device",
			})
		})
	}
}

// TestFailedSync lets every sync fail from some moment on. Nobody knows then what
// is on the disk, though the next sync would succeed.
func TestFailedSync(t *testing.T) {
	needTracing(t)
	nodes := startNodes(t, 3, "--shards", "1")
	breakDisks(t, nodes, diskFailure{
		begin: func(p *process) {
			if _, err := trace(t, p.cmd.Process.Pid, "-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"); err != nil {
				t.Fatal(err)
			}
		},
		end:  func(*process) {}, // the tracer has ended with the process
		says: "input/output error",
	})
}

// TestStoppedNodeGoesOn stops a node for longer than a disk may take for a write, while
// it writes: the time that it did not run must not count as the disk's.
func TestStoppedNodeGoesOn(t *testing.T) {
	needTracing(t)
	nodes := startNodes(t, 3, "--shards", "1")
	s := beginSale(t, nodes)
	s.reaches(t, 50)
	// Not the leader: all would wait for its slow disk, and clients would get nowhere.
	leader := leaderOf(t, nodes, 0)
	followers := slices.DeleteFunc(slices.Clone(nodes), func(p *process) bool { return p == leader })
	victim, other := followers[0], followers[1]
	detach, err := trace(t, victim.cmd.Process.Pid, "-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=1s")
	if err != nil {
		t.Fatal(err)
	}
	s.reaches(t, s.sold.Load()+50) // some syncs more
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := victim.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if signal == syscall.SIGSTOP {
			<-time.After(diskDeadline + 2*time.Second)
		}
	}
	detach()
	s.reaches(t, s.sold.Load()+50)
	other.kill(t) // so that the victim is needed
	s.reaches(t, s.sold.Load()+50)
	wantPromised(t, s.end(), insisting([]*process{leader, victim}))
}

// diskDeadline is how long a disk may take for a write: the setting of shard.
var diskDeadline = shard.DefaultConfig().Timing.Write

// diskFailure is a way for the disk of a running node to fail.
type diskFailure struct {
	begin func(*process)
	end   func(*process) // when the process has ended
	pad   bool           // the log must grow for the failure to show
	says  string         // by the node, of the cause
}

// breakDisks lets the disks of all nodes but the first fail while all sell.
func breakDisks(t *testing.T, nodes []*process, f diskFailure) {
	t.Helper()
	victims := nodes[1:]
	s := beginSale(t, nodes)
	s.reaches(t, 200)
	for _, p := range victims {
		f.begin(p)
	}
	padded := make(chan struct{})
	if f.pad {
		s.pad(nodes, padded)
	}
	for _, p := range victims {
		if code := p.wait(t); code != 1 {
			t.Errorf("%s: exit code %d", p.id, code)
		}
		wantReason(t, p, "can't write ", " in "+p.data(), f.says, "check the disk and its free space", "start the node again")
	}
	close(padded)
	nodes[0].kill(t)
	for _, p := range victims {
		f.end(p)
		p.start(t)
	}
	for _, p := range victims {
		p.ready(t)
	}
	s.reaches(t, s.sold.Load()+50) // they sell again
	promised := s.end()
	t.Logf("%d reservations", len(promised))
	if got := audit(t, victims[0], "s"); got.Reserved != len(promised) {
		t.Errorf("%d units were promised; %+v", len(promised), got)
	}
	wantPromised(t, promised, insisting(victims))
}

// wantReason wants one line of the log to say why a node ended.
func wantReason(t *testing.T, p *process, words ...string) {
	t.Helper()
	var reasons []string
	for line := range strings.Lines(p.logTail()) {
		if strings.Contains(line, "can't go on") {
			reasons = append(reasons, line)
		}
	}
	if len(reasons) != 1 {
		t.Errorf("%s gives %d reasons for its end: %q", p.id, len(reasons), reasons)
	}
	for _, w := range words {
		if !strings.Contains(strings.Join(reasons, ""), w) {
			t.Errorf("%s: no %q in %q", p.id, w, reasons)
		}
	}
	t.Logf("%s: %s", p.id, reasons)
}

// sale is clients that reserve single units, each with a key of its own, until
// the sale ends. What was not answered for certain is sent again.
type sale struct {
	sold    atomic.Int64
	over    chan struct{}
	once    sync.Once
	clients sync.WaitGroup

	mu       sync.Mutex
	promised []reservation
}

// beginSale lets clients buy a SKU, until the end of the sale or of the test.
func beginSale(t *testing.T, nodes []*process) *sale {
	t.Helper()
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/s", "", map[string]any{"on_hand": 1_000_000})
	s := &sale{over: make(chan struct{})}
	for c := range 4 {
		s.clients.Go(func() { s.buy(t, nodes, c) })
	}
	t.Cleanup(func() { s.end() })
	return s
}

// pad lets clients fill the logs with large entries until done is closed.
func (s *sale) pad(nodes []*process, done <-chan struct{}) {
	large := map[string]any{"on_hand": 1, "metadata": map[string]any{"a": strings.Repeat("x", 4000)}}
	for c := range 64 {
		s.clients.Go(func() {
			for n := 0; s.goesOn(); n++ {
				select {
				case <-done:
					return
				default:
					_, _ = call(http.MethodPut, nodes[n%len(nodes)].Ops, fmt.Sprintf("/v1/skus/pad-%d-%d", c, n), "", large)
				}
			}
		})
	}
}

func (s *sale) goesOn() bool {
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

// buy is one client.
func (s *sale) buy(t *testing.T, nodes []*process, c int) {
	for n := 0; s.goesOn(); n++ {
		key := fmt.Sprintf("c%d-%d", c, n)
		a, err := persist(nodes, c+n, "/v1/reservations", key, map[string]any{"sku": "s", "quantity": 1}, startTimeout)
		if err != nil || a.status != http.StatusCreated {
			t.Errorf("%s: %v %d %s", key, err, a.status, a.body)
			return
		}
		var r reservation
		a.into(t, &r)
		s.mu.Lock()
		s.promised = append(s.promised, r)
		s.mu.Unlock()
		s.sold.Add(1)
	}
}

// reaches waits until so many units are sold.
func (s *sale) reaches(t *testing.T, units int64) {
	t.Helper()
	eventually(t, "the sale goes on", startTimeout, func() error {
		if sold := s.sold.Load(); sold < units {
			return fmt.Errorf("%d of %d", sold, units)
		}
		return nil
	})
}

// end ends the sale and gives what clients were promised.
func (s *sale) end() []reservation {
	s.once.Do(func() { close(s.over) })
	s.clients.Wait()
	return s.promised
}

// mountDisk puts a file system of its own at dir, in a file of that size.
func mountDisk(t *testing.T, dir string, size int64) {
	t.Helper()
	image := dir + ".img"
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("NOT TESTED: a full disk needs a small one, and here none can be made: %v: %v %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// fill writes to a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if n, err := f.Write(make([]byte, size)); err != nil && n == 0 {
			size /= 2
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// needTracing skips the test where processes can't be traced.
func needTracing(t *testing.T) {
	t.Helper()
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeper.Process.Signal(syscall.SIGKILL)
		_ = sleeper.Wait()
	}()
	if _, err := trace(t, sleeper.Process.Pid, "-e", "trace=none"); err != nil {
		t.Skipf("NOT TESTED: a sync can't be made to fail here: %v", err)
	}
}

// trace attaches strace to a process, for the rest of its life or until detach.
func trace(t *testing.T, pid int, args ...string) (detach func(), err error) {
	t.Helper()
	tracer := exec.Command("strace", append(args, "-q", "-o", os.DevNull, "-p", strconv.Itoa(pid))...)
	var said strings.Builder
	tracer.Stderr = &said
	if err := tracer.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = tracer.Wait() }()
	detach = func() {
		// Asked to end, strace may wait for a thread that it holds up itself. When it is
		// killed, the kernel lets go of what it traced.
		_ = tracer.Process.Signal(syscall.SIGKILL) // or it has ended with the process
		<-ended
	}
	t.Cleanup(detach)
	eventually(t, "the tracer is attached", startTimeout, func() error {
		select {
		case <-ended: // by itself: it was refused, or the process has ended by what it did
			if said.Len() > 0 {
				err = fmt.Errorf("strace: %s", &said)
			}
			return nil
		default:
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && strings.Contains(string(status), "\nTracerPid:\t0\n") {
			err = fmt.Errorf("process %d has no tracer", pid)
		}
		return err
	})
	return detach, err
}
