package allocator_test

// Conservation over the shards of a random program's world: in the reports of
// one moment, in cuts made of reports of different moments, and when the
// network has calmed down.

import (
	"slices"

	"stockade/allocator"
)

// checkCluster adds up the units of every SKU over all shards.
func (w *world) checkCluster() {
	for _, sku := range worldSKUs {
		now := make(allocator.Cut, len(w.shards))
		for i, m := range w.shards {
			now[i] = m.real.Bucket(sku)
		}
		w.checkCut(now)
		if n := len(w.shards); !now.Complete(n) || now.Complete(n+1) || !now.Exact() {
			w.Fatalf("reports of one moment: complete %v, with one more shard %v, exact %v", now.Complete(n), now.Complete(n+1), now.Exact())
		}
		w.checkTampered(now)
		w.checkPastCut(sku)
	}
}

// checkPastCut draws one earlier report per shard. Most such cuts are not exact;
// those that are must balance, and a consistent one must miss no unit.
func (w *world) checkPastCut(sku allocator.SKU) {
	cut := make(allocator.Cut, len(w.shards))
	for i, m := range w.shards {
		past := m.past[sku]
		cut[i] = past[len(past)-1-w.pick(min(len(past), 6), "age")]
	}
	w.checkCut(cut)
}

// checkCut holds a cut's answers against sums made here.
func (w *world) checkCut(cut allocator.Cut) {
	consistent, exact := order(cut)
	if cut.Consistent() != consistent || cut.Exact() != exact {
		w.Fatalf("consistent %v, exact %v; want %v, %v: %+v", cut.Consistent(), cut.Exact(), consistent, exact, cut)
	}
	var deposited, held, moving, boxed, free allocator.Quantity
	for _, r := range cut {
		deposited += r.Deposited + r.Adjusted
		held += r.Held()
		free += r.Available
		for _, o := range r.Outbox {
			if o.Seq > cut[o.To].Vector.Received[r.Shard] {
				boxed += o.Quantity
			}
		}
		for d := range cut {
			moving += max(0, flowOf(&r, d).Sent-flowOf(&cut[d], int(r.Shard)).Received)
		}
	}
	if consistent && moving != boxed {
		w.Fatalf("%d units are in transit, the outboxes hold %d: %+v", moving, boxed, cut)
	}
	got := [...]allocator.Quantity{cut.Available(), cut.InTransit(), cut.Units(), cut.OnHand()}
	if want := [...]allocator.Quantity{free, moving, free + moving, held + moving}; got != want {
		w.Fatalf("available, in transit, units and on hand are %d, want %d", got, want)
	}
	if consistent && held+moving < deposited || exact && held+moving != deposited {
		w.Fatalf("%d held and %d moving of %d deposited, exact %v: %+v", held, moving, deposited, exact, cut)
	}
	b := cut.Balance()
	if b.Exact != exact || b.Balanced != exact || b.Deposited != deposited || b.OnHand != held+moving || b.Balanced != (len(b.Problems) == 0) {
		w.Fatalf("exact %v: %+v of %+v", exact, b, cut)
	}
}

// checkTampered changes one figure of an exact cut: the proof must notice.
func (w *world) checkTampered(cut allocator.Cut) {
	shard := w.pick(len(cut), "tampered")
	r := &cut[shard]
	if !r.Known {
		return
	}
	fields := []*allocator.Quantity{&r.Available, &r.Reserved, &r.Committed, &r.Safety, &r.Deposited, &r.Adjusted}
	r.Flows, r.Outbox = slices.Clone(r.Flows), slices.Clone(r.Outbox)
	for i := range r.Flows {
		fields = append(fields, &r.Flows[i].Sent, &r.Flows[i].Acked, &r.Flows[i].Received)
	}
	for i := range r.Outbox {
		fields = append(fields, &r.Outbox[i].Quantity)
	}
	which := w.pick(len(fields), "field")
	*fields[which]++
	if b := cut.Balance(); b.Balanced || len(b.Problems) == 0 {
		w.Fatalf("field %d of shard %d was changed, and still %+v", which, shard, b)
	}
}

// order tells from the flows alone how the reports of a cut stand in time.
func order(cut allocator.Cut) (consistent, exact bool) {
	consistent, exact = true, true
	for s := range cut {
		for d := range cut {
			there, received := flowOf(&cut[s], d), flowOf(&cut[d], s).Received
			consistent = consistent && there.Acked <= received
			exact = exact && received <= there.Sent
		}
	}
	return consistent, exact && consistent
}

// flowOf looks a flow up the slow way.
func flowOf(r *allocator.BucketReport, peer int) (f allocator.Flow) {
	for i := range r.Flows {
		if int(r.Flows[i].Peer) == peer {
			f = r.Flows[i]
		}
	}
	return f
}

// drain ends a program: everything is delivered and acknowledged, every hold
// runs out, and then all units are in buckets again.
func (w *world) drain() {
	for from, m := range w.shards {
		for _, to := range m.real.Destinations() {
			w.drainBox(from, to)
		}
	}
	for i, m := range w.shards {
		w.runOut(i, m)
	}
	w.checkCluster()
}

func (w *world) drainBox(from int, to allocator.ShardID) {
	giver := w.shards[from]
	for range 1000 {
		got, first := giver.real.Outbox(to, giver.model.vector.Acked[to], 3)
		if len(got) == 0 {
			return
		}
		r := w.do(int(to), &allocator.TransferIn{From: allocator.ShardID(from), First: first, Messages: got})
		w.do(from, &allocator.TransferAck{To: to, Through: r.Through})
	}
	w.Fatalf("the outbox of %d to %d does not become empty", from, to)
}

// runOut lets time pass as an idle leader does: only when something is due.
func (w *world) runOut(shard int, m *member) {
	for range 10_000 {
		if m.real.Stats().Live == 0 {
			return
		}
		due, ok := m.real.NextDue()
		if !ok {
			break
		}
		w.begin(shard, max(due, m.model.now+1))
	}
	w.Fatalf("shard %d: %d reservations never expire", shard, m.real.Stats().Live)
}
