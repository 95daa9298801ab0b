package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// problem is the part of an RFC 9457 document that the tests look at.
type problem struct {
	Code      string     `json:"code"`
	Detail    string     `json:"detail"`
	Retryable bool       `json:"retryable"`
	Shard     *int       `json:"shard"`
	Since     *time.Time `json:"since"`
}

// TestNoQuorumIsSaid kills two nodes of three. The survivor must answer within
// the request's deadline that nothing was done, naming the shard and since when
// it can't be used, and must sell again when a second node is back.
func TestNoQuorumIsSaid(t *testing.T) {
	nodes := startNodes(t, 3, "--shards", "2")
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/q", "", map[string]any{"on_hand": 10})
	killed := time.Now()
	nodes[1].kill(t)
	nodes[2].kill(t)

	body := map[string]any{"sku": "q", "quantity": 1}
	var p problem
	eventually(t, "the survivor knows that it is alone", startTimeout, func() error {
		a, err := call(http.MethodPost, nodes[0].HTTP, "/v1/reservations", "", body)
		if err != nil {
			return err
		}
		if a.status != http.StatusServiceUnavailable {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		a.into(t, &p)
		return nil
	})
	if p.Shard == nil || p.Since == nil || !p.Retryable {
		t.Fatalf("the problem does not say which shard, since when and that a retry is safe: %+v", p)
	}
	if p.Since.Before(killed.Add(-time.Second)) || p.Since.After(time.Now()) {
		t.Errorf("down since %v, but it was killed at %v", p.Since, killed)
	}
	nodes[1].start(t)
	nodes[1].ready(t)
	if a, err := persist(nodes[:2], 0, "/v1/reservations", "after", body, startTimeout); err != nil || a.status != http.StatusCreated {
		t.Errorf("%v %d %s", err, a.status, a.body)
	}
}

// TestStopUnderLoad stops one node with SIGTERM while clients reserve through
// the others: it must end by itself with code 0, no client may see a wrong
// answer, and everything that was answered is there.
func TestStopUnderLoad(t *testing.T) {
	nodes := startNodes(t, 3, "--shards", "2")
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/hot", "", map[string]any{"on_hand": 1_000_000})
	var promised atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				a, err := persist(nodes[:2], c+n, "/v1/reservations", fmt.Sprintf("c%d-%d", c, n), map[string]any{"sku": "hot", "quantity": 1}, startTimeout)
				if err != nil || a.status != http.StatusCreated {
					t.Errorf("%v %d %s", err, a.status, a.body)
					return
				}
				promised.Add(1)
			}
		})
	}
	eventually(t, "sales begin", startTimeout, func() error {
		if promised.Load() < 500 {
			return fmt.Errorf("%d so far", promised.Load())
		}
		return nil
	})
	if code := nodes[2].stop(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, nodes[2].logTail())
	}
	at := promised.Load()
	eventually(t, "the others sell on", startTimeout, func() error {
		if promised.Load() < at+500 {
			return fmt.Errorf("%d so far", promised.Load()-at)
		}
		return nil
	})
	close(done)
	wg.Wait()
	if s := audit(t, nodes[0], "hot"); int64(s.Reserved) != promised.Load() {
		t.Errorf("%d promised; %+v", promised.Load(), s)
	}
}

// TestRefusesWhatIsNotItsOwn starts nodes on data directories and addresses that
// are not theirs: one clear line, exit code 1, and nothing in the directory is
// changed.
func TestRefusesWhatIsNotItsOwn(t *testing.T) {
	nodes := startNodes(t, 3, "--shards", "2")
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/own", "", map[string]any{"on_hand": 1})
	replace := func(args []string, flag, value string) []string {
		out := append([]string(nil), args...)
		for i := range out {
			if out[i] == flag {
				out[i+1] = value
			}
		}
		return out
	}
	expect := func(name string, args []string, words ...string) {
		t.Helper()
		p := &process{id: "refused", dir: t.TempDir(), args: args}
		p.start(t)
		select {
		case <-p.exited:
		case <-time.After(startTimeout):
			p.kill(t)
			t.Errorf("%s: it did not end:\n%s", name, p.logTail())
			return
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("%s: exit code %d", name, code)
		}
		for _, w := range words {
			if !strings.Contains(p.logTail(), w) {
				t.Errorf("%s: no %q in:\n%s", name, w, p.logTail())
			}
		}
	}
	data := filepath.Join(nodes[2].dir, "data")
	expect("a directory in use", replace(replace(replace(nodes[2].args, "--http", "127.0.0.1:0"), "--ops", "127.0.0.1:0"), "--peer", "127.0.0.1:0"), data)
	if code := nodes[2].stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	before := tree(t, data)
	expect("another node's directory", replace(nodes[2].args, "--id", "n2"), data, "n3", "n2")
	expect("another number of shards", replace(nodes[2].args, "--shards", "3"), data, "3", "2")
	expect("a port in use", replace(nodes[2].args, "--http", nodes[0].HTTP), nodes[0].HTTP, "in use")
	if after := tree(t, data); after != before {
		t.Errorf("the directory has changed:\n%s\nwas:\n%s", after, before)
	}
	wiped := filepath.Join(t.TempDir(), "wiped")
	expect("a wiped node", replace(nodes[2].args, "--data-dir", wiped), "n3")
	nodes[2].start(t)
	nodes[2].ready(t)
}

// tree lists a directory's files with their sizes and times. Preallocated or
// unlocked lock files don't count: only what a node keeps.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && filepath.Ext(path) == ".json" {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%s %d %v %s\n", path, info.Size(), err, content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
