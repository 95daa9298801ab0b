package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/router/api"
	"stockade/shard/shardrpc"
)

// statusNode is a node that says one thing of itself.
type statusNode struct {
	shardrpc.Node
	status shardrpc.Status
}

func (n statusNode) Status(context.Context) (shardrpc.Status, error) { return n.status, nil }

// TestReady shows which replicas make a process not ready, and what it says.
func TestReady(t *testing.T) {
	since := time.UnixMilli(1_700_000_000_000)
	for _, tc := range []struct {
		name    string
		status  shardrpc.ShardStatus
		missing string
		since   api.Time
	}{
		{"follows", shardrpc.ShardStatus{Leader: "b", CommitIndex: 900, AppliedIndex: 900}, "", 0},
		{"leads", shardrpc.ShardStatus{Leader: "a", Ready: true}, "", 0},
		{"a bit behind", shardrpc.ShardStatus{Leader: "b", CommitIndex: 900, AppliedIndex: 900 - maxReadyLag}, "", 0},
		{"applied more than it knows committed", shardrpc.ShardStatus{Leader: "b", CommitIndex: 3, AppliedIndex: 900}, "", 0},
		{"no leader", shardrpc.ShardStatus{LeaderSince: since}, "the replica here knows no leader", api.TimeOf(since)},
		{"new leader", shardrpc.ShardStatus{Leader: "a", LeaderSince: since}, "still applies what came before", api.TimeOf(since)},
		{"far behind", shardrpc.ShardStatus{Leader: "b", CommitIndex: 900, AppliedIndex: 899 - maxReadyLag}, "513 of 900 entries still to apply", -1},
		{"being rebuilt", shardrpc.ShardStatus{Leader: "b", Rebuilding: true}, "does not vote yet", -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			directory := shardrpc.NewDirectory(shardrpc.DirectoryConfig{Shards: 1})
			defer directory.Close()
			h := &health{shards: 1, self: "a", directory: directory, node: statusNode{status: shardrpc.Status{Shards: []shardrpc.ShardStatus{tc.status}}}}
			got := h.Ready(t.Context())
			if got.Ready != (tc.missing == "") || got.Shards[0].Ready != got.Ready || !strings.Contains(got.Shards[0].Missing, tc.missing) {
				t.Errorf("%+v, want %q missing", got, tc.missing)
			}
			if tc.since >= 0 && got.Shards[0].Since != tc.since || tc.since < 0 && got.Shards[0].Since == 0 {
				t.Errorf("since %v, want %v", got.Shards[0].Since, tc.since)
			}
		})
	}
}

// TestReadySinceStays shows that what lasts keeps its beginning.
func TestReadySinceStays(t *testing.T) {
	node := &statusNode{status: shardrpc.Status{Shards: []shardrpc.ShardStatus{{Leader: "b", CommitIndex: 9000}}}}
	h := &health{shards: 1, self: "a", node: node, since: nil}
	first := h.Ready(t.Context()).Shards[0].Since
	h.since[0] = h.since[0].Add(-time.Minute)
	if second := h.Ready(t.Context()).Shards[0].Since; second != first-60_000 {
		t.Errorf("since %v, want a minute before %v", second, first)
	}
	node.status.Shards[0].AppliedIndex = 9000
	if !h.Ready(t.Context()).Ready || len(h.since) != 0 {
		t.Error("a replica that has caught up is not ready")
	}
}

