package shardrpc

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
)

func newTestDirectory(t *testing.T, shards int, nodes map[NodeID]Node) *Directory {
	d := NewDirectory(DirectoryConfig{Shards: shards})
	t.Cleanup(d.Close)
	for id, n := range nodes {
		d.SetMember(id, n)
	}
	return d
}

func (d *Directory) leaderName(shard allocator.ShardID) NodeID {
	id, _, _ := d.leader(shard)
	return id
}

func TestDirectoryAsksWhoLeads(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newTestDirectory(t, 4, map[NodeID]Node{
			"n1": &fakeNode{status: leads("n1", 1, 0, 2)},
			"n2": &fakeNode{status: leads("n2", 1, 1)},
		})
		<-time.After(2 * refreshInterval) // the first round may begin before both are members
		synctest.Wait()
		for shard, want := range []NodeID{"n1", "n2", "n1", ""} {
			if got := d.leaderName(allocator.ShardID(shard)); got != want {
				t.Errorf("shard %d is led by %q, want %q", shard, got, want)
			}
		}
		if _, _, ok := d.Leader(9); ok {
			t.Error("a shard beyond the last has a leader")
		}
		d.Close()
	})
}

func TestDirectoryAsksAtABoundedRate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newTestDirectory(t, 1, nil)
		before := time.Now()
		rounds := 0
		var asked atomic.Int64
		d.SetMember("n1", &fakeNode{onStatus: func() { asked.Add(1) }})
		for time.Since(before) < time.Second {
			d.Leader(0)
			rounds++
			<-time.After(time.Millisecond)
		}
		most := int64(time.Second/refreshInterval) + 1
		if got := asked.Load(); got < most/2 || got > most {
			t.Errorf("asked %d times in a second of %d look-ups, want at most %d", got, rounds, most)
		}
		d.Close()
	})
}

func TestDirectoryBelievesTheNewestTerm(t *testing.T) {
	d := newTestDirectory(t, 1, map[NodeID]Node{"n1": &fakeNode{}, "n2": &fakeNode{}, "n3": &fakeNode{}})
	say := func(from, leader NodeID, term uint64, ready bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.learnStatus(from, &ShardStatus{Leader: leader, Term: term, Ready: ready})
	}
	for i, step := range []struct {
		from, leader NodeID
		term         uint64
		ready        bool
		want         NodeID
	}{
		{"n2", "n1", 5, false, "n1"},
		{"n3", "n2", 5, false, "n1"}, // hearsay does not replace hearsay
		{"n2", "n2", 5, true, "n2"},  // the leader's own word does
		{"n1", "n1", 4, true, "n2"},  // an old leader that has not noticed
		{"n3", "", 9, false, "n2"},   // cut off, in an election it can't win
		{"n3", "n3", 6, true, "n3"},
		{"n1", "n4", 7, true, "n3"}, // not a member
	} {
		say(step.from, step.leader, step.term, step.ready)
		if got := d.leaderName(0); got != step.want {
			t.Fatalf("step %d: led by %q, want %q", i, got, step.want)
		}
	}
	d.Forget(0, "n1")
	if d.leaderName(0) != "n3" {
		t.Error("forgot a leader that was not meant")
	}
	d.RemoveMember("n3")
	if got := d.leaderName(0); got != "" {
		t.Errorf("led by %q, who is gone", got)
	}
	d.Learn(0, "n3")
	if got := d.leaderName(0); got != "" {
		t.Errorf("a hint to %q, who is gone, was taken", got)
	}
}

