package shardrpc

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"stockade/shard/bubble"
)

// TestDispatcherTellsTheTruth sends proposals through a dispatcher to three
// nodes that do everything a network and a Raft group can do to a command:
// apply it and lose the answer, apply it long after an unknown outcome, refuse
// it with good and bad hints, stay silent, answer at once or late. Virtual time
// makes thousands of such runs cheap.
//
// What must hold whatever happens:
//   - each proposal ends exactly once, and by its deadline;
//   - one that ended as NotApplied is never applied, not even later;
//   - one that ended as Applied was applied;
//   - one marked Once is applied at most once.
func TestDispatcherTellsTheTruth(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		faults := rapid.IntRange(0, 100).Draw(rt, "faults in percent")
		var problems []string
		bubble.Test(t, func(*testing.T) { problems = faultyRun(seed, faults) })
		for _, p := range problems {
			rt.Error(p)
		}
	})
}

const (
	faultyProposals = 40
	faultyTimeout   = 400 * time.Millisecond
)

// faultyCluster is the truth about what was applied.
type faultyCluster struct {
	mu      sync.Mutex
	rng     *rand.Rand
	faults  int
	applied map[string]int
	ended   map[string][]Response
	late    []string
}

// faultyRun does one run and lists what went wrong.
func faultyRun(seed uint64, faults int) []string {
	c := &faultyCluster{
		rng: rand.New(rand.NewPCG(seed, 1)), faults: faults,
		applied: make(map[string]int), ended: make(map[string][]Response),
	}
	dir := NewDirectory(DirectoryConfig{Shards: 1})
	for _, id := range []NodeID{"n1", "n2", "n3"} {
		n := &fakeNode{propose: c.propose}
		n.status = leads(id, 1)
		n.status.Shards = []ShardStatus{{Leader: "n2", Term: 1, Ready: id == "n2"}}
		dir.SetMember(id, n)
	}
	d := NewDispatcher(DispatcherConfig{Directory: dir})
	for i := range faultyProposals {
		c.send(d, fmt.Sprintf("%d", i), i%3 == 0)
		<-time.After(time.Duration(i%7) * time.Millisecond)
	}
	<-time.After(2 * faultyTimeout) // beyond every deadline and every late application
	synctest.Wait()
	dir.Close()
	return c.judge()
}

func (c *faultyCluster) send(d *Dispatcher, name string, once bool) {
	deadline := time.Now().Add(faultyTimeout)
	d.Propose(&Proposal{
		Command: []byte(name), Deadline: deadline, Once: once,
		Done: func(r Response) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ended[name] = append(c.ended[name], r)
			if time.Now().After(deadline.Add(2 * sweepInterval)) {
				c.late = append(c.late, name)
			}
		},
	})
}

// propose is what each node does with an attempt.
func (c *faultyCluster) propose(p *Proposal) {
	c.mu.Lock()
	fault := c.rng.IntN(100) < c.faults
	kind := c.rng.IntN(6)
	delay := time.Duration(c.rng.IntN(30)) * time.Millisecond
	hint := NodeID([]string{"", "n1", "n2", "n3", "n9"}[c.rng.IntN(5)])
	reason := Reason(c.rng.IntN(int(reasonEnd)))
	c.mu.Unlock()
	name := string(p.Command)
	if !fault {
		c.apply(name)
		after(delay/2, func() { p.Done(Response{Outcome: Applied}) })
		return
	}
	switch kind {
	case 0: // applied, and the answer is lost
		c.apply(name)
		after(delay, func() { p.Done(Response{Outcome: Unknown, Reason: reason}) })
	case 1: // unknown, and applied later
		p.Done(Response{Outcome: Unknown, Reason: reason})
		after(10*delay, func() { c.apply(name) })
	case 2: // unknown, and never applied
		after(delay, func() { p.Done(Response{Outcome: Unknown, Reason: reason}) })
	case 3: // silence, and applied much later
		after(10*delay, func() { c.apply(name) })
	case 4: // another leader, or not
		after(delay/4, func() { p.Done(Response{Outcome: NotApplied, Reason: ReasonNotLeader, Leader: hint}) })
	case 5:
		after(delay, func() { p.Done(Response{Outcome: NotApplied, Reason: reason, Leader: hint}) })
	}
}

// after calls f later, or at once when d is 0.
func after(d time.Duration, f func()) {
	if d == 0 {
		f()
		return
	}
	time.AfterFunc(d, f)
}

func (c *faultyCluster) apply(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applied[name]++
}

func (c *faultyCluster) judge() (problems []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range faultyProposals {
		name := fmt.Sprintf("%d", i)
		ends, times := c.ended[name], c.applied[name]
		if len(ends) != 1 {
			problems = append(problems, fmt.Sprintf("proposal %s ended %d times", name, len(ends)))
			continue
		}
		switch r := ends[0]; {
		case r.Outcome == NotApplied && times > 0:
			problems = append(problems, fmt.Sprintf("proposal %s ended as not applied (%v) and was applied", name, r.Reason))
		case r.Outcome == Applied && times == 0:
			problems = append(problems, fmt.Sprintf("proposal %s ended as applied and was not", name))
		case i%3 == 0 && times > 1:
			problems = append(problems, fmt.Sprintf("proposal %s, marked Once, was applied %d times", name, times))
		}
	}
	if len(c.late) > 0 {
		problems = append(problems, fmt.Sprintf("ended after their deadline: %v", c.late))
	}
	return problems
}
