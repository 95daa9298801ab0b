package line

import (
	"reflect"
	"testing"
	"time"

	"stockade/allocator"
)

// counter is a desk with what a test tells it: home is shard 0 of a cluster of
// three, virtual time goes on by hand.
type counter struct {
	t    *testing.T
	desk *Desk
	now  time.Time
	here map[allocator.SKU]*allocator.BucketReport
}

func newCounter(t *testing.T) *counter {
	c := &counter{t: t, now: start, here: map[allocator.SKU]*allocator.BucketReport{}}
	c.desk = NewDesk(0, 3, c)
	return c
}

// Level implements Local.
func (c *counter) Level(sku allocator.SKU) allocator.BucketReport {
	if r := c.here[sku]; r != nil {
		return *r
	}
	return allocator.BucketReport{Shard: 0, Shards: 3}
}

// have puts units into the home's bucket, in place of those that were there.
func (c *counter) have(sku allocator.SKU, units allocator.Quantity) {
	r := c.here[sku]
	if r == nil {
		r = &allocator.BucketReport{Shard: 0, Shards: 3, SKU: sku, Known: true}
		c.here[sku] = r
	}
	r.Available = units
	if q := c.desk.lines[sku]; q != nil {
		c.desk.touch(q)
	}
}

// receive adds units that another shard sent.
func (c *counter) receive(sku allocator.SKU, from allocator.ShardID, units allocator.Quantity) {
	r := c.here[sku]
	r.Flows = append(r.Flows, allocator.Flow{Peer: from, Received: units})
	c.have(sku, r.Available+units)
}

// park has a proposal come in that waits for nothing.
func (c *counter) park(needs ...Need) ID { return c.arrive(Arrival{Needs: needs}) }

// arrive parks; an arrival without age or deadline gets some.
func (c *counter) arrive(a Arrival) ID {
	c.t.Helper()
	a.At = c.now
	if a.Parked == 0 {
		a.Parked = allocator.Millis(c.now.UnixMilli())
	}
	if a.Deadline.IsZero() {
		a.Deadline = c.now.Add(time.Second)
	}
	id, ok := c.desk.Park(a)
	if !ok {
		c.t.Fatal("there is no room")
	}
	return id
}

// picture shows what the three shards have; a negative number is a shard that
// does not answer.
func (c *counter) picture(sku allocator.SKU, units ...allocator.Quantity) {
	var cut allocator.Cut
	var missing []allocator.ShardID
	for i, n := range units {
		if n < 0 {
			missing = append(missing, allocator.ShardID(i))
			continue
		}
		r := allocator.BucketReport{Shard: allocator.ShardID(i), Shards: 3, SKU: sku, Known: true, Available: n}
		if i == 0 {
			r = c.Level(sku)
		}
		cut = append(cut, r)
	}
	c.desk.Picture(sku, c.now, cut, missing, true)
}

// steps checks what the desk wants done.
func (c *counter) steps(want ...Action) (next time.Time) {
	c.t.Helper()
	got, next := c.desk.Step(c.now)
	for i := range got {
		if got[i].Kind == Pull && i < len(want) && want[i].Claims == nil {
			got[i].Claims = nil // the test does not care
		}
	}
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		c.t.Errorf("got  %s\nwant %s", list(got), list(want))
	}
	return next
}

// claimed is how many units of a SKU are kept from an entry of shard 1.
func (c *counter) claimed(sku allocator.SKU, parked allocator.Millis) allocator.Quantity {
	const plenty = 1000
	units, _ := c.desk.Yield(sku, plenty, 1, []Claim{{parked, plenty}})
	return plenty - units
}

func list(all []Action) (s string) {
	for _, a := range all {
		s += describe(a) + "; "
	}
	return s
}

func propose(id ID) Action { return Action{Kind: Propose, ID: id} }

func look(sku allocator.SKU) Action { return Action{Kind: Look, SKU: sku} }

