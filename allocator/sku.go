package allocator

// anchored finds the bucket of a SKU that this shard anchors. Without one the
// answer is set and ok is false.
func (s *State) anchored(sku []byte) (no uint32, ok bool) {
	if no, ok = s.stock.find(sku); ok && s.stock.at(no).anchor {
		return no, true
	}
	s.refuseSKU(CodeSKUNotFound, sku)
	return 0, false
}

// refuseSKU answers with a code and the SKU it is about.
func (s *State) refuseSKU(code Code, sku []byte) {
	s.answer.code = code
	s.answer.explain(refusalView{sku: sku})
}

// belowReserved refuses for lack of units that a transfer could bring.
func (s *State) belowReserved(short shortageView) {
	s.answer.code = CodeBelowReserved
	s.answer.explain(refusalView{sku: short.sku, requested: short.requested, available: short.available})
	s.answer.short(short)
}

// putSKU creates a SKU or replaces its policy. Created elsewhere than on its
// anchor, a SKU would have two owners: there it is not found.
func (s *State) putSKU(v *skuView) error {
	if s.repeatKeyed(&v.keyView, KindPutSKU) {
		return nil
	}
	no, exists := s.stock.find(v.sku)
	switch {
	case anchorOf(v.sku, s.cfg.Shards) != s.cfg.Shard, !exists && !v.hasOnHand:
		s.refuseSKU(CodeSKUNotFound, v.sku)
		return nil
	case exists && v.ifNoneMatch, v.ifMatch != 0 && (!exists || s.stock.at(no).policy.Version != v.ifMatch):
		s.refuseSKU(CodePreconditionFailed, v.sku)
		return nil
	case exists && v.hasOnHand:
		s.refuseSKU(CodeSKUExists, v.sku)
		return nil
	case exists:
		s.replacePolicy(no, v)
	default:
		s.createSKU(v)
	}
	if s.answer.code != CodeOK {
		return nil
	}
	return s.recordKeyed(&v.keyView, KindPutSKU)
}

// createSKU opens the bucket and deposits; the safety stock is set aside first.
func (s *State) createSKU(v *skuView) {
	safety := v.policy.SafetyStock
	if safety > v.quantity {
		s.belowReserved(shortageView{sku: v.sku, requested: safety, available: v.quantity})
		return
	}
	no := s.stock.open(v.sku, true, s.clock.now)
	policy := v.policy
	policy.Version, policy.Paused = 1, false
	s.stock.setPolicy(no, policy)
	s.stock.deposit(no, v.quantity)
	s.stock.move(no, potAvailable, potSafety, safety)
	s.stock.describe(no, v.metadata)
	s.answer.flags |= hasCreated
	s.answer.setVersion(1)
}

// replacePolicy makes a new version of the policy. Only SetPaused pauses, so
// that a change of the policy does not resume a sale by accident.
func (s *State) replacePolicy(no uint32, v *skuView) {
	b := s.stock.at(no)
	more := v.policy.SafetyStock - b.pots[potSafety]
	if available := b.pots[potAvailable]; more > available {
		s.belowReserved(shortageView{sku: v.sku, requested: more, available: available, known: true})
		return
	}
	if s.outboxesFull() {
		s.refuseSKU(CodeOutboxFull, v.sku)
		return
	}
	policy := v.policy
	policy.Version, policy.Paused = b.policy.Version+1, b.policy.Paused
	s.stock.move(no, potAvailable, potSafety, more)
	s.stock.describe(no, v.metadata)
	s.publish(no, policy)
}

// setPaused stops or resumes the sale of a SKU.
func (s *State) setPaused(v *skuView) {
	no, ok := s.anchored(v.sku)
	if !ok {
		return
	}
	policy := s.stock.at(no).policy
	if policy.Paused == v.paused {
		s.answer.setVersion(policy.Version)
		return
	}
	if s.outboxesFull() {
		s.refuseSKU(CodeOutboxFull, v.sku)
		return
	}
	policy.Version, policy.Paused = policy.Version+1, v.paused
	s.publish(no, policy)
}

// outboxesFull tells whether some shard could not be told of a policy.
func (s *State) outboxesFull() bool {
	for i := range s.outboxes {
		if s.outboxes[i].full() {
			return true
		}
	}
	return false
}

// publish sets a new version of a policy and sends it to every other shard:
// also to those without a bucket, because one may be on its way to them.
func (s *State) publish(no uint32, policy Policy) {
	s.stock.setPolicy(no, policy).updated = s.clock.now
	for i := range s.outboxes {
		if ShardID(i) != s.cfg.Shard {
			s.outboxes[i].push(letter{bucket: no})
		}
	}
	s.answer.setVersion(policy.Version)
}

// restock deposits units.
func (s *State) restock(v *skuView) error {
	if s.repeatKeyed(&v.keyView, KindRestock) {
		return nil
	}
	no, ok := s.anchored(v.sku)
	if !ok || s.beyondOnHand(no, v.quantity) {
		return nil
	}
	s.stock.deposit(no, v.quantity)
	s.answer.setVersion(s.stock.at(no).policy.Version)
	return s.recordKeyed(&v.keyView, KindRestock)
}

// beyondOnHand refuses units that would take a SKU beyond MaxOnHand.
func (s *State) beyondOnHand(no uint32, q Quantity) bool {
	b := s.stock.at(no)
	if q <= MaxOnHand-b.onHand() {
		return false
	}
	s.answer.code = CodeQuantityLimitExceeded
	s.answer.explain(refusalView{sku: b.sku(), limit: MaxOnHand, requested: q, available: MaxOnHand - b.onHand()})
	return true
}

// adjust corrects the count.
func (s *State) adjust(v *skuView) error {
	if s.repeatKeyed(&v.keyView, KindAdjust) {
		return nil
	}
	no, ok := s.anchored(v.sku)
	if !ok || s.beyondOnHand(no, v.quantity) {
		return nil
	}
	b := s.stock.at(no)
	if available := b.pots[potAvailable]; -v.quantity > available {
		s.belowReserved(shortageView{sku: v.sku, requested: -v.quantity, available: available, known: true})
		return nil
	}
	s.stock.adjust(no, v.quantity)
	s.answer.setVersion(b.policy.Version)
	return s.recordKeyed(&v.keyView, KindAdjust)
}
