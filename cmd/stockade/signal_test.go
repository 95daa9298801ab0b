package main_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSecondSignal hangs a graceful stop on a request that never ends, and sends
// a second signal: the process must be gone at once. Before that the probe must
// say that the process does not want work any more.
func TestSecondSignal(t *testing.T) {
	p := startDev(t, "--nodes", "1", "--shards", "1", "--data-dir", t.TempDir())
	c, err := net.Dial("tcp", p.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The server asks for the body when the handler is there and waits for it,
	// longer than this test.
	if _, err := c.Write([]byte("POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
		"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	signal := func() {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	signal()
	eventually(t, "/readyz fails", startTimeout, func() error {
		answer, err := http.Get("http://" + p.Ops + "/readyz")
		if err != nil {
			t.Fatalf("the administration port is gone before the stop is over: %v", err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("/readyz is %d", answer.StatusCode)
		}
		return nil
	})
	select {
	case <-p.exited:
		t.Fatal("the stop did not wait for the request")
	default:
	}
	signal()
	select {
	case <-p.exited:
	case <-time.After(startTimeout):
		t.Fatal("the second signal does not end the process")
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("ended with %v, not by the signal", p.cmd.ProcessState)
	}
}
