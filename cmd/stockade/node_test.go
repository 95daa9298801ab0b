package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"stockade/router/api"
)

// TestSnapshotEntries: what is behind a snapshot is as long as what makes one due, so
// that the setting bounds the log.
func TestSnapshotEntries(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	addSettingFlags(flags, forNode)
	if err := flags.Parse([]string{"--snapshot-entries", "300"}); err != nil {
		t.Fatal(err)
	}
	s, err := loadSettings(flags, forNode)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := shardConfig(s, t.TempDir())
	if after, behind := cfg.Storage.SnapshotAfter, cfg.Storage.Trailing; err != nil || after != 300 || behind != 300 {
		t.Errorf("a snapshot after %d entries, with %d behind it, %v; want 300 of each", after, behind, err)
	}
}

// TestNode starts a cluster of one node, and starts it again by its directory
// alone.
func TestNode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := onFreePorts("node", "--data-dir", dir)
	runArgs(t, first...).want(t, exitError, dir, "--id ID")
	runArgs(t, append(first, "--id", "a")...).want(t, exitError, "--initial-cluster")
	if err := os.RemoveAll(dir); err != nil { // the second attempt has named the node
		t.Fatal(err)
	}
	r := startArgs(t, append(first, "--id", "a", "--initial-cluster", "a=127.0.0.1:1", "--shards", "2")...)
	if status := reserve(r.addrs.HTTP, "none", "k"); status != http.StatusNotFound {
		t.Errorf("a SKU that does not exist: status %d", status)
	}
	runArgs(t, first...).want(t, exitError, dir, "in use")
	r.stop(t, exitOK)
	for _, msg := range []string{"msg=ready", "msg=stopping", "msg=stopped"} {
		if !strings.Contains(r.stderr.String(), msg) {
			t.Errorf("the log has no %s: %s", msg, r.stderr)
		}
	}
	startArgs(t, first...).stop(t, exitOK)
	runArgs(t, append(first, "--id", "b")...).want(t, exitError, dir, `node "a"`, "--id a")
	runArgs(t, append(first, "--initial-cluster", "a=127.0.0.1:1,b=127.0.0.1:2")...).want(t, exitError, "--initial-cluster")
}

// TestPeerAddressIsRemembered gives no --peer: it is where the others look.
func TestPeerAddressIsRemembered(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want := l.Addr().String()
	_ = l.Close()
	args := []string{"node", "--data-dir", dir, "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"}
	first := startArgs(t, append(args, "--id", "a", "--shards", "1", "--initial-cluster", "a="+want)...)
	first.stop(t, exitOK)
	later := startArgs(t, args...)
	later.stop(t, exitOK)
	if first.addrs.Peer != want || later.addrs.Peer != want {
		t.Errorf("the peer port is %s at first and %s later, want %s", first.addrs.Peer, later.addrs.Peer, want)
	}
	// What was not given is still not for strangers.
	runArgs(t, append(args, "--initial-cluster", "a=192.0.2.7:8402")...).want(t, exitError, "--peer 192.0.2.7:8402", "--insecure")
}

func TestNodeUsage(t *testing.T) {
	runArgs(t, "node").want(t, exitError, "--data-dir DIR")
	runArgs(t, "router").want(t, exitError, "--join ADDR", "--initial-cluster ID=PEER_ADDR")
	runArgs(t, "router", "--join", "10.0.0.1").want(t, exitError, "--join", "HOST:PORT")
	runArgs(t, "router", "--initial-cluster", "a=127.0.0.1:1", "--gossip", "127.0.0.1:0").want(t, exitError, "--join ADDR")
	runArgs(t, "router", "--join", "127.0.0.1:1", "--gossip", "0.0.0.0:0").want(t, exitError, "--gossip 0.0.0.0:0", "--gossip-key-file", "--insecure")
	runArgs(t, "router", "--join", "127.0.0.1:1", "--gossip-allow", "10.0.0.0").want(t, exitError, "--gossip-allow", "10.0.0.0/8")
	runArgs(t, "router", "--join", "127.0.0.1:1", "--gossip-key-file", "/nowhere").want(t, exitError, "/nowhere")
	runArgs(t, "node", "--data-dir", t.TempDir(), "--peer", "0.0.0.0:0").want(t, exitError, "--peer 0.0.0.0:0", "--insecure")
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	runArgs(t, onFreePorts("node", "--id", "a", "--data-dir", foreign, "--initial-cluster", "a=127.0.0.1:1")...).
		want(t, exitError, foreign, "thesis.txt", "--data-dir")
}

