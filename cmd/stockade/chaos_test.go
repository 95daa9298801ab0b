package main_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	chaosMinutes = 0.4             // of one run of the tests; make chaos asks for more
	chaosPause   = 2 * time.Second // between two faults, at most

	// chaosProgress bounds the time from the end of a fault to the next success, and until
	// every shard works again.
	chaosProgress = 10 * time.Second

	// The names do not begin with STOCKADE_: a node takes those for its settings.
	chaosMinutesEnv = "CHAOS_MINUTES"
	// chaosSeedEnv repeats the draws of a run. What real processes make of them is
	// not part of it, so a failure may need some attempts.
	chaosSeedEnv = "CHAOS_SEED"
)

// TestChaos sells through three real processes while they are killed, one, two or
// all at once, stopped in the middle of what they do, and restarted, at random.
// Clients repeat every request until its outcome is known. Then what they were told
// and what the cluster has must be the same, and nothing may be over or missing.
func TestChaos(t *testing.T) {
	seed, lasts := chaosRun(t)
	c := newChaos(t, seed, startNodes(t, 3, "--shards", "3"))
	c.run(lasts, c.killOrStop)
	c.verify()
}

// chaosRun gives the seed of a run, and how long it is to last.
func chaosRun(t *testing.T) (seed uint64, lasts time.Duration) {
	t.Helper()
	seed, minutes := rand.Uint64(), numberFrom(t, chaosMinutesEnv, chaosMinutes)
	var err error
	if fixed := os.Getenv(chaosSeedEnv); fixed != "" {
		if seed, err = strconv.ParseUint(fixed, 10, 64); err != nil {
			t.Fatalf("%s: %v", chaosSeedEnv, err)
		}
	}
	t.Logf("again: %s=%d %s=%v go test -count=1 -run '^%s$' ./cmd/stockade", chaosSeedEnv, seed, chaosMinutesEnv, minutes, t.Name())
	return seed, time.Duration(minutes * float64(time.Minute))
}

// chaos is one run. Faults are made by one goroutine.
type chaos struct {
	t        *testing.T
	seed     uint64
	nodes    []*process
	campaign *campaign
	healed   []time.Time // when each fault had gone
	shards   works
}

func newChaos(t *testing.T, seed uint64, nodes []*process) *chaos {
	t.Helper()
	return &chaos{t: t, seed: seed, nodes: nodes, campaign: newCampaign(t, seed, nodes)}
}

// run lets strike make one fault after the other; each has been mended when strike
// returns, and has the name that it returns.
func (c *chaos) run(lasts time.Duration, strike func(r *rand.Rand) string) {
	c.campaign.start()
	r := rand.New(rand.NewPCG(c.seed, 0))
	faults := map[string]int{}
	var longest time.Duration
	for end := time.Now().Add(lasts); time.Now().Before(end) && !c.t.Failed(); {
		_, _ = c.shards.look(c.nodes) // what they have now is nothing that they do later
		faults[strike(r)]++
		longest = max(longest, c.progress())
		<-time.After(time.Duration(r.Int64N(int64(chaosPause))))
	}
	c.campaign.stop()
	c.t.Logf("%d answers that stand; faults: %v; longest from the end of a fault until every shard worked: %v",
		c.campaign.done.Load(), faults, longest)
}

// killOrStop draws a fault, lets it last, and mends it.
func (c *chaos) killOrStop(r *rand.Rand) string {
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

// progress waits until something succeeds again, and every shard works.
func (c *chaos) progress() time.Duration {
	began := time.Now()
	c.healed = append(c.healed, began)
	c.goOn(1)
	return time.Since(began)
}

// goOn waits until so many operations more have succeeded, and every shard has applied
// commands. A node that has ended fails the test, unless it is one that is away.
func (c *chaos) goOn(more int64, away ...*process) {
	c.t.Helper()
	want := c.campaign.done.Load() + more
	c.shards.begin()
	eventually(c.t, "operations succeed in every shard", chaosProgress, func() error {
		var there []*process
		for _, p := range c.nodes {
			select {
			case <-p.exited:
				if !slices.Contains(away, p) {
					c.t.Fatalf("%s ended itself:\n%s", p.id, p.logTail())
				}
			default:
				there = append(there, p)
			}
		}
		err := c.shards.goOn(there)
		if lack := want - c.campaign.done.Load(); lack > 0 {
			return errors.Join(fmt.Errorf("%d operations too few", lack), err)
		}
		return err
	})
}

// verify holds what clients were told against what the cluster has, after a last kill
// of all nodes.
func (c *chaos) verify() {
	for _, p := range c.nodes {
		p.kill(c.t)
	}
	c.restart(c.nodes)
	c.campaign.verify(c.healed)
}