func pull(sku allocator.SKU, giver allocator.ShardID, units allocator.Quantity) Action {
	return Action{Kind: Pull, SKU: sku, Giver: giver, Quantity: units}
}

func refuse(id ID, n Need, units allocator.Quantity) Action {
	return Action{Kind: Refuse, ID: id, SKU: n.SKU, Quantity: n.Quantity, Units: units}
}

// onAnchor is a SKU whose anchor, of three shards, is the shard.
func onAnchor(shard allocator.ShardID) allocator.SKU {
	for i := 'a'; ; i++ {
		if sku := allocator.SKU("x" + string(i)); allocator.Anchor(sku, 3) == shard {
			return sku
		}
	}
}

// TestFirstComeFirstServed proposes in order of arrival as far as the units go.
func TestFirstComeFirstServed(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	first, second, third := c.park(Need{"a", 2}), c.park(Need{"a", 1}), c.park(Need{"a", 1})
	c.steps(look("a"))
	c.picture("a", 0, 3, 1)
	c.steps(pull("a", 1, 3), pull("a", 2, 1))
	c.receive("a", 2, 1)
	c.steps() // it is for the first, who needs two
	c.receive("a", 1, 2)
	c.steps(propose(first), propose(second))
	c.have("a", 3)
	c.steps() // they are for those who are proposed
	c.have("a", 0)
	c.desk.Done(second)
	c.desk.Done(first)
	c.desk.Granted(c.now, "a", 1, 3)
	c.desk.Granted(c.now, "a", 2, 1)
	c.steps(look("a"))
	c.have("a", 1)
	c.steps(propose(third))
	c.desk.Done(third)
	c.steps()
	if c.desk.Len() != 0 || c.desk.Lined("a") {
		t.Error("somebody is still there")
	}
}

// TestLargeRequestBlocksNobody refuses who asks for more than there is; one that
// waits for more stays, and keeps nothing from those behind.
func TestLargeRequestBlocksNobody(t *testing.T) {
	c := newCounter(t)
	c.have("a", 2)
	large := c.park(Need{"a", 5})
	waits := c.arrive(Arrival{Needs: []Need{{"a", 4}}, WaitUntil: c.now.Add(time.Hour), Deadline: c.now.Add(time.Hour)})
	small := c.park(Need{"a", 2})
	c.steps(look("a"))
	c.picture("a", 2, 0, 0)
	c.steps(refuse(large, Need{"a", 5}, 2), propose(small))
	c.have("a", 0)
	c.desk.Done(small)
	c.steps()
	if n := c.desk.Waiting("a"); n != 1 {
		t.Errorf("%d wait, want order %d alone", n, waits)
	}
	if claim := c.claimed("a", 1<<50); claim != 0 {
		t.Errorf("who waits claims %d units", claim)
	}
}

// TestWhoWaitsIsServedInOrder brings units back one by one, with somebody new
// each time.
func TestWhoWaitsIsServedInOrder(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	long := Arrival{Needs: []Need{{"a", 1}}, WaitUntil: c.now.Add(time.Hour), Deadline: c.now.Add(time.Hour)}
	ids := []ID{c.arrive(long), c.arrive(long), c.arrive(long)}
	c.steps(look("a"))
	c.picture("a", 0, 0, 0)
	c.steps()
	for range 3 {
		ids = append(ids, c.arrive(long))
		c.steps()
		c.have("a", 1)
		c.steps(propose(ids[0]))
		c.have("a", 0)
		c.desk.Done(ids[0])
		c.steps()
		ids = ids[1:]
	}
	// Units elsewhere come by a pull: the level tells that there are some.
	c.now = c.now.Add(20 * time.Millisecond)
	c.desk.Changed("a")
	c.steps(look("a"))
	c.picture("a", 0, 0, 1)
	c.steps(pull("a", 2, 1))
}

