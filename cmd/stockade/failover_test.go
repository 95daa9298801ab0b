package main_test

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stockade/router/api"
)

const (
	failoverKills    = 1 // of one run of the tests; make failover asks for more
	failoverKillsEnv = "FAILOVER_KILLS"
	// How many stand-alone routers, which know the cluster by gossip, requests go through;
	// 0: through the nodes.
	failoverRoutersEnv = "FAILOVER_ROUTERS"
	failoverShards     = 6
	failoverPace       = 2 * time.Millisecond // between two requests
	failoverWindow     = 3 * time.Second      // before a kill, and after it

	// failoverSettled is when the shards of a dead node have other leaders.
	failoverSettled = 2 * time.Second
)

// TestFailover kills leaders of shards under a steady load, and shows how long their
// shards sell nothing, what the other shards sell meanwhile, and what latencies become
// while a node is dead. It asserts that everything is sold exactly once; the times are
// for whoever reads them on a machine that does nothing else.
func TestFailover(t *testing.T) {
	kills := int(numberFrom(t, failoverKillsEnv, failoverKills))
	nodes, through := failoverCluster(t)
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/s", "", map[string]any{"on_hand": 100_000_000})
	l := newOpenLoop(t, nodes, through)
	var killed []kill
	for i := range kills {
		killed = append(killed, l.kill(i%failoverShards))
	}
	sold := l.stop()
	if got := audit(t, nodes[0], "s"); got.Reserved != len(sold) {
		t.Errorf("%d reservations; %+v", len(sold), got)
	}
	t.Log(failoverTable(sold, killed))
	for _, k := range killed {
		if slow := k.slow(sold); slow != "" {
			t.Logf("kill at %v: %s", k.at.Round(time.Millisecond), slow)
		}
	}
	for _, p := range l.pauses {
		t.Logf("the machine stood from %v to %v", p.from.Round(time.Millisecond), p.to.Round(time.Millisecond))
	}
}

// failoverCluster starts the nodes, and the processes that requests go through.
func failoverCluster(t *testing.T) (nodes, through []*process) {
	t.Helper()
	shards := []string{"--shards", strconv.Itoa(failoverShards)}
	routers := int(numberFrom(t, failoverRoutersEnv, 0))
	if routers == 0 {
		nodes = startNodes(t, 3, shards...)
		return nodes, nodes
	}
	nodes, first := gossiping(t, shards...)
	for i := range routers {
		through = append(through, startRouter(t, fmt.Sprintf("r%d", i+1), "--join", first))
	}
	return nodes, through
}

// purchase is a request that succeeded. Times are since the beginning.
type purchase struct {
	shard        int
	begun, ended time.Duration
}

// openLoop sends requests at a steady pace, whether others have been answered or not,
// so that an outage hides no latencies.
type openLoop struct {
	t       *testing.T
	nodes   []*process
	through []*process // whom requests are sent to
	began   time.Time
	over    chan struct{}
	pacer   sync.WaitGroup
	clients sync.WaitGroup

	mu     sync.Mutex
	sold   []purchase
	pauses []pause
}

// pause is a time in which this machine did not even let the load run: what a cluster on
// it does then says nothing.
type pause struct{ from, to time.Duration }

// failoverPause is how long the load must stand to be noted.
const failoverPause = 100 * time.Millisecond

func newOpenLoop(t *testing.T, nodes, through []*process) *openLoop {
	l := &openLoop{t: t, nodes: nodes, through: through, began: time.Now(), over: make(chan struct{})}
	l.pacer.Go(func() {
		pace := time.NewTicker(failoverPace)
		defer pace.Stop()
		last := time.Duration(0)
		for n := 0; ; n++ {
			select {
			case <-l.over:
				return
			case <-pace.C:
				l.clients.Go(func() { l.buy(n) })
			}
			now := time.Since(l.began)
			if now-last > failoverPause {
				l.mu.Lock()
				l.pauses = append(l.pauses, pause{last, now})
				l.mu.Unlock()
			}
			last = now
		}
	})
	return l
}

