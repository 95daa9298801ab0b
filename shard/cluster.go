package shard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
	"stockade/shard/internal/formationpb"
	"stockade/shard/placement"
	"stockade/shard/shardrpc"
)

const (
	// clusterIDBytes of a SHA-256 make two clusters with one id as likely as
	// never, and keep the id short enough to read out.
	clusterIDBytes = 16
	// hashSecretBytes is the key length of SipHash-128.
	hashSecretBytes = clusterIDBytes
)

// Peer is an initial node of the cluster with the address of its peer port.
type Peer struct {
	ID   shardrpc.NodeID
	Addr string
}

// String gives the peer as --initial-cluster spells it.
func (p Peer) String() string { return string(p.ID) + "=" + p.Addr }

// ParsePeers reads a list like "n1=10.0.0.1:8402,n2=10.0.0.2:8402".
func ParsePeers(s string) ([]Peer, error) {
	var peers []Peer
	for item := range strings.SplitSeq(s, ",") {
		id, addr, ok := strings.Cut(strings.TrimSpace(item), "=")
		if !ok || addr == "" || !validNodeID(shardrpc.NodeID(id)) {
			return nil, fmt.Errorf("%q is not ID=ADDR (an id has letters, digits, - and _, at most %d)", item, maxNodeIDLen)
		}
		peers = append(peers, Peer{ID: shardrpc.NodeID(id), Addr: addr})
	}
	return peers, nil
}

// member is a node as the cluster knows it for ever, with its first address.
type member struct {
	ID          shardrpc.NodeID `json:"id"`
	Incarnation string          `json:"incarnation"`
	Address     string          `json:"address"`
}

// clusterInfo is cluster.json: what the initial nodes agreed on. Every node of
// the cluster has the same, but for Bootstrapped.
type clusterInfo struct {
	Format         int      `json:"format"`
	ClusterID      string   `json:"cluster_id"`
	Shards         int      `json:"shards"`
	Replicas       int      `json:"replicas"`
	RetentionMS    int64    `json:"retention_ms"`
	EntryFormat    int      `json:"entry_format"`    // when the cluster was made
	SnapshotFormat int      `json:"snapshot_format"` // when the cluster was made
	HashSecret     string   `json:"hash_secret"`
	Members        []member `json:"members"` // sorted by id
	// Bootstrapped: each of this node's replicas got its first log entry. From
	// then on an empty replica is a lost one.
	Bootstrapped bool      `json:"bootstrapped"`
	Formed       time.Time `json:"formed"`
}

// newClusterInfo is the cluster that members make. Whoever knows the members
// computes the same id and secret.
func newClusterInfo(cfg Config, members []member) clusterInfo {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return clusterInfo{
		Format:         dataFormat,
		ClusterID:      hashMembers("stockade cluster id", members),
		Shards:         cfg.Shards,
		Replicas:       cfg.replicas(),
		RetentionMS:    cfg.Retention.Milliseconds(),
		EntryFormat:    entryFormat,
		SnapshotFormat: snapshotFormat,
		HashSecret:     hashMembers("stockade hash secret", members),
		Members:        members,
	}
}

// hashMembers derives a hash, in hex, from the identities of the members. The
// purpose keeps what is public apart from what is secret.
func hashMembers(purpose string, members []member) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00", purpose)
	for _, m := range members {
		fmt.Fprintf(h, "%s\x00%s\x00", m.ID, m.Incarnation)
	}
	return hex.EncodeToString(h.Sum(nil)[:clusterIDBytes])
}

// member finds a node.
func (c *clusterInfo) member(id shardrpc.NodeID) (member, bool) {
	for _, m := range c.Members {
		if m.ID == id {
			return m, true
		}
	}
	return member{}, false
}

// secret is the key of the cluster's hashes. check has verified its form.
func (c *clusterInfo) secret() (key [hashSecretBytes]byte) {
	_, _ = hex.Decode(key[:], []byte(c.HashSecret))
	return key
}

// check tells whether the file can be what it claims to be. It may come from another
// machine, so each number is looked at before anything is made by it.
func (c *clusterInfo) check(path string) error {
	odd := func(m member) bool { return !validNodeID(m.ID) || !validIncarnation(m.Incarnation) }
	switch {
	case c.Format != dataFormat:
		return fmt.Errorf("%s has format %d, and this version of Stockade reads format %d: start the version that wrote it", path, c.Format, dataFormat)
	case c.ClusterID != hashMembers("stockade cluster id", c.Members),
		c.HashSecret != hashMembers("stockade hash secret", c.Members):
		return fmt.Errorf("%s is damaged: its cluster id does not match its members; copy cluster.json from another node of the cluster", path)
	case c.Shards < 1 || c.Shards > allocator.MaxShards, c.Replicas < 1 || c.Replicas > min(MaxReplicas, len(c.Members)), c.RetentionMS < 1, c.RetentionMS > math.MaxInt64/int64(time.Millisecond):
		return fmt.Errorf("%s is damaged: there can't be %d shards with %d replicas each on %d nodes and a retention of %d ms; copy cluster.json from another node of the cluster",
			path, c.Shards, c.Replicas, len(c.Members), c.RetentionMS)
	case slices.ContainsFunc(c.Members, odd):
		return fmt.Errorf("%s is damaged: a member's id or incarnation is not what one looks like; copy cluster.json from another node of the cluster", path)
	}
	return nil
}

