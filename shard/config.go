package shard

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
	"github.com/prometheus/client_golang/prometheus"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/shardrpc"
)

const (
	// DefaultReplicas tolerates the loss of one node.
	DefaultReplicas = 3
	// MaxReplicas bounds the work of one commit; more than this is a mistake.
	MaxReplicas = 7
	// DefaultShards suits the small machine: each shard syncs for itself.
	DefaultShards = 16

	// entryFormat and snapshotFormat are the formats this version writes; they
	// are part of what the initial nodes compare.
	entryFormat    = 1
	snapshotFormat = 1

	// expiryPerStamp bounds the reservations that one batch expires, so that a
	// batch takes milliseconds at most.
	expiryPerStamp = 1024
)

// Config is what a Node is made from. It does not change afterwards. Start from
// DefaultConfig.
type Config struct {
	NodeID  shardrpc.NodeID // its name for ever
	DataDir string
	Listen  string // address of the peer port

	// Initial lists the first nodes of the cluster with their peer addresses, the
	// same list on each. The first start of a node needs it. Later it is
	// checked: the ids must be those of the cluster, addresses may be new.
	Initial  []Peer
	Shards   int // fixed when the cluster is created
	Replicas int // of each shard; 0: DefaultReplicas, or fewer if there are fewer nodes

	// Retention is how long a finished reservation answers for its key; the same
	// on all nodes, fixed when the cluster is created.
	Retention time.Duration

	LogStore LogStoreKind // fixed when the data directory is made
	Timing   Timing
	Storage  Storage

	Version, HTTP, Ops string // what Status says of this node

	// Movable: the others learn where this node is by gossip (Node.Relocate), so that its
	// address may be another than they were started with: Listen.
	Movable bool
	Network Network               // nil: TCP
	Files   types.VFS             // of the wal's segments; nil: the machine's
	Clock   raftfsm.Clock         // nil: the machine's
	Logger  *slog.Logger          // nil: slog.Default()
	Metrics prometheus.Registerer // of this node alone; nil: metrics are kept and not registered
}

// Timing holds the times of a node. They may differ between nodes, but should
// not differ much.
type Timing struct {
	// Election is Raft's heartbeat and election timeout: a follower that heard
	// nothing for one to two of these stands for election. Below a few hundred
	// milliseconds a slow sync looks like a dead leader.
	Election time.Duration
	// Lease is how long a leader goes on without hearing from a majority; at
	// most Election.
	Lease time.Duration
	// Commit is after how long an idle leader tells followers what is committed.
	// Under load they learn it with the next entry.
	Commit time.Duration
	// Write bounds one write to a log; then the node stops.
	Write time.Duration
	// Close bounds a graceful stop.
	Close time.Duration
}

// Storage holds the sizes of logs and snapshots, per replica.
type Storage struct {
	SnapshotEvery time.Duration // how often a replica looks whether to take a snapshot
	SnapshotAfter uint64        // entries since the last one that make it do so
	// Trailing is how many entries stay in the log behind a snapshot. A follower
	// that is behind by less catches up without one.
	Trailing    uint64
	SegmentSize int // bytes of a segment of the wal, allocated at once
	CacheSize   int // newest entries that are kept in memory
}

// DefaultConfig has every default. NodeID, DataDir, Listen and, for a first
// start, Initial are to be set.
func DefaultConfig() Config {
	return Config{
		Shards:    DefaultShards,
		Retention: time.Duration(allocator.DefaultRetention) * time.Millisecond,
		LogStore:  DefaultLogStore,
		Timing: Timing{
			Election: 500 * time.Millisecond,
			Lease:    500 * time.Millisecond,
			Commit:   400 * time.Millisecond,
			Write:    10 * time.Second,
			Close:    10 * time.Second,
		},
		Storage: Storage{
			SnapshotEvery: 30 * time.Second,
			SnapshotAfter: 16_384,
			Trailing:      16_384,
			SegmentSize:   16 << 20,
			CacheSize:     64,
		},
	}
}

