package raftfsm

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestMetricsAreWellFormed(t *testing.T) {
	registry := prometheus.NewRegistry()
	NewMetrics(registry, 0)
	m := NewMetrics(registry, 7) // several shards share a registry
	m.violations.Inc()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	want := map[string]bool{
		"stockade_raft_batch_commands": true, "stockade_raft_batch_bytes": true,
		"stockade_raft_commit_seconds": true, "stockade_raft_apply_seconds": true,
		"stockade_raft_proposals_total": true, "stockade_raft_queue_commands": true,
		"stockade_raft_queue_bytes": true, "stockade_raft_inflight_entries": true,
		"stockade_raft_snapshot_freeze_seconds": true, "stockade_raft_snapshot_seconds": true,
		"stockade_raft_snapshot_bytes": true, "stockade_invariant_violations_total": true,
	}
	for _, f := range families {
		if !want[f.GetName()] {
			t.Errorf("unexpected metric %s", f.GetName())
		}
		delete(want, f.GetName())
		for _, series := range f.GetMetric() {
			if l := series.GetLabel(); len(l) == 0 || l[len(l)-1].GetName() != "shard" {
				t.Errorf("%s has labels %v", f.GetName(), l)
			}
		}
	}
	for name := range want {
		t.Errorf("metric %s is missing", name)
	}
}

// Every pair that can be counted has a counter: a missing one would panic in
// production and nowhere else.
func TestMetricsCountEveryVerdict(t *testing.T) {
	m := NewMetrics(nil, 0)
	for _, enqueued := range []bool{false, true} {
		for _, a := range append(answers, answer{err: errors.New("unheard of")}) {
			if a.err == nil && !enqueued {
				continue
			}
			if v := classify(a.err, enqueued); m.proposals[v.outcome][v.cause] == nil {
				t.Errorf("no counter for %v %v", v.outcome, v.cause)
			}
		}
	}
}

func TestMetricsCountProposals(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		before := r.counted()["applied none"]
		r.submitAll(0, 5)
		r.commitAll()
		r.submit([]byte{0xff}, 0)
		got := r.counted()
		if got["applied none"]-before != 5 || got["not_applied invalid"] != 1 {
			t.Errorf("counted %v", got)
		}
	})
}

// counted is the proposals by outcome and cause.
func (r *rig) counted() map[string]float64 {
	synctest.Wait()
	families, err := r.machine.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "stockade_raft_proposals_total" {
			continue
		}
		for _, series := range f.GetMetric() {
			l := series.GetLabel() // sorted: cause, outcome, shard
			got[l[1].GetValue()+" "+l[0].GetValue()] = series.GetCounter().GetValue()
		}
	}
	return got
}
