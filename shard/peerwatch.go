package shard

import (
	"context"
	"time"

	"stockade/shard/shardrpc"
)

// peersEvery is how often other nodes are asked for the metrics of peers: often enough
// for a scrape, seldom enough not to show.
const peersEvery = 5 * time.Second

// watchPeers measures how far away the other nodes are, and what their clocks say, until
// ctx ends.
func (n *Node) watchPeers(ctx context.Context) {
	tick := time.NewTicker(peersEvery)
	defer tick.Stop()
	for {
		for id, c := range n.peers.clients {
			n.watchPeer(ctx, id, c)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// watchPeer asks one node. What is not known is no series: a number from before would
// look like one of now.
func (n *Node) watchPeer(ctx context.Context, id shardrpc.NodeID, c *shardrpc.Client) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	asked := n.cfg.Clock.Monotonic()
	s, err := c.Status(ctx)
	trip := n.cfg.Clock.Monotonic() - asked
	if err != nil || s.WallClock.IsZero() {
		n.metrics.roundTrip.DeleteLabelValues(string(id))
		n.metrics.offset.DeleteLabelValues(string(id))
		return
	}
	ahead := s.WallClock.Add(trip / 2).Sub(n.cfg.Clock.Wall())
	n.metrics.roundTrip.WithLabelValues(string(id)).Set(trip.Seconds())
	n.metrics.offset.WithLabelValues(string(id)).Set(ahead.Seconds())
}
