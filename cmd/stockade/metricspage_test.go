package main

import (
	"context"
	"fmt"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stockade/shard"
)

const (
	metricsBegin = "<!-- metrics: generated, see the test TestMetricsPage -->\n"
	metricsEnd   = "<!-- end of metrics -->\n"
)

// TestMetricsPage holds the page's table of metrics against the registry of a node
// that runs. With -update it writes the table.
func TestMetricsPage(t *testing.T) {
	registry := nodeRegistry(t, 1)
	kinds := liveKinds(t, registry)
	var rows []string
	for _, d := range descriptions(registry) {
		if m := parseDescription(t, d); strings.HasPrefix(m.name, "stockade_") {
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", m.name, m.kind(kinds), strings.Join(m.labels, ", "), m.help))
		}
	}
	slices.Sort(rows)
	checkTable(t, "metrics.md", metricsBegin, metricsEnd, "| name | type | labels | meaning |\n|---|---|---|---|\n"+strings.Join(slices.Compact(rows), ""))
}

// nodeRegistry is the registry of a node that is alone in its cluster. The node
// runs until the test ends.
func nodeRegistry(t *testing.T, shards int) *prometheus.Registry {
	t.Helper()
	v := newSupervisor(bareSettings(t), io.Discard)
	s, err := newService(t.Context(), addresses{HTTP: "127.0.0.1:0", Ops: "127.0.0.1:0", Peer: "127.0.0.1:0"}, v.log, v.failures)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute) // the stop needs it too
	t.Cleanup(func() {
		defer cancel()
		if err := s.drain(ctx); err != nil {
			t.Error(err)
		}
		if err := s.close(ctx); err != nil {
			t.Error(err)
		}
	})
	s.gossip = &gossip{listen: "127.0.0.1:0"}
	cfg := shard.DefaultConfig()
	cfg.NodeID, cfg.DataDir, cfg.Shards = "n1", t.TempDir(), shards
	cfg.Initial = []shard.Peer{{ID: cfg.NodeID, Addr: s.addrs.Peer}}
	if err := s.startNode(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	v.services = []*service{s}
	if err := v.awaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s.registry
}

// descriptions are those of all series that a registry may have, whether they have
// a value already or not.
func descriptions(r *prometheus.Registry) (all []*prometheus.Desc) {
	found := make(chan *prometheus.Desc)
	go func() {
		defer close(found)
		r.Describe(found)
	}()
	for d := range found {
		all = append(all, d)
	}
	return all
}

// metric is a row of the table.
type metric struct {
	name, help string
	labels     []string
}

var (
	description = regexp.MustCompile(`^Desc\{fqName: ("[^"]*"), help: ("(?:[^"\\]|\\.)*"), .*constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	constLabel  = regexp.MustCompile(`(\w+)="`)
)

// parseDescription reads what a description says only as text.
func parseDescription(t *testing.T, d *prometheus.Desc) (m metric) {
	t.Helper()
	found := description.FindStringSubmatch(d.String())
	if found == nil {
		t.Fatalf("can't read %s", d)
	}
	var errName, errHelp error
	m.name, errName = strconv.Unquote(found[1])
	m.help, errHelp = strconv.Unquote(found[2])
	if errName != nil || errHelp != nil || m.help == "" {
		t.Fatalf("can't read %s", d)
	}
	for _, l := range constLabel.FindAllStringSubmatch(found[3], -1) {
		m.labels = append(m.labels, l[1])
	}
	if found[4] != "" {
		m.labels = append(m.labels, strings.Split(found[4], ",")...)
	}
	return m
}

// liveKinds are the types of the series that have a value.
func liveKinds(t *testing.T, r *prometheus.Registry) map[string]string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]string)
	for _, f := range families {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	return kinds
}

// kind is the type of a metric. One that has no value yet shows its type by its
// name.
func (m metric) kind(live map[string]string) string {
	switch kind := live[m.name]; {
	case kind != "":
		return kind
	case strings.HasSuffix(m.name, "_total"):
		return "counter"
	default:
		return "gauge"
	}
}

// TestMetricNames holds names, units and helps against Prometheus's own rules.
func TestMetricNames(t *testing.T) {
	problems, err := testutil.GatherAndLint(nodeRegistry(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// maxSeries is what a node with 16 shards may cost whoever keeps its metrics.
const maxSeries = 1500

// TestSeriesAreBounded counts the series of a node that has all of 16 shards.
func TestSeriesAreBounded(t *testing.T) {
	families, err := nodeRegistry(t, 16).Gather()
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	total := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n := 1
			if h := m.GetHistogram(); h != nil {
				n = len(h.GetBucket()) + 3 // the one for all, sum and count
			}
			count[f.GetName()] += n
			total += n
		}
	}
	if total > maxSeries {
		names := slices.SortedFunc(maps.Keys(count), func(a, b string) int { return count[b] - count[a] })
		for _, name := range names[:15] {
			t.Logf("%5d %s", count[name], name)
		}
		t.Errorf("%d series, at most %d are wanted", total, maxSeries)
	}
}
