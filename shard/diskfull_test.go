package shard

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// diskFullEnv tells the child process where its data is, and in which store.
const diskFullEnv = "STOCKADE_TEST_DISK_FULL"

// A process whose files may not grow any more, as on a full disk, ends with a
// clear line and exit code 1, and has lost nothing that it acknowledged. The
// child is this test's own program with a limit on the size of files.
func TestDiskFull(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			c := newTestCluster(t, 1, 1, func(cfg *Config) { cfg.LogStore = kind })
			child := exec.Command(os.Args[0], "-test.run=^TestDiskFullChild$")
			child.Env = append(os.Environ(), diskFullEnv+"="+string(kind)+":"+c.dir)
			var stderr strings.Builder
			child.Stderr = &stderr
			out, err := child.Output()
			if code := child.ProcessState.ExitCode(); code != 1 {
				t.Fatalf("exit code %d: %v\n%s\n%s", code, err, out, &stderr)
			}
			acknowledged := strings.Fields(string(out))
			if len(acknowledged) == 0 {
				t.Fatalf("nothing was acknowledged\n%s", &stderr)
			}
			says(t, stderr.String(), "can't write to the log", "check the disk and its free space")
			t.Logf("%d acknowledged; %s", len(acknowledged), stderr.String())

			c.startAll() // the disk has room again
			defer c.stopAll()
			n := c.leader(0)
			for _, sku := range acknowledged {
				if !knows(n, 0, sku) {
					t.Fatalf("%s was acknowledged and is gone", sku)
				}
			}
		})
	}
}

// TestDiskFullChild is the child process of TestDiskFull, and else nothing.
func TestDiskFullChild(t *testing.T) {
	kind, dir, ok := strings.Cut(os.Getenv(diskFullEnv), ":")
	if !ok {
		t.Skip("only for TestDiskFull")
	}
	c := newTestCluster(t, 1, 1, func(cfg *Config) { cfg.LogStore = LogStoreKind(kind) })
	c.dir = dir
	c.startAll()
	n := c.leader(0)
	limitFiles(t, 300<<10)
	out := bufio.NewWriter(os.Stdout)
	answers := make(chan bool)
	for i := 0; ; i++ {
		sku := fmt.Sprintf("sku-%d", i)
		go func() { answers <- applied(n, sku) }()
		select {
		case ok := <-answers:
			if ok {
				fmt.Fprintln(out, sku)
			}
		case err := <-n.Fatal():
			_ = out.Flush()
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// limitFiles bounds the size of the files that this process writes, but for
// those that are longer already.
func limitFiles(t *testing.T, size uint64) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ) // an error instead of a signal
	limit := syscall.Rlimit{Cur: size, Max: size}
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
}

// applied tells whether a SKU was created.
func applied(n *Node, sku string) bool {
	command := putSKU(sku, 1)
	command.Metadata = []byte(`{"a":"` + strings.Repeat("x", 4000) + `"}`)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return n.Dispatcher().Do(ctx, allocator.ShardID(0), command.AppendTo(nil)).Outcome == shardrpc.Applied
}
