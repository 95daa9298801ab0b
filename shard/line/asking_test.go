package line

import (
	"testing"
	"time"

	"stockade/allocator"
)

// TestAskHasTheAgeOfWhoLacks: a cart whose unit is here lends its age to nobody
// behind it. Else a younger entry would take units from older ones of other
// shards, which take them back.
func TestAskHasTheAgeOfWhoLacks(t *testing.T) {
	c := newCounter(t)
	c.have("a", 1)
	c.have("b", 0)
	c.arrive(Arrival{Needs: []Need{{"a", 1}, {"b", 1}}, Parked: 100})
	c.arrive(Arrival{Needs: []Need{{"a", 1}}, Parked: 200})
	c.steps(look("a"), look("b"))
	c.picture("a", 1, 1, 0)
	c.picture("b", 0, 1, 0)
	want := []Action{pull("a", 1, 1), pull("b", 1, 1)}
	want[0].Claims, want[1].Claims = []Claim{{200, 1}}, []Claim{{100, 1}}
	c.steps(want...)
}

// TestAskIsForWhoeverIsNotServedYet: units that were asked for have an owner, so
// the next ask has the age of whoever comes after him.
func TestAskIsForWhoeverIsNotServedYet(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	c.arrive(Arrival{Needs: []Need{{"a", 1}}, Parked: 100})
	c.steps(look("a"))
	c.picture("a", 0, 5, 5)
	c.steps(pull("a", 1, 1))
	c.have("a", 0)
	c.steps() // the other is not asked too
	c.arrive(Arrival{Needs: []Need{{"a", 1}}, Parked: 200})
	c.steps() // one round at a time
	c.desk.Granted(c.now, "a", 1, 1)
	c.receive("a", 1, 1)
	c.picture("a", 1, 4, 5)
	want := pull("a", 1, 1)
	want.Claims = []Claim{{200, 1}}
	c.steps(propose(1), want)
}

// TestOfferIsTakenOnce asks a giver for no more than the picture said it has.
func TestOfferIsTakenOnce(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	c.park(Need{"a", 1})
	c.steps(look("a"))
	c.picture("a", 0, 1, 0)
	c.steps(pull("a", 1, 1))
	c.desk.Granted(c.now, "a", 1, 0) // it keeps the unit for somebody older
	c.steps()
}

// TestBucketIsOpenedOnce asks the anchor once to open a bucket: each ask puts a
// message into its outbox, and the first is on its way.
func TestBucketIsOpenedOnce(t *testing.T) {
	c := newCounter(t)
	sku := onAnchor(2)
	c.arrive(Arrival{Needs: []Need{{sku, 1}}, Blind: true})
	c.steps(look(sku))
	c.picture(sku, 0, 0, 0)
	opens := 0
	for c.now.Before(start.Add(time.Second)) {
		actions, next := c.desk.Step(c.now)
		if len(actions) == 0 {
			c.now = next
		}
		for _, a := range actions {
			switch {
			case a.Kind == Look:
				c.picture(sku, 0, 0, 0)
			case a.Open:
				opens++
				c.now = c.now.Add(100 * time.Microsecond)
				c.desk.Granted(c.now, sku, a.Giver, 0)
			}
		}
	}
	if opens < 2 || opens > 60 { // again after a while: the answer may have been lost
		t.Errorf("it asked %d times in a second", opens)
	}
}

// TestGiverHasOneAskAtATime also when the line has come to its end meanwhile, and
// another has begun.
func TestGiverHasOneAskAtATime(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	first := c.park(Need{"a", 1})
	c.steps(look("a"))
	c.picture("a", 0, 5, 0)
	c.steps(pull("a", 1, 1))
	c.have("a", 1) // somebody canceled
	c.steps(propose(first))
	c.have("a", 0)
	c.desk.Done(first)
	c.steps()
	if c.desk.Lined("a") {
		t.Error("newcomers must stand in an empty line")
	}
	c.park(Need{"a", 2})
	c.picture("a", 0, 5, 0)
	c.steps() // the giver is asked already
	c.desk.Granted(c.now, "a", 1, 3)
	c.picture("a", 0, 5, 0)
	c.steps() // what the first had asked for is enough for the second
}

