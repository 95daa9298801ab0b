package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"stockade/allocator"
	"stockade/raftfsm"
	"stockade/shard/internal/formationpb"
	"stockade/shard/shardrpc"
)

// lastAnswersLimit bounds how long a node that gives up answers the others.
const lastAnswersLimit = time.Second

// Node is one process's part of a cluster: its data directory, its peer port
// and a replica of each shard that is placed here.
//
// Open makes it, Close ends it. When it can't go on safely (a write failed, a
// replica differs from the others) it cuts itself off from the other nodes, so
// that they take over at once, and Fatal tells; the process must then exit. All
// methods are safe for concurrent use.
type Node struct {
	cfg     Config
	log     *slog.Logger
	dir     *dataDir
	cluster clusterInfo

	port       *peerPort
	server     *grpc.Server
	formation  *formation
	peers      *peers
	directory  *shardrpc.Directory
	dispatcher *shardrpc.Dispatcher
	levels     *shardrpc.Levels
	metrics    *metrics
	rpcMetrics *shardrpc.Metrics

	opened   []*replica                 // as replicas, but while the node opens: some don't run yet
	replicas atomic.Pointer[[]*replica] // by ShardID; nil entries: no replica here
	stopping atomic.Bool
	failed   atomic.Bool // fatal was called
	onLead   atomic.Pointer[func(allocator.ShardID, uint64)]

	fatalOnce sync.Once
	fatalErr  chan error
	life      context.Context // ends when the node is closed
	end       context.CancelFunc
	done      sync.WaitGroup // the gRPC server and what runs in the background
}

// Open starts a node. At its first start it waits, until ctx ends, for the other
// initial nodes, and forms the cluster with them. It returns when every replica
// takes part in its group; that a shard has a leader it does not promise.
//
// Errors say what is wrong, where, and what to do. Nothing that was in the data
// directory is overwritten when it fails.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("the configuration of the node is not usable: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Network == nil {
		cfg.Network = TCP{}
	}
	if cfg.Clock == nil {
		cfg.Clock = raftfsm.SystemClock()
	}
	cfg.Logger = cfg.Logger.With("node", string(cfg.NodeID))
	n := &Node{
		cfg: cfg, log: cfg.Logger, fatalErr: make(chan error, 1),
		metrics: newMetrics(cfg.Metrics), rpcMetrics: shardrpc.NewMetrics(cfg.Metrics),
	}
	registerSpace(cfg.Metrics, cfg.DataDir)
	n.replicas.Store(new([]*replica))
	n.life, n.end = context.WithCancel(context.Background())
	if err := n.open(ctx); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), cfg.Timing.Close)
		defer cancel()
		return nil, errors.Join(n.reasonFor(err), n.release(ctx))
	}
	return n, nil
}

// open is Open in order; release undoes as much of it as was done.
func (n *Node) open(ctx context.Context) error {
	// 1. The data directory, and with it who this node is. Its lock comes before
	// everything that writes.
	formed, err := n.openData()
	if err != nil {
		return err
	}
	// 2. The peer port. It serves introductions from now on, so that nodes that
	// start later can form the cluster or learn that there is one.
	if err := n.openPort(formed); err != nil {
		return err
	}
	if formed == nil || !n.cfg.Movable {
		if err := n.checkReach(ctx, formed); err != nil {
			return err
		}
	}
	// 3. The cluster: the one of before, or the one that forms now. It is on disk
	// before anything depends on it.
	if formed == nil {
		if err := n.form(ctx); err != nil {
			return err
		}
	}
	// 4. From here on it is known whom to talk to.
	if err := n.meetPeers(); err != nil {
		return err
	}
	if formed != nil {
		n.background(n.confirm)
	}
	n.background(n.watchPeers)
	// 5. The replicas: all examined, and only then opened, because opening writes;
	// then, in a new cluster, given their first entry, and only when all have it on
	// disk, started.
	return n.openReplicas()
}

// openData opens the data directory and reads the cluster's file, if it has one.
func (n *Node) openData() (*clusterInfo, error) {
	var err error
	n.dir, err = openDataDir(n.cfg.DataDir, identity{
		NodeID: n.cfg.NodeID, Shards: n.cfg.Shards, LogStore: n.cfg.LogStore, Created: time.Now().UTC(),
	})
	if err != nil {
		return nil, err
	}
	path := n.dir.file(clusterFile)
	found, err := readJSON(path, &n.cluster)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, n.checkUnformed(path)
	}
	if err := n.cluster.check(path); err != nil {
		return nil, err
	}
	if err := n.cluster.admits(n.cfg.NodeID, n.dir.id.Incarnation); err != nil {
		return nil, fmt.Errorf("%s does not fit %s in the same directory: %w", clusterFile, nodeFile, err)
	}
	return &n.cluster, n.cluster.matches(n.cfg)
}

