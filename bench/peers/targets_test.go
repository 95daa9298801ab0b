package peers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Settings of the comparison, by environment variables.
var (
	rounds = setting("TARGETS_ROUNDS", 5)
	each   = setting("TARGETS_SECONDS", 4)
	shards = setting("TARGETS_SHARDS", 2)
	flood  = setting("TARGETS_OVERLOAD_SECONDS", 60)
)

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// bench has everything that is compared, on one machine: Stockade with three nodes, a
// server of the same HTTP stack that does nothing, Redis and PostgreSQL.
type bench struct {
	t       *testing.T
	dir     string
	servers *Servers
	program string
	sell    string // URL of a data port
	ops     string
	nothing string
	results map[string][]float64 // by name, one a round
	names   []string
}

// TestTargets measures what docs/performance.md promises, each figure as a ratio of two
// that were measured in turns in one run. It asserts nothing: the figures are for whoever
// reads them, on a machine that does nothing else.
func TestTargets(t *testing.T) {
	b := newBench(t)
	for round := range rounds {
		for _, c := range connections {
			b.compare(c)
		}
		b.batches()
		b.idle()
		t.Logf("round %d of %d is over", round+1, rounds)
	}
	b.report()
	b.fairness()
	b.overload()
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, servers: servers(t, postgres|redisServer), results: make(map[string][]float64)}
	b.dir = t.TempDir()
	b.program = filepath.Join(b.dir, "stockade")
	b.run("go", "build", "-C", "../..", "-o", b.program, "./cmd/stockade")
	baseline := filepath.Join(b.dir, "baseline")
	b.run("go", "build", "-C", "../..", "-o", baseline, "./bench/baseline")
	b.startNothing(baseline)
	b.startStockade()
	b.scripts()
	b.prepare()
	return b
}