// TestReadyDatesAnOutageLikeRequests shows that a probe and a request that fails
// give an outage the same beginning, whichever of the two noticed it first.
func TestReadyDatesAnOutageLikeRequests(t *testing.T) {
	heard := time.Now().Add(-time.Minute) // when the replica here lost its leader
	for name, failed := range map[string]time.Time{
		"the connection broke first":   heard.Add(-time.Second),
		"the replica noticed first":    heard.Add(time.Second),
		"no request has failed so far": {},
	} {
		t.Run(name, func(t *testing.T) {
			directory := shardrpc.NewDirectory(shardrpc.DirectoryConfig{
				Shards: 1, Leaderless: func(allocator.ShardID) time.Time { return heard },
			})
			defer directory.Close()
			want := heard
			if !failed.IsZero() {
				directory.Failed(0, shardrpc.ReasonUnreachable, failed)
				if failed.Before(want) {
					want = failed
				}
				if _, since := directory.Trouble(0); !since.Equal(want) {
					t.Errorf("requests say since %v, want %v", since, want)
				}
			}
			status := shardrpc.Status{Shards: []shardrpc.ShardStatus{{LeaderSince: heard}}}
			h := &health{shards: 1, self: "a", directory: directory, node: statusNode{status: status}}
			if got := h.Ready(t.Context()).Shards[0].Since; got != api.TimeOf(want) {
				t.Errorf("the probe says since %v, want %v", got, want)
			}
		})
	}
}

// TestReadyWithoutReplica asks the directory about shards that are elsewhere.
func TestReadyWithoutReplica(t *testing.T) {
	directory := shardrpc.NewDirectory(shardrpc.DirectoryConfig{Shards: 1})
	defer directory.Close()
	h := &health{shards: 1, directory: directory}
	if h.Ready(t.Context()).Ready {
		t.Error("ready without a leader")
	}
	directory.SetMember("b", statusNode{})
	directory.Learn(0, "b")
	if got := h.Ready(t.Context()); !got.Ready {
		t.Errorf("not ready with a leader: %+v", got)
	}
	h.stopping.Store(true)
	if h.Ready(t.Context()).Ready {
		t.Error("ready while stopping")
	}
}

// downNode can't be reached.
type downNode struct {
	statusNode
	since time.Time
}

func (n downNode) Down() time.Time { return n.since }

// TestReadyNeedsALeaderThatCanBeReached: a router that nobody uses has no failed
// request to learn from that the leader has gone.
func TestReadyNeedsALeaderThatCanBeReached(t *testing.T) {
	directory := shardrpc.NewDirectory(shardrpc.DirectoryConfig{Shards: 1})
	defer directory.Close()
	since := time.UnixMilli(1_700_000_000_000)
	directory.SetMember("b", downNode{since: since})
	directory.Learn(0, "b")
	h := &health{shards: 1, directory: directory}
	got := h.Ready(t.Context())
	if got.Ready || !strings.Contains(got.Shards[0].Missing, "node b, its last known leader, can't be reached") || got.Shards[0].Since != api.TimeOf(since) {
		t.Errorf("%+v", got)
	}
	directory.SetMember("b", downNode{})
	directory.Learn(0, "b")
	if got := h.Ready(t.Context()); !got.Ready {
		t.Errorf("%+v", got)
	}
}

// TestGate asks a server that has nothing to serve yet, and then has.
func TestGate(t *testing.T) {
	g := new(gate)
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	if w := ask("/livez"); w.Code != http.StatusOK {
		t.Errorf("/livez: %d", w.Code)
	}
	w := ask("/readyz")
	var p api.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusServiceUnavailable {
		t.Fatalf("/readyz: %d %s, %v", w.Code, w.Body, err)
	}
	if p.Code != startingCode || p.Title == "" || !p.Retryable || w.Header().Get("Retry-After") == "" {
		t.Errorf("the problem is %+v", p)
	}
	g.open(http.NotFoundHandler())
	if w := ask("/readyz"); w.Code != http.StatusNotFound {
		t.Errorf("behind the open gate: %d", w.Code)
	}
}

// bareService is a service with HTTP servers and nothing behind them.
func bareService(t *testing.T, v *supervisor) *service {
	t.Helper()
	s, err := newService(t.Context(), addresses{HTTP: "127.0.0.1:0", Ops: "127.0.0.1:0"}, v.log, v.failures)
	if err != nil {
		t.Fatal(err)
	}
	s.health = &health{}
	return s
}

