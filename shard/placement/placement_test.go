package placement

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestInitialIsRoundRobin(t *testing.T) {
	got, err := Initial([]string{"c", "a", "b", "d"}, 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"a", "b", "c"}, {"b", "c", "d"}, {"c", "d", "a"}, {"d", "a", "b"}, {"a", "b", "c"}}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// Every table is balanced: no host twice in a shard, and the load of two nodes
// differs as little as the doc comment says.
func TestInitialIsBalanced(t *testing.T) {
	for n := 1; n <= 7; n++ {
		for replicas := 1; replicas <= n; replicas++ {
			for shards := 1; shards <= 33; shards++ {
				checkBalance(t, n, shards, replicas)
			}
		}
	}
}

func checkBalance(t *testing.T, n, shards, replicas int) {
	t.Helper()
	nodes := make([]string, n)
	for i := range nodes {
		nodes[i] = fmt.Sprintf("n%02d", i)
	}
	table, err := Initial(nodes, shards, replicas)
	if err != nil {
		t.Fatal(err)
	}
	hosted, first := map[string]int{}, map[string]int{}
	for s, hosts := range table {
		seen := map[string]bool{}
		for _, h := range hosts {
			if seen[h] {
				t.Fatalf("shard %d has host %s twice", s, h)
			}
			seen[h] = true
			hosted[h]++
		}
		first[hosts[0]]++
	}
	bound := replicas
	if shards%n == 0 {
		bound = 0
	}
	if d := spread(nodes, hosted); d > bound {
		t.Fatalf("%d nodes, %d shards, %d replicas: loads differ by %d", n, shards, replicas, d)
	}
	if d := spread(nodes, first); d > 1 {
		t.Fatalf("%d nodes, %d shards: first places differ by %d", n, shards, d)
	}
}

// spread is the difference between the largest and the smallest count.
func spread(nodes []string, counts map[string]int) int {
	low, high := counts[nodes[0]], counts[nodes[0]]
	for _, n := range nodes {
		low, high = min(low, counts[n]), max(high, counts[n])
	}
	return high - low
}

func TestInitialRefuses(t *testing.T) {
	tests := []struct {
		nodes            []string
		shards, replicas int
		want             string
	}{
		{[]string{"a"}, 0, 1, "at least one shard"},
		{[]string{"a"}, 1, 0, "at least one replica"},
		{[]string{"a", "b"}, 1, 3, "there are 2"},
		{nil, 1, 1, "there are 0"},
		{[]string{"a", "b", "a"}, 1, 3, `"a" is listed twice`},
		{[]string{"a", ""}, 1, 2, "empty name"},
	}
	for _, tt := range tests {
		_, err := Initial(tt.nodes, tt.shards, tt.replicas)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Initial(%q, %d, %d): %v, want %q", tt.nodes, tt.shards, tt.replicas, err, tt.want)
		}
	}
}
