//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestPowerFailure takes the power from all hosts at once in the middle of a sale, again
// and again. What clients were answered is on the disks then, whatever else was lost.
func TestPowerFailure(t *testing.T) {
	for _, kind := range []string{"wal", "bolt"} {
		t.Run(kind, func(t *testing.T) {
			nodes := newNodes(t, 3, "--shards", "2", "--log-store", kind, "--snapshot-entries", "200")
			for _, p := range nodes {
				mountDisk(t, p.disk(), 256<<20)
			}
			startAll(t, nodes)
			s := beginSale(t, nodes)
			for range 5 {
				s.reaches(t, s.sold.Load()+100)
				losePower(t, nodes...)
				for _, p := range nodes {
					p.start(t)
				}
				for _, p := range nodes {
					p.ready(t)
				}
			}
			s.reaches(t, s.sold.Load()+50)
			wantPromised(t, s.end(), insisting(nodes))
		})
	}
}

// losePower ends processes and their file systems together, as hosts without power do: what
// was not synced is lost. Then the file systems are there again, as their journals leave
// them.
func losePower(t *testing.T, nodes ...*process) {
	t.Helper()
	for _, p := range nodes {
		if err := shutDown(p.disk()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range nodes {
		// It may have ended itself: nothing that it writes works any more.
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
	for _, p := range nodes {
		<-p.exited
		for _, command := range [][]string{{"umount", p.disk()}, {"mount", "-o", "loop", p.disk() + ".img", p.disk()}} {
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", command, err, out)
			}
		}
	}
}

// shutDown has a file system of ext4 stop where it stands: nothing that is in memory only,
// in its journal's buffers neither, gets to the disk.
func shutDown(dir string) error {
	const (
		shutdown     = 0x8004587d // EXT4_IOC_SHUTDOWN of the kernel's ext4.h
		noLogFlush   = uint32(2)  // EXT4_GOING_FLAGS_NOLOGFLUSH
		whileMounted = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	)
	fd, err := unix.Open(dir, whileMounted, 0)
	if err != nil {
		return err
	}
	how := noLogFlush
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), shutdown, uintptr(unsafe.Pointer(&how))); no != 0 {
		err = fmt.Errorf("shut down the file system at %s: %w", dir, no)
	}
	return errors.Join(err, unix.Close(fd))
}
