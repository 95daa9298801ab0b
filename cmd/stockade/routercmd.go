package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"stockade/shard"
	"stockade/shard/shardrpc"
)

func newRouterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "router",
		Short:   "Run a router alone, without a node",
		GroupID: "run",
		Long: `Run a router alone: it serves the same API as a node and keeps no stock and no
data. Put it where the clients are, or run several before a cluster. Give it the
gossip address of any member with --join, or nodes with --initial-cluster; it
learns the rest from them.
` + settingsHelp,
		Example: `  stockade router --join 10.0.0.1:8403 --gossip 10.0.0.9:8403 \
    --gossip-key-file keys --http 10.0.0.9:8400 --insecure
  stockade router --http 127.0.0.1:9400 --ops 127.0.0.1:9401 \
    --initial-cluster a=127.0.0.1:8402,b=127.0.0.1:8502`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := loadSettings(cmd.Flags(), forRouter)
			if err != nil {
				return err
			}
			return runRouter(cmd, loaded)
		},
	}
	addSettingFlags(cmd.Flags(), forRouter)
	completeSettings(cmd, forRouter)
	return cmd
}

// lookUpPause is the time between two rounds of asking all known nodes.
const lookUpPause = 200 * time.Millisecond

var errNoCluster = errors.New("a router needs to know whom to ask: give the gossip address of any member with --join ADDR, or some nodes with --initial-cluster ID=PEER_ADDR,ID=PEER_ADDR")

var errNoMember = errors.New("a router that takes part in the gossip needs somebody to meet: give the gossip address of any member with --join ADDR")

// runRouter runs a router until the command's context ends.
func runRouter(cmd *cobra.Command, s settings) error {
	known := peersOf(s)
	if len(known) == 0 && s.text("join") == "" {
		return errNoCluster
	}
	if err := checkReach(s, "http", "ops"); err != nil {
		return err
	}
	talk, err := gossipOf(s, s.text("http"), anyPort)
	if err != nil {
		return err
	}
	if talk != nil && len(talk.join) == 0 {
		return errNoMember
	}
	v := newSupervisor(s, cmd.ErrOrStderr())
	start := func(ctx context.Context) error {
		service, err := newService(ctx, addresses{HTTP: s.text("http"), Ops: s.text("ops")}, v.log, v.failures)
		if err != nil {
			return err
		}
		service.gossip = talk
		v.services = append(v.services, service)
		return service.startRouter(ctx, known)
	}
	return v.run(cmd.Context(), start, func(context.Context) error {
		addrs := v.services[0].addrs
		v.log.Info("ready", "http", addrs.HTTP, "ops", addrs.Ops, "gossip", addrs.Gossip, "version", buildVersion())
		return nil
	})
}

// peersOf are the nodes that the settings name.
func peersOf(s settings) []shard.Peer {
	var peers []shard.Peer
	for _, m := range s.members("initial-cluster") {
		peers = append(peers, shard.Peer{ID: shardrpc.NodeID(m.id), Addr: m.addr})
	}
	return peers
}

// startRouter starts a router behind the HTTP servers: it asks the known nodes
// what cluster they are, connects to all nodes of it, and serves. After an error
// the service must be stopped all the same.
func (s *service) startRouter(ctx context.Context, known []shard.Peer) error {
	if err := s.gossip.find(ctx, s); err != nil {
		return err
	}
	cluster, err := s.lookUp(ctx, known)
	if err != nil {
		return err
	}
	metrics := shardrpc.NewMetrics(s.registry)
	directory := shardrpc.NewDirectory(shardrpc.DirectoryConfig{Shards: cluster.Shards, Metrics: metrics})
	dispatcher := shardrpc.NewDispatcher(shardrpc.DispatcherConfig{Directory: directory, Metrics: metrics})
	levels := shardrpc.NewLevels(shardrpc.LevelsConfig{Directory: directory, Metrics: metrics, Log: s.log})
	clients := make(map[shardrpc.NodeID]*shardrpc.Client)
	s.closeParts = func(context.Context) error {
		levels.Close()
		dispatcher.Close()
		directory.Close()
		var errs []error
		for _, c := range clients {
			errs = append(errs, c.Close())
		}
		return errors.Join(errs...)
	}
	for _, node := range cluster.Nodes {
		c, err := shardrpc.NewClient(shardrpc.ClientConfig{
			Node: node.ID, Cluster: cluster.ID, Address: node.Addr, Dial: shard.TCP{}.Dial, Metrics: metrics, Log: s.log,
		})
		if err != nil {
			return fmt.Errorf("make a client for node %s: %w", node.ID, err)
		}
		clients[node.ID] = c
		directory.SetMember(node.ID, c)
	}
	s.gossip.follow(directory, func(node shardrpc.NodeID, addr string) {
		if c := clients[node]; c != nil {
			c.SetAddress(addr)
		}
	})
	return s.serve(backend{
		dispatcher: dispatcher, levels: levels, shards: cluster.Shards, secret: cluster.HashSecret, retention: cluster.Retention,
	})
}

// lookUp asks the known nodes what cluster they are, until one answers.
func (s *service) lookUp(ctx context.Context, known []shard.Peer) (shard.Cluster, error) {
	pause := time.NewTicker(lookUpPause)
	defer pause.Stop()
	var said time.Time
	for {
		cluster, err := shard.LookUp(ctx, shard.TCP{}, append(s.gossip.nodes(), known...))
		if err == nil || ctx.Err() != nil {
			return cluster, errors.Join(err, ctx.Err())
		}
		if time.Since(said) >= waitingEvery {
			said = time.Now()
			s.log.Warn("no node of the cluster answers yet", "error", err)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return shard.Cluster{}, ctx.Err()
		}
	}
}
