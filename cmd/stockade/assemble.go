package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"stockade/router"
	"stockade/router/httpapi"
	"stockade/shard"
	"stockade/shard/shardrpc"
)

// maxScrapes bounds the scrapes of /metrics under way: each walks all series.
const maxScrapes = 4

// service is one node with its HTTP servers, or a router alone, wired and
// running: newService, then startNode or startRouter, in the end drain and close.
type service struct {
	log      *slog.Logger
	addrs    addresses
	registry *prometheus.Registry

	listeners         []net.Listener // http, ops and, for a node, peer
	data, ops         *httpServer
	dataGate, opsGate *gate

	health *health
	gossip *gossip // nil: it takes no part
	// closeParts ends what is behind the HTTP servers: it finishes what is in
	// flight, hands leadership over, and closes. ctx bounds the first two.
	closeParts func(ctx context.Context) error

	// failures gets the reason when the service can't go on.
	failures chan<- error
	stopped  chan struct{} // closed when the stop begins: from then on nothing is a failure
}

// newService opens the listeners of a service, those with an address, and
// answers on the HTTP ports that nothing is there yet.
func newService(ctx context.Context, wanted addresses, log *slog.Logger, failures chan<- error) (*service, error) {
	s := &service{
		log: log, registry: newRegistry(), failures: failures, stopped: make(chan struct{}),
		dataGate: new(gate), opsGate: new(gate),
	}
	if err := s.listen(ctx, wanted); err != nil {
		s.closeListeners()
		return nil, err
	}
	s.data = newHTTPServer("http", s.listeners[0], s.dataGate, log)
	s.ops = newHTTPServer("ops", s.listeners[1], s.opsGate, log)
	for _, server := range []*httpServer{s.data, s.ops} {
		server.start()
		go s.forward(server.failed)
	}
	return s, nil
}

// listen opens the listeners and notes their addresses.
func (s *service) listen(ctx context.Context, wanted addresses) error {
	for _, port := range []struct {
		name, addr string
		chosen     *string
	}{{"http", wanted.HTTP, &s.addrs.HTTP}, {"ops", wanted.Ops, &s.addrs.Ops}, {"peer", wanted.Peer, &s.addrs.Peer}} {
		if port.addr == "" {
			continue
		}
		l, err := listen(ctx, port.name, port.addr)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, l)
		*port.chosen = l.Addr().String()
	}
	return nil
}

// closeListeners closes what nobody serves on.
func (s *service) closeListeners() {
	for _, l := range s.listeners {
		_ = l.Close() // what led here says more
	}
}

// startNode starts a node behind the HTTP servers. cfg's addresses are those of
// the listeners. The order matters:
//
//  1. The listeners came first (newService): a port in use costs nothing then,
//     and free ports are known before the node tells others its addresses. The
//     gossip's port is tried.
//  2. The node, with its data directory and its replicas. It may wait for others.
//     Then the gossip, which has to know which cluster this is.
//  3. The router, which asks this node directly and others through their
//     clients, as the node's own dispatcher does.
//  4. The HTTP handlers, last, when there is something to serve.
//
// After an error the service must be stopped all the same.
func (s *service) startNode(ctx context.Context, cfg shard.Config) error {
	cfg.Listen, cfg.HTTP, cfg.Ops = s.addrs.Peer, s.addrs.HTTP, s.addrs.Ops
	cfg.Network = openedNetwork{listener: s.listeners[2]}
	cfg.Metrics, cfg.Logger, cfg.Version = s.registry, s.log, buildVersion()
	cfg.Movable = s.gossip != nil
	if err := s.gossip.tryPort(ctx); err != nil {
		return err
	}
	node, err := shard.Open(ctx, cfg)
	if err != nil {
		return err
	}
	s.closeParts = node.Close
	s.log = s.log.With("node", string(node.ID()))
	go s.forward(node.Fatal())
	if err := s.gossip.withNode(s, node); err != nil {
		return err
	}
	return s.serve(backend{
		dispatcher: node.Dispatcher(), levels: node.LevelTable(), self: node.ID(), node: node,
		shards: node.Shards(), secret: node.HashSecret(), retention: cfg.Retention,
	})
}

// backend is what the router of a service works with.
type backend struct {
	dispatcher *shardrpc.Dispatcher
	levels     *shardrpc.Levels
	self       shardrpc.NodeID
	node       shardrpc.Node // nil for a router alone
	shards     int
	secret     [16]byte
	retention  time.Duration
}

// serve puts the router and the API before a backend and opens the gates.
func (s *service) serve(b backend) error {
	r, err := router.New(router.Config{
		Shards: b.shards, Secret: b.secret, Dispatcher: b.dispatcher, Levels: b.levels, Retention: b.retention,
		Metrics: router.NewMetrics(s.registry),
	})
	if err != nil {
		return fmt.Errorf("make the router: %w", err)
	}
	s.health = &health{shards: b.shards, self: b.self, node: b.node, directory: b.dispatcher.Directory()}
	metrics := httpapi.NewMetrics(s.registry)
	data, err := httpapi.NewData(httpapi.DataConfig{Router: r, Metrics: metrics, Log: s.log, IDs: r.IDs()})
	if err != nil {
		return fmt.Errorf("make the selling API: %w", err)
	}
	ops, err := httpapi.NewOps(httpapi.OpsConfig{
		Router: r, Health: s.health, Metrics: metrics, MetricsPage: s.metricsPage(), Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("make the administration API: %w", err)
	}
	s.dataGate.open(data)
	s.opsGate.open(ops)
	return nil
}

// newRegistry makes the metrics registry of a service with what every process
// has. In dev each node has a registry of its own.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "stockade_build_info",
		Help:        "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": buildVersion(), "go_version": runtime.Version()},
	}, func() float64 { return 1 })
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// metricsPage answers /metrics.
func (s *service) metricsPage() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelError),
		MaxRequestsInFlight: maxScrapes,
	})
}

// forward passes on why a part can't go on, unless the service is being stopped.
func (s *service) forward(failed <-chan error) {
	select {
	case err := <-failed:
		select {
		case s.failures <- err:
		case <-s.stopped:
		}
	case <-s.stopped:
	}
}

// The stop is the opposite of the start, in two steps, because in dev no node may
// close while another one still has requests under way:
//
//  1. drain: /readyz fails first, so that nobody new comes; then no connection is
//     taken any more, and the requests under way are finished.
//  2. close: the node hands its leaderships over and closes; the administration
//     port goes last, so that probes can see all that.
//
// Both are graceful until ctx ends, and hurry after that.

func (s *service) drain(ctx context.Context) error {
	close(s.stopped)
	if s.health != nil {
		s.health.stopping.Store(true)
	}
	s.gossip.drain()
	if err := s.data.stop(ctx); err != nil {
		return fmt.Errorf("some requests were cut off: %w", err)
	}
	return nil
}

func (s *service) close(ctx context.Context) error {
	var errs []error
	if s.closeParts != nil {
		errs = append(errs, s.closeParts(ctx))
	}
	errs = append(errs, s.gossip.close()) // last: it tells of the new leaders
	errs = append(errs, s.ops.stop(ctx))
	s.closeListeners()
	return errors.Join(errs...)
}

// openedNetwork is TCP with a listener that is open already.
type openedNetwork struct {
	shard.TCP
	listener net.Listener
}

// Listen implements shard.Network.
func (n openedNetwork) Listen(string) (net.Listener, error) { return n.listener, nil }
