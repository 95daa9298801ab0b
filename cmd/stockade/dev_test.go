package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"stockade/router/api"
)

// patience bounds every wait of these tests. It is never reached when all is
// well, even on a machine that does much else.
const patience = 60 * time.Second

// running is a run of the program that lasts.
type running struct {
	addrs  addresses
	stdout *safeBuffer
	stderr *safeBuffer
	cancel context.CancelFunc
	code   chan int
}

// safeBuffer is a buffer that is written and read from several goroutines.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startArgs runs the program in this process and waits until its address file is
// there. It is stopped at the end of the test if it still runs.
func startArgs(t *testing.T, args ...string) *running {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addrs.json")
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{stdout: new(safeBuffer), stderr: new(safeBuffer), cancel: cancel, code: make(chan int, 1)}
	go func() { r.code <- run(ctx, append(args, "--addr-file", file), r.stdout, r.stderr) }()
	t.Cleanup(func() { r.stop(t, exitOK) })
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); ; <-poll.C {
		text, err := os.ReadFile(file)
		if err == nil {
			if err := json.Unmarshal(text, &r.addrs); err != nil {
				t.Fatalf("the address file holds %q: %v", text, err)
			}
			return r
		}
		select {
		case code := <-r.code:
			r.code <- code
			t.Fatalf("%v ended with %d: %s", args, code, r.stderr)
		default:
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			t.Fatalf("%v is not ready: %v; %s", args, err, r.stderr)
		}
	}
}

// stop asks the program to stop, waits, and checks the exit code. It may be
// called again.
func (r *running) stop(t *testing.T, want int) {
	t.Helper()
	r.cancel()
	select {
	case code := <-r.code:
		if code != want {
			t.Errorf("exit code %d, want %d: %s", code, want, r.stderr)
		}
		r.code <- want
	case <-time.After(patience):
		t.Fatalf("it does not stop: %s", r.stderr)
	}
}

// freePorts are the flags that let dev and node choose free ports.
var freePorts = []string{"--http", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--peer", "127.0.0.1:0"}

func onFreePorts(args ...string) []string { return append(args, freePorts...) }

// get reads a JSON document.
func get(t *testing.T, url string, into any) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, answer.Status, err)
	}
}

