package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"stockade/shard/internal/formationpb"
	"stockade/shard/shardrpc"
)

const (
	// confirmPause and confirmMaxPause bound the time between two attempts to
	// ask a node that does not answer.
	confirmPause    = 200 * time.Millisecond
	confirmMaxPause = 5 * time.Second
)

// errOtherCluster is why a node does not accept this one.
var errOtherCluster = errors.New("it belongs to another cluster")

// confirm asks the other members of the cluster that this node belongs to, once
// each, whether they accept it. It returns when all have answered or ctx ends;
// the error says that most of them don't: then this start got the data
// directory of another cluster, or one that has been replaced since. One node
// that does not accept it may itself be the one that is wrong.
//
// Nothing waits for the answer: nodes of different clusters refuse each other's
// Raft streams and calls in any case. It is for a clear sentence and a quick
// end instead of a node that stays alone.
func (f *formation) confirm(ctx context.Context, network Network, others []Peer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	refused := 0
	var talks sync.WaitGroup
	for _, p := range others {
		talks.Go(func() {
			err := f.ask(ctx, network, p)
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if refused++; 2*refused > len(others) {
				cancel(fmt.Errorf("the other nodes don't accept data directory %s, which belongs to cluster %s: node %s at %s: %w",
					f.cfg.DataDir, f.cluster.ClusterID, p.ID, p.Addr, err))
			}
		})
	}
	talks.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// ask asks one node until it answers or ctx ends; the error is its refusal.
func (f *formation) ask(ctx context.Context, network Network, p Peer) error {
	pause := confirmPause
	for {
		reply, err := f.hello(ctx, network, p)
		if err == nil {
			return f.same(p.ID, reply)
		}
		if status.Code(err) == codes.FailedPrecondition {
			return errors.New(status.Convert(err).Message())
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, confirmMaxPause)
	}
}

// same tells whether another node belongs to the same cluster. One that has no
// cluster yet says nothing about this one.
func (f *formation) same(id shardrpc.NodeID, in *formationpb.Introduction) error {
	if len(in.GetCluster()) == 0 || shardrpc.NodeID(in.GetNodeId()) != id {
		return nil
	}
	var c clusterInfo
	if json.Unmarshal(in.GetCluster(), &c) == nil && c.ClusterID != f.cluster.ClusterID {
		return fmt.Errorf("%w, %s", errOtherCluster, c.ClusterID)
	}
	return nil // the same, or of a version that this one can't read
}
