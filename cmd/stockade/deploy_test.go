package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"stockade/router/client"
)

// deployed are the files that start Stockade somewhere.
var deployed = []string{
	"container/Containerfile", "container/compose.yml", "kubernetes/stockade.yaml", "systemd/stockade.service",
}

const deployDir = "../../deploy"

var (
	flagUsed = regexp.MustCompile(`(?:^|[\s\[",])(--[a-z][a-z-]+)`)
	envUsed  = regexp.MustCompile(`\bSTOCKADE_[A-Z_]+`)
	fileUsed = regexp.MustCompile(`(?m)^#     ([a-z-]+):`)
	pathUsed = regexp.MustCompile(`(?:path: |uri )(/[a-z]+)`)
)

// TestDeployedSettingsExist: every flag, variable and name in a file of settings is one
// that node or router has, and every path that is asked is one of the ops port.
func TestDeployedSettingsExist(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	help := ""
	for _, command := range []string{"node", "router", "health"} {
		out, err := exec.Command(path, command, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		help += string(out)
	}
	known := func(flag string) bool {
		return strings.Contains(help, " "+flag+" ") || strings.Contains(help, " "+flag+"\n")
	}
	others := map[string]bool{ // of other programs in these files
		"--from": true, "--chown": true, "--interval": true, "--timeout": true, "--start-period": true, "--build": true, "--from-file": true,
	}
	seen := 0
	for _, name := range append(deployed, "haproxy/haproxy.cfg") {
		b, err := os.ReadFile(filepath.Join(deployDir, name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, m := range flagUsed.FindAllStringSubmatch(text, -1) {
			seen++
			if !known(m[1]) && !others[m[1]] && !strings.HasPrefix(m[1], "--config") {
				t.Errorf("%s uses %s, which neither node nor router has", name, m[1])
			}
		}
		for _, env := range envUsed.FindAllString(text, -1) {
			seen++
			if flag := "--" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(env, "STOCKADE_"), "_", "-")); !known(flag) {
				t.Errorf("%s uses %s, and there is no %s", name, env, flag)
			}
		}
		for _, m := range fileUsed.FindAllStringSubmatch(text, -1) {
			seen++
			if !known("--" + m[1]) {
				t.Errorf("%s has the setting %s, and there is no --%[2]s", name, m[1])
			}
		}
		for _, m := range pathUsed.FindAllStringSubmatch(text, -1) {
			seen++
			if !slices.Contains([]string{"/livez", "/readyz", "/startupz", "/metrics", "/data", "/gossip"}, m[1]) {
				t.Errorf("%s asks for %s", name, m[1])
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d were looked at: do the files still look like that?", seen)
	}
}

// TestSystemdUnit has systemd look at the unit.
func TestSystemdUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed: make deps installs it")
	}
	unit, err := os.ReadFile(filepath.Join(deployDir, "systemd/stockade.service"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// It also looks whether the program is there, and the pages it names.
	text := strings.Replace(string(unit), "/usr/local/bin/stockade", program, 1)
	path := filepath.Join(t.TempDir(), "stockade.service")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestHAProxy sells through HAProxy, with the configuration that users get, and two
// routers, of which one is killed and comes back. Clients that keep the contract see no
// failure.
func TestHAProxy(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not installed: make deps installs it")
	}
	nodes, first := gossiping(t)
	ports := freePorts(t, 5)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	var routers []*process
	for i := range 2 {
		routers = append(routers, startRouter(t, fmt.Sprintf("r%d", i+1), "--join", first, "--http", at(2*i), "--ops", at(2*i+1)))
	}
	front := startHAProxy(t, strings.NewReplacer(
		"127.0.0.1:8480", at(4), "127.0.0.1:8500 port 8501", fmt.Sprintf("%s port %d", at(0), ports[1]),
		"127.0.0.1:8600 port 8601", fmt.Sprintf("%s port %d", at(2), ports[3])), at(4))
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/s", "", map[string]any{"on_hand": 1_000_000})
	c, err := client.New(client.Config{Nodes: []string{front}, FixedNodes: true, Timeout: startTimeout})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	seller := startSeller(t, c)
	for _, p := range []*process{routers[0], nodes[0]} {
		seller.survives(t, p)
	}
	seller.sellsExactly(t, nodes[1])
}

// startHAProxy starts it with the configuration of the repository, but for addresses.
func startHAProxy(t *testing.T, addresses *strings.Replacer, front string) string {
	t.Helper()
	cfg, err := os.ReadFile(filepath.Join(deployDir, "haproxy/haproxy.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, []byte(addresses.Replace(string(cfg))), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("haproxy", "-c", "-q", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("haproxy -c: %v\n%s", err, out)
	}
	cmd := exec.Command("haproxy", "-db", "-f", path)
	said := new(strings.Builder)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("HAProxy says:\n%s", said)
		}
	})
	eventually(t, "HAProxy answers", startTimeout, func() error {
		resp, err := http.Get("http://" + front + "/v1/nodes")
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s, %w", resp.Status, err)
		}
		return nil
	})
	return front
}

// TestHealthCommand says by its exit code whether a service is ready.
func TestHealthCommand(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dev := startDev(t, "--shards", "1")
	for args, want := range map[string]string{"": "ready\n", "--live": "live\n", "--json": `"ready":true`} {
		out, err := exec.Command(path, strings.Fields("health --ops-url http://"+dev.Ops+" "+args)...).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("health %s: %q, %v", args, out, err)
		}
	}
	dev.kill(t)
	if out, err := exec.Command(path, "health", "--ops-url", "http://"+dev.Ops).CombinedOutput(); err == nil || !strings.Contains(string(out), "is it running?") {
		t.Errorf("health of nobody: %q, %v", out, err)
	}
}
