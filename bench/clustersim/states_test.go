package clustersim

import (
	"fmt"
	"sync"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// states are the rolling hashes that replicas were seen with, after how many commands.
// A replica that was ever in another state than one before it, after as many, has
// diverged: a restart, a rebuild and another leader must not change what a log means.
type states struct {
	mu   sync.Mutex
	seen map[stateAt]state
}

type stateAt struct {
	shard    allocator.ShardID
	commands uint64
}

type state struct {
	hash uint64
	host string
	at   time.Duration
}

// compare holds what a host says of its replicas against all that was said before.
func (s *states) compare(host string, status *shardrpc.Status, at time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range status.Shards {
		r := &status.Shards[i]
		where := stateAt{r.Shard, r.Commands}
		first, ok := s.seen[where]
		if !ok {
			s.seen[where] = state{r.StateHash, host, at}
			continue
		}
		if first.hash != r.StateHash {
			return fmt.Errorf("shard %d after %d commands: %s had hash %016x at %v, %s has %016x at %v",
				r.Shard, r.Commands, first.host, first.hash, first.at, host, r.StateHash, at)
		}
	}
	return nil
}

// agree waits until all replicas have applied as much, and compares them.
func (r *run) agree() {
	var all []shardrpc.Status
	r.eventually("all replicas have applied as much", startLimit, func() error {
		all = all[:0]
		commands := map[allocator.ShardID]uint64{}
		for _, h := range r.hosts {
			status, err := h.status()
			if err != nil {
				return err
			}
			for _, s := range status.Shards {
				if n, ok := commands[s.Shard]; ok && n != s.Commands {
					return fmt.Errorf("shard %d: %d commands on %s, %d before it", s.Shard, s.Commands, h.name, n)
				}
				commands[s.Shard] = s.Commands
			}
			all = append(all, status)
		}
		return nil
	})
	for i, h := range r.hosts {
		if err := r.states.compare(h.name, &all[i], time.Since(r.began)); err != nil {
			r.t.Error(err)
		}
	}
}
