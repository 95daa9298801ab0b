package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"stockade/allocator"
	"stockade/shard"
	"stockade/shard/membership"
	"stockade/shard/shardrpc"
)

// Ports that the gossip listens on when no address is given.
const (
	nodeGossipPort = "8403"
	anyPort        = "0"
)

// gossip is a service's part in the gossip: what the settings say of it, and, once it
// is known which cluster this is, the membership. A nil gossip takes no part. It belongs
// to the goroutine that starts and stops the service.
type gossip struct {
	listen, advertise string
	join              []string
	keys              *membership.Keys
	keyFile           string
	allow             []netip.Prefix
	zone, id          string

	members *membership.Membership // nil until it is started
	stop    context.CancelFunc     // of what follows the members
	ctx     context.Context
	done    sync.WaitGroup
}

// gossipOf reads the settings. Without an address the gossip listens beside another port
// of the service, if there is anybody to meet: when members are named, or when that port
// is for other machines. Nil: it takes no part.
func gossipOf(s settings, beside, port string) (*gossip, error) {
	g := &gossip{listen: s.text("gossip")}
	if _, ok := s["join"]; ok { // dev knows whom it meets, and is on this machine
		g.join, g.zone, g.id = splitList(s.text("join")), s.text("zone"), s.text("id")
		g.advertise = s.text("gossip-advertise")
		g.allow, _ = parseNetworks(s.text("gossip-allow")) // it was checked
	}
	if g.listen == "" {
		if len(g.join) == 0 && (isLoopback(beside) || port == anyPort) {
			return nil, nil
		}
		host, _, err := net.SplitHostPort(beside)
		if err != nil {
			return nil, fmt.Errorf("read the address %s: %w", beside, err)
		}
		g.listen = net.JoinHostPort(host, port)
	}
	if path := s.text("gossip-key-file"); path != "" {
		keys, err := membership.ReadKeys(path)
		if err != nil {
			return nil, err
		}
		g.keys, g.keyFile = keys, path
	}
	if g.keys == nil && !isLoopback(g.listen) && !s.yes("insecure") {
		return nil, fmt.Errorf("--gossip %s can be reached from other machines, and nothing encrypts the gossip: give --gossip-key-file FILE, or pass --insecure if everyone on the network may be trusted", g.listen)
	}
	return g, nil
}

// tryPort finds out whether the port can be opened. It is opened when it is known which
// cluster this is, which may take long: that it is in use is said before.
func (g *gossip) tryPort(ctx context.Context) error {
	if g == nil {
		return nil
	}
	return tryListen(ctx, "gossip", g.listen)
}

// start begins to take part.
func (g *gossip) start(s *service, cluster string, facts membership.Facts, nodes map[string]string) error {
	facts.HTTP, facts.Ops, facts.Zone, facts.Version = s.addrs.HTTP, s.addrs.Ops, g.zone, buildVersion()
	members, err := membership.Start(membership.Config{
		Facts: facts, Cluster: cluster, Nodes: nodes, Listen: g.listen, Advertise: g.advertise, Join: g.join,
		Keys: g.keys, Allow: g.allow, Log: s.log, Metrics: s.registry,
	})
	if err != nil {
		return err
	}
	g.members = members
	g.ctx, g.stop = context.WithCancel(context.Background())
	s.addrs.Gossip = members.Addr()
	if g.keys != nil {
		g.done.Go(func() { g.watchKeys(s.log) })
	}
	return members.Update(func(f *membership.Facts) {
		for _, addr := range []*string{&f.Peer, &f.HTTP, &f.Ops} {
			*addr = withHost(*addr, members.Addr())
		}
	})
}

// keysEvery is how often the file of keys is looked at.
const keysEvery = 2 * time.Second

// watchKeys takes over the keys when their file changes, so that keys can be changed
// while everybody runs. A file that can't be used changes nothing.
func (g *gossip) watchKeys(log *slog.Logger) {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	var told string
	for {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		changed, err := g.keys.Reload(g.keyFile)
		if changed {
			log.Info("the gossip keys have changed", "keys", len(g.keys.All()), "sends_with", membership.KeyName(g.keys.All()[0]))
		}
		if err != nil && err.Error() != told {
			log.Error("the gossip keys can't be read again; those of before stay", "error", err)
		}
		told = ""
		if err != nil {
			told = err.Error()
		}
	}
}

// withHost gives an address that listens on all addresses of the machine the host of
// another one, at which the others reach this machine.
func withHost(addr, other string) string {
	host, port, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	if err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return addr
	}
	reached, _, err := net.SplitHostPort(other)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(reached, port)
}

// gossipBeside is where the gossip of a node is unless it was told another port: so nodes
// find each other by what their cluster was made of, also when nobody was named to them,
// or whoever was is gone. Nodes on one machine have ports of their own. "": nowhere.
func gossipBeside(peer string) string {
	host, _, err := net.SplitHostPort(peer)
	if err != nil || isLoopback(peer) {
		return ""
	}
	return net.JoinHostPort(host, nodeGossipPort)
}

