package main_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"stockade/router/api"
	"stockade/router/client"
)

// gossiping starts a cluster of three nodes whose second and third know the gossip
// address of the first, which args may encrypt.
func gossiping(t *testing.T, args ...string) (nodes []*process, first string) {
	t.Helper()
	nodes = newNodes(t, 3, append([]string{"--shards", "3"}, args...)...)
	for i, port := range freePorts(t, len(nodes)) {
		at := fmt.Sprintf("127.0.0.1:%d", port)
		nodes[i].args = append(nodes[i].args, "--gossip", at)
		if first == "" {
			first = at
		} else {
			nodes[i].args = append(nodes[i].args, "--join", first)
		}
	}
	startAll(t, nodes)
	return nodes, first
}

// startRouter starts a router that knows one member.
func startRouter(t *testing.T, id string, args ...string) *process {
	t.Helper()
	p := &process{id: id, dir: t.TempDir(), args: append([]string{"router", "--id", id, "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"}, args...)}
	p.start(t)
	p.cleanup(t)
	p.ready(t)
	return p
}

// TestRoutersKnowTheClusterByGossip sells through two routers that were told of one
// member each, while leaders and a router are killed, with all of the gossip encrypted.
// No call fails, and in the end there is one reservation for each.
func TestRoutersKnowTheClusterByGossip(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))), 0o600); err != nil {
		t.Fatal(err)
	}
	nodes, first := gossiping(t, "--gossip-key-file", keys)
	routers := []*process{
		startRouter(t, "r1", "--join", first, "--gossip-key-file", keys),
		startRouter(t, "r2", "--join", "127.0.0.1:1,"+first, "--gossip-key-file", keys),
	}
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/s", "", map[string]any{"on_hand": 1_000_000})
	c, err := client.New(client.Config{Nodes: []string{routers[0].HTTP, routers[1].HTTP}, FixedNodes: true, Timeout: startTimeout})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	seller := startSeller(t, c)
	for _, p := range []*process{nodes[0], routers[1], nodes[1]} {
		seller.survives(t, p)
	}
	seller.sellsExactly(t, nodes[2])
}

// TestMovedNodeIsFound: a node that comes back at other addresses and ports takes part
// again, and nobody else is restarted.
func TestMovedNodeIsFound(t *testing.T) {
	nodes, first := gossiping(t)
	router := startRouter(t, "r1", "--join", first)
	moved := nodes[2]
	moved.kill(t)
	for i, port := range freePorts(t, 4) {
		name := []string{"--peer", "--http", "--ops", "--gossip"}[i]
		for at := range moved.args {
			if moved.args[at] == name {
				moved.args[at+1] = "127.0.0.1:" + strconv.Itoa(port)
			}
		}
	}
	moved.HTTP, moved.Ops, moved.Peer = "", "", ""
	moved.start(t)
	moved.ready(t)
	for _, p := range []*process{nodes[0], nodes[1], router} {
		eventually(t, p.id+" finds the node that moved", startTimeout, func() error {
			var c api.Cluster
			answer, err := call(http.MethodGet, p.Ops, "/v1/cluster", "", nil)
			if err != nil {
				return err
			}
			answer.into(t, &c)
			for _, n := range c.Nodes {
				if n.ID == "n3" && n.Alive && n.Peer == moved.Peer && n.HTTP == moved.HTTP {
					return inStep(c.Shards)
				}
			}
			return fmt.Errorf("it sees %+v", c.Nodes)
		})
	}
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/s", "", map[string]any{"on_hand": 10})
	hold(t, router, "s", "through-a-router")
	hold(t, moved, "s", "through-the-node")
}

// inStep tells whether all replicas of all shards have applied what is committed.
func inStep(shards []api.Shard) error {
	for _, s := range shards {
		if s.Leader == nil || s.Lag != 0 {
			return fmt.Errorf("shard %+v", s)
		}
	}
	return nil
}

// TestDevGossips, so that a router can be tried beside it.
func TestDevGossips(t *testing.T) {
	dev := startDev(t, "--gossip", "127.0.0.1:0", "--shards", "1")
	b, err := os.ReadFile(filepath.Join(dev.dir, "addrs.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), `"gossip":"`)
	at, _, _ := strings.Cut(rest, `"`)
	if !ok || at == "" {
		t.Fatal(errors.New("no gossip address in " + string(b)))
	}
	hold(t, startRouter(t, "r1", "--join", at), "demo", "x")
}
