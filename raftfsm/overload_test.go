package raftfsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stockade/allocator"
)

// The disk of these tests, in virtual time: an entry takes as long as a sync and its
// commands. With entries of 64 commands that is 1,880 a second.
const (
	slowSync    = 2 * time.Millisecond
	slowCommand = 500 * time.Microsecond
	slowBatch   = 64
	slowBest    = slowBatch * int(time.Second) / int(slowSync+slowBatch*slowCommand)
)

// crowd offers a rig more than its disk can do, in an open loop, and notes how each
// request ended.
type crowd struct {
	r        *rig
	deadline time.Duration
	n        int
	began    time.Time

	mu      sync.Mutex
	served  map[string][]time.Duration // how long they took, by who asked
	ends    []time.Time                // of those that were served
	refused map[string]int             // at once, for a lack of room
	lost    map[string]int             // all others: late, or nobody knows
	slowest time.Duration              // a refusal took
}

// inCrowd runs a test with a leader on a slow disk.
func inCrowd(t *testing.T, deadline time.Duration, test func(c *crowd)) {
	t.Helper()
	inRig(t, func(l *Limits) { l.MaxBatchCommands = slowBatch }, func(r *rig) {
		over := make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.raft.serve(over)
		}()
		test(&crowd{r: r, deadline: deadline, served: make(map[string][]time.Duration), refused: make(map[string]int), lost: make(map[string]int)})
		close(over)
		<-ended
	})
}

// serve commits entries one after the other, each in the time it takes.
func (r *fakeRaft) serve(over chan struct{}) {
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		for commands := r.firstWaiting(); commands >= 0; commands = r.firstWaiting() {
			time.Sleep(slowSync + time.Duration(commands)*slowCommand)
			r.commit(1)
		}
	}
}

// firstWaiting is how many commands the next entry has; -1: there is none.
func (r *fakeRaft) firstWaiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return -1
	}
	entry, err := DecodeEntry(r.waiting[0].data)
	if err != nil {
		panic(err)
	}
	return entry.Count
}

// offer has rate requests a second come for a while, each of which who makes.
func (c *crowd) offer(rate int, lasts time.Duration, who func(n int) (name string, command []byte)) {
	const step = time.Millisecond
	c.began = time.Now()
	owed := 0
	for range lasts / step {
		for owed += rate; owed >= 1000; owed -= 1000 {
			c.n++
			c.ask(who(c.n))
		}
		time.Sleep(step)
	}
}

// ask makes one request.
func (c *crowd) ask(name string, command []byte) {
	began := time.Now()
	c.r.Submit(&Item{Command: command, Deadline: began.Add(c.deadline), Done: func(done Completion) {
		c.mu.Lock()
		defer c.mu.Unlock()
		took := time.Since(began)
		switch {
		case done.Outcome == Applied:
			c.served[name] = append(c.served[name], took)
			c.ends = append(c.ends, time.Now())
		case done.Outcome == NotApplied && done.Cause == CauseOverloaded:
			c.refused[name]++
			c.slowest = max(c.slowest, took)
		default:
			c.lost[name]++
		}
	}})
}

// settle waits until everything has ended.
func (c *crowd) settle() {
	time.Sleep(c.deadline + time.Second)
	synctest.Wait()
}

// goodput is how many were served in each whole second while they were offered.
func (c *crowd) goodput(lasts time.Duration) []int {
	served := make([]int, lasts/time.Second)
	for _, at := range c.ends {
		if second := int(at.Sub(c.began) / time.Second); second < len(served) {
			served[second]++
		}
	}
	return served
}

func percentile(took []time.Duration, p int) time.Duration {
	slices.Sort(took)
	return took[len(took)*p/100]
}

// reserveOf takes one unit of a SKU under key number n. Not all SKUs exist: to be told so
// costs an entry as well.
func reserveOf(n int, sku allocator.SKU) []byte {
	return (&allocator.Reserve{Key: key(n), Body: 1, Lines: []allocator.Line{{SKU: sku, Quantity: 1}}}).AppendTo(nil)
}

// TestTenTimesTheLoad offers ten times what the disk can do for eight seconds: as much
// is served as at best, within the deadline; the rest is refused at once; and when the
// crowd has gone nobody waits.
func TestTenTimesTheLoad(t *testing.T) {
	for _, deadline := range []time.Duration{200 * time.Millisecond, 2 * time.Second} {
		t.Run(fmt.Sprint(deadline), func(t *testing.T) {
			inCrowd(t, deadline, func(c *crowd) {
				const lasts = 8 * time.Second
				c.offer(10*slowBest, lasts, func(n int) (string, []byte) { return "", reserve(n) })
				c.settle()
				goodput := c.goodput(lasts)
				for second, n := range goodput { // in the first one the pace is found out
					if second > 0 && n*100 < 90*slowBest {
						t.Errorf("%d were served in second %d; the best is %d", n, second, slowBest)
					}
				}
				if p99 := percentile(c.served[""], 99); p99 > deadline {
					t.Errorf("p99 of those that were served: %v", p99)
				}
				if c.lost[""] > c.n/100 || c.refused[""] < c.n*8/10 || c.slowest > 0 {
					t.Errorf("of %d, %d were refused after up to %v, and %d were late", c.n, c.refused[""], c.slowest, c.lost[""])
				}
				before := len(c.served[""])
				c.offer(slowBest/10, time.Second, func(n int) (string, []byte) { return "after", reserve(n) })
				c.settle()
				if after := percentile(c.served["after"], 99); c.refused["after"]+c.lost["after"] > 0 || after > 20*time.Millisecond {
					t.Errorf("after the crowd p99 is %v, %d are refused and %d lost", after, c.refused["after"], c.lost["after"])
				}
				t.Logf("%d offered, %d served (p50 %v, p99 %v), %d refused, %d late", c.n, before, percentile(c.served[""], 50), percentile(c.served[""], 99), c.refused[""], c.lost[""])
			})
		})
	}
}