// TestWaitEnds refuses when the wait is over, on a new picture.
func TestWaitEnds(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	end := start.Add(10*time.Second + 107*time.Millisecond)
	id := c.arrive(Arrival{Needs: []Need{{"a", 1}}, WaitUntil: end, Deadline: end.Add(time.Minute)})
	c.steps(look("a"))
	c.picture("a", 0, 0, 0)
	for c.now.Before(end) {
		next := c.steps()
		if idle := next.Sub(c.now); idle < 200*time.Millisecond && next.Before(end) {
			t.Fatalf("the next look is after %v", idle)
		}
		if c.now = next; c.now.Before(end) {
			c.steps(look("a"))
			c.picture("a", 0, 0, 0)
		}
	}
	if c.now != end {
		t.Fatalf("it wakes %v after the end", c.now.Sub(end))
	}
	c.steps(look("a"))
	c.picture("a", 0, 0, 0)
	c.steps(refuse(id, Need{"a", 1}, 0))
}

// TestCartNeedsAll proposes a cart when the units of all its SKUs are here; what
// it can't use it leaves to others at once.
func TestCartNeedsAll(t *testing.T) {
	c := newCounter(t)
	c.have("a", 1)
	c.have("b", 0)
	cart := c.park(Need{"a", 1}, Need{"b", 1})
	c.steps(look("a"), look("b"))
	c.picture("a", 1, 0, 0)
	c.picture("b", 0, 1, 0)
	small := c.park(Need{"a", 1})
	c.steps(pull("b", 1, 1)) // the unit of a is kept
	if claim := c.claimed("a", 1<<50); claim != 1 {
		t.Errorf("%d units of a are claimed", claim)
	}
	c.now = c.now.Add(MaxPictureAge)
	c.desk.Granted(c.now, "b", 1, 0) // somebody was quicker
	c.picture("a", 1, 0, 0)
	c.picture("b", 0, 0, 0)
	c.steps(look("a"), refuse(cart, Need{"b", 1}, 0), propose(small))
}

// TestCartThatWaitsKeepsNothing has a cart in both lines, of which one has no
// units: the other's go to whoever is behind it.
func TestCartThatWaitsKeepsNothing(t *testing.T) {
	c := newCounter(t)
	c.have("a", 1)
	c.have("b", 0)
	long := c.now.Add(time.Hour)
	cart := c.arrive(Arrival{Needs: []Need{{"a", 1}, {"b", 1}}, WaitUntil: long, Deadline: long})
	c.steps(look("a"), look("b"))
	c.picture("a", 1, 0, 0)
	c.picture("b", 0, 0, 0)
	c.steps()
	if claim := c.claimed("a", 1<<50); claim != 0 {
		t.Errorf("%d units of a are claimed", claim)
	}
	small := c.park(Need{"a", 1})
	c.steps(propose(small))
	c.have("a", 0)
	c.desk.Done(small)
	c.have("b", 1)
	c.steps(look("a"))
	c.have("a", 1)
	c.steps(propose(cart))
}

// TestBlindIsProposedOnce opens the bucket first: what its policy says is the
// log's to tell.
func TestBlindIsProposedOnce(t *testing.T) {
	c := newCounter(t)
	sku := onAnchor(2)
	id := c.arrive(Arrival{Needs: []Need{{sku, 1}}, Blind: true})
	c.steps(look(sku))
	c.picture(sku, 0, 0, 0)
	open := pull(sku, 2, 0)
	open.Open = true
	c.steps(open)
	c.desk.Granted(c.now, sku, 2, 0)
	c.have(sku, 0) // the policy has arrived
	c.steps(propose(id))
	c.desk.Short(id, nil)
	c.picture(sku, 0, 0, 0)
	c.steps(refuse(id, Need{sku, 1}, 0))
}