// run runs a command to its end and gives what it printed.
func (b *bench) run(name string, args ...string) string {
	b.t.Helper()
	out, err := b.output(name, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bench) output(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(b.t.Context(), name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %v: %w: %s%s", name, args, err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// start starts a command that runs until the test ends.
func (b *bench) start(name string, args ...string) io.Reader {
	b.t.Helper()
	cmd := exec.Command(name, args...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // one that has ended needs none
		_ = cmd.Wait()
	})
	return out
}

func (b *bench) startNothing(program string) {
	var addr string
	if _, err := fmt.Fscan(b.start(program, "127.0.0.1:0"), &addr); err != nil {
		b.t.Fatal(err)
	}
	b.nothing = "http://" + addr
}

func (b *bench) startStockade() {
	file := filepath.Join(b.dir, "addrs.json")
	b.start(b.program, "dev", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--data-dir", filepath.Join(b.dir, "data"),
		"--shards", strconv.Itoa(shards), "--seed", "demo=1000000000", "--seed", "gone=1", "--addr-file", file)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		<-tick.C
		text, err := os.ReadFile(file)
		var addrs struct{ HTTP, Ops string }
		if err == nil && json.Unmarshal(text, &addrs) == nil {
			b.sell, b.ops = "http://"+addrs.HTTP, "http://"+addrs.Ops
			return
		}
	}
	b.t.Fatal("Stockade does not start")
}

// scripts writes what the load generators send: each request has a key of its own.
func (b *bench) scripts() {
	const request = `wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"sku":"SKU","quantity":1,"ttl_seconds":3600}'
`
	const keyed = `local seed, n = tostring({}):match('0x(%x+)') .. os.time() .. math.random(1e9), 0
request = function()
  n = n + 1
  wrk.headers["Idempotency-Key"] = seed .. n
  return wrk.format()
end
`
	for name, text := range map[string]string{
		"reserve.lua": strings.Replace(request, "SKU", "demo", 1) + keyed,
		"refuse.lua":  strings.Replace(request, "SKU", "gone", 1),
		"order.sql":   "\\set n random(1, 9000000000000000)\n" + strings.Replace(takeWithOrder, "$1", "(:n)::text", 1) + ";\n",
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// prepare gives every side plenty to sell, and sells Stockade's one unit of "gone".
func (b *bench) prepare() {
	for _, k := range Kinds() {
		if k.Name == "pg-order" || k.Name == "redis-lua" {
			p, err := k.open(b.t.Context(), b.servers)
			if err != nil {
				b.t.Fatal(err)
			}
			if err := p.Stock(b.t.Context(), 1_000_000_000); err != nil {
				b.t.Fatal(err)
			}
			if _, err := p.Reserve(b.t.Context(), "first"); err != nil { // loads the script
				b.t.Fatal(err)
			}
		}
	}
	b.wrk("refuse.lua", b.sell, 8, 1)
}

var wrkRate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
var wrkP50 = regexp.MustCompile(`50%\s+([0-9.]+)(us|ms|s)`)

// wrk gives requests a second and the median latency in milliseconds.
func (b *bench) wrk(script, url string, c, seconds int) (rate, p50 float64) {
	b.t.Helper()
	out := b.run("wrk", "-t1", "-c"+strconv.Itoa(c), "-d"+strconv.Itoa(seconds)+"s", "--latency", "-s", filepath.Join(b.dir, script), url+"/v1/reservations")
	m := wrkP50.FindStringSubmatch(out)
	if m == nil {
		b.t.Fatalf("wrk printed %s", out)
	}
	return b.figure(wrkRate, out), b.parse(m[1]) * map[string]float64{"us": 1e-3, "ms": 1, "s": 1000}[m[2]]
}

func (b *bench) figure(pattern *regexp.Regexp, out string) float64 {
	b.t.Helper()
	m := pattern.FindStringSubmatch(out)
	if m == nil {
		b.t.Fatalf("no figure in %s", out)
	}
	return b.parse(m[1])
}

func (b *bench) parse(text string) float64 {
	b.t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func (b *bench) note(name string, v float64) {
	if b.results[name] == nil {
		b.names = append(b.names, name)
	}
	b.results[name] = append(b.results[name], v)
}

// compare measures single reservations and refusals on all sides.
func (b *bench) compare(c int) {
	name := func(what string) string { return fmt.Sprintf("%s, %d connections", what, c) }
	nothing, _ := b.wrk("reserve.lua", b.nothing, c, each)
	b.note(name("do nothing"), nothing)
	reserve, _ := b.wrk("reserve.lua", b.sell, c, each)
	b.note(name("Stockade, one reservation a request"), reserve)
	b.note(name("Redis Lua, AOF always"), b.redis(c, 1))
	b.note(name("PostgreSQL, conditional UPDATE with order row"), b.postgres(c))
	bare, _ := b.wrk("refuse.lua", b.nothing, c, each)
	b.note(name("do nothing, no key"), bare)
	refuse, _ := b.wrk("refuse.lua", b.sell, c, each)
	b.note(name("Stockade, refusals"), refuse)
}

var redisRate = regexp.MustCompile(`([0-9.]+) requests per second`)

// redis measures the script with random orders for about as long as the others.
func (b *bench) redis(c, pipeline int) float64 {
	_, port, _ := net.SplitHostPort(b.servers.RedisAddr)
	n := 20_000 * each * min(pipeline, 4)
	out := b.run("redis-benchmark", "-p", port, "-c", strconv.Itoa(c), "-n", strconv.Itoa(n), "-P", strconv.Itoa(pipeline), "-r", "1000000000", "-q",
		"EVALSHA", reserveScript.Hash(), "0", "bench-__rand_int__", strconv.FormatInt(time.Now().UnixMilli(), 10))
	return b.figure(redisRate, strings.ReplaceAll(out, "\r", "\n"))
}

var pgCount = regexp.MustCompile(`actually processed: ([0-9]+)`)

// postgresSeconds is longer than the others take: so many sessions on one row need some
// time until the first one is through.
const postgresSeconds = 10

func (b *bench) postgres(c int) float64 {
	cfg := strings.TrimPrefix(b.servers.PostgresURL, "postgres://bench@127.0.0.1:")
	port, _, _ := strings.Cut(cfg, "/")
	return b.figure(pgCount, b.run("pgbench", "-h", "127.0.0.1", "-p", port, "-U", "bench", "-n", "-M", "prepared", "-c", strconv.Itoa(c), "-j", "1",
		"-T", strconv.Itoa(postgresSeconds), "-f", filepath.Join(b.dir, "order.sql"), "postgres")) / postgresSeconds
}

// sale is what is read of the result of the product's own benchmark.
type sale struct {
	Rates      struct{ Accepted float64 }
	Operations []struct {
		Name     string
		Outcomes []struct {
			Outcome string
			Count   int64
			P50     float64 `json:"p50_ms"`
			P99     float64 `json:"p99_ms"`
		}
	}
}

// stockadeBench runs the product's own benchmark and reads its result.
func (b *bench) stockadeBench(args ...string) sale {
	b.t.Helper()
	r, err := b.trySale(args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) trySale(args ...string) (r sale, err error) {
	out, err := b.output(b.program, append([]string{"bench", "--json", "--quiet", "--ops-url", b.ops, "--warmup", "1s", "--repeat", "0"}, args...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &r)
	}
	return r, err
}

// together are ways in which reservations share requests. The first has as many under
// way as Redis has with 64 connections and pipelines of 32.
var together = []string{
	"batch --connections 4 --batch 500", "batch --connections 16 --batch 100", "hot --client --connections 1024",
}

// batches measures reservations that share requests.
func (b *bench) batches() {
	for _, way := range together {
		r := b.stockadeBench(append(strings.Fields(way), "--duration", fmt.Sprint(each, "s"))...)
		b.note("Stockade, "+way, r.Rates.Accepted)
	}
	b.note("Redis Lua, AOF always, pipelined by 32", b.redis(64, 32))
}

// idle measures one request at a time beside what it can't do without.
func (b *bench) idle() {
	_, p50 := b.wrk("reserve.lua", b.sell, 1, each)
	b.note("idle p50, ms", p50)
	b.note("two syncs of 4 KiB and a round trip, ms", 2*b.syncMs()+b.roundTripMs())
}

// median of what f takes, in milliseconds.
func median(n int, f func()) float64 {
	took := make([]float64, n)
	for i := range took {
		began := time.Now()
		f()
		took[i] = time.Since(began).Seconds() * 1000
	}
	slices.Sort(took)
	return took[n/2]
}

func (b *bench) syncMs() float64 {
	file, err := os.Create(filepath.Join(b.dir, "sync"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	block := make([]byte, 4096)
	return median(500, func() {
		if _, err := file.Write(block); err != nil {
			b.t.Fatal(err)
		}
		if err := file.Sync(); err != nil {
			b.t.Fatal(err)
		}
	})
}

func (b *bench) roundTripMs() float64 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(c, c) // until the other end closes
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	one := make([]byte, 64)
	return median(2000, func() {
		if _, err := c.Write(one); err != nil {
			b.t.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.t.Fatal(err)
		}
	})
}

// spread is a median with the least and the most.
type spread struct{ median, least, most float64 }

func spreadOf(v []float64) spread {
	s := slices.Sorted(slices.Values(v))
	return spread{s[len(s)/2], s[0], s[len(s)-1]}
}

// report prints all figures and the ratios with their targets. A ratio is of figures of
// the same round; what is shown is the median of these.
func (b *bench) report() {
	var text strings.Builder
	for _, name := range b.names {
		s := spreadOf(b.results[name])
		fmt.Fprintf(&text, "%-60s %10.2f (%.2f..%.2f)\n", name, s.median, s.least, s.most)
	}
	fmt.Fprintln(&text)
	ratio := func(a, over string, target float64, most bool) {
		var ratios []float64
		for i, v := range b.results[a] {
			ratios = append(ratios, v/b.results[over][i])
		}
		s := spreadOf(ratios)
		word, bound := "missed", "≥"
		if most {
			bound = "≤"
		}
		if !most && s.median >= target || most && s.median <= target {
			word = "reached"
		}
		fmt.Fprintf(&text, "%s ÷ %s: %.2f (%.2f..%.2f), target %s %.2f: %s\n", a, over, s.median, s.least, s.most, bound, target, word)
	}
	for _, c := range connections {
		with := func(what string) string { return fmt.Sprintf("%s, %d connections", what, c) }
		single := with("Stockade, one reservation a request")
		ratio(single, with("Redis Lua, AOF always"), 1, false)
		ratio(single, with("do nothing"), 0.6, false)
		ratio(single, with("PostgreSQL, conditional UPDATE with order row"), 15, false)
		ratio(with("Stockade, refusals"), with("do nothing, no key"), 0.85, false)
	}
	for _, way := range together {
		ratio("Stockade, "+way, "Redis Lua, AOF always, pipelined by 32", 4, false)
	}
	ratio("idle p50, ms", "two syncs of 4 KiB and a round trip, ms", 2, true)
	b.t.Logf("%d rounds of %d s, %d shards; median (least..most)\n%s", rounds, each, shards, &text)
}

// fairness has a crowd of SKUs sold beside one that takes nine tenths of what is asked
// for, or ten times what fits, and looks at how long the crowd waits.
func (b *bench) fairness() {
	best := b.stockadeBench("hot", "--connections", "256", "--duration", "10s").Rates.Accepted
	others := func() string {
		r := b.stockadeBench("zipf", "--connections", "256", "--rate", fmt.Sprintf("%.0f", best/20), "--duration", "20s")
		return fmt.Sprintf("%.0f/s: %+v", r.Rates.Accepted, r.Operations)
	}
	alone := others()
	beside := func(rate float64, connections string) string {
		hot := make(chan string, 1)
		go func() {
			r, err := b.trySale("hot", "--connections", connections, "--patience", "500ms", "--rate", fmt.Sprintf("%.0f", rate), "--duration", "25s")
			hot <- fmt.Sprintf("%.0f/s of them accepted (error: %v)", r.Rates.Accepted, err)
		}()
		<-time.After(2 * time.Second) // it has begun
		waited := others()
		return fmt.Sprintf("%s beside %.0f/s of one SKU, %s", waited, rate, <-hot)
	}
	half, tenfold := beside(9*best/20, "1024"), beside(10*best, "4096")
	b.t.Logf("best %.0f/s; 1,000 SKUs alone %s;\nhalf of the best, nine tenths of it one SKU: %s;\nten times the best: %s", best, alone, half, tenfold)
}

// overload offers ten times what fits, and looks at what is left of it.
func (b *bench) overload() {
	best := b.stockadeBench("hot", "--connections", "256", "--duration", "10s").Rates.Accepted
	during := b.stockadeBench("hot", "--connections", "4096", "--patience", "500ms", "--rate", fmt.Sprintf("%.0f", 10*best), "--duration", fmt.Sprint(flood, "s"))
	<-time.After(5 * time.Second)
	after := b.stockadeBench("hot", "--connections", "256", "--rate", fmt.Sprintf("%.0f", best/2), "--duration", "10s")
	b.t.Logf("best %.0f/s; at ten times that %.0f/s (%.2f): %+v; five seconds later, at half of the best: %+v", best, during.Rates.Accepted, during.Rates.Accepted/best, during.Operations, after.Operations)
}
