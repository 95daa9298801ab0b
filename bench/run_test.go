package bench

import (
	"context"
	"testing"
	"time"
)

// TestEveryWorkload runs each against a cluster that is right: there is something in
// every part of the result, and the proof holds.
func TestEveryWorkload(t *testing.T) {
	for _, w := range Workloads() {
		t.Run(w.Name, func(t *testing.T) {
			f := newFakeCluster(t, "")
			cfg := f.config(w.Name)
			cfg.Arrivals, cfg.Rate = Constant, 400
			r := runOnce(t, &cfg)
			if !r.Proof.Holds() || r.Proof.Sold == 0 || r.Rates.Accepted == 0 || r.Cluster.Nodes != 2 || r.Cluster.Version != "test" {
				t.Errorf("%+v %+v %+v", r.Proof, r.Rates, r.Cluster)
			}
			names := make(map[string]int64)
			for _, op := range r.Operations {
				for _, o := range op.Outcomes {
					names[op.Name+" "+o.Outcome] = o.Count
				}
			}
			if (w.Name == "sellout" || w.Name == "restock") != (names["reserve sold_out"] > 0) {
				t.Errorf("outcomes %v", names)
			}
			if (w.Name == "mix") != (names["confirm accepted"] > 0 && names["cancel accepted"] > 0) {
				t.Errorf("follow-ups %v", names)
			}
			if w.batch == 0 && w.Name != "sellout" && r.Proof.Repeats == 0 {
				t.Error("nothing was repeated")
			}
		})
	}
}