// TestUnknownSKU needs no more than the anchor's word.
func TestUnknownSKU(t *testing.T) {
	c := newCounter(t)
	sku := onAnchor(2)
	id := c.arrive(Arrival{Needs: []Need{{sku, 1}}, Blind: true})
	c.steps(look(sku))
	anchor := allocator.BucketReport{Shard: 2, Shards: 3}
	c.desk.Picture(sku, c.now, allocator.Cut{c.Level(sku), anchor}, []allocator.ShardID{1}, true)
	c.steps(Action{Kind: Refuse, ID: id, SKU: sku, Quantity: 1, Unknown: true})
}

// TestMissingShardIsNamed neither serves nor refuses what only a silent shard
// could.
func TestMissingShardIsNamed(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	id := c.park(Need{"a", 1})
	c.steps(look("a"))
	looks := 0
	for c.now.Before(start.Add(time.Second)) {
		c.picture("a", 0, -1, 0)
		for looked := false; !looked && c.now.Before(start.Add(time.Second)); {
			actions, next := c.desk.Step(c.now)
			if looked = len(actions) > 0; looked && actions[0].Kind != Look {
				t.Fatal(list(actions))
			} else if looked {
				looks++
			} else {
				c.now = next
			}
		}
	}
	if looks < 10 || looks > 60 {
		t.Errorf("it looked %d times in a second", looks)
	}
	c.steps(Action{Kind: Late, ID: id, Missing: []allocator.ShardID{1}})
	if next := c.steps(); !next.IsZero() {
		t.Error("there is still an alarm")
	}
}

// TestRefusalNeedsAPicture does not stand on one that is old, not final, not
// complete or not consistent.
func TestRefusalNeedsAPicture(t *testing.T) {
	empty := func(shard allocator.ShardID) allocator.BucketReport {
		return allocator.BucketReport{Shard: shard, Shards: 3, Known: true}
	}
	acked := empty(1)
	acked.Flows = []allocator.Flow{{Peer: 2, Sent: 1, Acked: 1}}
	tests := map[string]struct {
		cut     allocator.Cut
		age     time.Duration
		missing []allocator.ShardID
		final   bool
		refused bool
	}{
		"a good one":     {cut: allocator.Cut{empty(0), empty(1), empty(2)}, final: true, refused: true},
		"old enough":     {cut: allocator.Cut{empty(0), empty(1), empty(2)}, age: MaxPictureAge, final: true, refused: true},
		"too old":        {cut: allocator.Cut{empty(0), empty(1), empty(2)}, age: MaxPictureAge + 1, final: true},
		"not final":      {cut: allocator.Cut{empty(0), empty(1), empty(2)}},
		"not complete":   {cut: allocator.Cut{empty(0), empty(2)}, missing: []allocator.ShardID{1}, final: true},
		"not consistent": {cut: allocator.Cut{empty(0), acked, empty(2)}, final: true},
	}
	for name, tt := range tests {
		c := newCounter(t)
		c.have("a", 0)
		id := c.park(Need{"a", 1})
		c.steps(look("a"))
		c.desk.Picture("a", c.now.Add(-tt.age), tt.cut, tt.missing, tt.final)
		got, _ := c.desk.Step(c.now)
		if refused := len(got) > 0 && got[0].Kind == Refuse && got[0].ID == id; refused != tt.refused {
			t.Errorf("%s: %s", name, list(got))
		}
	}
}

// TestUnsoundPicture reports a picture that misses units, and refuses nobody.
func TestUnsoundPicture(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	c.park(Need{"a", 1})
	c.steps(look("a"))
	cut := make(allocator.Cut, 3)
	for i := range cut {
		cut[i] = allocator.BucketReport{Shard: allocator.ShardID(i), Shards: 3, Known: true}
	}
	cut[1].Deposited = 1
	c.desk.Picture("a", c.now, cut, nil, true)
	c.steps(Action{Kind: Unsound, SKU: "a"})
}

