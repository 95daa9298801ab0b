package main_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stockade/bench/history"
)

const (
	campaignClients = 8
	campaignPace    = 80 * time.Millisecond

	// campaignRecent is younger than the retention: such reservations are still known.
	campaignRecent = 10 * time.Minute
	briefHold      = 2 * time.Second

	// campaignSlack is by how much log time may be ahead of this machine's clock, and
	// campaignStale how old what a refusal is founded on may be.
	campaignSlack = 200 * time.Millisecond
	campaignLate  = time.Minute // by how much it may be behind: as long as all nodes were down, now and then
	campaignStale = 50 * time.Millisecond
	campaignOrder = 20 * time.Second // for the search of one order of all calls of a SKU

	// historyDir is where the history of a campaign that went wrong is left.
	historyDir     = "../../bin"
	historyFileEnv = "HISTORY_FILE" // one to check again
	historyKeyEnv  = "HISTORY_KEY"  // and a key of it to draw
)

// A sale of a campaign are two SKUs of its own, one whose holds are long and one whose
// holds are short: there is plenty when it begins, they run short, and are sold out, or
// nearly, when the next sale begins. One more SKU never runs short.
const (
	campaignSale = 30 * time.Second
	saleStock    = 20
	plenty       = "plenty"
	plentyStock  = 10_000_000
)

// campaignStock is how many units of a SKU there are.
func campaignStock(sku string) int {
	if sku == plenty {
		return plentyStock
	}
	return saleStock
}

// campaign are clients that buy, each attempt of a request at another node, some
// requests at two nodes at once, and repeat what nobody knows the outcome of. What
// they were told is recorded and held against one correct stock in the end.
type campaign struct {
	t        *testing.T
	seed     uint64
	nodes    []*process
	recorder *history.Recorder
	done     atomic.Int64 // answers that stand
	over     atomic.Bool
	ended    chan struct{} // closed when it is over
	once     sync.Once
	clients  sync.WaitGroup
	sale     atomic.Int64 // the present one

	mu     sync.Mutex
	recent map[string]time.Time // reservations, and when somebody had an answer about them
}

// newCampaign makes the SKUs. The clients are gone before the nodes are, also when the
// test fails.
func newCampaign(t *testing.T, seed uint64, nodes []*process) *campaign {
	t.Helper()
	c := &campaign{t: t, seed: seed, nodes: nodes, recorder: history.NewRecorder(), recent: map[string]time.Time{}, ended: make(chan struct{})}
	t.Cleanup(c.stop)
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/"+plenty, "", map[string]any{"on_hand": plentyStock, "default_ttl_seconds": 86_400})
	c.open(0)
	return c
}

// skusOf are those of a sale.
func skusOf(sale int64) (long, brief string) {
	return fmt.Sprintf("long-%d", sale), fmt.Sprintf("brief-%d", sale)
}

// open begins a sale.
func (c *campaign) open(sale int64) {
	long, brief := skusOf(sale)
	for sku, hold := range map[string]int{long: 86_400, brief: int(briefHold.Seconds())} {
		body := map[string]any{"on_hand": saleStock, "default_ttl_seconds": hold, "max_ttl_seconds": 86_400}
		a, err := insist(c.nodes, int(sale), 2*startTimeout, func(p *process) (answer, error) {
			return call(http.MethodPut, p.Ops, "/v1/skus/"+sku, "", body)
		})
		// It exists when an attempt was done of which nobody knew.
		if err != nil || a.status >= http.StatusBadRequest && !strings.Contains(string(a.body), "sku-exists") {
			c.t.Errorf("make %s: %d %s %v", sku, a.status, a.body, err)
		}
	}
	c.sale.Store(sale)
}

// openAll begins one sale after the other.
func (c *campaign) openAll() {
	next := time.NewTicker(campaignSale)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			c.open(c.sale.Load() + 1)
		case <-c.ended:
			return
		}
	}
}

// start sends the clients out.
func (c *campaign) start() {
	c.clients.Go(c.openAll)
	c.clients.Go(c.restock)
	for i := range campaignClients {
		c.clients.Go(func() {
			b := &buyer{c: c, number: i, rand: rand.New(rand.NewPCG(c.seed, uint64(i)+1))}
			for n := 0; !c.over.Load() && !c.t.Failed(); n++ {
				<-time.After(time.Duration(b.rand.Int64N(int64(campaignPace))))
				b.buy(fmt.Sprintf("campaign-%d-%d", i, n))
			}
		})
	}
}