// checkUnformed tells whether a directory without the cluster's file may form
// a cluster.
func (n *Node) checkUnformed(path string) error {
	if n.dir.id.ClusterID != "" {
		return fmt.Errorf("%s is missing, and node %q belongs to cluster %s: copy the file from another node of the cluster", path, n.cfg.NodeID, n.dir.id.ClusterID)
	}
	if len(n.cfg.Initial) == 0 {
		return errors.New("a node that starts for the first time needs the list of the initial nodes: give --initial-cluster ID=ADDR,ID=ADDR,..., the same on each")
	}
	return nil
}

// openPort opens the peer port and begins to serve.
func (n *Node) openPort(formed *clusterInfo) (err error) {
	n.port, err = newPeerPort(n.cfg, n.metrics.port)
	if err != nil {
		return err
	}
	self := member{ID: n.cfg.NodeID, Incarnation: n.dir.id.Incarnation, Address: n.advertised()}
	n.formation = newFormation(n.cfg, self, formed)
	n.server = grpc.NewServer(shardrpc.ServerOptions()...)
	formationpb.RegisterFormationServer(n.server, n.formation)
	shardrpc.Register(n.server, n, n.rpcMetrics)
	n.done.Go(func() {
		if err := n.server.Serve(n.port.rpc); err != nil && !n.stopping.Load() {
			n.log.Debug("the gRPC server has ended", "error", err)
		}
	})
	return nil
}

// form forms the cluster and makes it durable: first what all nodes agreed on,
// then the note of it in the node's own file.
func (n *Node) form(ctx context.Context) (err error) {
	if n.cluster, err = n.formation.join(ctx, n.cfg.Network); err != nil {
		n.lastAnswers()
		return err
	}
	if err := n.saveCluster(); err != nil {
		return err
	}
	n.log.Info("the cluster has formed", "cluster", n.cluster.ClusterID, "nodes", n.cluster.memberList(), "shards", n.cluster.Shards)
	return nil
}

// lastAnswers gives the other nodes a moment to hear why the cluster can't form.
func (n *Node) lastAnswers() {
	answered := make(chan struct{})
	go func() {
		n.server.GracefulStop()
		close(answered)
	}()
	timer := time.AfterFunc(lastAnswersLimit, n.server.Stop)
	<-answered
	timer.Stop()
}

func (n *Node) saveCluster() error {
	if err := writeJSON(n.dir.file(clusterFile), n.cluster); err != nil {
		return fmt.Errorf("write the cluster's file: %w", err)
	}
	return nil
}

// meetPeers lets Raft streams in and connects to the other nodes.
func (n *Node) meetPeers() (err error) {
	if n.dir.id.ClusterID != n.cluster.ClusterID {
		n.dir.id.ClusterID = n.cluster.ClusterID
		if err := n.dir.saveIdentity(); err != nil {
			return err
		}
	}
	n.peers, err = newPeers(n, n.cluster.addresses(n.cfg.Initial))
	if err != nil {
		return err
	}
	n.port.admit(portIdentity{
		cluster: n.cluster.ClusterID,
		self:    serverID(n.cfg.NodeID, n.dir.id.Incarnation),
		resolve: n.peers.addr,
	})
	n.directory = shardrpc.NewDirectory(shardrpc.DirectoryConfig{
		Shards: n.cluster.Shards, Metrics: n.rpcMetrics, Leaderless: n.leaderless,
	})
	n.dispatcher = shardrpc.NewDispatcher(shardrpc.DispatcherConfig{Directory: n.directory, Metrics: n.rpcMetrics})
	for id, c := range n.peers.clients {
		n.directory.SetMember(id, c)
	}
	n.directory.SetMember(n.cfg.NodeID, n)
	n.levels = shardrpc.NewLevels(shardrpc.LevelsConfig{Directory: n.directory, Metrics: n.rpcMetrics, Log: n.log})
	return nil
}

// background runs f until the node is closed.
func (n *Node) background(f func(ctx context.Context)) {
	n.done.Go(func() { f(n.life) })
}

// confirm ends the node when the others don't accept it.
func (n *Node) confirm(ctx context.Context) {
	if err := n.formation.confirm(ctx, n.cfg.Network, n.peers.others()); err != nil {
		n.fatal(err)
	}
}

// openReplicas opens and starts the replicas that are placed on this node.
func (n *Node) openReplicas() error {
	table, err := n.cluster.placement()
	if err != nil {
		return fmt.Errorf("place the shards: %w", err)
	}
	// For itself: a crash may have come after it was made and before its name was durable.
	if err := makeDir(filepath.Join(n.cfg.DataDir, shardsDir)); err != nil {
		return fmt.Errorf("make the directory of the shards: %w", err)
	}
	env := n.environment()
	replicas := make([]*replica, n.cluster.Shards)
	n.opened = replicas
	for s, hosts := range table {
		if !contains(hosts, n.cfg.NodeID) {
			continue
		}
		if replicas[s], err = examineReplica(env, allocator.ShardID(s)); err != nil {
			return err
		}
	}
	for _, r := range replicas {
		if r == nil {
			continue
		}
		if err := r.open(); err != nil {
			return err
		}
	}
	if err := n.bootstrap(replicas, table); err != nil {
		return err
	}
	for _, r := range replicas {
		if r == nil {
			continue
		}
		if err := r.start(); err != nil {
			return err
		}
	}
	n.replicas.Store(&replicas) // all of them run: others may ask
	n.levels.Notify(n.levelsChanged)
	if n.cfg.Metrics != nil {
		return errors.Join(n.cfg.Metrics.Register(newStateCollector(n.all)), n.cfg.Metrics.Register(newStockCollector(n.all)))
	}
	return nil
}