func runOnce(t *testing.T, cfg *Config) *Result {
	t.Helper()
	r, err := Run(t.Context(), *cfg, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestProofNotices has clusters that are wrong, each in a way of its own.
func TestProofNotices(t *testing.T) {
	for _, row := range []struct {
		fault, workload string
		stock           int64
		noticed         func(p *Proof) bool
	}{
		{"oversell", "hot", 20, func(p *Proof) bool { return p.Over > 0 }},
		{"forget", "hot", 0, func(p *Proof) bool { return p.Lost > 0 }},
		{"duplicate", "hot", 0, func(p *Proof) bool { return p.Duplicates > 0 }},
		{"strand", "hot", 20, func(p *Proof) bool { return p.Stranded == 3 }},
		{"unbalanced", "hot", 0, func(p *Proof) bool { return len(p.Unbalanced) == 1 }},
		{"forget", "batch", 0, func(p *Proof) bool { return p.Lost > 0 }},
		{"oversell", "restock", 20, func(p *Proof) bool { return p.Over > 0 }},
	} {
		f := newFakeCluster(t, row.fault)
		cfg := f.config(row.workload)
		cfg.Stock = row.stock
		if r := runOnce(t, &cfg); r.Proof.Holds() || !row.noticed(&r.Proof) {
			t.Errorf("%s: %+v", row.fault, r.Proof)
		}
	}
}

// TestStallIsCharged: requests that were due while the cluster stood still count from
// when they were due, though nobody could send them.
func TestStallIsCharged(t *testing.T) {
	f := newFakeCluster(t, "")
	cfg := f.config("hot")
	cfg.Arrivals, cfg.Rate, cfg.Connections, cfg.Duration = Constant, 200, 1, time.Second
	f.stall = make(chan struct{})
	time.AfterFunc(600*time.Millisecond, func() { close(f.stall) })
	r := runOnce(t, &cfg)
	// The first request waits from 5 ms on, and behind it some 119 became due; half of
	// these waited for more than 300 ms.
	o := r.Operations[0].Outcomes[0]
	slow := 0.0
	for _, p := range o.Curve {
		if p.Ms <= 300 {
			slow = 1 - p.Percentile/100
		}
	}
	if o.Count < 150 || slow < 0.1 || o.Max < 500 || r.Driver.Crowded < 0.3 {
		t.Errorf("%d requests, %.2f of them slow, the slowest took %.0f ms; crowded %.2f", o.Count, slow, o.Max, r.Driver.Crowded)
	}
}

// TestWhoWaitsTooLongGivesUp: what can't be sent in time is not sent, and a run ends soon
// after its time.
func TestWhoWaitsTooLongGivesUp(t *testing.T) {
	f := newFakeCluster(t, "")
	cfg := f.config("hot")
	cfg.Arrivals, cfg.Rate, cfg.Connections, cfg.Duration, cfg.Timeout, cfg.Repeat = Constant, 500, 1, time.Second, 100*time.Millisecond, 0
	f.stall = make(chan struct{})
	time.AfterFunc(400*time.Millisecond, func() { close(f.stall) })
	r := runOnce(t, &cfg)
	counts := make(map[string]int64)
	for _, o := range r.Operations[0].Outcomes {
		counts[o.Outcome] = o.Count
	}
	if counts["gave_up"] < 50 || counts["accepted"] < 50 || !r.Proof.Holds() {
		t.Errorf("%v %+v", counts, r.Proof)
	}
	if asked := counts["gave_up"] + counts["accepted"] + counts["unknown"]; asked != 499 || r.Rates.Answered > 499 {
		t.Errorf("%v of 499 requests, %+v", counts, r.Rates)
	}
}

// TestDeadlinesCountFromWhenRequestsAreDue: what a request has waited for a connection is
// gone, and one that would wait for longer than its patience is not sent.
func TestDeadlinesCountFromWhenRequestsAreDue(t *testing.T) {
	f := newFakeCluster(t, "")
	cfg := f.config("hot")
	cfg.Arrivals, cfg.Rate, cfg.Connections, cfg.Duration, cfg.Repeat = Constant, 500, 1, time.Second, 0
	cfg.Timeout, cfg.Patience = 10*time.Second, 200*time.Millisecond
	f.stall = make(chan struct{})
	time.AfterFunc(400*time.Millisecond, func() { close(f.stall) })
	r := runOnce(t, &cfg)
	var gaveUp int64
	for _, o := range r.Operations[0].Outcomes {
		if o.Outcome == "gave_up" {
			gaveUp = o.Count
		}
	}
	if gaveUp < 50 || r.Settings.Patience != 0.2 {
		t.Errorf("%d gave up; %+v", gaveUp, r.Settings)
	}
	if least := f.leastTime(); least > 9950*time.Millisecond || least < 9*time.Second {
		t.Errorf("the request with the least time had %v: what it waited is not gone, or it waited for too long", least)
	}
}

// TestInterruptedRun reports what there is, with the proof.
func TestInterruptedRun(t *testing.T) {
	f := newFakeCluster(t, "")
	cfg := f.config("hot")
	cfg.Arrivals, cfg.Rate, cfg.Duration = Constant, 100, time.Hour
	ctx, stop := context.WithCancel(t.Context())
	r, err := Run(ctx, cfg, "test", func(l Live) {
		if l.Phase == "run" {
			stop()
		}
	})
	if err != nil || !r.Interrupted || !r.Proof.Holds() || r.Proof.Sold == 0 || r.Seconds > 60 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestNobodyThere covers runs that can't begin.
func TestNobodyThere(t *testing.T) {
	cfg := Default()
	cfg.Ops = "http://127.0.0.1:1"
	if _, err := Run(t.Context(), cfg, "test", nil); err == nil {
		t.Error("a run against nobody")
	}
	f := newFakeCluster(t, "")
	cfg = f.config("hot")
	cfg.Nodes = []string{"127.0.0.1:1"}
	r := runOnce(t, &cfg)
	if r.Rates.Accepted != 0 || r.Operations[0].Outcomes[0].Outcome != "unknown" {
		t.Errorf("%+v", r.Operations)
	}
}

// TestClientRuns goes through the Go client, which makes batches.
func TestClientRuns(t *testing.T) {
	f := newFakeCluster(t, "")
	cfg := f.config("carts")
	cfg.Client, cfg.Connections = true, 32
	if r := runOnce(t, &cfg); !r.Proof.Holds() || r.Proof.Repeats == 0 {
		t.Errorf("%+v", r.Proof)
	}
}

// TestConfig has what Validate refuses.
func TestConfig(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"address":     func(c *Config) { c.Nodes = []string{"http://127.0.0.1:8400"} },
		"no port":     func(c *Config) { c.Nodes = []string{"localhost"} },
		"workload":    func(c *Config) { c.Workload = "none" },
		"arrivals":    func(c *Config) { c.Arrivals = "now and then" },
		"no rate":     func(c *Config) { c.Arrivals = Poisson },
		"rate":        func(c *Config) { c.Rate = 5 },
		"profile":     func(c *Config) { c.Workload = "opening" },
		"connections": func(c *Config) { c.Connections = 0 },
		"duration":    func(c *Config) { c.Duration = 0 },
		"timeout":     func(c *Config) { c.Timeout = time.Hour },
		"repeat":      func(c *Config) { c.Repeat = 2 },
		"no key":      func(c *Config) { c.Keyed = false },
		"batch":       func(c *Config) { c.Batch = MaxBatch + 1 },
		"fates":       func(c *Config) { c.Workload, c.Batch = "mix", 2 },
		"both":        func(c *Config) { c.Batch, c.Client = 2, true },
		"stock":       func(c *Config) { c.Stock = -1 },
		"skus":        func(c *Config) { c.SKUs = maxSKUs + 1 },
	} {
		c := Default()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: %+v was taken", name, c)
		}
	}
	if c := Default(); c.Validate() != nil {
		t.Error(c.Validate())
	}
}