// stop calls the clients back.
func (c *campaign) stop() {
	c.over.Store(true)
	c.once.Do(func() { close(c.ended) })
	c.clients.Wait()
}

// buyer is one client.
type buyer struct {
	c      *campaign
	number int
	rand   *rand.Rand
}

// buy reserves, and confirms or cancels most of what it got, some of it extended before or
// returned after. Units of a sale mostly come back, so that there is something to compete
// for until its end.
func (b *buyer) buy(key string) {
	long, brief := skusOf(b.c.sale.Load())
	sku := []string{long, plenty, brief}[b.rand.IntN(3)]
	call := history.Call{Client: b.number, Kind: history.Reserve, Key: key, SKU: sku, Units: 1 + b.rand.IntN(3)}
	body := map[string]any{"sku": sku, "quantity": call.Units}
	got := b.reserve(call, body)
	if got.Outcome != history.Held {
		return
	}
	action := [...]history.Kind{history.Confirm, history.Cancel, ""}[b.rand.IntN(3)]
	if sku != plenty && action == history.Confirm && b.rand.IntN(20) > 2 || sku == long && action == "" {
		action = history.Cancel
	}
	call.ID = got.ID
	wait := time.Duration(0)
	if sku == brief {
		wait = briefHold
	}
	if b.rand.IntN(8) == 0 {
		wait *= 2 // to see it after the time that it had
		b.extend(call, wait)
	}
	<-time.After(time.Duration(b.rand.Int64N(int64(wait) + 1)))
	if action == "" {
		return
	}
	done := b.act(call, action, nil, false)
	if action == history.Confirm && done.Outcome == history.Sold && b.rand.IntN(3) == 0 {
		b.takeBack(call)
	}
}

// reserve sends a request for units, now and then to two nodes at once.
func (b *buyer) reserve(call history.Call, body any) history.Answer {
	first, twice := b.rand.IntN(len(b.c.nodes)), b.rand.IntN(10) == 0
	var again sync.WaitGroup
	if twice {
		again.Go(func() { b.c.insist(first+1, call, "/v1/reservations", body) })
	}
	got := b.c.insist(first, call, "/v1/reservations", body)
	again.Wait()
	return got
}

// insist sends a request to one node after the other until an answer stands. Each
// attempt is a call of the history.
func (c *campaign) insist(first int, call history.Call, path string, body any) (got history.Answer) {
	_, err := insist(c.nodes, first, 2*startTimeout, func(p *process) (answer, error) {
		call.Server = p.id
		attempt := c.recorder.Begin(call)
		addr, key := p.HTTP, call.Op
		switch call.Kind {
		case history.Reserve:
			key = call.Key
		case history.Restock, history.Adjust:
			addr, key = p.Ops, call.Key
		}
		a, err := c.send(addr, path, key, body)
		got = history.ParseAnswer(call.Kind, a.status, a.body)
		attempt.End(got)
		return a, err
	})
	switch {
	case got.Code == belowReserved && err == nil: // nothing is wrong with that
	case err != nil || got.Outcome == history.Refused || got.Outcome == history.Unknown || got.Outcome == history.Odd:
		c.t.Errorf("client %d, %s of %s: %s %s %v", call.Client, call.Kind, call.Key, got.Outcome, got.Code, err)
	case got.ID != "":
		c.mu.Lock()
		c.recent[got.ID] = time.Now()
		c.mu.Unlock()
	}
	c.done.Add(1)
	return got
}

// send sends one request. Without an answer the status is 0, but 503 when nothing was
// sent because nobody listens.
func (c *campaign) send(addr, path, key string, body any) (answer, error) {
	a, err := call(http.MethodPost, addr, path, key, body)
	if err == nil {
		return a, nil
	}
	<-time.After(campaignPace / 4)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return answer{status: http.StatusServiceUnavailable}, err
	}
	return answer{}, err
}

// campaignRules are what a history of a campaign is held against.
func campaignRules(calls []history.Call) history.Rules {
	r := history.Rules{
		Stock: map[string]int{plenty: plentyStock}, Slack: campaignSlack, Late: campaignLate, Stale: campaignStale,
		Retake: true, Patience: campaignOrder,
	}
	for _, c := range calls {
		r.Stock[c.SKU] = campaignStock(c.SKU)
	}
	return r
}

