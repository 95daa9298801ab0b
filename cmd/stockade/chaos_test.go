package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	chaosClients = 8
	chaosMinutes = 0.4 // of one run of the tests; make chaos asks for more
	chaosPace    = 80 * time.Millisecond
	chaosPause   = 2 * time.Second // between two faults, at most

	// The names do not begin with STOCKADE_: a node takes those for its settings.
	chaosMinutesEnv = "CHAOS_MINUTES"
	// chaosSeedEnv repeats the draws of a run. What real processes make of them is
	// not part of it, so a failure may need some attempts.
	chaosSeedEnv = "CHAOS_SEED"

	// chaosRecent is younger than the retention: such reservations are still known.
	chaosRecent = 10 * time.Minute
)

// chaosStock is one SKU that runs short and one that never does.
var chaosStock = map[string]int{"scarce": 300, "plenty": 10_000_000}

// TestChaos sells through three real processes while they are killed, one, two or
// all at once, stopped in the middle of what they do, and restarted, at random.
// Clients repeat every request until its outcome is known. Then what they were told
// and what the cluster has must be the same, and nothing may be over or missing.
func TestChaos(t *testing.T) {
	seed, minutes := rand.Uint64(), chaosMinutes
	var err error
	if fixed := os.Getenv(chaosSeedEnv); fixed != "" {
		if seed, err = strconv.ParseUint(fixed, 10, 64); err != nil {
			t.Fatalf("%s: %v", chaosSeedEnv, err)
		}
	}
	if asked := os.Getenv(chaosMinutesEnv); asked != "" {
		if minutes, err = strconv.ParseFloat(asked, 64); err != nil {
			t.Fatalf("%s: %v", chaosMinutesEnv, err)
		}
	}
	t.Logf("again: %s=%d %s=%v go test -count=1 -run '^TestChaos$' ./cmd/stockade", chaosSeedEnv, seed, chaosMinutesEnv, minutes)
	c := &chaos{t: t, seed: seed, nodes: startNodes(t, 3, "--shards", "3")}
	for sku, units := range chaosStock {
		must(t, http.StatusCreated, http.MethodPut, c.nodes[0].Ops, "/v1/skus/"+sku, "",
			map[string]any{"on_hand": units, "default_ttl_seconds": 86_400, "max_ttl_seconds": 86_400})
	}
	c.run(time.Duration(minutes * float64(time.Minute)))
	c.verify()
}

// chaos is one run. Faults are made by one goroutine, each client is another.
type chaos struct {
	t     *testing.T
	seed  uint64
	nodes []*process
	done  atomic.Int64 // acknowledged operations
	over  atomic.Bool

	mu     sync.Mutex
	ledger []told
}

// told is what a client was told last about a reservation.
type told struct {
	reservation
	at time.Time
}

func (c *chaos) run(lasts time.Duration) {
	var clients sync.WaitGroup
	for i := range chaosClients {
		clients.Go(func() { c.sell(i, rand.New(rand.NewPCG(c.seed, uint64(i)+1))) })
	}
	r := rand.New(rand.NewPCG(c.seed, 0))
	faults := map[string]int{}
	var longest time.Duration
	for end := time.Now().Add(lasts); time.Now().Before(end) && !c.t.Failed(); {
		faults[c.fault(r)]++
		longest = max(longest, c.progress())
		<-time.After(time.Duration(r.Int64N(int64(chaosPause))))
	}
	c.over.Store(true)
	clients.Wait()
	c.t.Logf("%d operations acknowledged, %d reservations; faults: %v; longest from the end of a fault to the next success: %v",
		c.done.Load(), len(c.ledger), faults, longest)
}

// fault draws a fault, lets it last, and mends it.
func (c *chaos) fault(r *rand.Rand) string {
	hit := make([]*process, 0, len(c.nodes))
	for _, i := range r.Perm(len(c.nodes))[:1+r.IntN(len(c.nodes))] {
		hit = append(hit, c.nodes[i])
	}
	switch r.IntN(4) {
	case 0:
		c.signal(hit, syscall.SIGSTOP)
		<-time.After(time.Duration(r.Int64N(int64(4 * time.Second))))
		c.signal(hit, syscall.SIGCONT)
		return "stopped " + strconv.Itoa(len(hit))
	case 1:
		if code := hit[0].stop(c.t); code != 0 {
			c.t.Errorf("%s ended with %d", hit[0].id, code)
		}
		c.restart(hit[:1])
		return "terminated"
	default:
		for _, p := range hit {
			p.kill(c.t)
		}
		<-time.After(time.Duration(r.Int64N(int64(2 * time.Second))))
		c.restart(hit)
		return "killed " + strconv.Itoa(len(hit))
	}
}

