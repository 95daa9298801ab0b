package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests of this file's users start the real binary as real processes on
// loopback. The binary is built once, without the race detector: what they
// look at is crashes and promises across processes, at speed.

// scratch is a directory for the time of the tests.
var scratch string

// TestMain gives the tests a place of their own for temporary files: what lies
// around on the machine, such as directories of devs that were killed, is none
// of their business.
func TestMain(m *testing.M) {
	code := 1
	dir, err := os.MkdirTemp("", "stockade-test-*")
	if err == nil {
		scratch, err = dir, os.Setenv("TMPDIR", dir)
	}
	if err == nil {
		code = m.Run()
		err = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// binary builds stockade once and returns its path.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "stockade")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// startTimeout bounds how long a cluster may take to become ready.
const startTimeout = 60 * time.Second

// process is one running stockade with its addresses.
type process struct {
	id   string
	args []string
	dir  string                         // holds the log and the address file
	on   func(start func() error) error // starts it on a host of its own; nil for this one
	HTTP string                         `json:"http"`
	Ops  string                         `json:"ops"`
	Peer string                         `json:"peer"`

	cmd    *exec.Cmd
	exited chan struct{}
}

// start runs the process; ready waits for it.
func (p *process) start(t *testing.T) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	addrs := filepath.Join(p.dir, "addrs.json")
	if err := os.Remove(addrs); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(p.dir, p.id+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(path, append(p.args, "--addr-file", addrs)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.dir) // what a killed dev leaves goes with the test
	begin := p.cmd.Start
	if p.on != nil {
		begin = func() error { return p.on(p.cmd.Start) }
	}
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	cmd, exited := p.cmd, make(chan struct{})
	p.exited = exited
	go func() {
		defer close(exited)
		defer log.Close()
		_ = cmd.Wait() // how it ended is judged by whoever ended it
	}()
}

// ready waits until the address file is there, which means that /readyz is 200.
func (p *process) ready(t *testing.T) {
	t.Helper()
	addrs := filepath.Join(p.dir, "addrs.json")
	eventually(t, p.id+" is ready", startTimeout, func() error {
		select {
		case <-p.exited:
			t.Fatalf("%s ended while starting:\n%s", p.id, p.logTail())
		default:
		}
		b, err := os.ReadFile(addrs)
		if err != nil || p.HTTP != "" { // addresses stay the same after a restart, and clients read them
			return err
		}
		return json.Unmarshal(b, p)
	})
}

// kill ends the process with SIGKILL.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.exited
}

// stop ends the process as an operator would, and returns its exit code.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return p.wait(t)
}

// wait waits until the process has ended, and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(startTimeout):
		t.Fatalf("%s does not end:\n%s", p.id, p.logTail())
	}
	return p.cmd.ProcessState.ExitCode()
}

// logTail is the end of what the process logged.
func (p *process) logTail() string {
	b, err := os.ReadFile(filepath.Join(p.dir, p.id+".log"))
	if err != nil {
		return err.Error()
	}
	const most = 8 << 10
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(b)
}

// cleanup kills the process at the end of the test and shows its log if the
// test failed.
func (p *process) cleanup(t *testing.T) {
	t.Cleanup(func() {
		select {
		case <-p.exited:
		default:
			p.kill(t)
		}
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", p.id, p.logTail())
		}
	})
}

// startNodes starts a cluster of n nodes, each a process, and waits for it.
func startNodes(t *testing.T, n int, args ...string) []*process {
	t.Helper()
	nodes := newNodes(t, n, args...)
	startAll(t, nodes)
	return nodes
}

// newNodes prepares a cluster of n nodes on loopback and starts nothing.
func newNodes(t *testing.T, n int, args ...string) []*process {
	t.Helper()
	ports := freePorts(t, 3*n)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	addrs := make([]nodeAddrs, n)
	for i := range addrs {
		addrs[i] = nodeAddrs{peer: at(3 * i), http: at(3*i + 1), ops: at(3*i + 2)}
	}
	return nodesAt(t, addrs, args...)
}

// nodeAddrs are where a node listens.
type nodeAddrs struct{ peer, http, ops string }

// nodesAt prepares a cluster of nodes and starts nothing. Each has a directory of its
// own, and in it one that a disk can be mounted on, with its data below.
func nodesAt(t *testing.T, addrs []nodeAddrs, args ...string) []*process {
	t.Helper()
	var initial []string
	for i, a := range addrs {
		initial = append(initial, fmt.Sprintf("n%d=%s", i+1, a.peer))
	}
	root := t.TempDir()
	nodes := make([]*process, len(addrs))
	for i, a := range addrs {
		p := &process{id: fmt.Sprintf("n%d", i+1), dir: filepath.Join(root, fmt.Sprintf("n%d", i+1))}
		if err := os.MkdirAll(p.disk(), 0o700); err != nil {
			t.Fatal(err)
		}
		p.args = append([]string{
			"node", "--id", p.id, "--initial-cluster", strings.Join(initial, ","), "--data-dir", p.data(),
			"--peer", a.peer, "--http", a.http, "--ops", a.ops,
		}, args...)
		nodes[i] = p
	}
	return nodes
}