// verify holds what clients were told against what the cluster has. Healed are the
// moments when faults had gone.
func (c *campaign) verify(healed []time.Time) {
	final := c.look()
	calls := c.recorder.Calls()
	report := history.Check(calls, campaignRules(calls), &final)
	showReport(c.t, report)
	since := make([]time.Duration, len(healed))
	for i, at := range healed {
		since[i] = c.recorder.Since(at)
	}
	for _, at := range history.Progress(calls, since, chaosProgress) {
		c.t.Errorf("nothing succeeded within %v after %v, when a fault had gone", chaosProgress, at)
	}
	c.contested(calls)
	c.busy(report)
	if c.t.Failed() {
		c.keep(calls, report)
	}
}

// contested tells whether there was something to compete for until the end: sales that
// sold nothing, or all to everybody, test little.
func (c *campaign) contested(calls []history.Call) {
	late := map[history.Outcome]int{}
	for _, call := range calls[len(calls)*2/3:] {
		if call.SKU != plenty {
			late[call.Outcome]++
		}
	}
	c.t.Logf("in the last third, without the SKU of which there is plenty: %v", late)
	if late[history.Held] == 0 || late[history.Short] == 0 || late[history.Canceled] == 0 {
		c.t.Error("there was nothing to compete for until the end")
	}
}

// showReport fails the test if there are violations.
func showReport(t *testing.T, report history.Report) {
	t.Helper()
	t.Log(report)
	for _, v := range report.Violations[:min(len(report.Violations), 20)] {
		t.Errorf("%s", v)
	}
}

// look reads what the cluster has.
func (c *campaign) look() history.Final {
	final := history.Final{Status: map[string]history.Outcome{}, Has: map[string]int{}, Taken: map[string]int{}, OnHand: map[string]int{}}
	<-time.After(3 * briefHold) // short holds have ended, extended ones too
	final.At = c.recorder.Since(time.Now())
	for id, at := range c.recent {
		if time.Since(at) > campaignRecent {
			continue
		}
		a, err := insist(c.nodes, 0, startTimeout, func(p *process) (answer, error) {
			return call(http.MethodGet, p.HTTP, "/v1/reservations/"+id, "", nil)
		})
		if err != nil {
			c.t.Errorf("read %s: %v", id, err)
		}
		got := history.ParseAnswer(history.Read, a.status, a.body)
		final.Status[id], final.Has[id] = got.Outcome, got.Has
	}
	agree(c.t, c.nodes)
	skus := []string{plenty}
	for sale := range c.sale.Load() + 1 {
		long, brief := skusOf(sale)
		skus = append(skus, long, brief)
	}
	for _, sku := range skus {
		got := audit(c.t, c.nodes[0], sku)
		final.Taken[sku], final.OnHand[sku] = got.Reserved+got.Committed, got.OnHand
	}
	return final
}

// keep leaves the history for whoever looks into it, and a drawing of the key that the
// first violation is about.
func (c *campaign) keep(calls []history.Call, report history.Report) {
	name := filepath.Join(historyDir, fmt.Sprintf("history-%d.jsonl", c.seed))
	err := writeTo(name, func(w io.Writer) error { return history.Write(w, calls) })
	c.t.Logf("the history is in %s (%v); again: %s=%s go test -count=1 -run '^TestKeptHistory$' -v ./cmd/stockade", name, err, historyFileEnv, name)
	for _, v := range report.Violations {
		if len(v.Calls) > 0 {
			c.t.Log(drawKey(calls, v.Calls[0].Key))
			return
		}
	}
}

// drawKey draws the calls of one key, and says where.
func drawKey(calls []history.Call, key string) string {
	var of []history.Call
	for _, call := range calls {
		if call.Key == key {
			of = append(of, call)
		}
	}
	name := filepath.Join(historyDir, "history-"+key+".html")
	err := writeTo(name, func(w io.Writer) error { return history.Draw(w, of, campaignRules(calls)) })
	return fmt.Sprintf("key %s is drawn in %s (%v)", key, name, err)
}

func writeTo(name string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// TestKeptHistory checks a history once more that a campaign has kept, without what the
// cluster had in the end: after a change of the checker, or to draw it.
func TestKeptHistory(t *testing.T) {
	name := os.Getenv(historyFileEnv)
	if name == "" {
		name = "testdata/history.jsonl" // of a short run without faults
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls, err := history.Parse(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	report := history.Check(calls, campaignRules(calls), nil)
	showReport(t, report)
	if report.Calls == 0 || report.Keys == 0 {
		t.Errorf("%s has no calls", name)
	}
	if key := os.Getenv(historyKeyEnv); key != "" {
		t.Log(drawKey(calls, key))
	}
}
