package main_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stockade/router/httpapi/openapitest"
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
	var refusal answer
	eventually(t, "the survivor knows that it is alone", startTimeout, func() error {
		a, err := call(http.MethodPost, nodes[0].HTTP, "/v1/reservations", "", body)
		if err != nil {
			return err
		}
		if a.status != http.StatusServiceUnavailable {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		a.into(t, &p)
		refusal = a
		return nil
	})
	if p.Shard == nil || p.Since == nil || !p.Retryable {
		t.Fatalf("the problem does not say which shard, since when and that a retry is safe: %+v", p)
	}
	if p.Since.Before(killed.Add(-time.Second)) || p.Since.After(time.Now()) {
		t.Errorf("down since %v, but it was killed at %v", p.Since, killed)
	}
	probed := sameOutage(t, nodes[0], p)
	doc := servedDocument(t, nodes[0])
	for _, a := range []openapitest.Answer{
		{Method: http.MethodPost, Path: "/v1/reservations", Status: refusal.status, Header: refusal.header, Body: refusal.body},
		{Method: http.MethodGet, Path: "/readyz", Status: probed.status, Header: probed.header, Body: probed.body},
	} {
		if err := doc.Check(a); err != nil {
			t.Error(err)
		}
	}
	nodes[1].start(t)
	nodes[1].ready(t)
	if a, err := persist(nodes[:2], 0, "/v1/reservations", "after", body, startTimeout); err != nil || a.status != http.StatusCreated {
		t.Errorf("%v %d %s", err, a.status, a.body)
	}
}

// sameOutage holds what a probe says of a shard that can't be used against what a
// request was told of it: the same moment. It gives the probe's answer.
func sameOutage(t *testing.T, node *process, p problem) answer {
	t.Helper()
	var state struct {
		Shards []struct {
			Shard   int        `json:"shard"`
			Missing string     `json:"missing"`
			Since   *time.Time `json:"since"`
		} `json:"shards"`
	}
	a := must(t, http.StatusServiceUnavailable, http.MethodGet, node.Ops, "/readyz?verbose=1", "", nil)
	a.into(t, &state)
	for _, s := range state.Shards {
		if s.Shard != *p.Shard {
			continue
		}
		if s.Since == nil || !s.Since.Equal(*p.Since) {
			t.Errorf("a request was told that shard %d is down since %v, a probe since %v: %q", s.Shard, p.Since, s.Since, s.Missing)
		}
		return a
	}
	t.Errorf("the probe does not speak of shard %d: %s", *p.Shard, a.body)
	return a
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
// are not theirs: one clear line, exit code 1, and not a byte in the directory is
// changed.
func TestRefusesWhatIsNotItsOwn(t *testing.T) {
	nodes := startNodes(t, 3, "--shards", "2")
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/own", "", map[string]any{"on_hand": 1})
	own, data := nodes[2].args, nodes[2].data()
	anywhere := with(with(with(own, "--http", "127.0.0.1:0"), "--ops", "127.0.0.1:0"), "--peer", "127.0.0.1:0")

	wantRefused(t, "a directory in use", anywhere, data, "in use by process "+strconv.Itoa(nodes[2].cmd.Process.Pid))
	if code := nodes[2].stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	before := tree(t, data)
	for _, start := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"another node's directory", with(own, "--id", "n2"), []string{data, "n3", "n2"}},
		{"another number of shards", with(own, "--shards", "3"), []string{data, "3", "2"}},
		{"another log store", append(slices.Clone(own), "--log-store", "bolt"), []string{data, "wal", "bolt"}},
		{"a port in use", with(own, "--http", nodes[0].HTTP), []string{nodes[0].HTTP, "in use"}},
		{"a gossip port in use", append(slices.Clone(own), "--gossip", nodes[0].HTTP), []string{nodes[0].HTTP, "--gossip", "in use"}},
	} {
		wantRefused(t, start.name, start.args, start.words...)
		wantSame(t, start.name, data, before)
	}

	// Directories of others, one with a file that is called as ours is.
	for _, name := range []string{"thesis.txt", "lock"} {
		foreign := t.TempDir()
		if err := os.WriteFile(filepath.Join(foreign, name), []byte("not Stockade's\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := everyFile(t, foreign)
		wantRefused(t, "a foreign directory", with(own, "--data-dir", foreign), foreign, name, "--data-dir")
		if after := everyFile(t, foreign); !maps.Equal(after, before) {
			t.Errorf("a foreign directory has %v and had %v", after, before)
		}
	}

	// A node whose disk was wiped: the first start gives it an identity, which the
	// others refuse, and so is every later one.
	wiped := filepath.Join(t.TempDir(), "wiped")
	wantRefused(t, "a wiped node", with(own, "--data-dir", wiped), "n3")
	identity := tree(t, wiped)
	wantRefused(t, "a wiped node again", with(own, "--data-dir", wiped), "n3")
	wantSame(t, "a wiped node again", wiped, identity)

	// A node that lost nothing but its identity.
	name, away := filepath.Join(data, "node.json"), filepath.Join(nodes[2].dir, "node.json")
	move(t, name, away)
	lost := tree(t, data)
	wantRefused(t, "a lost identity", own, data, "node.json")
	wantSame(t, "a lost identity", data, lost)
	move(t, away, name)

	wantSame(t, "in the end", data, before)
	nodes[2].start(t)
	nodes[2].ready(t)
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestIdleRouterNoticesTheEnd kills a whole cluster behind a router that nobody
// uses: its readiness says so without a request that had to fail first, and comes
// back with the cluster.
func TestIdleRouterNoticesTheEnd(t *testing.T) {
	nodes := startNodes(t, 3, "--shards", "2")
	var list []string
	for _, p := range nodes {
		list = append(list, p.id+"="+p.Peer)
	}
	router := &process{id: "router", dir: t.TempDir(), args: []string{
		"router", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--initial-cluster", strings.Join(list, ","),
	}}
	router.start(t)
	router.cleanup(t)
	router.ready(t)
	for _, p := range nodes {
		p.kill(t)
	}
	readyz := func(status int, word string) {
		eventually(t, fmt.Sprintf("/readyz of the router is %d", status), startTimeout, func() error {
			a, err := call(http.MethodGet, router.Ops, "/readyz?verbose=1", "", nil)
			if err == nil && (a.status != status || !strings.Contains(string(a.body), word)) {
				err = fmt.Errorf("%d %s", a.status, a.body)
			}
			return err
		})
	}
	readyz(http.StatusServiceUnavailable, "can't be reached")
	for _, p := range nodes {
		p.start(t)
	}
	readyz(http.StatusOK, "")
}
