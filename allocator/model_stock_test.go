package allocator_test

// The reference model, second half: SKUs, deposits and transfers.

import (
	"slices"

	"stockade/allocator"
)

func (m *model) anchors(sku allocator.SKU) bool {
	return allocator.Anchor(sku, m.cfg.Shards) == m.cfg.Shard
}

// open makes an empty bucket.
func (m *model) open(sku allocator.SKU, p allocator.Policy) *modelBucket {
	b := &modelBucket{
		sent:     map[allocator.ShardID]allocator.Quantity{},
		acked:    map[allocator.ShardID]allocator.Quantity{},
		received: map[allocator.ShardID]allocator.Quantity{},
	}
	b.BucketReport = allocator.BucketReport{
		Shard: m.cfg.Shard, SKU: sku, Known: true, Anchor: m.anchors(sku), Policy: p, Created: m.now,
	}
	m.buckets[sku] = b
	return b
}

func (m *model) putSKU(c *allocator.PutSKU) allocator.Result {
	b := m.buckets[c.SKU]
	v := &verdict{}
	if b == nil && !c.HasOnHand {
		v.refuse(allocator.Result{Code: allocator.CodeSKUNotFound, SKU: c.SKU})
	}
	if c.IfNoneMatch && b != nil || c.IfMatch != 0 && (b == nil || b.Policy.Version != c.IfMatch) {
		v.refuse(allocator.Result{Code: allocator.CodePreconditionFailed, SKU: c.SKU})
	}
	if b != nil && c.HasOnHand {
		v.refuse(allocator.Result{Code: allocator.CodeSKUExists, SKU: c.SKU})
	}
	if v.Code != allocator.CodeOK {
		return v.result()
	}
	if b == nil {
		return m.createSKU(c)
	}
	return m.updateSKU(b, c)
}

func (m *model) createSKU(c *allocator.PutSKU) allocator.Result {
	p := c.Policy
	if p.SafetyStock > c.OnHand {
		return belowReserved(allocator.Shortage{SKU: c.SKU, Requested: p.SafetyStock, Available: c.OnHand})
	}
	p.Version, p.Paused = 1, false
	b := m.open(c.SKU, p)
	b.Deposited = c.OnHand
	b.Safety = p.SafetyStock
	b.Available = c.OnHand - p.SafetyStock
	b.Metadata = slices.Clone(c.Metadata)
	return allocator.Result{Version: 1, Created: true}
}

func (m *model) updateSKU(b *modelBucket, c *allocator.PutSKU) allocator.Result {
	p := c.Policy
	more := p.SafetyStock - b.Safety
	if more > b.Available {
		return belowReserved(allocator.Shortage{SKU: c.SKU, Requested: more, Available: b.Available, Known: true})
	}
	p.Version = b.Policy.Version + 1
	p.Paused = b.Policy.Paused
	b.Policy = p
	b.Safety += more
	b.Available -= more
	b.Metadata = slices.Clone(c.Metadata)
	m.spread(c.SKU)
	return allocator.Result{Version: p.Version}
}

func belowReserved(s allocator.Shortage) allocator.Result {
	return allocator.Result{
		Code: allocator.CodeBelowReserved, SKU: s.SKU, Requested: s.Requested, Available: s.Available,
		Shortages: []allocator.Shortage{s},
	}
}

// spread tells every other shard the policy.
func (m *model) spread(sku allocator.SKU) {
	for to := range m.outbox {
		if allocator.ShardID(to) != m.cfg.Shard {
			m.send(to, modelMessage{kind: allocator.MessagePolicy, sku: sku})
		}
	}
}

func (m *model) send(to int, msg modelMessage) {
	m.vector.Sent[to]++
	msg.seq = m.vector.Sent[to]
	m.outbox[to] = append(m.outbox[to], msg)
}

func (m *model) setPaused(c *allocator.SetPaused) allocator.Result {
	b := m.buckets[c.SKU]
	if b == nil {
		return allocator.Result{Code: allocator.CodeSKUNotFound, SKU: c.SKU}
	}
	if b.Policy.Paused != c.Paused {
		b.Policy.Paused = c.Paused
		b.Policy.Version++
		m.spread(c.SKU)
	}
	return allocator.Result{Version: b.Policy.Version}
}

func (m *model) deposit(sku allocator.SKU, qty allocator.Quantity) allocator.Result {
	b := m.buckets[sku]
	if b == nil {
		return allocator.Result{Code: allocator.CodeSKUNotFound, SKU: sku}
	}
	b.Deposited += qty
	b.Available += qty
	return allocator.Result{Version: b.Policy.Version}
}

func (m *model) adjust(c *allocator.Adjust) allocator.Result {
	b := m.buckets[c.SKU]
	if b == nil {
		return allocator.Result{Code: allocator.CodeSKUNotFound, SKU: c.SKU}
	}
	if -c.Delta > b.Available {
		return belowReserved(allocator.Shortage{SKU: c.SKU, Requested: -c.Delta, Available: b.Available, Known: true})
	}
	b.Adjusted += c.Delta
	b.Available += c.Delta
	return allocator.Result{Version: b.Policy.Version}
}

