package shard

import (
	"context"
	"errors"
	"sync"
	"time"
)

// How a node ends: because it is asked to, or because it can't go on.

// failedCloseLimit bounds the closing of a node that can't go on, whose replicas
// may never end.
const failedCloseLimit = time.Second

// Fatal gives the reason when the node can't go on. It gives one at most, for
// whoever runs the node to say. While the node is being closed nobody may ask any
// more, so then it is logged here.
func (n *Node) Fatal() <-chan error { return n.fatalErr }

// fatal cuts the node off and tells why. It does not wait for anything: the
// caller may hold up what would have to be waited for.
func (n *Node) fatal(err error) {
	n.fatalOnce.Do(func() {
		n.failed.Store(true)
		if n.stopping.Swap(true) {
			n.log.Error("while the node stopped: " + err.Error())
		}
		go n.port.close()
		n.fatalErr <- err
	})
}

// reasonFor is why the node could not be opened: what it met first, if it is not
// err alone.
func (n *Node) reasonFor(err error) error {
	select {
	case first := <-n.fatalErr:
		if !errors.Is(err, first) {
			return errors.Join(first, err)
		}
	default:
	}
	return err
}

// Close stops the node: it refuses new work, finishes what is in flight, hands
// its leaderships over, and closes everything. When ctx ends it hurries; what
// was acknowledged is on disk in any case. A node that can't go on has nothing to
// finish: a replica whose goroutines were ended where they stood would be waited
// for in vain, and whoever restarts the process would wait with it.
func (n *Node) Close(ctx context.Context) error {
	n.stopping.Store(true)
	if n.failed.Load() {
		ctx, cancel := context.WithTimeout(ctx, failedCloseLimit)
		defer cancel()
		return n.release(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Close)
	defer cancel()
	each(n.all(), func(r *replica) {
		// Not to finish in time is no error: the caller said how long to wait.
		if err := r.proposer.Drain(ctx); err != nil {
			n.log.Warn("some proposals were cut off", "shard", int(r.shard), "error", err)
		}
		if err := r.handOver(ctx); err != nil {
			n.log.Info("the leadership was not handed over; the others will elect", "shard", int(r.shard), "error", err)
		}
	})
	return n.release(ctx)
}

// each runs f for replicas at once and waits.
func each(replicas []*replica, f func(*replica)) {
	var all sync.WaitGroup
	for _, r := range replicas {
		if r != nil {
			all.Go(func() { f(r) })
		}
	}
	all.Wait()
}

// release closes what is open, in the reverse order of open.
func (n *Node) release(ctx context.Context) error {
	n.stopping.Store(true)
	n.end()
	n.levels.Close()
	if n.dispatcher != nil {
		n.dispatcher.Close()
		n.directory.Close()
	}
	if n.server != nil {
		n.server.Stop()
	}
	var errs []error
	var mu sync.Mutex
	each(n.opened, func(r *replica) {
		if err := r.close(ctx); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
	})
	if n.peers != nil {
		_ = n.peers.close() // a connection that ends badly has no more to say
	}
	if n.port != nil {
		n.port.close()
	}
	n.done.Wait()
	if n.dir != nil {
		errs = append(errs, n.dir.close())
	}
	return errors.Join(errs...)
}
