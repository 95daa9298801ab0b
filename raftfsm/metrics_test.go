package raftfsm

import (
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
		"stockade_raft_batch_commands": true, "stockade_raft_proposed_bytes_total": true,
		"stockade_raft_commit_seconds": true, "stockade_raft_apply_seconds": true,
		"stockade_raft_proposals_total": true, "stockade_raft_queue_commands": true,
		"stockade_raft_inflight_entries":        true,
		"stockade_raft_snapshot_freeze_seconds": true, "stockade_raft_snapshot_seconds": true,
		"stockade_invariant_violations_total": true,
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

func TestMetricsCountProposals(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		before := r.counted()["applied"]
		r.submitAll(0, 5)
		r.commitAll()
		r.submit([]byte{0xff}, 0)
		got := r.counted()
		if got["applied"]-before != 5 || got["not_applied"] != 1 {
			t.Errorf("counted %v", got)
		}
	})
}

// counted is the proposals by outcome.
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
			got[series.GetLabel()[0].GetValue()] = series.GetCounter().GetValue()
		}
	}
	return got
}
