// Package placement decides which node hosts which shard.
//
// It is a pure planner: node names in, a table out. It reads no clock and no
// network, so every node that knows the members computes the same table.
package placement

import (
	"errors"
	"fmt"
	"slices"
)

// Initial places the replicas of each shard on nodes, and returns the names of
// the hosts by shard. The first host of a shard is the one that should lead it.
//
// Hosts go round robin over the sorted names, so the order of nodes does not
// matter, no node hosts a shard twice, and the numbers of replicas (and of
// first places) on two nodes differ by at most one when shards is a multiple of
// the number of nodes, and by at most replicas otherwise.
//
// It fails when there are fewer nodes than replicas, when a name is empty or
// appears twice, or when a count is not positive.
func Initial(nodes []string, shards, replicas int) ([][]string, error) {
	sorted := slices.Sorted(slices.Values(nodes))
	if err := check(sorted, shards, replicas); err != nil {
		return nil, err
	}
	table := make([][]string, shards)
	for s := range table {
		hosts := make([]string, replicas)
		for i := range hosts {
			hosts[i] = sorted[(s+i)%len(sorted)]
		}
		table[s] = hosts
	}
	return table, nil
}

// check tells what is wrong with the input of Initial. nodes is sorted.
func check(nodes []string, shards, replicas int) error {
	switch {
	case shards < 1:
		return fmt.Errorf("a cluster needs at least one shard, not %d", shards)
	case replicas < 1:
		return fmt.Errorf("a shard needs at least one replica, not %d", replicas)
	case len(nodes) < replicas:
		return fmt.Errorf("%d replicas of each shard need at least as many nodes; there are %d", replicas, len(nodes))
	case nodes[0] == "":
		return errors.New("a node has an empty name")
	}
	for i := 1; i < len(nodes); i++ {
		if nodes[i] == nodes[i-1] {
			return fmt.Errorf("node %q is listed twice", nodes[i])
		}
	}
	return nil
}
