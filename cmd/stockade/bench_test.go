package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"stockade/bench"
)

// TestBench puts a real cluster under a little load with every workload, in an open loop
// and in a closed one. That the units add up is the benchmark's own proof; whether that
// notices is tested where it is.
func TestBench(t *testing.T) {
	dev := startArgs(t, onFreePorts("dev", "--seed", "none", "--data-dir", t.TempDir())...)
	at := []string{"--ops-url", "http://" + dev.addrs.Ops, "--warmup", "100ms", "--duration", "500ms", "--connections", "8", "--json"}
	for _, args := range [][]string{
		{"hot"}, {"zipf", "--skus", "20"}, {"carts", "--rate", "100"}, {"sellout", "--rate", "200", "--stock", "10"}, {"opening", "--rate", "200"},
		{"mix", "--rate", "50", "--arrivals", "constant"}, {"restock", "--rate", "200"}, {"batch", "--batch", "20"},
		{"hot", "--client"}, {"hot", "--keyed=false"},
	} {
		r := runArgs(t, append(append([]string{"bench"}, args...), at...)...)
		var result bench.Result
		if err := json.Unmarshal([]byte(r.stdout), &result); err != nil || r.code != exitOK {
			t.Errorf("%v: exit code %d, %v: %s%s", args, r.code, err, r.stderr, r.stdout)
			continue
		}
		if result.Proof.Sold == 0 || !result.Proof.Holds() || result.Cluster.Nodes != 3 || result.Settings.Workload != args[0] {
			t.Errorf("%v: %s", args, r.stdout)
		}
	}
}

// TestDocumentedBenchmarks runs the benchmarks that the README and docs/benchmark.md show,
// for a shorter time.
func TestDocumentedBenchmarks(t *testing.T) {
	dev := startArgs(t, onFreePorts("dev", "--seed", "none", "--data-dir", t.TempDir())...)
	t.Setenv("STOCKADE_OPS_URL", "http://"+dev.addrs.Ops)
	commands := regexp.MustCompile(`(?m)^(?:go run \./cmd/)?stockade (bench(?: [^|>#\n]*)?)`)
	var found [][]string
	for _, page := range []string{"README.md", "docs/benchmark.md"} {
		text, err := os.ReadFile(filepath.Join("../..", page))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, commands.FindAllStringSubmatch(string(text), -1)...)
	}
	t.Chdir(t.TempDir()) // where files are written
	ran := 0
	for _, m := range found {
		args := strings.Fields(m[1])
		if len(args) > 1 && args[1] == "check" {
			continue // TestBenchReports does
		}
		ran++
		r := runArgs(t, append(args, "--duration", "500ms", "--warmup", "0s")...)
		if r.code != exitOK || !strings.Contains(r.stdout, "0 stranded") && !strings.Contains(r.stdout, `"stranded": 0`) {
			t.Errorf("%s: exit code %d: %s%s", m[0], r.code, r.stdout, r.stderr)
		}
	}
	if ran < 4 {
		t.Errorf("%d commands were found", ran)
	}
}

// TestBenchReports covers what a run leaves: text, files and the check of objectives, and
// what an interrupted one does.
func TestBenchReports(t *testing.T) {
	dev := startArgs(t, onFreePorts("dev", "--seed", "none", "--data-dir", t.TempDir())...)
	dir := t.TempDir()
	at := []string{"bench", "--ops-url", "http://" + dev.addrs.Ops, "--target", dev.addrs.HTTP, "--warmup", "0s"}
	in := func(name string) string { return filepath.Join(dir, name) }
	r := runArgs(t, append(at, "--duration", "300ms", "--html", in("r.html"), "--csv", in("r.csv"), "--result", in("r.json"))...)
	if r.code != exitOK || !strings.Contains(r.stdout, "proof: ") {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	for name, want := range map[string]string{"r.html": "</html>", "r.csv": "at_seconds", "r.json": `"proof"`} {
		if text, err := os.ReadFile(in(name)); err != nil || !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s: %v\n%.200s", name, err, text)
		}
	}
	pass := writeFile(t, "pass.yaml", "objectives: [{measure: proof.holds, at_least: 1}]")
	fail := writeFile(t, "fail.yaml", "objectives: [{measure: proof.holds, at_least: 1}, {measure: proof.sold, at_most: 0}]")
	if r := runArgs(t, "bench", "check", "--slo", pass, in("r.json")); r.code != exitOK || r.stdout != "PASS  proof.holds: 1 (at least 1)\n" {
		t.Errorf("%+v", r)
	}
	r = runArgs(t, "bench", "check", "--slo", fail, in("r.json"), "--json")
	r.want(t, exitError, "not all objectives are met")
	if strings.Count(r.stdout, `"pass": true`) != 1 || strings.Count(r.stdout, `"pass": false`) != 1 {
		t.Errorf("%s", r.stdout)
	}

	ctx, interrupt := context.WithTimeout(t.Context(), time.Second)
	defer interrupt()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, append(at, "--duration", "1h"), &stdout, &stderr); code != exitError || !strings.Contains(stdout.String(), "interrupted") || !strings.Contains(stdout.String(), "proof: ") {
		t.Errorf("exit code %d: %s%s", code, stdout.String(), stderr.String())
	}
}

// TestBenchMistakes has a clear line for each, and nothing is left behind.
func TestBenchMistakes(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "r.html")
	runArgs(t, "bench", "--ops-url", "http://127.0.0.1:1", "--html", left).want(t, exitError, "http://127.0.0.1:1", "--ops-url", "connection refused")
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the report of no run: %v", err)
	}
	runArgs(t, "bench", "--html", filepath.Join(dir, "no", "r.html")).want(t, exitError, "--html", "no such file")
	runArgs(t, "bench", "nothing").want(t, exitUsage, `no workload "nothing"`, "sellout")
	runArgs(t, "bench", "--connections", "0").want(t, exitUsage, "connections")
	runArgs(t, "bench", "check").want(t, exitUsage, "--slo FILE")
	runArgs(t, "bench", "check", "--slo", filepath.Join(dir, "none")).want(t, exitUsage, "--slo", "no such file")
	runArgs(t, "bench", "check", "--slo", writeFile(t, "a.yaml", "objectives: [{measure: x, at_most: 1}]")).want(t, exitUsage, `no measure "x"`)
	good := writeFile(t, "b.yaml", "objectives: [{measure: proof.over, at_most: 0}]")
	runArgs(t, "bench", "check", "--slo", good, good).want(t, exitError, "not a result")
	runArgs(t, "bench", "check", "--slo", good, writeFile(t, "c.json", `{"format":99}`)).want(t, exitError, "format 99")
}
