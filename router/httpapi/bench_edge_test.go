package httpapi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/router"
	"stockade/shard/shardrpc"
)

// BenchmarkEdgeRefusal refuses reservations of a SKU that is sold out on 16
// shards, by real levels: the whole handler, and the same over loopback beside a
// handler that does nothing. The ratio of the last two is what counts.
func BenchmarkEdgeRefusal(b *testing.B) {
	data := edgeHandler(b)
	b.Run("handler", func(b *testing.B) {
		r, _ := http.NewRequest(http.MethodPost, "/v1/reservations", nil)
		r.Header = http.Header{"Content-Type": {"application/json"}}
		body, w := strings.NewReader(""), &nobody{header: make(http.Header)}
		b.ReportAllocs()
		for b.Loop() {
			body.Reset(oneDemo)
			r.Body, r.ContentLength = readCloser{body}, int64(len(oneDemo))
			clear(w.header)
			data.ServeHTTP(w, r)
		}
	})
	b.Run("wire", func(b *testing.B) { overLoopback(b, data, http.StatusConflict) })
	b.Run("nothing", func(b *testing.B) { overLoopback(b, http.HandlerFunc(doNothing), http.StatusConflict) })
}

// doNothing reads the request and answers with as many bytes as a refusal has.
func doNothing(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header()[headerContentType] = jsonHeader
	w.WriteHeader(http.StatusConflict)
	_, _ = io.WriteString(w, nothing)
}

var nothing = strings.Repeat("x", 320)

// overLoopback sends reservations to a handler over real connections, and reports
// which part of the answers was another than wanted: on a machine that is short
// of time levels get too old to refuse by, and the shard would be asked.
func overLoopback(b *testing.B, h http.Handler, want int) {
	server := httptest.NewServer(h)
	defer server.Close()
	b.SetParallelism(32)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}
	defer client.CloseIdleConnections()
	var others atomic.Int64
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			resp, err := client.Post(server.URL+"/v1/reservations", jsonType, strings.NewReader(oneDemo))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				others.Add(1)
			}
		}
	})
	b.ReportMetric(float64(others.Load())/float64(b.N), "others/op")
}

// edgeHandler is the selling API over a router whose levels say that "demo" is
// sold out. No shard can be asked: every answer but a refusal would be a 503.
func edgeHandler(b *testing.B) http.Handler {
	directory := shardrpc.NewDirectory(shardrpc.DirectoryConfig{Shards: soldOutShards})
	directory.SetMember("n1", soldOutNode{})
	dispatcher := shardrpc.NewDispatcher(shardrpc.DispatcherConfig{Directory: directory})
	levels := shardrpc.NewLevels(shardrpc.LevelsConfig{Directory: directory})
	b.Cleanup(func() { levels.Close(); dispatcher.Close(); directory.Close() })
	r, err := router.New(router.Config{Shards: soldOutShards, Dispatcher: dispatcher, Levels: levels})
	if err != nil {
		b.Fatal(err)
	}
	data, err := NewData(DataConfig{Router: r, Metrics: NewMetrics(newRegistry()), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	known := make(chan struct{}, 1)
	levels.Notify(func([]allocator.SKU) {
		select {
		case known <- struct{}{}:
		default:
		}
	})
	for levels.Want("demo"); !levels.SoldOut("demo", 1); {
		select {
		case <-known:
		case <-time.After(10 * time.Second):
			b.Fatal("the levels don't come")
		}
	}
	return data
}

// soldOutNode leads all shards, has sold everything, and answers questions for
// levels only.
type soldOutNode struct{ shardrpc.Node }

const soldOutShards = 16

// Status implements shardrpc.Node.
func (soldOutNode) Status(context.Context) (s shardrpc.Status, err error) {
	s.Node = "n1"
	for shard := range allocator.ShardID(soldOutShards) {
		s.Shards = append(s.Shards, shardrpc.ShardStatus{Shard: shard, Leader: "n1", Ready: true, Term: 1})
	}
	return s, nil
}

// Propose implements shardrpc.Node.
func (soldOutNode) Propose(p *shardrpc.Proposal) {
	p.Done(shardrpc.Response{Outcome: shardrpc.NotApplied, Reason: shardrpc.ReasonOverloaded, Shard: p.Shard})
}

// Levels implements shardrpc.Node.
func (n soldOutNode) Levels(context.Context) (shardrpc.LevelStream, error) { return n, nil }

// Close implements shardrpc.LevelStream.
func (soldOutNode) Close() {}

// Poll implements shardrpc.LevelStream. Every shard has traded with every other.
func (soldOutNode) Poll(_ context.Context, r shardrpc.LevelsRequest) (shardrpc.LevelsReply, error) {
	reply := shardrpc.LevelsReply{Probe: r.Probe}
	for shard := range allocator.ShardID(soldOutShards) {
		levels := shardrpc.ShardLevels{Shard: shard, AsOf: r.Probe}
		for _, sku := range r.Add {
			report := allocator.BucketReport{Shard: shard, Shards: soldOutShards, SKU: sku, Known: true, Committed: 100}
			for peer := range allocator.ShardID(soldOutShards) {
				if peer != shard {
					report.Flows = append(report.Flows, allocator.Flow{Peer: peer, Sent: 50, Acked: 50, Received: 50})
				}
			}
			levels.Changed = append(levels.Changed, report)
		}
		reply.Shards = append(reply.Shards, levels)
	}
	return reply, nil
}
