package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"stockade/shard/internal/formationpb"
	"stockade/shard/shardrpc"
)

// Found is what a data directory was made for at its first start.
type Found struct {
	NodeID    shardrpc.NodeID
	Peer      string // where the cluster looks for the node; empty until it has formed
	Shards    int
	Retention time.Duration // 0 until the cluster has formed
	LogStore  LogStoreKind
}

// Inspect reads whose data directory path is. It takes no lock and changes
// nothing. It reports false when no node was made there yet.
func Inspect(path string) (Found, bool, error) {
	var id identity
	found, err := readJSON(filepath.Join(path, nodeFile), &id)
	if err != nil || !found {
		return Found{}, false, err
	}
	var cluster clusterInfo
	if _, err := readJSON(filepath.Join(path, clusterFile), &cluster); err != nil {
		return Found{}, false, err
	}
	self, _ := cluster.member(id.NodeID)
	return Found{
		NodeID: id.NodeID, Peer: self.Address, Shards: id.Shards,
		Retention: time.Duration(cluster.RetentionMS) * time.Millisecond, LogStore: id.LogStore,
	}, true, nil
}

// Cluster is what somebody who is not a node must know of a cluster to use it.
type Cluster struct {
	ID         string
	Shards     int
	HashSecret [hashSecretBytes]byte // see Node.HashSecret
	Retention  time.Duration
	Nodes      []Peer
}

// LookUp asks the nodes, one after the other until one answers, which cluster
// they belong to. The addresses given count more than those that the nodes were
// started with.
func LookUp(ctx context.Context, network Network, nodes []Peer) (Cluster, error) {
	var errs []error
	for _, node := range nodes {
		c, err := lookUp(ctx, network, node)
		if err == nil {
			return c.describe(nodes), nil
		}
		errs = append(errs, fmt.Errorf("node %s at %s: %w", node.ID, node.Addr, err))
	}
	return Cluster{}, errors.Join(errs...)
}

// lookUp asks one node.
func lookUp(ctx context.Context, network Network, node Peer) (c clusterInfo, err error) {
	err = callFormation(ctx, network, node.Addr, func(ctx context.Context, client formationpb.FormationClient) error {
		in, err := client.Describe(ctx, &formationpb.Question{})
		if err != nil {
			return err
		}
		if err := json.Unmarshal(in.GetCluster(), &c); err != nil {
			return fmt.Errorf("its answer can't be read: %w", err)
		}
		return c.check("its cluster file")
	})
	return c, err
}

// describe is the cluster as Cluster tells it.
func (c *clusterInfo) describe(known []Peer) Cluster {
	described := Cluster{
		ID: c.ClusterID, Shards: c.Shards, HashSecret: c.secret(),
		Retention: time.Duration(c.RetentionMS) * time.Millisecond,
	}
	addrs := c.addresses(nil)
	for _, p := range known {
		if _, ok := c.member(p.ID); ok {
			addrs[p.ID] = p.Addr
		}
	}
	for _, m := range c.Members {
		described.Nodes = append(described.Nodes, Peer{ID: m.ID, Addr: addrs[m.ID]})
	}
	return described
}

// Describe implements the service.
func (f *formation) Describe(context.Context, *formationpb.Question) (*formationpb.Introduction, error) {
	in := f.introduction()
	if len(in.GetCluster()) == 0 {
		return nil, status.Error(codes.Unavailable, "the cluster has not formed yet")
	}
	return in, nil
}