func (m *model) transferOut(c *allocator.TransferOut) allocator.Result {
	b := m.buckets[c.SKU]
	if b == nil {
		v := &verdict{}
		m.judgeUnknown(v, allocator.Line{SKU: c.SKU, Quantity: c.Quantity})
		return v.result()
	}
	grant := min(b.Available, c.Quantity)
	switch {
	case grant > 0:
		b.Available -= grant
		b.sent[c.To] += grant
		m.send(int(c.To), modelMessage{kind: allocator.MessageUnits, sku: c.SKU, qty: grant})
		m.stats.Transfers++
		m.stats.UnitsSent += grant
	case c.Open:
		m.send(int(c.To), modelMessage{kind: allocator.MessagePolicy, sku: c.SKU})
	}
	return allocator.Result{Granted: grant}
}

func (m *model) transferIn(c *allocator.TransferIn) allocator.Result {
	last := &m.vector.Received[c.From]
	if c.First > *last+1 {
		return allocator.Result{Code: allocator.CodeTransferGap, Through: *last}
	}
	for i, msg := range c.Messages {
		if c.First+uint64(i) == *last+1 {
			m.receive(c.From, msg)
			*last++
		}
	}
	return allocator.Result{Through: *last}
}

func (m *model) receive(from allocator.ShardID, msg allocator.Message) {
	b := m.buckets[msg.SKU]
	if b == nil {
		b = m.open(msg.SKU, msg.Policy)
	}
	if msg.Policy.Version > b.Policy.Version {
		b.Policy = msg.Policy
	}
	b.Available += msg.Quantity
	b.received[from] += msg.Quantity
}

func (m *model) transferAck(c *allocator.TransferAck) allocator.Result {
	acked := max(m.vector.Acked[c.To], min(c.Through, m.vector.Sent[c.To]))
	m.vector.Acked[c.To] = acked
	box := m.outbox[c.To]
	gone := upTo(box, acked)
	for _, msg := range box[:gone] {
		m.buckets[msg.sku].acked[c.To] += msg.qty
	}
	m.outbox[c.To] = box[gone:]
	return allocator.Result{Through: acked}
}

// upTo counts the messages of an outbox up to and including seq.
func upTo(box []modelMessage, seq uint64) int {
	n := 0
	for n < len(box) && box[n].seq <= seq {
		n++
	}
	return n
}

// report is what the bucket of a SKU should look like from outside.
func (m *model) report(sku allocator.SKU) allocator.BucketReport {
	r := allocator.BucketReport{}
	if b := m.buckets[sku]; b != nil {
		r = b.BucketReport
		for peer := range allocator.ShardID(m.cfg.Shards) {
			if f := (allocator.Flow{Peer: peer, Sent: b.sent[peer], Acked: b.acked[peer], Received: b.received[peer]}); f.Sent+f.Received > 0 {
				r.Flows = append(r.Flows, f)
			}
		}
		r.Outbox = m.inTransit(sku)
	}
	r.Shard, r.Shards = m.cfg.Shard, m.cfg.Shards
	r.Vector, r.Stamp, r.Applied = m.vector, m.now, m.applied
	return r
}

func (m *model) inTransit(sku allocator.SKU) []allocator.InTransit {
	var all []allocator.InTransit
	for to, box := range m.outbox {
		for _, msg := range box {
			if msg.sku == sku && msg.qty > 0 {
				all = append(all, allocator.InTransit{To: allocator.ShardID(to), Seq: msg.seq, Quantity: msg.qty})
			}
		}
	}
	return all
}

// messages is what the outbox should deliver after a sequence number.
func (m *model) messages(to allocator.ShardID, after uint64, most int) []allocator.Message {
	var all []allocator.Message
	for _, msg := range m.outbox[to] {
		if msg.seq > after && len(all) < most {
			all = append(all, allocator.Message{Kind: msg.kind, SKU: msg.sku, Quantity: msg.qty, Policy: m.buckets[msg.sku].Policy})
		}
	}
	return all
}

// totals is what the shard's statistics should say; fields the specification
// leaves to the implementation are zero.
func (m *model) totals() allocator.Stats {
	s := m.stats
	s.SKUs = len(m.buckets)
	for _, b := range m.buckets {
		s.Available += b.Available
		s.Reserved += b.Reserved
		s.Committed += b.Committed
		s.Safety += b.Safety
	}
	for _, box := range m.outbox {
		s.OutboxLen += len(box)
		for _, msg := range box {
			s.InTransit += msg.qty
		}
	}
	for _, h := range m.holds {
		if h.Status == allocator.StatusReserved {
			s.Live++
		}
	}
	for _, n := range m.bought {
		if n != 0 {
			s.Purchases++
		}
	}
	return s
}