// TestCrowdDelaysNobodyElse has one SKU wanted ten times more than can be served, and
// forty others wanted a little: these are served as if there were no crowd, but for the
// entries that are under way.
func TestCrowdDelaysNobodyElse(t *testing.T) {
	inCrowd(t, 2*time.Second, func(c *crowd) {
		crowdFlow := flowOf([]byte(testSKU))
		c.offer(10*slowBest, 10*time.Second, func(n int) (string, []byte) {
			if n%100 != 0 {
				return "crowd", reserve(n)
			}
			sku := allocator.SKU(fmt.Sprint("quiet-", n/100%40))
			if flowOf([]byte(sku)) == crowdFlow {
				return "unlucky", reserveOf(n, sku) // about one SKU in a thousand
			}
			return "quiet", reserveOf(n, sku)
		})
		c.settle()
		// Two entries are under way, and one more that it goes with.
		entry := slowSync + slowBatch*slowCommand
		if p99 := percentile(c.served["quiet"], 99); p99 > 4*entry || c.refused["quiet"]+c.lost["quiet"] > 0 {
			t.Errorf("quiet SKUs: p99 %v, %d refused, %d lost; an entry takes %v", p99, c.refused["quiet"], c.lost["quiet"], entry)
		}
		if len(c.served["quiet"]) < 1000 || c.refused["crowd"] == 0 {
			t.Errorf("%d quiet ones served, %d of the crowd refused", len(c.served["quiet"]), c.refused["crowd"])
		}
	})
}

// TestEndsGoFirst has confirmations come during the crowd, two thirds of what can be
// served at all: none is refused, and none waits behind it.
func TestEndsGoFirst(t *testing.T) {
	inCrowd(t, 2*time.Second, func(c *crowd) {
		c.offer(10*slowBest, 5*time.Second, func(n int) (string, []byte) {
			if n%15 != 0 {
				return "crowd", reserve(n)
			}
			return "confirm", (&allocator.Confirm{ID: allocator.ReservationID{Seq: uint64(n)}}).AppendTo(nil)
		})
		c.settle()
		entry := slowSync + slowBatch*slowCommand
		if p99 := percentile(c.served["confirm"], 99); p99 > 4*entry || c.refused["confirm"]+c.lost["confirm"] > 0 {
			t.Errorf("confirmations: p99 %v, %d refused, %d lost; an entry takes %v", p99, c.refused["confirm"], c.lost["confirm"], entry)
		}
	})
}

// TestBurstIsAbsorbed: what can be served within MaxQueueWait is not refused, also right
// after a crowd.
func TestBurstIsAbsorbed(t *testing.T) {
	inCrowd(t, 2*time.Second, func(c *crowd) {
		c.offer(3*slowBest, time.Second, func(n int) (string, []byte) { return "crowd", reserve(n) })
		c.settle()
		c.offer(1000*slowBest/3, time.Millisecond, func(n int) (string, []byte) { return "burst", reserve(n) })
		c.settle()
		if got := len(c.served["burst"]); got != slowBest/3 {
			t.Errorf("%d of a burst of %d were served, %d refused", got, slowBest/3, c.refused["burst"])
		}
	})
}

// TestHiccupRefusesNobody: after one entry that took long a few hundred clients, who all
// fit into the next entry, are not told that there are too many of them.
func TestHiccupRefusesNobody(t *testing.T) {
	const clients = 512
	inRig(t, nil, func(r *rig) {
		var all []*ticket
		come := func() { all = append(all, r.submitAll(len(all), len(all)+clients/2)...) }
		come()
		for _, took := range []time.Duration{5 * time.Millisecond, 5 * time.Millisecond, 5 * time.Millisecond, 300 * time.Millisecond} {
			come() // behind those under way
			time.Sleep(took)
			r.commit(1)
		}
		come()
		come()
		r.commitAll()
		for _, tk := range all {
			tk.got(Applied, CauseNone)
		}
	})
}

// TestPace holds what is measured against a process with a known pace, and covers what
// is not known.
func TestPace(t *testing.T) {
	var p pace
	now := time.Now()
	if p.wait(100) != 0 {
		t.Error("a pace before the first entry")
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 { // 10,000 a second, in uneven steps
		n := 1 + random.IntN(100)
		now = now.Add(time.Duration(n) * 100 * time.Microsecond)
		p.landed(n, true, now)
	}
	if wait := p.wait(1000); wait < 95*time.Millisecond || wait > 105*time.Millisecond {
		t.Errorf("1,000 commands are said to take %v", wait)
	}
	for range 100 { // now it is a tenth of that
		now = now.Add(10 * time.Millisecond)
		p.landed(10, true, now)
	}
	if wait := p.wait(100); wait < 90*time.Millisecond || wait > 110*time.Millisecond {
		t.Errorf("after it became slower 100 commands are said to take %v", wait)
	}
	now = now.Add(time.Millisecond)
	p.landed(1, false, now)
	if wait := p.wait(100); wait != 0 {
		t.Errorf("with an empty queue 100 commands are said to take %v", wait)
	}
}
