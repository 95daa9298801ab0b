package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"stockade/shard/internal/formationpb"
	"stockade/shard/shardrpc"
)

const (
	// helloPause is the time between two attempts to meet a node, helloTimeout
	// bounds one attempt.
	helloPause   = 200 * time.Millisecond
	helloTimeout = 2 * time.Second

	// progressEvery is how often a node that waits for others says so.
	progressEvery = 5 * time.Second

	// maxIntroduction bounds an introduction: a cluster file and little else.
	maxIntroduction = 2 * maxStateFile
)

// A formation makes a cluster out of the initial nodes. Each tells all others
// who it is, and by which settings it would form the cluster. A node forms it
// when it has heard everyone, all agree, and all said that they heard the same:
// then no two nodes can form clusters that differ, even when one of them lost
// its disk in between. From then on the node answers with the cluster it
// belongs to, which is how a node that was slower learns that it has formed.
//
// It serves Hello for the whole life of the node. Methods may be called from
// any goroutine.
type formation struct {
	formationpb.UnimplementedFormationServer
	cfg  Config
	self member
	log  *slog.Logger

	mu      sync.Mutex
	heard   map[shardrpc.NodeID]member
	views   map[shardrpc.NodeID]string // the cluster each would form
	waiting map[shardrpc.NodeID]wait
	cluster *clusterInfo // once formed
	err     error        // once it can't form
	done    chan struct{}
}

// wait is why a node has not been heard yet.
type wait struct {
	since time.Time
	err   error
}

// newFormation makes the formation of a node; formed is the cluster that it
// belongs to already, if any.
func newFormation(cfg Config, self member, formed *clusterInfo) *formation {
	f := &formation{
		cfg: cfg, self: self, log: cfg.Logger,
		heard:   map[shardrpc.NodeID]member{self.ID: self},
		views:   make(map[shardrpc.NodeID]string),
		waiting: make(map[shardrpc.NodeID]wait),
		done:    make(chan struct{}),
	}
	if formed != nil {
		c := *formed // the node's own may change
		f.cluster = &c
		close(f.done)
	}
	return f
}

// join takes part until the cluster has formed.
func (f *formation) join(ctx context.Context, network Network) (clusterInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	var talks sync.WaitGroup
	defer talks.Wait()
	defer cancel()
	f.mu.Lock()
	f.advance() // a cluster of one is complete
	f.mu.Unlock()
	for _, p := range f.cfg.Initial {
		if p.ID != f.self.ID {
			talks.Go(func() { f.talk(ctx, network, p) })
		}
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-f.done:
			if f.err != nil { // neither changes any more
				return clusterInfo{}, f.err
			}
			return *f.cluster, nil
		case <-ctx.Done():
			return clusterInfo{}, fmt.Errorf("the cluster has not formed: %w: %s", context.Cause(ctx), f.progress())
		case <-ticker.C:
			f.log.Info("the cluster is forming: " + f.progress())
		}
	}
}

// progress says who is missing.
func (f *formation) progress() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var parts []string
	for _, p := range f.cfg.Initial {
		w, ok := f.waiting[p.ID]
		if !ok {
			continue
		}
		parts = append(parts, fmt.Sprintf("waiting for %s at %s since %v: %v", p.ID, p.Addr, time.Since(w.since).Round(time.Second), w.err))
	}
	if len(parts) == 0 {
		return "all nodes were heard, waiting for them to hear each other"
	}
	return strings.Join(parts, "; ")
}

// talk says hello to one node until the formation is over.
func (f *formation) talk(ctx context.Context, network Network, p Peer) {
	for {
		reply, err := f.hello(ctx, network, p)
		if err == nil {
			err = f.take(p, reply)
		}
		f.noteWait(p.ID, err)
		if status.Code(err) == codes.FailedPrecondition {
			f.end(nil, errors.New(status.Convert(err).Message()))
		}
		timer := time.NewTimer(helloPause)
		select {
		case <-timer.C:
		case <-f.done:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (f *formation) noteWait(id shardrpc.NodeID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.waiting, id)
		return
	}
	w, ok := f.waiting[id]
	if !ok {
		w.since = time.Now()
	}
	w.err = err
	f.waiting[id] = w
}

// hello asks one node once.
func (f *formation) hello(ctx context.Context, network Network, p Peer) (in *formationpb.Introduction, err error) {
	err = callFormation(ctx, network, p.Addr, func(ctx context.Context, c formationpb.FormationClient) error {
		in, err = c.Hello(ctx, f.introduction())
		return err
	})
	return in, err
}

// callFormation lets call talk to the formation of the node at addr, once.
func callFormation(ctx context.Context, network Network, addr string, call func(context.Context, formationpb.FormationClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	// The dial comes first, for its error says more than gRPC's.
	conn, err := network.Dial(ctx, addr)
	if err != nil {
		return err
	}
	unused := make(chan net.Conn, 1) // empty once gRPC has taken it
	unused <- conn
	take := func() (net.Conn, error) {
		select {
		case c := <-unused:
			return c, nil
		default:
			return nil, net.ErrClosed
		}
	}
	defer func() {
		if c, err := take(); err == nil {
			_ = c.Close()
		}
	}()
	once := func(context.Context, string) (net.Conn, error) { return take() }
	client, err := grpc.NewClient("passthrough:///"+addr, grpc.WithContextDialer(once),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxIntroduction)))
	if err != nil {
		return err
	}
	defer client.Close()
	return call(ctx, formationpb.NewFormationClient(client))
}

