package clustersim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"stockade/allocator"
	"stockade/shard"
	"stockade/shard/shardrpc"
)

const (
	watchEvery = 250 * time.Millisecond
	watchLines = 2000 // the last ones are kept
)

// watch notes from time to time what the leaders of all shards have, and what each host
// believes that they have: a run that went wrong shows it.
type watch struct {
	mu    sync.Mutex
	lines []watchLine
}

type watchLine struct {
	at   time.Duration
	text string
}

func (w *watch) run(r *run) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for !r.over.Load() {
		<-tick.C
		var text strings.Builder
		for _, h := range r.hosts {
			h.mu.Lock()
			node, paused := h.node, h.paused
			h.mu.Unlock()
			if node == nil || paused {
				continue
			}
			r.compare(h)
			for _, sku := range r.skus {
				look(&text, h.name, node, allocator.SKU(sku))
			}
		}
		w.mu.Lock()
		w.lines = append(w.lines[max(0, len(w.lines)-watchLines+1):], watchLine{time.Since(r.began), text.String()})
		w.mu.Unlock()
	}
}

// compare holds the states of a host's replicas against what was seen of them before.
func (r *run) compare(h *host) {
	if r.t.Failed() {
		return // the first difference says all
	}
	status, err := h.status()
	if err == nil {
		err = r.states.compare(h.name, &status, time.Since(r.began))
	}
	if err != nil && !errors.Is(err, errRefused) {
		r.t.Error(err)
	}
}

// look adds what a host has, and believes, of one SKU.
func look(text *strings.Builder, name string, node *shard.Node, sku allocator.SKU) {
	q := shardrpc.BucketsRequest{SKU: sku}
	for i := range shards {
		q.Shards = append(q.Shards, allocator.ShardID(i))
	}
	fmt.Fprintf(text, "\n    %s, %s:", name, sku)
	answers, _ := node.Buckets(context.Background(), q) // the node may be about to end
	for _, a := range answers {
		if a.Report != nil {
			fmt.Fprintf(text, " [%s, %d in line]", bucketText(a.Report), a.Waiting)
		}
	}
	if cut, asOf, ok := node.LevelTable().Cut(sku); ok {
		fmt.Fprintf(text, "; believes, as of %v ago:", time.Since(asOf))
		for i := range cut {
			fmt.Fprintf(text, " [%s]", bucketText(&cut[i]))
		}
	}
}

func bucketText(b *allocator.BucketReport) string {
	text := fmt.Sprintf("shard %d, %d applied: %d for sale, %d held, %d sold", b.Shard, b.Applied, b.Available, b.Reserved, b.Committed)
	for _, f := range b.Flows {
		text += fmt.Sprintf("; with %d: sent %d, acked %d, received %d", f.Peer, f.Sent, f.Acked, f.Received)
	}
	return text
}

// between gives what was noted in a time.
func (w *watch) between(from, to time.Duration) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var text strings.Builder
	for _, l := range w.lines {
		if l.at >= from && l.at <= to {
			fmt.Fprintf(&text, "%9.3f s%s\n", l.at.Seconds(), l.text)
		}
	}
	return text.String()
}
