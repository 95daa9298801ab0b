package api

// Cluster says which nodes and shards there are and how they are.
type Cluster struct {
	ClusterID        string  `json:"cluster_id"`
	Nodes            []Node  `json:"nodes"`
	Shards           []Shard `json:"shards"`
	FailureTolerance int     `json:"failure_tolerance"` // nodes that may fail now without stopping a shard
	RetentionSeconds int64   `json:"retention_seconds"` // how long a finished request answers for its key
}

// Node is one process of the cluster.
type Node struct {
	ID      string `json:"id"`
	HTTP    string `json:"http"`
	Ops     string `json:"ops"`
	Peer    string `json:"peer"`
	Alive   bool   `json:"alive"`
	Version string `json:"version"`
}

// NodeList says which nodes a client of the data port can choose from.
type NodeList struct {
	ClusterID string        `json:"cluster_id"`
	Nodes     []NodeAddress `json:"nodes"`
}

// NodeAddress is where one node takes requests.
type NodeAddress struct {
	ID    string `json:"id"`
	HTTP  string `json:"http"`
	Alive bool   `json:"alive"` // it answered within the last two seconds
}

// Shard is one shard group.
type Shard struct {
	Shard        int       `json:"shard"`
	Leader       *string   `json:"leader"`                // a node id; nil when none is known
	LeaderSince  Time      `json:"leader_since,omitzero"` // since when Leader has been what it is
	Term         uint64    `json:"term"`
	Voters       []string  `json:"voters"` // node ids
	CommitIndex  uint64    `json:"commit_index"`
	AppliedIndex uint64    `json:"applied_index"`
	Lag          uint64    `json:"lag"`      // entries committed and not yet applied by the slowest replica that answers
	Replicas     []Replica `json:"replicas"` // those whose nodes answer
}

// Replica is a shard's replica on one node. Two that have applied as many commands have
// the same hash, or one of them is wrong.
type Replica struct {
	Node         string `json:"node"` // its id
	AppliedIndex uint64 `json:"applied_index"`
	Applied      uint64 `json:"applied"` // commands, ever
	Hash         string `json:"hash"`    // rolling hash after them: 16 hexadecimal digits
}

// Readiness is the answer of /readyz?verbose=1.
type Readiness struct {
	Ready  bool             `json:"ready"`
	Shards []ShardReadiness `json:"shards,omitempty"`
}

// ShardReadiness says whether a shard can be used from here and, if not, what
// is missing and since when.
type ShardReadiness struct {
	Shard   int    `json:"shard"`
	Ready   bool   `json:"ready"`
	Missing string `json:"missing,omitempty"`
	Since   Time   `json:"since,omitzero"`
}
