package router

import (
	"context"
	"sync"
	"time"
)

// nodesFreshFor is how long one look at all nodes serves every client that asks for
// them: many clients ask when one node has died.
const nodesFreshFor = time.Second

// nodesCache keeps the last look at all nodes.
type nodesCache struct {
	mu   sync.Mutex // held during a look, so that all who come meanwhile share it
	view ClusterView
	at   time.Time
}

// Nodes is Cluster for clients that look for nodes: the answer may be a second old.
func (r *Router) Nodes(ctx context.Context) (ClusterView, error) {
	r.nodes.mu.Lock()
	defer r.nodes.mu.Unlock()
	if now := r.now(); now.Sub(r.nodes.at) < nodesFreshFor {
		return r.nodes.view, nil
	}
	view, err := r.Cluster(context.WithoutCancel(ctx)) // others get it too
	if err != nil {
		return view, err
	}
	r.nodes.view, r.nodes.at = view, r.now()
	return view, nil
}