// reserve asks for one unit and gives the status; 0 for no answer.
func reserve(addr, sku, key string) int {
	body := fmt.Sprintf(`{"sku":%q,"quantity":1}`, sku)
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/v1/reservations", strings.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// shell runs lines as a user would paste them.
func shell(t *testing.T, lines []string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl; make deps installs it")
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-e", "-c", strings.Join(lines, "\n")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// readmeTour is the commands of the README's tour, with a cluster's addresses.
func readmeTour(t *testing.T, addrs addresses) []string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tour, _ := strings.Cut(string(readme), "## A quick tour")
	tour, _, _ = strings.Cut(tour, "\n## ")
	var lines []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(tour, -1) {
		text := strings.ReplaceAll(block[1], "127.0.0.1:8400", addrs.HTTP)
		lines = append(lines, strings.ReplaceAll(text, "127.0.0.1:8401", addrs.Ops))
	}
	if len(lines) < 3 {
		t.Fatalf("the README's tour has %d blocks of commands", len(lines))
	}
	return lines
}

// TestDev starts dev as a newcomer does, pastes what the README and the banner
// say, looks at the stock with the command line, and stops it.
func TestDev(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // without what others left behind
	r := startArgs(t, onFreePorts("dev")...)
	out := shell(t, readmeTour(t, r.addrs))
	for _, want := range []string{`"status":"reserved"`, `"status":"confirmed"`, `"available":998`, `"balanced":true`} {
		if !strings.Contains(out, want) {
			t.Errorf("the README's tour prints no %s: %s", want, out)
		}
	}
	banner := regexp.MustCompile(`(?m)^  (?:id=|curl ).*$`).FindAllString(r.stdout.String(), -1)
	if len(banner) != 3 {
		t.Fatalf("the banner has %d commands to paste, want 3: %s", len(banner), r.stdout)
	}
	if out := shell(t, banner); !strings.Contains(out, `"confirmed"`) || !strings.Contains(out, `"available":997`) {
		t.Errorf("the banner's commands print %s", out)
	}
	checkCommandLine(t, r.addrs.Ops)
	dir := regexp.MustCompile(`data in (\S+)`).FindStringSubmatch(r.stdout.String())
	r.stop(t, exitOK)
	if _, err := os.Stat(dir[1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary directory %s is still there: %v", dir[1], err)
	}
	if r.stderr.String() != "" {
		t.Errorf("a run without trouble writes to standard error: %s", r.stderr)
	}
}

// checkCommandLine uses each command of `stockade sku`.
func checkCommandLine(t *testing.T, ops string) {
	t.Helper()
	t.Setenv("STOCKADE_OPS_URL", "http://"+ops)
	for _, tc := range []struct {
		args string
		want string // in the output
	}{
		{"put shoes --on-hand 50 --max-per-buyer 2 --sale-ends-at 2040-01-01T00:00:00Z", "max per buyer        2\n"},
		{"put shoes --max-per-buyer 3 --if-match 1", "max per buyer        3\n"},
		{"restock shoes 10 --reference delivery-1", "on hand              60\n"},
		{"adjust shoes --delta -3 --reason broken", "on hand              57\n"},
		{"pause shoes", "sale                 paused\n"},
		{"pause shoes", "\nin effect on all shards since 20"},
		{"resume shoes", "sale                 open\n"},
		{"availability shoes", "shoes: 57 for sale, as of "},
		{"availability shoes --strong", "SHARD  APPLIED  AVAILABLE  IN TRANSIT  WAITING\n0 "},
		{"get shoes --strong", "available          57\n"},
		{"get shoes --json", `"on_hand":57`},
		{"list", "demo   997        1000     1        false\n"},
		{"list --prefix sh --json", `{"sku":"shoes","version":4,"paused":false,"on_hand":57,"available":57,`},
		{"audit demo", "balanced: 1000 on hand = 997 available + 0 reserved + 3 committed"},
		{"audit demo --json", `"balanced":true`},
	} {
		r := runArgs(t, append([]string{"sku"}, strings.Fields(tc.args)...)...)
		r.want(t, exitOK)
		if !strings.Contains(r.stdout, tc.want) {
			t.Errorf("sku %s prints no %q: %s", tc.args, tc.want, r.stdout)
		}
	}
	checkErrors(t)
	checkSKUCompletion(t)
}

// apisWords are words of the API that the command line has others for.
var apisWords = regexp.MustCompile(`Idempotency-Key|If-(None-)?Match|ETag|parameter|header|use /|[: ]/[a-z_]+ must|[a-z]_[a-z]`)

// checkErrors makes mistakes with `stockade sku`: each is said once, in one line,
// by the names of the flags and arguments; with --json as the problem document.
func checkErrors(t *testing.T) {
	t.Helper()
	for _, tc := range []struct {
		args []string
		code string
		says []string
	}{
		{[]string{"get", "none-such"}, "sku-not-found", []string{"There is no SKU none-such."}},
		{[]string{"get", "no such"}, "invalid-request", []string{"SKU must be 1 to 64 characters"}},
		{[]string{"list", "--prefix", "no such"}, "invalid-request", []string{"--prefix must be"}},
		{[]string{"restock", "shoes", "0"}, "invalid-request", []string{"UNITS must be"}},
		{[]string{"restock", "shoes", "1", "--idempotency-key", "a b"}, "invalid-request", []string{"--idempotency-key must be"}},
		{[]string{"adjust", "shoes", "--delta", "-1000", "--reason", "fire"}, "below-reserved", []string{"SKU shoes has"}},
		{[]string{"put", "hats"}, "sku-not-found", []string{"Give --on-hand to create it."}},
		{[]string{"put", "shoes", "--on-hand", "1"}, "sku-exists", []string{"--on-hand is only for", `"stockade sku restock"`}},
		{[]string{"put", "shoes", "--on-hand", "1", "--create-only"}, "precondition-failed", []string{"--create-only was given"}},
		{[]string{"put", "shoes", "--if-match", "99"}, "precondition-failed", []string{"--if-match named another"}},
		{[]string{"put", "shoes", "--if-match", "1", "--create-only"}, "invalid-request", []string{"--create-only can't be combined with --if-match"}},
		{
			[]string{"put", "hats", "--on-hand", "-1", "--max-per-buyer", "-2", "--late-confirm", "maybe"}, "invalid-request",
			[]string{"--on-hand must be", "; --max-per-buyer must be", "; --late-confirm must be"},
		},
		{[]string{"put", "hats", "--on-hand", "1", "--safety-stock", "2"}, "invalid-request", []string{"--safety-stock must not be more than --on-hand"}},
		{[]string{"put", "hats", "--on-hand", "1", "--metadata", `{"a":1,"a":2}`}, "invalid-request", []string{"--metadata at /a "}},
	} {
		args := append([]string{"sku"}, tc.args...)
		r := runArgs(t, args...)
		r.want(t, exitError, append(tc.says, "(stockade explain "+tc.code+")")...)
		if word := apisWords.FindString(r.stderr); word != "" || strings.Contains(r.stderr, "The request is not valid") {
			t.Errorf("%v speaks the API's language (%q): %s", tc.args, word, r.stderr)
		}
		r = runArgs(t, append(args, "--json")...)
		r.want(t, exitError)
		var p api.Problem
		if err := json.Unmarshal([]byte(r.stderr), &p); err != nil || p.Code != tc.code || p.Status == 0 || r.stdout != "" {
			t.Errorf("%v --json prints %q and the problem %s: %v", tc.args, r.stdout, r.stderr, err)
		}
	}
	nowhere := []string{"sku", "get", "demo", "--ops-url", "http://127.0.0.1:1"}
	runArgs(t, nowhere...).want(t, exitError, "http://127.0.0.1:1", "--ops-url")
	r := runArgs(t, append(nowhere, "--json")...)
	r.want(t, exitError, `{"type":"about:blank","title":"The command failed","detail":"can't reach`, "http://127.0.0.1:1")
	runArgs(t, "sku", "get", "--json").want(t, exitUsage, "Try: stockade sku get --help")
	runArgs(t, "sku", "put", "shoes", "--if-match", "0").want(t, exitUsage, "--if-match")
}

// TestStopLosesNothing stops dev in the middle of a sale and starts it again on
// the same data. Every answer but 201 and 503 is repeated with its key until it
// is known; then the reservations answered 201 must be exactly what is reserved.
func TestStopLosesNothing(t *testing.T) {
	args := onFreePorts("dev", "--data-dir", filepath.Join(t.TempDir(), "data"), "--seed", "sale=100000", "--shards", "2")
	const clients, enough = 8, 400
	r := startArgs(t, args...)
	var mu sync.Mutex
	sold, unknown := 0, []string(nil)
	many := make(chan struct{})
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("client-%d-%d", c, i)
				status := reserve(r.addrs.HTTP, "sale", key)
				mu.Lock()
				switch status {
				case http.StatusCreated:
					if sold++; sold == enough {
						close(many)
					}
				case http.StatusServiceUnavailable:
				default:
					unknown = append(unknown, key)
				}
				mu.Unlock()
				if status != http.StatusCreated {
					return
				}
			}
		})
	}
	select {
	case <-many:
	case <-time.After(patience):
		t.Fatal("too few reservations")
	}
	r.stop(t, exitOK)
	all.Wait()

	again := startArgs(t, args...)
	for _, key := range unknown {
		if status := reserve(again.addrs.HTTP, "sale", key); status != http.StatusCreated {
			t.Errorf("key %s again: status %d", key, status)
		}
	}
	var audit api.Audit
	get(t, "http://"+again.addrs.Ops+"/v1/skus/sale/audit", &audit)
	if want := int64(sold + len(unknown)); !audit.Balanced || audit.Reserved != want {
		t.Errorf("%d reserved, want %d; balanced %v %v", audit.Reserved, want, audit.Balanced, audit.Problems)
	}
}