// startAll starts nodes for the first time and waits for them.
func startAll(t *testing.T, nodes []*process) {
	t.Helper()
	for _, p := range nodes {
		p.start(t)
		p.cleanup(t)
	}
	for _, p := range nodes {
		p.ready(t)
	}
}

// disk is where a file system may be mounted for a node of nodesAt, and data where it
// keeps its data.
func (p *process) disk() string { return filepath.Join(p.dir, "disk") }
func (p *process) data() string { return filepath.Join(p.disk(), "data") }

// startDev starts `stockade dev` on free ports and waits for it.
func startDev(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{id: "dev", dir: t.TempDir(), args: append([]string{
		"dev", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--peer", "127.0.0.1:0",
	}, args...)}
	p.start(t)
	p.cleanup(t)
	p.ready(t)
	return p
}

// numberFrom is a number from the environment, or the usual one.
func numberFrom(t *testing.T, env string, usual float64) float64 {
	t.Helper()
	asked := os.Getenv(env)
	if asked == "" {
		return usual
	}
	n, err := strconv.ParseFloat(asked, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// freePorts finds ports that are free now.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// eventually repeats check until it returns nil.
func eventually(t *testing.T, what string, limit time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s: %v", limit, what, err)
		}
	}
}

// reservation is the part of the API's reservation that the tests look at.
type reservation struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Lines  []struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	} `json:"lines"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// units adds up the lines.
func (r reservation) units() (sum int) {
	for _, l := range r.Lines {
		sum += l.Quantity
	}
	return sum
}

// answer is one HTTP answer, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// into decodes the body.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// caller is an HTTP client with enough idle connections for all its users.
var caller = &http.Client{
	Timeout: 10 * time.Second,
	Transport: &http.Transport{
		MaxIdleConnsPerHost: 256,
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
	},
}

// call sends one request; key may be empty.
func call(method, addr, path, key string, body any) (answer, error) {
	return callBy(caller, method, addr, path, key, body)
}

// callBy sends one request with a client of one's own.
func callBy(client *http.Client, method, addr, path, key string, body any) (answer, error) {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+addr+path, payload)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	return send(client, req)
}

// send sends a request and reads the answer to its end.
func send(client *http.Client, r *http.Request) (answer, error) {
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: b}, err
}

// must sends one request that has to be answered with want.
func must(t *testing.T, want int, method, addr, path, key string, body any) answer {
	t.Helper()
	a, err := call(method, addr, path, key, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != want {
		t.Fatalf("%s %s: %d, not %d: %s", method, path, a.status, want, a.body)
	}
	return a
}

// hold reserves one unit.
func hold(t *testing.T, p *process, sku, key string) (r reservation) {
	t.Helper()
	must(t, http.StatusCreated, http.MethodPost, p.HTTP, "/v1/reservations", key, map[string]any{"sku": sku, "quantity": 1}).into(t, &r)
	return r
}

// persist follows the contract for retries: while the outcome is unknown or
// nothing was done, the same request with the same key, at one node after the
// other.
func persist(nodes []*process, first int, path, key string, body any, limit time.Duration) (answer, error) {
	return insist(nodes, first, limit, func(p *process) (answer, error) {
		return call(http.MethodPost, p.HTTP, path, key, body)
	})
}

// insist sends a request to one node after the other until one has an answer that
// stands.
func insist(nodes []*process, first int, limit time.Duration, send func(*process) (answer, error)) (answer, error) {
	deadline := time.Now().Add(limit)
	for i := first; ; i++ {
		a, err := send(nodes[i%len(nodes)])
		if err == nil && a.status != http.StatusServiceUnavailable && a.status != http.StatusGatewayTimeout && a.status != http.StatusTooManyRequests {
			return a, nil
		}
		if time.Now().After(deadline) {
			return a, errors.Join(fmt.Errorf("no answer within %v; last: %d %s", limit, a.status, a.body), err)
		}
	}
}

// sums are what the audit says of a SKU.
type sums struct {
	OnHand    int  `json:"on_hand"`
	Available int  `json:"available"`
	Reserved  int  `json:"reserved"`
	Committed int  `json:"committed"`
	InTransit int  `json:"in_transit"`
	Balanced  bool `json:"balanced"`
	SoldOut   bool `json:"sold_out"`
}

// audit reads the conservation proof of a SKU.
func audit(t *testing.T, p *process, sku string) (s sums) {
	t.Helper()
	must(t, http.StatusOK, http.MethodGet, p.Ops, "/v1/skus/"+sku+"/audit", "", nil).into(t, &s)
	if !s.Balanced {
		t.Errorf("the audit of %s is not balanced", sku)
	}
	return s
}
