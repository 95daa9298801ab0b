package clustersim

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stockade/bench/history"
	"stockade/shard/shardrpc"
)

const (
	shards      = 3
	clients     = 6
	scarceStock = 6  // of each SKU: they run short now and then from the beginning to the end
	ampleStock  = 80 // sold in the course of a run
	ampleEvery  = 4  // every fourth cluster has that much

	longHold  = 24 * time.Hour
	shortHold = 3 * time.Second
	forLong   = "c" // the SKU that has no short holds
	forAll    = "d" // the one that is sold without keys

	// limit bounds a run in virtual time: a cluster that hangs fails the test
	// instead of spinning through years.
	limit = 2 * time.Hour
	// heapLimit bounds it in memory, some twenty times of what is usual.
	heapLimit = 4 << 30

	// recovery is how soon after the last fault has gone something succeeds again,
	// and startLimit how soon a node that was opened votes again.
	recovery   = 10 * time.Second
	startLimit = time.Minute
	lateStart  = time.Minute // by which log time may be late after a start of all hosts

	staleness  = 50 * time.Millisecond // of what a refusal is founded on
	orderLimit = 5 * time.Second       // for the order of the calls of one SKU

	seedsEnv  = "CLUSTERSIM_SEEDS"
	seedEnv   = "CLUSTERSIM_SEED"
	faultsEnv = "CLUSTERSIM_FAULTS" // of one run
	logEnv    = "CLUSTERSIM_LOG"    // not empty: nodes log to the standard error
)

const (
	usualSeeds  = 1
	usualFaults = 20
)

// TestCluster sells through clusters in virtual time while one to three faults at a
// time happen to them.
func TestCluster(t *testing.T) {
	seeds, asked := number(t, seedsEnv, usualSeeds), number(t, faultsEnv, usualFaults)
	first, n := rand.Uint64(), seeds
	if fixed := os.Getenv(seedEnv); fixed != "" {
		first, n = number(t, seedEnv, 0), 1
	}
	total, late, struck, did := time.Duration(0), map[history.Outcome]int{}, map[string]int{}, map[history.Kind]int{}
	for seed := first; seed < first+n; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Logf("again: %s=%d %s=%d go test -count=1 -run '^TestCluster$' ./bench/clustersim", seedEnv, seed, faultsEnv, asked)
			r := simulate(t, seed, func(r *run) { r.faults = int(asked) }, (*run).trouble)
			total += r.lasted
			for fault, n := range r.counts {
				struck[fault] += n
			}
			for outcome, n := range r.late() {
				late[outcome] += n
			}
			for kind, n := range r.report.Done {
				did[kind] += n
			}
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("%d runs, %v of virtual time; in their last thirds %v", n, total.Round(time.Second), late)
	// A stock that is gone tests nothing. One run alone may have sold it.
	if n > 1 && !t.Failed() && (late[history.Held] == 0 || late[history.Short] == 0 || late[history.Canceled] == 0) {
		t.Error("there was nothing to compete for until the end")
	}
	if enough := 20 * uint64(len(faults)); !t.Failed() && n*asked >= enough {
		for _, kind := range []history.Kind{history.Extend, history.Return, history.Restock, history.Adjust} {
			if did[kind] == 0 {
				t.Errorf("among %v there is none of this kind: %s", did, kind)
			}
		}
		for _, f := range faults {
			if struck[f.name] == 0 {
				t.Errorf("of %d faults none was: %s", n*asked, f.name)
			}
		}
	}
}

// simulate sells through a cluster while trouble is made, and judges what clients were
// told. Prepare may change what the cluster is made of.
func simulate(t *testing.T, seed uint64, prepare func(*run), trouble func(*run, *rand.Rand)) *run {
	var r *run
	inVirtualTime(t, func(t *testing.T) {
		r = newRun(t, seed)
		prepare(r)
		r.all(func(d *rand.Rand) { trouble(r, d) })
		r.lasted = time.Since(r.began)
	})
	if !t.Failed() {
		r.judge(t) // out of virtual time: its patience is real
	}
	return r
}