// admits tells whether a node with this identity belongs to the cluster.
func (c *clusterInfo) admits(id shardrpc.NodeID, incarnation string) error {
	m, ok := c.member(id)
	if !ok {
		return fmt.Errorf("node %q is not a member of cluster %s, which has formed with %s", id, c.ClusterID, c.memberList())
	}
	if m.Incarnation != incarnation {
		return fmt.Errorf("node %q is a member of cluster %s under another identity (%s…, and it comes as %s…): its data directory was lost or replaced. "+
			"Start it with its old data directory. This version can't replace a node: without the directory the cluster goes on with one node less",
			id, c.ClusterID, m.Incarnation[:incarnationPrefix], incarnation[:incarnationPrefix])
	}
	return nil
}

// matches compares what this start asks for with what the cluster is. Addresses
// may have changed.
func (c *clusterInfo) matches(cfg Config) error {
	if cfg.Shards != c.Shards {
		return fmt.Errorf("cluster %s has %d shards, and this start asks for %d: start with --shards %d", c.ClusterID, c.Shards, cfg.Shards, c.Shards)
	}
	if cfg.Retention.Milliseconds() != c.RetentionMS {
		return fmt.Errorf("cluster %s was created with a retention of %v, and this start asks for %v: the retention is fixed when a cluster is created; start with --retention %[2]v",
			c.ClusterID, time.Duration(c.RetentionMS)*time.Millisecond, cfg.Retention)
	}
	if cfg.Replicas != 0 && cfg.Replicas != c.Replicas {
		return fmt.Errorf("cluster %s was created with %d replicas of each shard, and this start asks for %d: start with the former", c.ClusterID, c.Replicas, cfg.Replicas)
	}
	if len(cfg.Initial) == 0 {
		return nil
	}
	if len(cfg.Initial) != len(c.Members) || slices.ContainsFunc(cfg.Initial, func(p Peer) bool { _, ok := c.member(p.ID); return !ok }) {
		return fmt.Errorf("cluster %s was formed by %s, and this start names %s as initial nodes: give the same ids, or leave --initial-cluster away",
			c.ClusterID, c.memberList(), peerList(cfg.Initial))
	}
	return nil
}

func (c *clusterInfo) memberList() string {
	ids := make([]string, len(c.Members))
	for i, m := range c.Members {
		ids[i] = string(m.ID)
	}
	return strings.Join(ids, ", ")
}

// addresses gives each member's address: the configured one, else its first.
func (c *clusterInfo) addresses(initial []Peer) map[shardrpc.NodeID]string {
	addrs := make(map[shardrpc.NodeID]string, len(c.Members))
	for _, m := range c.Members {
		addrs[m.ID] = m.Address
	}
	for _, p := range initial {
		addrs[p.ID] = p.Addr
	}
	return addrs
}

// placement is the table of hosts by shard.
func (c *clusterInfo) placement() ([][]string, error) {
	ids := make([]string, len(c.Members))
	for i, m := range c.Members {
		ids[i] = string(m.ID)
	}
	return placement.Initial(ids, c.Shards, c.Replicas)
}

// configuration is the first Raft configuration of a shard with these hosts.
func (c *clusterInfo) configuration(hosts []string) raft.Configuration {
	var conf raft.Configuration
	for _, h := range hosts {
		m, _ := c.member(shardrpc.NodeID(h))
		id := serverID(m.ID, m.Incarnation)
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: id, Address: raft.ServerAddress(id)})
	}
	return conf
}

// peerList names peers for a message.
func peerList(peers []Peer) string {
	all := make([]string, len(peers))
	for i, p := range peers {
		all[i] = string(p.ID)
	}
	return strings.Join(all, ", ")
}

// fingerprint is what all initial nodes must agree on.
func (c Config) fingerprint() *formationpb.Fingerprint {
	f := &formationpb.Fingerprint{
		DataFormat: dataFormat, PeerVersion: peerVersion, EntryVersion: entryFormat, SnapshotVersion: snapshotFormat,
		Shards: uint32(c.Shards), Replicas: uint32(c.replicas()), RetentionMs: c.Retention.Milliseconds(),
	}
	sorted := slices.SortedFunc(slices.Values(c.Initial), func(a, b Peer) int { return strings.Compare(string(a.ID), string(b.ID)) })
	for _, p := range sorted {
		f.Initial = append(f.Initial, &formationpb.Member{Id: string(p.ID), Address: p.Addr})
	}
	return f
}

// differences names what two fingerprints differ in; empty: nothing.
func differences(ours, theirs *formationpb.Fingerprint) string {
	var all []string
	differ := func(what string, a, b any) {
		if a != b {
			all = append(all, fmt.Sprintf("%s: %v and %v", what, a, b))
		}
	}
	differ("format of the data directory", ours.GetDataFormat(), theirs.GetDataFormat())
	differ("version of the peer protocol", ours.GetPeerVersion(), theirs.GetPeerVersion())
	differ("format of log entries", ours.GetEntryVersion(), theirs.GetEntryVersion())
	differ("format of snapshots", ours.GetSnapshotVersion(), theirs.GetSnapshotVersion())
	differ("--shards", ours.GetShards(), theirs.GetShards())
	differ("replicas of each shard", ours.GetReplicas(), theirs.GetReplicas())
	differ("retention in ms", ours.GetRetentionMs(), theirs.GetRetentionMs())
	differ("--initial-cluster", initialList(ours), initialList(theirs))
	return strings.Join(all, "; ")
}

func initialList(f *formationpb.Fingerprint) string {
	all := make([]string, len(f.GetInitial()))
	for i, m := range f.GetInitial() {
		all[i] = m.GetId() + "=" + m.GetAddress()
	}
	return strings.Join(all, ",")
}

// address is the configured address of an initial node.
func (c Config) address(id shardrpc.NodeID) string {
	for _, p := range c.Initial {
		if p.ID == id {
			return p.Addr
		}
	}
	return ""
}