// Validate tells what is wrong with the configuration. It changes nothing.
func (c Config) Validate() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(!validNodeID(c.NodeID), "node id %q: it needs 1 to %d letters, digits, - or _", c.NodeID, maxNodeIDLen)
	wrong(c.DataDir == "", "no data directory is given")
	wrong(c.Listen == "", "no address for the peer port is given")
	wrong(c.Shards < 1 || c.Shards > allocator.MaxShards, "%d shards: from 1 to %d are possible", c.Shards, allocator.MaxShards)
	wrong(c.Replicas < 0 || c.Replicas > MaxReplicas, "%d replicas: from 1 to %d are possible", c.Replicas, MaxReplicas)
	wrong(c.Retention < time.Millisecond, "a retention of %v is too short", c.Retention)
	wrong(c.LogStore != LogStoreWAL && c.LogStore != LogStoreBolt, "log store %q: choose %q or %q", c.LogStore, LogStoreWAL, LogStoreBolt)
	errs = append(errs, c.validateInitial(), c.Timing.validate(), c.Storage.validate())
	return errors.Join(errs...)
}

func (c Config) validateInitial() error {
	if len(c.Initial) == 0 {
		return nil
	}
	ids := make([]string, len(c.Initial))
	for i, p := range c.Initial {
		if !validNodeID(p.ID) || p.Addr == "" {
			return fmt.Errorf("initial node %q: it needs an id of letters, digits, - and _, and an address", p)
		}
		ids[i] = string(p.ID)
	}
	slices.Sort(ids)
	if len(slices.Compact(slices.Clone(ids))) != len(ids) {
		return fmt.Errorf("an initial node is listed twice: %s", strings.Join(ids, ", "))
	}
	if !slices.Contains(ids, string(c.NodeID)) {
		return fmt.Errorf("node %q is not among the initial nodes (%s)", c.NodeID, strings.Join(ids, ", "))
	}
	if c.Replicas > len(ids) {
		return fmt.Errorf("%d replicas need as many nodes; there are %d", c.Replicas, len(ids))
	}
	return nil
}

func (t Timing) validate() error {
	const least = 5 * time.Millisecond // Raft's own
	switch {
	case t.Election < least || t.Lease < least || t.Commit < least || t.Write <= 0 || t.Close <= 0:
		return fmt.Errorf("timing %+v: each time must be at least %v", t, least)
	case t.Lease > t.Election:
		return fmt.Errorf("a lease of %v is longer than the election timeout of %v: two leaders could serve at once", t.Lease, t.Election)
	}
	return nil
}

func (s Storage) validate() error {
	const least = 64 << 10
	if s.SnapshotEvery < 5*time.Millisecond || s.SnapshotAfter < 1 || s.SegmentSize < least || s.CacheSize < 1 {
		return fmt.Errorf("storage %+v: each size must be positive, a segment at least %d bytes", s, least)
	}
	return nil
}

// replicas is the number of replicas of each shard.
func (c Config) replicas() int {
	if c.Replicas > 0 {
		return c.Replicas
	}
	return min(DefaultReplicas, len(c.Initial))
}

// raftConfig sets everything that matters explicitly: some defaults of Raft are
// traps (shutting down when removed, logging at debug level).
func (c Config) raftConfig(self raft.ServerID, log *raftLogger) *raft.Config {
	return &raft.Config{
		ProtocolVersion:    raft.ProtocolVersionMax,
		LocalID:            self,
		HeartbeatTimeout:   c.Timing.Election,
		ElectionTimeout:    c.Timing.Election,
		LeaderLeaseTimeout: c.Timing.Lease,
		CommitTimeout:      c.Timing.Commit,
		MaxAppendEntries:   maxAppendEntries,
		BatchApplyCh:       true,
		ShutdownOnRemove:   false, // a removed replica must stay to be asked why
		TrailingLogs:       c.Storage.Trailing,
		SnapshotInterval:   c.Storage.SnapshotEvery,
		SnapshotThreshold:  c.Storage.SnapshotAfter,
		LogLevel:           "INFO",
		Logger:             log,
		NoLegacyTelemetry:  true,
		PreVoteDisabled:    false,
	}
}

// maxAppendEntries bounds the entries of one RPC. Entries are whole batches of
// up to a MiB: more of them gain nothing, and must fit rpcTimeout on a slow link.
const maxAppendEntries = 16