// TestDataDirectoryRemembers starts dev on the data of another size.
func TestDataDirectoryRemembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := startArgs(t, onFreePorts("dev", "--data-dir", dir, "--nodes", "1", "--shards", "3", "--retention", "5m", "--log-store", "bolt")...)
	r.stop(t, exitOK)
	// What is not given is what it was.
	r = startArgs(t, onFreePorts("dev", "--data-dir", dir)...)
	var cluster api.Cluster
	get(t, "http://"+r.addrs.Ops+"/v1/cluster", &cluster)
	r.stop(t, exitOK)
	if len(cluster.Nodes) != 1 || len(cluster.Shards) != 3 {
		t.Errorf("%d nodes and %d shards, want 1 and 3", len(cluster.Nodes), len(cluster.Shards))
	}
	if cluster.RetentionSeconds != 300 {
		t.Errorf("a retention of %v s, want 300", cluster.RetentionSeconds)
	}
	// What is given must fit.
	runArgs(t, onFreePorts("dev", "--data-dir", dir, "--nodes", "3")...).want(t, exitError, dir, "--nodes 1")
	runArgs(t, onFreePorts("dev", "--data-dir", dir, "--shards", "4")...).want(t, exitError, dir, "--shards 3")
	runArgs(t, onFreePorts("dev", "--data-dir", dir, "--retention", "15m")...).want(t, exitError, "--retention 5m0s")
	runArgs(t, onFreePorts("dev", "--data-dir", dir, "--log-store", "wal")...).want(t, exitError, dir, "--log-store bolt")
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := l.Addr().String()
	for _, name := range []string{"http", "ops", "peer", "gossip"} {
		args := append(onFreePorts("dev"), "--"+name, addr)
		runArgs(t, args...).want(t, exitError, addr, "--"+name, "the port is in use")
	}
}