func number(t *testing.T, env string, usual uint64) uint64 {
	text := os.Getenv(env)
	if text == "" {
		return usual
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// run is one cluster with its clients and faults. Faults are made by one goroutine,
// each client is another.
type run struct {
	*cluster
	seed   uint64
	faults int
	scarce bool
	stock  int // of each SKU
	skus   []string
	pace   time.Duration
	end    time.Time
	over   atomic.Bool

	recorder *history.Recorder
	done     atomic.Int64 // calls that were answered
	ids      ids
	final    history.Final
	report   history.Report

	counts map[string]int // of the goroutine that makes faults
	worst  time.Duration  // the longest recovery
	began  time.Time
	lasted time.Duration
	script []string // what happened, to be shown when the run fails
	watch  watch
	states states
}

func newRun(t *testing.T, seed uint64) *run {
	stock, scarce := scarceStock, seed%ampleEvery != 0
	if !scarce {
		stock = ampleStock
	}
	return &run{
		cluster: newCluster(t, seed, shards), seed: seed, scarce: scarce, stock: stock, skus: []string{"a", "b", forLong, forAll},
		pace: 150 * time.Millisecond, began: time.Now(), end: time.Now().Add(limit), counts: map[string]int{},
		recorder: history.NewRecorder(), final: history.Final{Status: map[string]history.Outcome{}, Has: map[string]int{}, Taken: map[string]int{}, OnHand: map[string]int{}},
		states: states{seen: map[stateAt]state{}},
	}
}

// note adds a line to the script.
func (r *run) note(format string, args ...any) {
	r.script = append(r.script, fmt.Sprintf("%9.3f s  ", time.Since(r.began).Seconds())+fmt.Sprintf(format, args...))
}

// all sells while trouble is made, and looks at what is left.
func (r *run) all(trouble func(d *rand.Rand)) {
	defer r.close()
	defer func() {
		if r.t.Failed() {
			now := time.Since(r.began)
			r.t.Logf("what the leaders had:\n%s", r.watch.between(now-4*time.Second, now))
			r.t.Logf("what happened:\n%s", strings.Join(r.script, "\n"))
		}
	}()
	if err := r.openAll(); err != nil {
		r.t.Fatal(err)
	}
	r.create()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(r.newClient(i).sell)
	}
	all.Go(r.newClient(clients).keep)
	all.Go(func() { r.watch.run(r) })
	trouble(rand.New(rand.NewPCG(r.seed, 1)))
	r.over.Store(true)
	all.Wait()
	r.t.Logf("%d sectors lost, longest recovery %v; %v", r.lost.Load(), r.worst, r.counts)
	if !r.t.Failed() {
		r.reboot()
		r.look()
	}
}

// create makes the SKUs.
func (r *run) create() {
	for _, sku := range r.skus {
		body := map[string]any{"on_hand": r.stock, "default_ttl_seconds": 86_400, "max_ttl_seconds": 86_400, "late_confirm": "reject"}
		r.eventually("the SKU is created", startLimit, func() error {
			a, err := r.hosts[0].call(true, http.MethodPut, "/v1/skus/"+sku, "", body)
			if err == nil && a.status != http.StatusCreated && a.status != http.StatusOK {
				err = fmt.Errorf("%d %s", a.status, a.body)
			}
			return err
		})
	}
}

// trouble makes faults, one to three at a time.
func (r *run) trouble(d *rand.Rand) {
	for i := 0; i < r.faults && !r.t.Failed(); {
		var mends []func() error
		for range 1 + d.IntN(3) {
			f := faults[d.IntN(len(faults))]
			if f.name == "a file is damaged" && len(mends) > 0 || f.name == clockIsSet && r.seed%2 == 0 {
				continue // the one needs a cluster that is whole, of the other half of the runs are without
			}
			mend, err := f.begin(r, d)
			if err != nil {
				r.t.Errorf("%s: %v", f.name, err)
				return
			}
			r.counts[f.name]++
			i++
			mends = append(mends, mend)
			if f.name == "a file is damaged" {
				break
			}
			<-time.After(time.Duration(d.Int64N(int64(time.Second))))
		}
		<-time.After(time.Duration(d.Int64N(int64(4 * time.Second))))
		r.note("mended")
		mended, before := time.Now(), r.achieved()
		for _, mend := range mends {
			if err := mend(); err != nil {
				r.t.Error(err)
				return
			}
		}
		r.revive()
		r.progressSince(mended, before)
		<-time.After(time.Duration(d.Int64N(int64(2 * time.Second))))
	}
}

// revive does what a supervisor of processes does: it starts what has ended.
func (r *run) revive() {
	for _, h := range r.hosts {
		if n := h.running(); n != nil {
			if err := r.ended(n); err != nil {
				r.note("%s has ended itself: %v", h.name, err)
				r.counts["nodes that ended themselves"]++
				h.take()
				_ = n.Close(context.Background()) // the reason was told
			}
		}
		h.connect()
	}
	if err := r.openAll(); err != nil {
		r.t.Errorf("open: %v", err)
	}
}

// progress waits until the cluster has achieved something more.
func (r *run) progress() { r.progressSince(time.Now(), r.achieved()) }

// progressSince waits until the cluster goes on after the faults were mended, and keeps the
// longest such time. Clients never stop asking for something.
func (r *run) progressSince(mended time.Time, before []uint64) {
	r.eventually("the cluster goes on", time.Until(mended.Add(recovery)), func() error {
		for i, n := range r.achieved() {
			if n <= before[i] && !r.t.Failed() {
				return fmt.Errorf("%d is %d, as before", i, n)
			}
		}
		return nil
	})
	r.worst = max(r.worst, time.Since(mended))
}

// achieved counts what must grow: how many commands each shard has applied, as far as a
// living node knows. Where all may be sold, and refusals enter no log, it is the answers.
func (r *run) achieved() []uint64 {
	if !r.scarce {
		return []uint64{uint64(r.done.Load())}
	}
	all := make([]uint64, shards)
	for _, h := range r.hosts {
		s, err := h.status()
		if err != nil {
			continue
		}
		for _, shard := range s.Shards {
			all[shard.Shard] = max(all[shard.Shard], shard.Commands)
		}
	}
	return all
}

// whole waits until all replicas vote and every shard has a leader.
func (r *run) whole() {
	r.revive()
	r.eventually("the cluster is whole", startLimit, func() error {
		leaders := 0
		for _, h := range r.hosts {
			s, err := h.status()
			if err != nil {
				return err
			}
			for _, shard := range s.Shards {
				if shard.Rebuilding {
					return fmt.Errorf("shard %d is being rebuilt on %s", shard.Shard, h.name)
				}
				if shard.Ready {
					leaders++
				}
			}
		}
		if leaders < shards {
			return fmt.Errorf("%d leaders are ready", leaders)
		}
		return nil
	})
}

// status is what a node says of itself.
func (h *host) status() (shardrpc.Status, error) {
	n := h.running()
	if n == nil {
		return shardrpc.Status{}, errRefused
	}
	return n.Status(context.Background())
}

// eventually polls until f is nil. In virtual time the pauses cost nothing.
func (r *run) eventually(what string, within time.Duration, f func() error) {
	r.t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for err := f(); err != nil; err = f() {
		if now := time.Now(); now.After(deadline) || now.After(r.end) {
			r.over.Store(true)
			r.t.Fatalf("not within %v: %s: %v", within, what, err)
		}
		<-tick.C
	}
}

// reboot takes the power from all hosts at once.
func (r *run) reboot() {
	for _, h := range r.hosts {
		if err := h.crash(h.disk.Draw()); err != nil {
			r.t.Error(err)
		}
	}
	r.whole()
}

// look reads what the cluster has in the end.
func (r *run) look() {
	<-time.After(2 * middleHold) // all but long holds have ended
	r.final.At = r.recorder.Since(time.Now())
	for _, id := range r.ids.all {
		got := r.status(id)
		r.final.Status[id], r.final.Has[id] = got.Outcome, got.Has
	}
	r.agree()
	for _, sku := range r.skus {
		got := r.audit(sku)
		if !got.Balanced || got.InTransit != 0 {
			r.t.Errorf("%s: the cluster says %+v", sku, got)
		}
		r.final.Taken[sku], r.final.OnHand[sku] = got.Reserved+got.Committed, got.OnHand
	}
	if r.scarce {
		r.nothingWasDone()
	}
}

// nothingWasDone sends what was given up, or refused, once more: it must not be a repetition.
func (r *run) nothingWasDone() {
	for _, q := range r.ids.givenUp {
		r.eventually("key "+q.Key+" is asked for again", recovery, func() error {
			a, err := r.hosts[0].call(false, http.MethodPost, q.path, q.Key, q.body)
			if err != nil || a.status >= http.StatusInternalServerError {
				return fmt.Errorf("%d %s %w", a.status, a.body, err)
			}
			if a.replayed {
				r.t.Errorf("the client of key %s was told that it has nothing, and it has %s; it heard:\n%s", q.Key, a.body, strings.Join(q.told, "\n"))
			}
			return nil
		})
	}
}

// status is what a reservation is.
func (r *run) status(id string) (got history.Answer) {
	r.eventually("reservation "+id+" is read", recovery, func() error {
		a, err := r.hosts[0].call(false, http.MethodGet, "/v1/reservations/"+id, "", nil)
		if err != nil {
			return err
		}
		got = history.ParseAnswer(history.Read, a.status, a.body)
		if got.Outcome == history.Unknown || got.Outcome == history.NotDone {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	return got
}

// judge holds what clients were told against what a correct stock could have told
// them, and against what the cluster has in the end.
func (r *run) judge(t *testing.T) {
	rules := history.Rules{Stock: map[string]int{}, Slack: clockError, Late: lateStart, Stale: staleness, Patience: orderLimit}
	if r.counts[clockIsSet] > 0 { // by days: log time that was ahead stays so until clocks agree again
		rules.Late = limit
	}
	for _, sku := range r.skus {
		rules.Stock[sku] = r.stock
	}
	calls := r.recorder.Calls()
	r.report = history.Check(calls, rules, &r.final)
	t.Log(r.report)
	for _, v := range r.report.Violations {
		t.Errorf("%s", v)
	}
	if len(r.report.Violations) > 0 {
		for _, v := range r.report.Violations[:1] {
			for _, c := range v.Calls {
				t.Logf("what the leaders had:\n%s", r.watch.between(c.Begin-3*time.Second, c.End+10*time.Second))
			}
		}
		t.Logf("what happened:\n%s", strings.Join(r.script, "\n"))
	}
}

// late counts the outcomes of the last third of the calls.
func (r *run) late() map[history.Outcome]int {
	calls, counts := r.recorder.Calls(), map[history.Outcome]int{}
	for _, c := range calls[len(calls)*2/3:] {
		counts[c.Outcome]++
	}
	return counts
}

// sums are what the audit says of a SKU.
type sums struct {
	OnHand    int  `json:"on_hand"`
	Reserved  int  `json:"reserved"`
	Committed int  `json:"committed"`
	InTransit int  `json:"in_transit"`
	Balanced  bool `json:"balanced"`
}

func (r *run) audit(sku string) (s sums) {
	r.eventually("the audit is answered", recovery, func() error {
		a, err := r.hosts[0].call(true, http.MethodGet, "/v1/skus/"+sku+"/audit", "", nil)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		if err != nil {
			return err
		}
		s = sums{}
		return json.Unmarshal(a.body, &s)
	})
	return s
}
