package main

import (
	"strconv"
	"strings"
	"time"

	"stockade/allocator"
	"stockade/shard"
)

// scope says which commands know a setting.
type scope uint8

const (
	forDev scope = 1 << iota
	forNode
	forRouter
	forSKU

	forCluster = forDev | forNode
	forServers = forDev | forNode | forRouter
	forAll     = forServers | forSKU
)

// setting is one thing a user can set. Its name is the same everywhere:
// --data-dir on the command line, STOCKADE_DATA_DIR in the environment, data-dir
// in the configuration file.
type setting struct {
	name  string
	scope scope
	kind  kind
	def   string // the default, as a user would write it; "" for none
	help  string // one sentence for the help text and docs/configuration.md
	list  bool   // may be repeated, or given as a comma-separated list
	// devDef is the default for dev where that differs.
	devDef string
}

// defaultFor is the default for the commands of a scope.
func (s *setting) defaultFor(c scope) string {
	if c == forDev && s.devDef != "" {
		return s.devDef
	}
	return s.def
}

// env is the setting's name in the environment.
func (s *setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// envPrefix begins every environment variable that is a setting.
const envPrefix = "STOCKADE_"

// Bounds of settings that have any beyond what their type says.
const (
	// maxDevNodes keeps `dev` within what one machine runs: every node carries a
	// replica of every shard and fsyncs for itself.
	maxDevNodes = 9
	// maxStopTimeout is below the grace that service managers give before they
	// kill (systemd 90 s), so that the reason for a slow stop is still logged.
	maxStopTimeout = 60 * time.Second
	// minRetention is longer than any client repeats a request within its deadline;
	// maxRetention is what the state machine takes.
	minRetention = time.Minute
	maxRetention = time.Duration(allocator.MaxRetention) * time.Millisecond
	// Fewer entries than the first would make snapshots of next to nothing; with more
	// than the second a restart, which applies them all again, would take too long.
	minSnapshotEntries = 100
	maxSnapshotEntries = 1_000_000
)

// devShards is for three nodes on one machine and one disk, where every replica
// fsyncs for itself: few shards make large batches.
const devShards = "2"

// allSettings is every setting there is, in the order in which help and
// documentation show them.
var allSettings = []setting{
	{name: "http", scope: forServers, kind: address, def: "127.0.0.1:8400",
		help: "where the selling API listens"},
	{name: "ops", scope: forServers, kind: address, def: "127.0.0.1:8401",
		help: "where probes, metrics and administration listen"},
	{name: "peer", scope: forCluster, kind: address, def: "127.0.0.1:8402",
		help: "where the peer port listens, for Raft and RPC; node without it listens where the others look for it"},
	{name: "gossip", scope: forServers, kind: address,
		help: "where the gossip port listens, TCP and UDP; without it node uses port 8403 beside its peer port, router a free one, if there is anybody to meet"},
	{name: "gossip-advertise", scope: forNode | forRouter, kind: address,
		help: "IP address and port at which the others reach the gossip port, if not where it listens"},
	{name: "gossip-key-file", scope: forServers, kind: anyText("FILE"),
		help: "keys that encrypt the gossip, one a line in base64, the one to send with first; the same on all members"},
	{name: "gossip-allow", scope: forNode | forRouter, kind: netList, list: true,
		help: "networks that members may be in; without it all"},
	{name: "zone", scope: forNode | forRouter, kind: identifier("ZONE"),
		help: "where this member is, such as a rack or an availability zone; told to the others"},
	{name: "data-dir", scope: forCluster, kind: anyText("DIR"),
		help: "where the node keeps its identity, logs and snapshots; node needs one, dev without one uses a temporary directory"},
	{name: "shards", scope: forCluster, kind: integer(1, maxShards), def: strconv.Itoa(shard.DefaultShards), devDef: devShards,
		help: "number of shards; fixed when the cluster is created"},
	{name: "retention", scope: forCluster, kind: duration(minRetention, maxRetention), def: shard.DefaultConfig().Retention.String(),
		help: "how long a finished request answers for its Idempotency-Key; fixed when the cluster is created"},
	{name: "log-store", scope: forCluster, kind: oneOf(string(shard.LogStoreWAL), string(shard.LogStoreBolt)), def: string(shard.DefaultLogStore),
		help: "what keeps the Raft log on disk"},
	{name: "snapshot-entries", scope: forCluster, kind: integer(minSnapshotEntries, maxSnapshotEntries), def: strconv.FormatUint(shard.DefaultConfig().Storage.SnapshotAfter, 10),
		help: "new entries in a shard's log that make a snapshot due, looked for every 30 to 60 s; as many are kept behind it, for replicas that lag"},
	{name: "id", scope: forNode | forRouter, kind: identifier("ID"),
		help: "the node's name, for ever; needed the first time, checked later. A router without one takes the host's with a number"},
	{name: "initial-cluster", scope: forNode | forRouter, kind: memberList, list: true,
		help: "the first nodes, as ID=PEER_ADDR,...: the same list on every one of them"},
	{name: "join", scope: forNode | forRouter, kind: addrList, list: true,
		help: "gossip addresses of any members of the cluster; names are looked up again and again"},
	{name: "nodes", scope: forDev, kind: integer(1, maxDevNodes), def: "3",
		help: "how many nodes dev runs"},
	{name: "seed", scope: forDev, kind: seedList, def: "demo=1000", list: true,
		help: "stock that dev creates if it is not there, as SKU=UNITS (repeatable), or none"},
	{name: "addr-file", scope: forServers, kind: anyText("FILE"),
		help: "file that gets the chosen addresses as JSON once the process is ready"},
	{name: "insecure", scope: forServers, kind: boolean, def: "false",
		help: "serve on addresses that other machines can reach, without TLS and tokens"},
	{name: "stop-timeout", scope: forServers, kind: duration(time.Second, maxStopTimeout), def: "15s",
		help: "how long a graceful stop may take"},
	{name: "log-format", scope: forServers, kind: oneOf("text", "json"), def: "text",
		help: "form of the log on standard error"},
	{name: "log-level", scope: forServers, kind: oneOf("debug", "info", "warn", "error"), def: "info", devDef: "warn",
		help: "the least important log lines that are written"},
	{name: "ops-url", scope: forSKU, kind: httpURL, def: "http://127.0.0.1:8401",
		help: "base URL of the administration API"},
}

// settingNamed finds a setting; nil when there is none.
func settingNamed(name string) *setting {
	for i := range allSettings {
		if allSettings[i].name == name {
			return &allSettings[i]
		}
	}
	return nil
}

// inScope lists the settings that commands of a scope know.
func inScope(s scope) []*setting {
	var known []*setting
	for i := range allSettings {
		if allSettings[i].scope&s != 0 {
			known = append(known, &allSettings[i])
		}
	}
	return known
}
