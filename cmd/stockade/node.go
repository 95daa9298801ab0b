package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"stockade/shard"
	"stockade/shard/shardrpc"
)

func newNodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "node",
		Short:   "Run one node of a cluster",
		GroupID: "run",
		Long: `Run one node of a cluster. The first time, give it a name, a data directory of its
own and the list of the first nodes, the same on each of them. The data directory
remembers: later starts need --data-dir, and --http and --ops if they are not
the default; what else is given is compared.
Without --peer the peer port listens where the others look for the node; with it,
the node does not start when they would not find it there.

Stop it with SIGTERM or SIGINT: it finishes what is in flight and hands its
leaderships over. A second signal ends it at once; nothing acknowledged is lost.
` + settingsHelp,
		Example: `  stockade node --id a --data-dir /var/lib/stockade \
    --initial-cluster a=10.0.0.1:8402,b=10.0.0.2:8402,c=10.0.0.3:8402 --insecure
  stockade node --data-dir /var/lib/stockade --insecure`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := loadSettings(cmd.Flags(), forNode)
			if err != nil {
				return err
			}
			return runNode(cmd, loaded)
		},
	}
	addSettingFlags(cmd.Flags(), forNode)
	completeSettings(cmd, forNode)
	return cmd
}

var (
	errNoDataDir = errors.New("a node needs a data directory of its own, which must survive restarts: give --data-dir DIR")
)

// runNode runs a node until the command's context ends.
func runNode(cmd *cobra.Command, s settings) error {
	if s.text("data-dir") == "" {
		return errNoDataDir
	}
	if err := checkReach(s, "http", "ops", "peer"); err != nil {
		return err
	}
	cfg, err := shardConfig(s, s.text("data-dir"))
	if err != nil {
		return err
	}
	if cfg.NodeID == "" {
		return fmt.Errorf("the data directory %s is new, so the node needs a name for ever: give --id ID", cfg.DataDir)
	}
	if s, err = withPeer(s, cfg); err != nil {
		return err
	}
	if err := checkReach(s, "peer"); err != nil { // it may be another now
		return err
	}
	talk, err := gossipOf(s, s.text("peer"), nodeGossipPort)
	if err != nil {
		return err
	}
	v := newSupervisor(s, cmd.ErrOrStderr())
	start := func(ctx context.Context) error {
		service, err := newService(ctx, wantedAddresses(s), v.log, v.failures)
		if err != nil {
			return err
		}
		service.gossip = talk
		v.services = append(v.services, service)
		return service.startNode(ctx, cfg)
	}
	return v.run(cmd.Context(), start, func(context.Context) error {
		addrs := v.services[0].addrs
		v.log.Info("ready", "node", string(cfg.NodeID), "http", addrs.HTTP, "ops", addrs.Ops, "peer", addrs.Peer, "gossip", addrs.Gossip, "version", buildVersion())
		return nil
	})
}

// withPeer settles where the peer port listens when nothing was given: where the
// other nodes look for this one, which is in their list or, at a later start, in
// the data directory.
func withPeer(s settings, cfg shard.Config) (settings, error) {
	if s.given("peer") {
		return s, nil
	}
	for _, p := range cfg.Initial {
		if p.ID == cfg.NodeID {
			return s.with("peer", p.Addr, "--initial-cluster"), nil
		}
	}
	found, _, err := shard.Inspect(cfg.DataDir)
	if err != nil || found.Peer == "" {
		return s, err
	}
	return s.with("peer", found.Peer, "the data directory"), nil
}

// wantedAddresses are the ones that the settings name.
func wantedAddresses(s settings) addresses {
	return addresses{HTTP: s.text("http"), Ops: s.text("ops"), Peer: s.text("peer")}
}

// shardConfig is what the settings say of a node. What the data directory in dir
// remembers from its first start counts where nothing else was given.
func shardConfig(s settings, dir string) (shard.Config, error) {
	cfg := shard.DefaultConfig()
	cfg.DataDir = dir
	cfg.Shards = s.number("shards")
	cfg.Retention = s.span("retention")
	entries := uint64(s.number("snapshot-entries"))
	cfg.Storage.SnapshotAfter, cfg.Storage.Trailing = entries, entries
	cfg.LogStore = shard.LogStoreKind(s.text("log-store"))
	if _, ok := s["id"]; ok { // dev names its nodes itself
		cfg.NodeID = shardrpc.NodeID(s.text("id"))
		cfg.Initial = peersOf(s)
	}
	found, ok, err := shard.Inspect(dir)
	if err != nil || !ok {
		return cfg, err
	}
	if !s.given("shards") {
		cfg.Shards = found.Shards
	}
	if !s.given("retention") && found.Retention > 0 {
		cfg.Retention = found.Retention
	}
	if !s.given("log-store") {
		cfg.LogStore = found.LogStore
	}
	if cfg.NodeID == "" {
		cfg.NodeID = found.NodeID
	}
	return cfg, nil
}
