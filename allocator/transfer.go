package allocator

// transferOut is the first step of a transfer: the giver shrinks. A destination
// that is no other shard of the cluster is answered like a SKU that is nowhere:
// it can only be a mistake of the caller, which must not stop the replica.
func (s *State) transferOut(v *transferView) {
	if int(v.peer) >= s.cfg.Shards || v.peer == s.cfg.Shard {
		s.refuseSKU(CodeSKUNotFound, v.sku)
		return
	}
	no, known := s.stock.find(v.sku)
	if !known {
		s.refuseUnknown(v)
		return
	}
	grant := min(s.stock.at(no).pots[potAvailable], v.quantity)
	if grant == 0 && !v.open {
		return
	}
	box := &s.outboxes[v.peer]
	if box.full() {
		s.refuseSKU(CodeOutboxFull, v.sku)
		return
	}
	if grant > 0 {
		s.stock.send(no, v.peer, grant)
		s.counts.transfers++
		s.counts.unitsSent += grant
	}
	box.push(letter{bucket: no, quantity: grant})
	s.answer.setGranted(grant)
}

// refuseUnknown answers for a SKU that has no bucket here.
func (s *State) refuseUnknown(v *transferView) {
	code := s.unknown(v.sku)
	s.refuseSKU(code, v.sku)
	if code == CodeSKUUnknown {
		s.answer.short(shortageView{sku: v.sku, requested: v.quantity})
	}
}

// transferIn is the second step: the destination takes what follows the last
// message it took, skips what it has seen, and refuses a gap.
func (s *State) transferIn(v *transferView) {
	if int(v.peer) >= s.cfg.Shards || v.peer == s.cfg.Shard {
		s.answer.code = CodeTransferGap // no such source: nothing of it can follow
		return
	}
	last := s.received[v.peer]
	s.answer.setThrough(last)
	if v.seq > last+1 {
		s.answer.code = CodeTransferGap
		return
	}
	for i := range v.messages {
		if v.seq+uint64(i) <= last {
			continue
		}
		s.receive(v.peer, &v.messages[i])
		last++
	}
	s.received[v.peer] = last
	s.answer.setThrough(last)
}

// receive takes one message in. The anchor keeps its own policy: what comes
// back to it can't be newer.
func (s *State) receive(from ShardID, m *messageView) {
	no, known := s.stock.find(m.sku)
	if !known {
		no = s.stock.open(m.sku, anchorOf(m.sku, s.cfg.Shards) == s.cfg.Shard, s.clock.now)
		s.stock.setPolicy(no, m.policy)
	}
	if b := s.stock.at(no); !b.anchor && m.policy.Version > b.policy.Version {
		s.stock.setPolicy(no, m.policy).updated = s.clock.now
	}
	if m.quantity > 0 {
		s.stock.receive(no, from, m.quantity)
	}
}

// transferAck is the last step: the source forgets what has arrived.
func (s *State) transferAck(v *transferView) {
	if int(v.peer) >= s.cfg.Shards {
		return
	}
	box := &s.outboxes[v.peer]
	for through := min(v.seq, box.sent); box.acked < through; {
		if l := box.pop(); l.quantity > 0 {
			s.stock.arrived(l.bucket, v.peer, l.quantity)
		}
	}
	s.answer.setThrough(box.acked)
}