// levelsChanged tells the leaders here, who may have proposals in line.
func (n *Node) levelsChanged(skus []allocator.SKU) {
	for _, r := range n.all() {
		if r != nil {
			r.stock.levelsChanged(skus)
		}
	}
}

// environment is what the replicas share.
func (n *Node) environment() *environment {
	return &environment{
		cfg: n.cfg, cluster: &n.cluster,
		self: serverID(n.cfg.NodeID, n.dir.id.Incarnation),
		port: n.port, metrics: n.metrics, tasks: n.leaderTasks(),
		clock: n.cfg.Clock, statuses: n.peers.statuses,
		fatal:  n.fatal,
		led:    n.led,
		others: n.dispatcher, levels: n.levels, pulls: newPullMetrics(n.cfg.Metrics),
	}
}

// leaderTasks are what a shard's leader does beside proposals.
func (n *Node) leaderTasks() []leaderTask {
	return []leaderTask{func(ctx context.Context, r *replica) { r.stock.run(ctx) }}
}

// bootstrap gives each replica of a new cluster its first entry, and notes that
// all have it. A crash in between repeats it for those that have none: no
// replica has voted by then.
func (n *Node) bootstrap(replicas []*replica, table [][]string) error {
	if n.cluster.Bootstrapped {
		return nil
	}
	for s, r := range replicas {
		if r == nil || r.hasState {
			continue
		}
		if err := r.bootstrap(n.cluster.configuration(table[s])); err != nil {
			return err
		}
	}
	n.cluster.Bootstrapped = true
	return n.saveCluster()
}

func contains(hosts []string, id shardrpc.NodeID) bool {
	for _, h := range hosts {
		if h == string(id) {
			return true
		}
	}
	return false
}

// all gives the replicas by shard; it is empty before they have started.
func (n *Node) all() []*replica { return *n.replicas.Load() }

// replica gives this node's replica of a shard; nil when there is none, or when
// the node is not that far yet.
func (n *Node) replica(s allocator.ShardID) *replica {
	if all := n.all(); int(s) < len(all) {
		return all[s]
	}
	return nil
}

// ID is the node's name.
func (n *Node) ID() shardrpc.NodeID { return n.cfg.NodeID }

// ClusterID names the cluster.
func (n *Node) ClusterID() string { return n.cluster.ClusterID }

// HashSecret keys the hashes that the cluster's nodes must agree on.
func (n *Node) HashSecret() [16]byte { return n.cluster.secret() }

// Shards is the number of shards of the cluster.
func (n *Node) Shards() int { return n.cluster.Shards }

// Addr is the address that the peer port listens on.
func (n *Node) Addr() string { return n.port.listener.Addr().String() }

// Dispatcher sends commands to the leader of their shard, here or elsewhere.
func (n *Node) Dispatcher() *shardrpc.Dispatcher { return n.dispatcher }

// LevelTable knows what all shards have of the SKUs that are wanted.
func (n *Node) LevelTable() *shardrpc.Levels { return n.levels }

// advertised is the address under which the others know this node, or would.
func (n *Node) advertised() string {
	// The port knows whether the cluster has formed; n.cluster is written while others ask.
	if n.cfg.Movable && n.port.cluster() != "" && !listensEverywhere(n.cfg.Listen) {
		return n.cfg.Listen
	}
	if addr := n.cfg.address(n.cfg.NodeID); addr != "" {
		return addr
	}
	// Without a list this is no first start: the cluster is known since before
	// the port was opened.
	if m, ok := n.cluster.member(n.cfg.NodeID); ok && len(n.cluster.Members) > 1 {
		return m.Address
	}
	return n.cfg.Listen
}

// status is what the node tells about itself. It may be asked while the node
// still opens.
func (n *Node) status() shardrpc.Status {
	s := shardrpc.Status{
		Node:      n.cfg.NodeID,
		ClusterID: n.port.cluster(),
		Version:   n.cfg.Version,
		HTTP:      n.cfg.HTTP,
		Ops:       n.cfg.Ops,
		Peer:      n.advertised(),
		WallClock: n.cfg.Clock.Wall(),
	}
	for _, r := range n.all() {
		if r != nil {
			s.Shards = append(s.Shards, r.status())
		}
	}
	return s
}