// buy reserves a unit, from one process after the other if it must.
func (l *openLoop) buy(n int) {
	begun := time.Since(l.began)
	a, err := persist(l.through, n, "/v1/reservations", fmt.Sprintf("failover-%d", n), map[string]any{"sku": "s", "quantity": 1, "ttl_seconds": 3600}, startTimeout)
	match := reservationID.FindSubmatch(a.body)
	if err != nil || a.status != http.StatusCreated || match == nil {
		l.t.Errorf("request %d: %v %d %s", n, err, a.status, a.body)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sold = append(l.sold, purchase{shard: shardOfID(string(match[1])), begun: begun, ended: time.Since(l.began)})
}

// stop waits for all answers.
func (l *openLoop) stop() []purchase {
	close(l.over)
	l.pacer.Wait()
	l.clients.Wait()
	return l.sold
}

// shardOfID is the shard that gave an id: its first 16 bits, five to a character.
func shardOfID(id string) (shard int) {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	for _, c := range strings.ToLower(strings.TrimPrefix(id, "r-")[:4]) {
		shard = shard<<5 | strings.IndexRune(alphabet, c)
	}
	return shard >> 4
}

// kill is what one kill was about.
type kill struct {
	at  time.Duration
	led []int // shards that the killed node led
}

// kill kills the leader of a shard, and brings it back after a while.
func (l *openLoop) kill(shard int) kill {
	<-time.After(failoverWindow)
	leaders := l.leaders()
	victim := l.nodes[slices.IndexFunc(l.nodes, func(p *process) bool { return p.id == leaders[shard] })]
	k := kill{at: time.Since(l.began)}
	victim.kill(l.t)
	for s, leader := range leaders {
		if leader == victim.id {
			k.led = append(k.led, s)
		}
	}
	<-time.After(failoverSettled + failoverWindow)
	victim.start(l.t)
	victim.ready(l.t)
	<-time.After(failoverSettled) // its replicas catch up
	return k
}

// leaders are the leaders of all shards, as a node knows them.
func (l *openLoop) leaders() []string {
	var leaders []string
	eventually(l.t, "all shards have leaders", startTimeout, func() error {
		var view api.Cluster
		must(l.t, http.StatusOK, http.MethodGet, l.nodes[0].Ops, "/v1/cluster", "", nil).into(l.t, &view)
		leaders = make([]string, failoverShards)
		for _, s := range view.Shards {
			if s.Leader == nil {
				return fmt.Errorf("shard %d has none", s.Shard)
			}
			leaders[s.Shard] = *s.Leader
		}
		return nil
	})
	return leaders
}

// failoverGoal is how soon a shard should sell again.
const failoverGoal = 1500 * time.Millisecond

// slow tells what each shard did around a kill after which one sold nothing for too long:
// the longest time without a success, and when it began.
func (k kill) slow(sold []purchase) string {
	late := false
	for _, s := range k.led {
		late = late || untilSuccess(sold, s, k.at) > failoverGoal
	}
	if !late {
		return ""
	}
	text := fmt.Sprintf("it led %v;", k.led)
	for s := range failoverShards {
		last, from, longest := k.at-failoverWindow, time.Duration(0), time.Duration(0)
		in := ended(sold, last, k.at+2*failoverWindow, func(p purchase) bool { return p.shard == s })
		slices.SortFunc(in, func(a, b purchase) int { return cmp.Compare(a.ended, b.ended) })
		for _, p := range in {
			if gap := p.ended - last; gap > longest {
				from, longest = last, gap
			}
			last = p.ended
		}
		text += fmt.Sprintf(" shard %d nothing for %v from %v on;", s, longest.Round(time.Millisecond), (from - k.at).Round(time.Millisecond))
	}
	return text
}

// failoverTable is what came of it.
func failoverTable(sold []purchase, kills []kill) string {
	slices.SortFunc(sold, func(a, b purchase) int { return cmp.Compare(a.begun, b.begun) })
	var outages, whole, oneDead []float64
	var others []float64
	for _, k := range kills {
		for _, s := range k.led {
			outages = append(outages, untilSuccess(sold, s, k.at).Seconds())
		}
		elsewhere := func(p purchase) bool { return !slices.Contains(k.led, p.shard) }
		if len(k.led) < failoverShards {
			before := ended(sold, k.at-failoverWindow, k.at, elsewhere)
			after := ended(sold, k.at, k.at+failoverWindow, elsewhere)
			others = append(others, float64(len(after))/float64(len(before)))
		}
		whole = append(whole, latencies(begun(sold, k.at-failoverWindow, k.at))...)
		oneDead = append(oneDead, latencies(begun(sold, k.at+failoverSettled, k.at+failoverSettled+failoverWindow))...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d kills of a leader at %.0f requests/s\n", len(kills), 1/failoverPace.Seconds())
	fmt.Fprintf(&b, "%-58s %6s %8s %8s %8s %8s\n", "", "count", "least", "median", "p99", "most")
	for _, row := range []struct {
		name   string
		values []float64
	}{
		{"until the next success on a shard of the killed node, s", outages},
		{"sold by the other shards, after to before", others},
		{"latency with all nodes, s", whole},
		{"latency with one node dead, s", oneDead},
	} {
		v := row.values
		slices.Sort(v)
		if len(v) == 0 {
			fmt.Fprintf(&b, "%-58s %6d\n", row.name, 0)
			continue
		}
		fmt.Fprintf(&b, "%-58s %6d %8.4f %8.4f %8.4f %8.4f\n", row.name, len(v), v[0], v[len(v)/2], v[len(v)*99/100], v[len(v)-1])
	}
	return b.String()
}

// untilSuccess is the time until the first answer to what was asked after a moment.
func untilSuccess(sold []purchase, shard int, at time.Duration) time.Duration {
	first := time.Duration(-1)
	for _, p := range sold {
		if p.shard == shard && p.begun >= at && (first < 0 || p.ended < first) {
			first = p.ended
		}
	}
	return first - at
}

func ended(sold []purchase, from, to time.Duration, which func(purchase) bool) (in []purchase) {
	for _, p := range sold {
		if from <= p.ended && p.ended < to && which(p) {
			in = append(in, p)
		}
	}
	return in
}

func begun(sold []purchase, from, to time.Duration) (in []purchase) {
	for _, p := range sold {
		if from <= p.begun && p.begun < to {
			in = append(in, p)
		}
	}
	return in
}

// latencies are in seconds.
func latencies(sold []purchase) []float64 {
	took := make([]float64, len(sold))
	for i, p := range sold {
		took[i] = (p.ended - p.begun).Seconds()
	}
	return took
}
