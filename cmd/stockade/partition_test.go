//go:build linux

package main_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"stockade/bench/hosts"
)

// gossipAlive begins the line of /metrics that says how many nodes the gossip sees.
const gossipAlive = `stockade_gossip_members{role="node",state="alive"} `

// TestGossipHeals cuts all of three hosts off from each other, for longer than it takes
// until each thinks the others dead; with GOSSIP_PARTITION_SECONDS=120 for longer than
// memberlist remembers who is dead. They find each other again without help.
func TestGossipHeals(t *testing.T) {
	lab, err := hosts.New(4)
	if err != nil {
		t.Skipf("NOT TESTED: partitions need hosts, and here none can be built: %v", err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	lasts := time.Duration(numberFrom(t, "GOSSIP_PARTITION_SECONDS", 0)) * time.Second
	members, clients := lab.Hosts[:3], lab.Hosts[3]
	addrs := make([]nodeAddrs, len(members))
	for i, h := range members {
		addrs[i] = nodeAddrs{peer: h.Addr.String() + ":8402", http: h.Addr.String() + ":8400", ops: h.Addr.String() + ":8401"}
	}
	nodes := nodesAt(t, addrs, "--shards", "1", "--insecure") // no --join: they know where the others are
	for i, p := range nodes {
		p.on = members[i].Do
	}
	startAll(t, nodes)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: clients.Dial, DisableKeepAlives: true}}
	see := func(want string) {
		t.Helper()
		for _, p := range nodes {
			eventually(t, p.id+" sees "+want+" nodes", 2*startTimeout, func() error {
				got, err := alivePeers(client, p.Ops)
				if err == nil && got != want {
					err = fmt.Errorf("it sees %s", got)
				}
				return err
			})
		}
	}
	each := func(do func(from, to *hosts.Host) error) {
		t.Helper()
		for _, from := range members {
			for _, to := range members {
				if from == to {
					continue
				}
				if err := do(from, to); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	see("3")
	cut := time.Now()
	each(lab.Cut)
	see("1")
	thought := time.Since(cut)
	<-time.After(lasts - thought) // at once when that is over
	each(lab.Mend)
	healed := time.Now()
	see("3")
	t.Logf("alone after %v, cut off for %v, together again after %v",
		thought.Round(time.Millisecond), healed.Sub(cut).Round(time.Millisecond), time.Since(healed).Round(time.Millisecond))
}

// alivePeers reads how many nodes a node's gossip sees.
func alivePeers(client *http.Client, ops string) (string, error) {
	resp, err := client.Get("http://" + ops + "/metrics")
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), gossipAlive); ok {
			return n, nil
		}
	}
	return "", fmt.Errorf("%s has no line %q", ops, gossipAlive)
}
