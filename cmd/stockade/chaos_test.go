package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	chaosMinutes = 0.4             // of one run of the tests; make chaos asks for more
	chaosPause   = 2 * time.Second // between two faults, at most

	// chaosProgress bounds the time from the end of a fault to the next success.
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
	c.campaign = newCampaign(t, seed, c.nodes)
	c.run(time.Duration(minutes * float64(time.Minute)))
	c.verify()
}

// chaos is one run. Faults are made by one goroutine.
type chaos struct {
	t        *testing.T
	seed     uint64
	nodes    []*process
	campaign *campaign
}

func (c *chaos) run(lasts time.Duration) {
	c.campaign.start()
	r := rand.New(rand.NewPCG(c.seed, 0))
	faults := map[string]int{}
	var longest time.Duration
	for end := time.Now().Add(lasts); time.Now().Before(end) && !c.t.Failed(); {
		faults[c.fault(r)]++
		longest = max(longest, c.progress())
		<-time.After(time.Duration(r.Int64N(int64(chaosPause))))
	}
	c.campaign.stop()
	c.t.Logf("%d answers that stand; faults: %v; longest from the end of a fault to the next success: %v",
		c.campaign.done.Load(), faults, longest)
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
	began, before := time.Now(), c.campaign.done.Load()
	eventually(c.t, "something succeeds after a fault", chaosProgress, func() error {
		for _, p := range c.nodes {
			select {
			case <-p.exited:
				c.t.Fatalf("%s ended itself", p.id)
			default:
			}
		}
		if c.campaign.done.Load() == before {
			return fmt.Errorf("%d operations as before", before)
		}
		return nil
	})
	return time.Since(began)
}

// verify holds what clients were told against what the cluster has, after a last kill
// of all nodes.
func (c *chaos) verify() {
	for _, p := range c.nodes {
		p.kill(c.t)
	}
	c.restart(c.nodes)
	c.campaign.verify()
}