// TestOlderPictureKeepsGrants: levels may be a little older than the last look.
// What was granted in between is on its way in both.
func TestOlderPictureKeepsGrants(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	c.park(Need{"a", 2})
	c.steps(look("a"))
	c.picture("a", 0, 5, 0)
	c.steps(pull("a", 1, 2))
	c.now = c.now.Add(10 * time.Millisecond)
	c.desk.Granted(c.now, "a", 1, 2)
	c.steps(look("a"))
	sent := func(units allocator.Quantity) allocator.Cut {
		cut := make(allocator.Cut, 3)
		for i := range cut {
			cut[i] = allocator.BucketReport{Shard: allocator.ShardID(i), Shards: 3, Known: true}
		}
		cut[1].Available, cut[1].Flows = 5-units, []allocator.Flow{{Peer: 0, Sent: units}}
		return cut
	}
	c.now = c.now.Add(10 * time.Millisecond)
	c.desk.Picture("a", c.now, sent(2), nil, true)
	c.desk.Step(c.now)
	c.desk.Picture("a", c.now.Add(-15*time.Millisecond), sent(0), nil, true)
	c.steps()
}

// TestSilentShardBlocksNobody: whoever needs what only a silent shard may have
// keeps nothing from those whom the others can serve.
func TestSilentShardBlocksNobody(t *testing.T) {
	c := newCounter(t)
	c.have("a", 1)
	large := c.park(Need{"a", 5})
	small := c.park(Need{"a", 1})
	c.steps(look("a"))
	c.picture("a", 1, 1, -1)
	if claim := c.claimed("a", 1<<50); claim != 6 {
		t.Errorf("%d claimed", claim)
	}
	c.steps(propose(small))
	if claim := c.claimed("a", 1<<50); claim != 1 {
		t.Errorf("%d claimed", claim)
	}
	c.have("a", 0)
	c.desk.Done(small)
	c.picture("a", 0, 4, -1) // but four elsewhere and one here would do
	c.have("a", 1)
	c.steps(pull("a", 1, 4))
	if claim := c.claimed("a", 1<<50); claim != 5 {
		t.Errorf("%d claimed", claim)
	}
	c.now = start.Add(time.Second)
	c.steps(Action{Kind: Late, ID: large, Missing: []allocator.ShardID{2}})
}

// TestGrantCountedTwiceIsSoonSeen: levels know more than the moment says that they
// are as of, so a unit that was granted after it may be in them, and counts as on
// its way twice. Who waits for the second one is looked for again at once, and not
// when nobody has had news for a while.
func TestGrantCountedTwiceIsSoonSeen(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	for range 2 {
		c.arrive(Arrival{Needs: []Need{{"a", 1}}, WaitUntil: c.now.Add(10 * time.Second)})
	}
	c.steps(look("a"))
	c.picture("a", 0, 1, 0)
	c.steps(pull("a", 1, 1))
	c.now = c.now.Add(10 * time.Millisecond)
	c.desk.Granted(c.now, "a", 1, 1)
	c.desk.Step(c.now)
	cut := make(allocator.Cut, 3)
	for i := range cut {
		cut[i] = allocator.BucketReport{Shard: allocator.ShardID(i), Shards: 3, Known: true}
	}
	cut[1].Flows = []allocator.Flow{{Peer: 0, Sent: 1}} // the unit that was granted
	cut[2].Available = 1                                // one that came back
	c.desk.Changed("a")
	c.desk.Picture("a", c.now.Add(-5*time.Millisecond), cut, nil, true)
	_, next := c.desk.Step(c.now)
	if wait := next.Sub(c.now); next.IsZero() || wait > maxPause {
		t.Errorf("the next look is due after %v", wait)
	}
}
