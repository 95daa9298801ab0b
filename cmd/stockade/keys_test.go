package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// keys runs `stockade cluster keys` and gives what it prints as JSON.
func keys(t *testing.T, file string, args ...string) (k struct {
	Sends   string `json:"sends_with"`
	Accepts []string
}) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, append([]string{"cluster", "keys", "--json", "--gossip-key-file", file}, args...)...).Output()
	if err != nil {
		t.Fatalf("keys %v: %v", args, err)
	}
	if err := json.Unmarshal(out, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestGossipKeysChangeWhileRunning goes the way of the help: add, use, remove. Everybody
// stays in touch, and who joins with the new key only is taken in.
func TestGossipKeysChangeWhileRunning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	old := keys(t, file, "add").Sends
	nodes, first := gossiping(t, "--gossip-key-file", file)
	added := keys(t, file, "add")
	if len(added.Accepts) != 2 || added.Sends != old {
		t.Fatalf("after add: %+v", added)
	}
	took := func(sends string, n int) {
		t.Helper()
		for _, p := range nodes {
			eventually(t, p.id+" takes the keys over", startTimeout, func() error {
				if want := fmt.Sprintf("keys=%d sends_with=%s", n, sends); !strings.Contains(p.logTail(), want) {
					return fmt.Errorf("its log does not have %q", want)
				}
				return nil
			})
		}
	}
	took(old, 2)
	next := added.Accepts[1]
	keys(t, file, "use", next)
	took(next, 2)
	if left := keys(t, file, "remove", old); left.Sends != next || len(left.Accepts) != 1 {
		t.Fatalf("after remove: %+v", left)
	}
	took(next, 1)
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/s", "", map[string]any{"on_hand": 10})
	hold(t, startRouter(t, "r1", "--join", first, "--gossip-key-file", file), "s", "with-the-new-key")

	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string]string{
		"--gossip-key-file FILE":    "cluster keys list",
		"no key \"nobody\"":         "cluster keys use nobody --gossip-key-file " + file,
		"the key is the one in use": "cluster keys remove " + next + " --gossip-key-file " + file,
		"this is no key":            "cluster keys add x --gossip-key-file " + file,
	} {
		if out, err := exec.Command(path, strings.Fields(args)...).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %s, %v", args, out, err)
		}
	}
}