func TestDeskIsBounded(t *testing.T) {
	c := newCounter(t)
	for range MaxEntries {
		c.park(Need{"a", 1})
	}
	if _, ok := c.desk.Park(Arrival{Needs: []Need{{"b", 1}}}); ok || c.desk.Lined("b") {
		t.Error("it takes more than its bound")
	}
}

// TestDeadlineComesWhileProposed waits for the log's word, which may still be
// good; only when it is not the time is over.
func TestDeadlineComesWhileProposed(t *testing.T) {
	c := newCounter(t)
	c.have("a", 1)
	good, bad := c.park(Need{"a", 1}), c.park(Need{"a", 1})
	c.steps(propose(good), look("a"))
	c.have("a", 2)
	c.steps(propose(bad))
	c.now = c.now.Add(2 * time.Second)
	c.steps()
	c.have("a", 0)
	c.desk.Done(good)
	c.desk.Short(bad, nil)
	c.steps(Action{Kind: Late, ID: bad})
}

// TestShortKeepsItsPlace puts an entry back where it was; other needs, as after
// a change of policy, move it to other lines.
func TestShortKeepsItsPlace(t *testing.T) {
	c := newCounter(t)
	c.have("a", 1)
	c.have("b", 1)
	first := c.park(Need{"a", 1})
	second := c.park(Need{"a", 1})
	c.steps(propose(first), look("a"))
	c.desk.Short(first, nil)
	c.steps(propose(first)) // not the second
	third := c.park(Need{"b", 1})
	c.have("b", 0)
	c.steps(look("b"))
	c.desk.Short(first, []Need{{"b", 1}})
	c.have("b", 1)
	c.steps(propose(second), propose(first))
	if c.desk.Waiting("a") != 1 || c.desk.Waiting("b") != 2 {
		t.Errorf("%d in line for a, %d for b", c.desk.Waiting("a"), c.desk.Waiting("b"))
	}
	c.desk.Done(first)
	c.steps(propose(third))
}

// TestNothingIsAskedForTwice counts what is on its way: asked for, granted, and
// sent by the picture. What was granted and is lost shows when a picture has it.
func TestNothingIsAskedForTwice(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	c.park(Need{"a", 4})
	c.steps(look("a"))
	c.picture("a", 0, 3, 3)
	c.steps(pull("a", 1, 3), pull("a", 2, 1))
	c.now = c.now.Add(time.Millisecond)
	c.desk.Granted(c.now, "a", 1, 3)
	c.steps(look("a")) // but no ask
	c.desk.Granted(c.now, "a", 2, 0)
	c.steps() // first comes what is on its way, and a share with it
	c.now = c.now.Add(maxPause + time.Millisecond)
	cut := allocator.Cut{c.Level("a"),
		{Shard: 1, Shards: 3, Known: true, Flows: []allocator.Flow{{Peer: 0, Sent: 3}}},
		{Shard: 2, Shards: 3, Known: true, Available: 3},
	}
	c.desk.Picture("a", c.now, cut, nil, true)
	c.steps(pull("a", 2, 1))
}

// TestClaimIsForOlderEntries: the oldest of the cluster gets what there is, with
// equal ages the lower shard.
func TestClaimIsForOlderEntries(t *testing.T) {
	c := newCounter(t)
	c.have("a", 0)
	c.arrive(Arrival{Needs: []Need{{"a", 2}}, Parked: 100})
	c.arrive(Arrival{Needs: []Need{{"a", 3}}, Parked: 200})
	for parked, want := range map[allocator.Millis]allocator.Quantity{99: 0, 100: 2, 150: 2, 200: 5, 300: 5} {
		if got := c.claimed("a", parked); got != want {
			t.Errorf("an entry of %d finds %d claimed, want %d", parked, got, want)
		}
	}
	if got := c.claimed("b", 300); got != 0 {
		t.Errorf("%d claimed without a line", got)
	}
}
