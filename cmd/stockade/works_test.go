package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"stockade/router/api"
)

// lookTimeout bounds a look at the cluster, which takes a second when a node is away.
const lookTimeout = 3 * time.Second

// works tells whether each shard of a cluster does something, by how many commands its
// leader has applied. Every shard always has something to do: a third of the orders of a
// campaign are for a SKU that never runs short, and their keys are spread over all shards.
// The zero value is ready for use, by one goroutine.
type works struct {
	most   map[int]uint64 // commands that were seen of each shard, ever
	before map[int]uint64 // when its leader was first seen since begin
}

// begin forgets what was done before now.
func (w *works) begin() { w.before = map[int]uint64{} }

// look asks the nodes, one after the other, until one knows how many commands the leader
// of each shard has applied. A shard whose leader does not answer is left out: a replica
// that is behind would seem to do something while it catches up.
func (w *works) look(nodes []*process) (applied map[int]uint64, err error) {
	if w.most == nil {
		w.most, w.before = map[int]uint64{}, map[int]uint64{}
	}
	client := &http.Client{Timeout: lookTimeout, Transport: caller.Transport}
	for _, p := range nodes {
		a, failed := callBy(client, http.MethodGet, p.Ops, "/v1/cluster", "", nil)
		if failed == nil && a.status != http.StatusOK {
			failed = fmt.Errorf("%s: %d %s", p.id, a.status, a.body)
		}
		var view api.Cluster
		if failed == nil {
			failed = json.Unmarshal(a.body, &view)
		}
		if failed == nil {
			return w.note(&view), nil
		}
		err = errors.Join(err, failed)
	}
	return nil, err
}

// note takes what a node knows of the leaders.
func (w *works) note(view *api.Cluster) (applied map[int]uint64) {
	applied = map[int]uint64{}
	for _, s := range view.Shards {
		w.most[s.Shard] = max(w.most[s.Shard], 0) // so that it is known to be
		for _, r := range s.Replicas {
			if s.Leader != nil && r.Node == *s.Leader {
				applied[s.Shard] = r.Applied
				w.most[s.Shard] = max(w.most[s.Shard], r.Applied)
			}
		}
	}
	return applied
}

// goOn is nil when each shard has applied something since begin that it had not before. A
// leader that has just started takes up what the shard had; so what was ever seen counts.
func (w *works) goOn(nodes []*process) error {
	known := map[int]uint64{}
	for shard, n := range w.most {
		known[shard] = n
	}
	applied, err := w.look(nodes)
	if err != nil || len(w.most) == 0 {
		return errors.Join(err, fmt.Errorf("%d shards are known", len(w.most)))
	}
	for shard := range w.most {
		n, led := applied[shard]
		before, seen := w.before[shard]
		switch {
		case !led:
			err = errors.Join(err, fmt.Errorf("shard %d has no leader that answers", shard))
		case !seen:
			w.before[shard] = max(n, known[shard])
			err = errors.Join(err, fmt.Errorf("shard %d is there", shard))
		case n <= before:
			err = errors.Join(err, fmt.Errorf("shard %d has applied %d commands, as before", shard, n))
		}
	}
	return err
}

// TestWorks has nodes tell what shards have applied, and looks whether a shard that does
// nothing is noticed among others that do.
func TestWorks(t *testing.T) {
	leader, view := "n1", api.Cluster{Shards: []api.Shard{{Shard: 0}, {Shard: 1}}}
	replicas := func(shard int, of ...uint64) {
		view.Shards[shard].Leader, view.Shards[shard].Replicas = &leader, nil
		for i, applied := range of {
			view.Shards[shard].Replicas = append(view.Shards[shard].Replicas, api.Replica{Node: fmt.Sprintf("n%d", i+1), Applied: applied})
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(view); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	nodes := []*process{{id: "away", Ops: "127.0.0.1:1"}, {id: "n1", Ops: s.Listener.Addr().String()}}
	var w works
	want := func(what string, works bool) {
		t.Helper()
		if err := w.goOn(nodes); (err == nil) != works {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.begin()
	if err := w.goOn(nodes[:1]); err == nil {
		t.Error("it works, and nobody answers")
	}
	replicas(0, 10, 9)
	want("the first look, with a shard without a leader", false)
	replicas(1, 20, 20)
	want("the first look at shard 1", false)
	want("nothing has changed", false)
	replicas(0, 11, 9)
	want("shard 0 alone goes on", false)
	replicas(1, 20, 25)
	want("a replica of shard 1 that does not lead goes on", false)
	replicas(1, 21, 20)
	want("both go on", true)
	w.begin()
	replicas(0, 5) // a leader that has just started
	want("the first look since", false)
	replicas(0, 11)
	replicas(1, 22)
	want("shard 0 has what it had", false)
	replicas(0, 12)
	want("both have more", true)
	view.Shards, w = nil, works{}
	want("there are no shards", false)
}