// withNode takes part as a node: it tells which shards the node leads, and the node
// where the others are.
func (g *gossip) withNode(s *service, node *shard.Node) error {
	if g == nil {
		return nil
	}
	in := node.Introduction()
	nodes := make(map[string]string)
	for id, incarnation := range in.Nodes {
		nodes[string(id)] = incarnation
	}
	facts := membership.Facts{ID: string(node.ID()), Role: membership.Node, Incarnation: in.Incarnation, Fingerprint: in.Fingerprint, Peer: s.addrs.Peer}
	if err := g.start(s, node.ClusterID(), facts, nodes); err != nil {
		return err
	}
	for _, peer := range in.Peers {
		g.meet(gossipBeside(peer))
	}
	node.OnLead(func(shard allocator.ShardID, term uint64) {
		g.members.Lead(membership.Claim{Shard: uint16(shard), Term: term})
	})
	g.follow(node.Dispatcher().Directory(), func(id shardrpc.NodeID, addr string) { node.Relocate(id, addr) })
	return nil
}

// find takes part as a router: it asks whoever is named which cluster that is, and waits
// until a node has been found.
func (g *gossip) find(ctx context.Context, s *service) error {
	if g == nil {
		return nil
	}
	if err := g.tryPort(ctx); err != nil {
		return err
	}
	var cluster string
	err := again(ctx, func() (err error) {
		cluster, err = membership.Discover(ctx, g.join)
		return err
	}, func(err error) { s.log.Warn("no cluster has been found yet", "error", err) })
	if err != nil {
		return err
	}
	id := g.id
	if id == "" {
		id = routerID()
	}
	if err := g.start(s, cluster, membership.Facts{ID: id, Role: membership.Router}, nil); err != nil {
		return err
	}
	s.log.Info("looking for the nodes of the cluster", "cluster", cluster, "router", id)
	return again(ctx, func() error {
		if len(g.nodes()) == 0 {
			return errors.New("none is known to be alive")
		}
		return nil
	}, func(err error) {
		s.log.Warn("no node of the cluster has been found yet", "cluster", cluster, "error", err)
	})
}

// again calls f until it succeeds or ctx ends, and tells from time to time why it has
// not.
func again(ctx context.Context, f func() error, tell func(error)) error {
	pause := time.NewTicker(lookUpPause)
	defer pause.Stop()
	var told time.Time
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && time.Since(told) >= waitingEvery {
			told = time.Now()
			tell(err)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// idChars is what a router's name has of its host's.
const idChars = maxIDLen - 9

// routerID makes a name: that of the host, and a part that no other router has.
func routerID() string {
	host, _ := os.Hostname()
	host = strings.Map(func(r rune) rune {
		if validID(string(r)) {
			return r
		}
		return '-'
	}, host)
	return host[:min(len(host), idChars)] + "-" + strings.ToLower(rand.Text()[:8])
}

// nodes are the nodes that are there.
func (g *gossip) nodes() (known []shard.Peer) {
	if g == nil || g.members == nil {
		return nil
	}
	for _, m := range g.members.View().Alive(membership.Node) {
		known = append(known, shard.Peer{ID: shardrpc.NodeID(m.ID), Addr: m.Peer})
	}
	return known
}

// follow tells a directory who leads, and moved where nodes are, until the service stops.
func (g *gossip) follow(directory *shardrpc.Directory, moved func(id shardrpc.NodeID, addr string)) {
	if g == nil {
		return
	}
	g.done.Go(func() {
		told := make(map[uint16]membership.Claim)
		for {
			changed := g.members.Changed()
			view := g.members.View()
			for _, m := range view.Alive(membership.Node) {
				moved(shardrpc.NodeID(m.ID), m.Peer)
			}
			for _, c := range view.Leaders {
				if told[c.Shard] != c { // else a leader that has failed since would be tried again
					told[c.Shard] = c
					directory.LearnTerm(allocator.ShardID(c.Shard), shardrpc.NodeID(c.Node), c.Term)
				}
			}
			select {
			case <-changed:
			case <-g.ctx.Done():
				return
			}
		}
	})
}

// meet names a member to look for.
func (g *gossip) meet(addr string) {
	if g != nil && addr != "" {
		g.members.Meet(addr)
	}
}

// drain tells the others that the service is about to stop.
func (g *gossip) drain() {
	if g != nil && g.members != nil {
		_ = g.members.Update(func(f *membership.Facts) { f.Draining = true }) // they will see it go
	}
}

// close says goodbye.
func (g *gossip) close() error {
	if g == nil || g.members == nil {
		return nil
	}
	g.stop()
	g.done.Wait()
	return g.members.Close()
}