func (c *chaos) signal(hit []*process, s syscall.Signal) {
	for _, p := range hit {
		if err := p.cmd.Process.Signal(s); err != nil {
			c.t.Errorf("%s: %v", p.id, err)
		}
	}
}

func (c *chaos) restart(nodes []*process) {
	for _, p := range nodes {
		p.start(c.t)
	}
	for _, p := range nodes {
		p.ready(c.t)
	}
}

// progress waits until something succeeds again. A node that ended itself fails
// the test.
func (c *chaos) progress() time.Duration {
	began, before := time.Now(), c.done.Load()
	eventually(c.t, "something succeeds after a fault", startTimeout, func() error {
		for _, p := range c.nodes {
			select {
			case <-p.exited:
				c.t.Fatalf("%s ended itself", p.id)
			default:
			}
		}
		if c.done.Load() == before {
			return fmt.Errorf("%d operations as before", before)
		}
		return nil
	})
	return time.Since(began)
}

// sell reserves until the run is over, and confirms or cancels most of it.
func (c *chaos) sell(client int, r *rand.Rand) {
	for n := 0; !c.over.Load() && !c.t.Failed(); n++ {
		<-time.After(time.Duration(r.Int64N(int64(chaosPace))))
		sku := "plenty"
		if r.IntN(2) == 0 {
			sku = "scarce"
		}
		body := map[string]any{"sku": sku, "quantity": 1 + r.IntN(3)}
		a, err := persist(c.nodes, r.IntN(len(c.nodes)), "/v1/reservations", fmt.Sprintf("chaos-%d-%d", client, n), body, 2*startTimeout)
		if err != nil || a.status != http.StatusCreated && a.status != http.StatusConflict {
			c.t.Errorf("client %d, reservation %d: %v %d %s", client, n, err, a.status, a.body)
			return
		}
		c.done.Add(1)
		if a.status == http.StatusCreated {
			var got reservation
			a.into(c.t, &got)
			c.finish(client, r, got, sku == "scarce")
		}
	}
}

// finish ends most reservations, and notes what the client was told. Scarce ones
// mostly come back, so that there is something to compete for.
func (c *chaos) finish(client int, r *rand.Rand, got reservation, scarce bool) {
	action := [...]string{"confirm", "cancel", ""}[r.IntN(3)]
	if scarce && r.IntN(10) > 0 {
		action = "cancel"
	}
	if action != "" {
		a, err := persist(c.nodes, r.IntN(len(c.nodes)), "/v1/reservations/"+got.ID+"/"+action, "", nil, 2*startTimeout)
		if err != nil || a.status != http.StatusOK {
			c.t.Errorf("client %d, %s of %s: %v %d %s", client, action, got.ID, err, a.status, a.body)
			return
		}
		a.into(c.t, &got)
		c.done.Add(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ledger = append(c.ledger, told{got, time.Now()})
}

// verify holds what clients were told against what the cluster has, before and
// after a last kill of all nodes.
func (c *chaos) verify() {
	c.compare()
	for _, p := range c.nodes {
		p.kill(c.t)
	}
	c.restart(c.nodes)
	c.compare()
}

func (c *chaos) compare() {
	want := map[string]sums{}
	seen := map[string]bool{}
	var recent []reservation
	for _, r := range c.ledger {
		if seen[r.ID] {
			c.t.Errorf("two keys have reservation %s", r.ID)
		}
		seen[r.ID] = true
		if time.Since(r.at) < chaosRecent {
			recent = append(recent, r.reservation)
		}
		for _, l := range r.Lines {
			s := want[l.SKU]
			switch r.Status {
			case "reserved":
				s.Reserved += l.Quantity
			case "confirmed":
				s.Committed += l.Quantity
			}
			want[l.SKU] = s
		}
	}
	for sku, units := range chaosStock {
		got := audit(c.t, c.nodes[0], sku)
		if got.OnHand != units || got.Reserved != want[sku].Reserved || got.Committed != want[sku].Committed {
			c.t.Errorf("%s: clients were told %+v of %d, the cluster has %+v", sku, want[sku], units, got)
		}
	}
	wantPromised(c.t, recent, func(i int, path string) (answer, error) {
		return call(http.MethodGet, c.nodes[i%len(c.nodes)].HTTP, path, "", nil)
	})
}