// TestDirectoryTakesHearsayForAHint: what the gossip tells of a term that nodes have
// spoken of already is old, and no term that is made up keeps a node's own word out.
func TestDirectoryTakesHearsayForAHint(t *testing.T) {
	d := newTestDirectory(t, 1, map[NodeID]Node{"n1": &fakeNode{}, "n2": &fakeNode{}})
	say := func(from NodeID, term uint64) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.learnStatus(from, &ShardStatus{Leader: from, Term: term, Ready: true})
	}
	d.LearnTerm(0, "n1", 3)
	if got := d.leaderName(0); got != "n1" {
		t.Errorf("led by %q, want n1, of whom it was told", got)
	}
	say("n2", 4)
	d.LearnTerm(0, "n1", 4)
	d.LearnTerm(0, "n9", 9) // not a member
	d.LearnTerm(7, "n1", 9) // not a shard
	if got := d.leaderName(0); got != "n2" {
		t.Errorf("led by %q, want n2, who said so himself", got)
	}
	d.LearnTerm(0, "n1", 1<<60)
	if got := d.leaderName(0); got != "n1" {
		t.Errorf("led by %q, want n1, of whom it was told", got)
	}
	say("n2", 5)
	if got := d.leaderName(0); got != "n2" {
		t.Errorf("led by %q: a term that is made up keeps the leader's word out", got)
	}
}

func TestDirectoryKeepsTheFirstFailureSinceTheLastSuccess(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newTestDirectory(t, 1, nil)
		first := time.Now()
		d.Failed(0, ReasonNotLeader, time.Time{})
		<-time.After(time.Second)
		d.Failed(0, ReasonUnreachable, time.Time{})
		if reason, since := d.Trouble(0); reason != ReasonUnreachable || !since.Equal(first) {
			t.Errorf("got %v since %v, want the last reason since %v", reason, since, first)
		}
		earlier := first.Add(-time.Minute)
		d.Failed(0, ReasonNotLeader, earlier) // a node knows better
		if _, since := d.Trouble(0); !since.Equal(earlier) {
			t.Errorf("since %v, want %v", since, earlier)
		}
		d.Succeeded(0)
		if reason, since := d.Trouble(0); reason != ReasonNone || !since.IsZero() {
			t.Errorf("after a success: %v since %v", reason, since)
		}
		d.Close()
	})
}

// An outage begins with the earliest that is known of it, and never before the
// last success: a connection that nobody needed may be broken for an hour, and a
// replica here may be cut off for as long while the shard works.
func TestOutageBeginsAfterTheLastSuccess(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var heard time.Time
		d := NewDirectory(DirectoryConfig{Shards: 1, Leaderless: func(allocator.ShardID) time.Time { return heard }})
		defer d.Close()
		want := func(what string, since time.Time) {
			t.Helper()
			if _, got := d.Trouble(0); !got.Equal(since) {
				t.Errorf("%s: since %v, want %v", what, got, since)
			}
		}
		hour := time.Now()
		<-time.After(time.Hour)
		d.Succeeded(0)
		worked := time.Now()
		heard = hour
		want("the replica here is cut off, requests succeed", time.Time{})
		<-time.After(time.Minute)
		d.Failed(0, ReasonUnreachable, hour)
		want("both are older than the last success", worked)

		<-time.After(time.Minute)
		d.Succeeded(0)
		<-time.After(time.Second)
		heard = time.Now()
		<-time.After(time.Second)
		d.Failed(0, ReasonNotLeader, time.Time{})
		want("the replica here noticed first", heard)
		broke := heard.Add(-time.Millisecond)
		d.Failed(0, ReasonUnreachable, broke)
		want("the connection broke first", broke)
	})
}

func TestStatusesTellWhoDoesNotAnswer(t *testing.T) {
	n1, n2 := &fakeNode{status: leads("n1", 1, 0)}, &fakeNode{status: leads("n2", 1)}
	d := newTestDirectory(t, 1, map[NodeID]Node{"n1": n1, "n2": n2})
	d.Statuses(t.Context())
	down := errors.New("down")
	n2.setStatus(Status{}, down)
	all := d.Statuses(t.Context())
	if len(all) != 2 || all[0].Err != nil || !errors.Is(all[1].Err, down) || all[1].Status.Node != "n2" {
		t.Errorf("got %+v", all)
	}
	if got := d.Members(); !slices.Equal(got, []NodeID{"n1", "n2"}) {
		t.Errorf("members %v", got)
	}
}
