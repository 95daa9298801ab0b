package allocator

import (
	"slices"
	"strings"
	"testing"
)

// chain is three shards that pass units of SKU "a" on, and keeps every report
// each of them ever made.
type chain struct {
	shards  [3]*till
	reports [3][]BucketReport
}

func newChain(t *testing.T) *chain {
	var ch chain
	for i := range ch.shards {
		s, err := New(Config{Shard: ShardID(i), Shards: 3})
		if err != nil {
			t.Fatal(err)
		}
		ch.shards[i] = &till{State: s, t: t}
	}
	return &ch
}

// do applies a command to one shard and takes a report of each.
func (ch *chain) do(shard int, c Command) Result {
	r := ch.shards[shard].ok(c)
	for i, s := range ch.shards {
		report := s.Bucket("a")
		if n := len(ch.reports[i]); n == 0 || ch.reports[i][n-1].Applied != report.Applied {
			ch.reports[i] = append(ch.reports[i], report)
		}
	}
	return r
}

func (ch *chain) send(from, to int, units Quantity) {
	ch.do(from, &TransferOut{SKU: "a", To: ShardID(to), Quantity: units})
}

func (ch *chain) arrive(from, to int) {
	messages, first := ch.shards[from].Outbox(ShardID(to), 0, MaxMessages)
	ch.do(to, &TransferIn{From: ShardID(from), First: first, Messages: messages})
}

func (ch *chain) acknowledge(from, to int) {
	ch.do(from, &TransferAck{To: ShardID(to), Through: ch.shards[to].Vector().Received[from]})
}

// passUnits runs a little history: units go around, some are sold.
func (ch *chain) passUnits() {
	anchor := int(Anchor("a", 3))
	b, c := (anchor+1)%3, (anchor+2)%3
	ch.do(anchor, &PutSKU{SKU: "a", HasOnHand: true, OnHand: 100})
	ch.send(anchor, b, 40)
	ch.send(anchor, b, 7)
	ch.arrive(anchor, b)
	ch.send(b, c, 30)
	ch.arrive(b, c)
	ch.acknowledge(anchor, b)
	ch.send(c, anchor, 30)
	ch.acknowledge(b, c)
	ch.arrive(c, anchor)
	ch.do(b, &Reserve{Key: Key{1}, Lines: []Line{{"a", 5}}})
	ch.send(anchor, c, 1)
	ch.acknowledge(c, anchor)
	ch.arrive(anchor, c)
}

// TestCutsOfAllMoments puts every report of one shard together with every one
// of the others. No cut misses a unit; an exact one balances.
func TestCutsOfAllMoments(t *testing.T) {
	ch := newChain(t)
	ch.passUnits()
	consistent, exact := 0, 0
	for _, r0 := range ch.reports[0] {
		for _, r1 := range ch.reports[1] {
			for _, r2 := range ch.reports[2] {
				c := Cut{r0, r1, r2}
				deposited := r0.Deposited + r1.Deposited + r2.Deposited
				if c.OnHand() < deposited {
					t.Fatalf("a cut has %d of %d units: %+v", c.OnHand(), deposited, c)
				}
				if c.Consistent() {
					consistent++
				}
				b := c.Balance()
				if b.Exact != c.Exact() || b.Balanced != c.Exact() || b.Balanced != (len(b.Problems) == 0) {
					t.Fatalf("exact %v: %+v", c.Exact(), b)
				}
				if c.Exact() {
					exact++
				}
			}
		}
	}
	if all := len(ch.reports[0]) * len(ch.reports[1]) * len(ch.reports[2]); exact < 5 || exact >= consistent || consistent >= all {
		t.Errorf("of %d cuts %d are consistent, %d exact: the history shows nothing", all, consistent, exact)
	}
}

func (ch *chain) now() Cut {
	var c Cut
	for _, s := range ch.shards {
		c = append(c, s.Bucket("a"))
	}
	return c
}

func TestCutSums(t *testing.T) {
	ch := newChain(t)
	anchor := int(Anchor("a", 3))
	to := (anchor + 1) % 3
	if c := ch.now(); c.Known() || !c.Complete(3) || c.Units() != 0 || !c.Balance().Balanced {
		t.Errorf("an unknown SKU: %+v", c.Balance())
	}
	ch.do(anchor, &PutSKU{SKU: "a", HasOnHand: true, OnHand: 100, Policy: Policy{SafetyStock: 10}})
	ch.send(anchor, to, 40)
	expect := func(available, moving Quantity) {
		t.Helper()
		c := ch.now()
		if !c.Known() || c.Available() != available || c.InTransit() != moving || c.Units() != available+moving || c.OnHand() != 100 {
			t.Errorf("available %d, in transit %d, on hand %d; want %d, %d", c.Available(), c.InTransit(), c.OnHand(), available, moving)
		}
	}
	expect(50, 40)
	ch.arrive(anchor, to) // not acknowledged: still in the outbox, but counted where it is
	expect(90, 0)
	ch.acknowledge(anchor, to)
	expect(90, 0)
	want := PairBalance{From: ShardID(anchor), To: ShardID(to), Sent: 40, Received: 40}
	if pairs := ch.now().Balance().Pairs; !slices.Equal(pairs, []PairBalance{want}) {
		t.Errorf("pairs %+v", pairs)
	}
}

func TestCutThatIsNotComplete(t *testing.T) {
	ch := newChain(t)
	ch.passUnits()
	c := ch.now()
	for name, bad := range map[string]Cut{
		"nothing": {}, "one missing": c[:2], "out of order": {c[1], c[0], c[2]}, "one twice": {c[0], c[0], c[2]},
	} {
		b := bad.Balance()
		if bad.Complete(3) || bad.Consistent() || bad.Exact() || b.Balanced || len(b.Problems) == 0 {
			t.Errorf("%s: %+v", name, b)
		}
		bad.Units() // must not panic
	}
}

func (r *BucketReport) flowTo(peer int) *Flow {
	at := slices.IndexFunc(r.Flows, func(f Flow) bool { return f.Peer == ShardID(peer) })
	return &r.Flows[at]
}

// TestBalanceSaysWhatIsOff damages one figure at a time.
func TestBalanceSaysWhatIsOff(t *testing.T) {
	ch := newChain(t)
	ch.passUnits()
	ch.send(int(Anchor("a", 3)), (int(Anchor("a", 3))+1)%3, 3)
	anchor := int(Anchor("a", 3))
	for want, damage := range map[string]func(r *BucketReport){
		"units came in":               func(r *BucketReport) { r.Available++ },
		"one is negative":             func(r *BucketReport) { r.Reserved--; r.Committed++ },
		"were deposited, but":         func(r *BucketReport) { r.Committed++ },
		"99 acknowledged":             func(r *BucketReport) { r.flowTo((anchor + 1) % 3).Acked = 99 },
		"it sent 1 units":             func(r *BucketReport) { r.flowTo((anchor + 1) % 3).Sent = 1 },
		"4 are in the outbox":         func(r *BucketReport) { r.Outbox[0].Quantity++ },
		"which does not exist":        func(r *BucketReport) { r.Flows[0].Peer = 7 },
		"is not one report of every ": func(r *BucketReport) { r.Shard = 7 },
	} {
		c := ch.now()
		damage(&c[anchor])
		if b := c.Balance(); b.Balanced || !strings.Contains(strings.Join(b.Problems, "\n"), want) {
			t.Errorf("no %q in %q", want, b.Problems)
		}
	}
}