// Hello implements the service.
func (f *formation) Hello(_ context.Context, in *formationpb.Introduction) (*formationpb.Introduction, error) {
	if err := f.receive(in); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return f.introduction(), nil
}

// introduction is what this node says of itself now.
func (f *formation) introduction() *formationpb.Introduction {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := &formationpb.Introduction{
		NodeId: string(f.self.ID), Incarnation: f.self.Incarnation,
		Fingerprint: f.cfg.fingerprint(), View: f.view(),
	}
	if f.cluster != nil {
		// It was read from JSON or is about to be written as such.
		in.Cluster, _ = json.Marshal(f.cluster)
	}
	return in
}

// view is the id of the cluster that everyone heard would make; empty while
// somebody is missing. f.mu is held.
func (f *formation) view() string {
	if f.cluster != nil {
		return f.cluster.ClusterID
	}
	if len(f.heard) < len(f.cfg.Initial) {
		return ""
	}
	return f.candidate().ClusterID
}

// candidate is the cluster that everyone heard would make. f.mu is held.
func (f *formation) candidate() clusterInfo {
	members := make([]member, 0, len(f.heard))
	for _, m := range f.heard {
		members = append(members, m)
	}
	return newClusterInfo(f.cfg, members)
}

// receive takes what another node said of itself.
func (f *formation) receive(in *formationpb.Introduction) error {
	id := shardrpc.NodeID(in.GetNodeId())
	if !validNodeID(id) || !validIncarnation(in.GetIncarnation()) {
		return fmt.Errorf("the introduction of node %q is not well-formed", id)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cluster != nil {
		return f.cluster.admits(id, in.GetIncarnation())
	}
	if f.err != nil {
		return f.err
	}
	if !slices.ContainsFunc(f.cfg.Initial, func(p Peer) bool { return p.ID == id }) {
		return fmt.Errorf("node %q is not among the initial nodes that %q was started with (%s)", id, f.self.ID, peerList(f.cfg.Initial))
	}
	err := f.compare(id, in)
	if err != nil {
		f.endLocked(nil, err)
		return err
	}
	f.heard[id] = member{ID: id, Incarnation: in.GetIncarnation(), Address: f.cfg.address(id)}
	f.views[id] = in.GetView()
	f.advance()
	return nil
}

// compare looks for what keeps this node from forming a cluster with another.
// f.mu is held.
func (f *formation) compare(id shardrpc.NodeID, in *formationpb.Introduction) error {
	if d := differences(f.cfg.fingerprint(), in.GetFingerprint()); d != "" {
		return fmt.Errorf("nodes %q and %q don't agree on the cluster to form: %s; start all initial nodes with the same settings", f.self.ID, id, d)
	}
	if m, ok := f.heard[id]; ok && m.Incarnation != in.GetIncarnation() {
		return fmt.Errorf("node %q is there twice, or its data directory was replaced while the cluster formed (identities %s and %s): "+
			"stop all nodes, remove their data directories, and start each once", id, m.Incarnation[:incarnationPrefix], in.GetIncarnation()[:incarnationPrefix])
	}
	return nil
}

// take uses the answer of the node at p.
func (f *formation) take(p Peer, in *formationpb.Introduction) error {
	if shardrpc.NodeID(in.GetNodeId()) != p.ID {
		err := fmt.Errorf("at %s, where node %q should be, node %q answers: check --initial-cluster", p.Addr, p.ID, in.GetNodeId())
		f.end(nil, err)
		return err
	}
	if len(in.GetCluster()) == 0 {
		return f.receive(in)
	}
	var c clusterInfo
	if err := json.Unmarshal(in.GetCluster(), &c); err != nil {
		return fmt.Errorf("node %q sent a cluster that can't be read: %w", p.ID, err)
	}
	if err := c.check("the cluster file of node " + string(p.ID)); err != nil {
		return err
	}
	err := errors.Join(c.admits(f.self.ID, f.self.Incarnation), c.matches(f.cfg))
	if err != nil {
		f.end(nil, err)
		return err
	}
	c.Bootstrapped = false // that is about the other node's disk
	f.end(&c, nil)
	return nil
}

// advance forms the cluster if everyone heard the same. f.mu is held.
func (f *formation) advance() {
	view := f.view()
	if view == "" {
		return
	}
	for _, p := range f.cfg.Initial {
		if p.ID != f.self.ID && f.views[p.ID] != view {
			return
		}
	}
	c := f.candidate()
	c.Formed = time.Now().UTC()
	f.endLocked(&c, nil)
}

func (f *formation) end(c *clusterInfo, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(c, err)
}

// endLocked ends the formation; the first to do so wins. f.mu is held.
func (f *formation) endLocked(c *clusterInfo, err error) {
	if f.cluster != nil || f.err != nil {
		return
	}
	f.cluster, f.err = c, err
	close(f.done)
}