// bareSettings are the defaults of a node.
func bareSettings(t *testing.T) settings {
	t.Helper()
	loaded, err := loadSettings(newNodeCommand().Flags(), forNode)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// TestFatal lets a running service fail: the process logs it in one line, stops
// the service and ends with an error that is not printed again.
func TestFatal(t *testing.T) {
	for _, when := range []string{"running", "starting"} {
		t.Run(when, func(t *testing.T) {
			var log safeBuffer
			v := newSupervisor(bareSettings(t), &log)
			broken := make(chan error, 1)
			closed := false
			start := func(ctx context.Context) error {
				s := bareService(t, v)
				s.closeParts = func(context.Context) error { closed = true; return nil }
				v.services = append(v.services, s)
				go s.forward(broken)
				if when == "starting" {
					broken <- io.ErrShortWrite
					<-ctx.Done() // the start is told
				}
				return ctx.Err()
			}
			err := v.run(t.Context(), start, func(context.Context) error {
				broken <- io.ErrShortWrite
				return nil
			})
			if err == nil || !strings.Contains(err.Error(), "reported") || !closed {
				t.Errorf("run ends with %v, closed %v", err, closed)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), io.ErrShortWrite.Error()) {
				t.Errorf("%d errors in the log: %s", n, &log)
			}
		})
	}
}

// TestStopOrder looks at the probes while a service stops: not ready first, the
// administration port last.
func TestStopOrder(t *testing.T) {
	v := newSupervisor(bareSettings(t), io.Discard)
	s := bareService(t, v)
	var inFlight, ready int
	s.closeParts = func(context.Context) error {
		_, err := http.Get("http://" + s.addrs.HTTP + "/")
		if err == nil {
			t.Error("the selling port still takes connections")
		}
		answer, err := http.Get("http://" + s.addrs.Ops + "/livez")
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("the administration port is gone already: %v", err)
		}
		if s.health.Ready(t.Context()).Ready {
			ready++
		}
		return nil
	}
	// A request that is under way when the stop begins is finished.
	entered, leave := make(chan struct{}), make(chan struct{})
	s.dataGate.open(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		w.WriteHeader(http.StatusNoContent)
	}))
	done := make(chan int)
	go func() {
		answer, err := http.Get("http://" + s.addrs.HTTP + "/")
		if err != nil {
			done <- 0
			return
		}
		done <- answer.StatusCode
	}()
	<-entered
	stopped := make(chan error)
	go func() { stopped <- errors.Join(s.drain(t.Context()), s.close(t.Context())) }()
	<-s.stopped
	close(leave)
	if inFlight = <-done; inFlight != http.StatusNoContent {
		t.Errorf("the request under way got %d", inFlight)
	}
	if err := <-stopped; err != nil || ready != 0 {
		t.Errorf("stop: %v; ready while closing: %d", err, ready)
	}
	if _, err := http.Get("http://" + s.addrs.Ops + "/livez"); err == nil {
		t.Error("the administration port is still there")
	}
}

// TestStopIsBounded lets a request hang: it is cut off when the time is over.
func TestStopIsBounded(t *testing.T) {
	v := newSupervisor(bareSettings(t), io.Discard)
	s := bareService(t, v)
	entered := make(chan struct{})
	s.dataGate.open(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	broken := make(chan error)
	go func() {
		_, err := http.Get("http://" + s.addrs.HTTP + "/")
		broken <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := errors.Join(s.drain(ctx), s.close(ctx)); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("stop: %v", err)
	}
	if err := <-broken; err == nil {
		t.Error("the hanging request was answered")
	}
}

// TestLogLevel shows that dev is quiet at its stop, unless a level was asked for.
func TestLogLevel(t *testing.T) {
	v := newSupervisor(bareSettings(t), io.Discard)
	v.services = []*service{bareService(t, v), bareService(t, v)}
	if err := v.stop(); err != nil || v.level.Level() != slog.LevelError {
		t.Errorf("level %v, %v", v.level.Level(), err)
	}
}