// TestRouter sells through a router that runs alone: the same key through it and
// through a node is one reservation.
func TestRouter(t *testing.T) {
	dev := startArgs(t, onFreePorts("dev", "--shards", "2")...)
	var cluster api.Cluster
	get(t, "http://"+dev.addrs.Ops+"/v1/cluster", &cluster)
	// One node is enough to find the others, also when another is not there.
	known := fmt.Sprintf("%s=%s,gone=127.0.0.1:1", cluster.Nodes[0].ID, cluster.Nodes[0].Peer)
	router := startArgs(t, "router", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--initial-cluster", known, "--log-format", "json")
	if router.addrs.Peer != "" {
		t.Errorf("a router has no peer port, and the address file has %s", router.addrs.Peer)
	}
	for i := range 20 {
		key := fmt.Sprintf("key-%d", i)
		if a, b := reserve(router.addrs.HTTP, "demo", key), reserve(dev.addrs.HTTP, "demo", key); a != http.StatusCreated || b != http.StatusCreated {
			t.Fatalf("%s: status %d through the router, %d through a node", key, a, b)
		}
	}
	var audit api.Audit
	get(t, "http://"+router.addrs.Ops+"/v1/skus/demo/audit", &audit)
	if audit.Reserved != 20 || !audit.Balanced {
		t.Errorf("%d reserved, want 20; balanced %v", audit.Reserved, audit.Balanced)
	}
	checkIDs(t, router.addrs.HTTP, dev.addrs.HTTP)
	router.stop(t, exitOK)
	if !strings.Contains(router.stderr.String(), `"msg":"stopped"`) {
		t.Errorf("the log is not JSON: %s", router.stderr)
	}
}

// checkIDs takes the first reservation of a router's cluster: a node of the same
// cluster knows it by its id, and a fresh cluster, which counts from one again and
// so has a reservation of that number too, does not.
func checkIDs(t *testing.T, router, node string) {
	t.Helper()
	first := func(addr string) string {
		body := strings.NewReader(`{"sku":"demo","quantity":1}`)
		answer, err := http.Post("http://"+addr+"/v1/reservations", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		var r api.Reservation
		if err := json.NewDecoder(answer.Body).Decode(&r); err != nil || answer.StatusCode != http.StatusCreated {
			t.Fatalf("%s, %v", answer.Status, err)
		}
		return r.ID
	}
	status := func(addr, id string) int {
		answer, err := http.Get("http://" + addr + "/v1/reservations/" + id)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	id := first(router)
	if got := status(node, id); got != http.StatusOK {
		t.Errorf("%s through a node of its cluster: %d", id, got)
	}
	for range 2 { // two clusters may have the same mark by accident, one pair in 65,536
		fresh := startArgs(t, onFreePorts("dev", "--nodes", "1", "--shards", "2")...)
		own := map[string]bool{}
		for range 40 { // on each shard more than the cluster at hand has
			own[first(fresh.addrs.HTTP)] = true
		}
		if own[id] {
			continue
		}
		if got := status(fresh.addrs.HTTP, id); got != http.StatusNotFound {
			t.Errorf("%s in another cluster: %d", id, got)
		}
		return
	}
	t.Errorf("the id %s is one of two other clusters, too", id)
}
