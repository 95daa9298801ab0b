package allocator_test

// The commands of the reference model, one function each.

import (
	"slices"

	"stockade/allocator"
)

// reserve takes all lines or none. id is what the implementation called it.
func (m *model) reserve(c *allocator.Reserve, id allocator.ReservationID) allocator.Result {
	if c.KeyTime != 0 && c.KeyTime+m.cfg.Retention < m.now {
		return allocator.Result{Code: allocator.CodeKeyExpired}
	}
	v := &verdict{}
	ttl := m.ttl(c)
	for _, l := range c.Lines {
		m.judge(v, c.Buyer, l)
		m.judgeTTL(v, l.SKU, ttl)
	}
	if v.Code != allocator.CodeOK {
		return v.result()
	}
	h := &modelHold{key: c.Key, buyer: c.Buyer, counted: map[allocator.SKU]bool{}}
	h.Reservation = allocator.Reservation{
		ID: id, Status: allocator.StatusReserved, Lines: slices.Clone(c.Lines),
		BuyerID: c.BuyerID, Reference: c.Reference, Created: m.now, Expires: m.now + ttl,
	}
	for _, l := range c.Lines {
		m.take(h, l)
	}
	m.holds = append(m.holds, h)
	return allocator.Result{Reservation: h.view()}
}

func (m *model) ttl(c *allocator.Reserve) allocator.Millis {
	ttl := c.TTL
	for _, l := range c.Lines {
		if b := m.buckets[l.SKU]; b != nil && c.TTL == 0 && (ttl == 0 || b.Policy.DefaultTTL < ttl) {
			ttl = b.Policy.DefaultTTL
		}
	}
	return ttl
}

// judge collects what speaks against one line.
func (m *model) judge(v *verdict, buyer allocator.Buyer, l allocator.Line) {
	b := m.buckets[l.SKU]
	if b == nil {
		m.judgeUnknown(v, l)
		return
	}
	p := b.Policy
	if p.Paused {
		v.refuse(allocator.Result{Code: allocator.CodeSKUPaused, SKU: l.SKU})
	}
	if m.now < p.SaleStarts || p.SaleEnds != 0 && m.now >= p.SaleEnds {
		v.refuse(allocator.Result{Code: allocator.CodeSaleNotOpen, SKU: l.SKU})
	}
	if p.MaxPerReservation > 0 && l.Quantity > p.MaxPerReservation {
		v.refuse(allocator.Result{Code: allocator.CodeQuantityLimitExceeded, SKU: l.SKU,
			Limit: p.MaxPerReservation, Requested: l.Quantity})
	}
	m.judgeBuyer(v, buyer, l)
	m.judgeStock(v, l)
}

func (m *model) judgeUnknown(v *verdict, l allocator.Line) {
	code := allocator.CodeSKUUnknown
	if m.anchors(l.SKU) {
		code = allocator.CodeSKUNotFound
	}
	v.refuse(allocator.Result{Code: code, SKU: l.SKU})
	v.short = append(v.short, allocator.Shortage{SKU: l.SKU, Requested: l.Quantity})
}

func (m *model) judgeTTL(v *verdict, sku allocator.SKU, ttl allocator.Millis) {
	if b := m.buckets[sku]; b != nil && ttl > b.Policy.MaxTTL {
		v.refuse(allocator.Result{Code: allocator.CodeTTLLimitExceeded, SKU: sku,
			Limit: allocator.Quantity(b.Policy.MaxTTL), Requested: allocator.Quantity(ttl)})
	}
}

func (m *model) judgeBuyer(v *verdict, buyer allocator.Buyer, l allocator.Line) {
	limit := m.buckets[l.SKU].Policy.MaxPerBuyer
	if limit == 0 || buyer == (allocator.Buyer{}) {
		return
	}
	has := m.bought[purchase{buyer, l.SKU}]
	if has+l.Quantity > limit {
		v.refuse(allocator.Result{Code: allocator.CodeBuyerLimitExceeded, SKU: l.SKU,
			Limit: limit, Requested: l.Quantity, Available: max(0, limit-has)})
	}
}

func (m *model) judgeStock(v *verdict, l allocator.Line) {
	has := m.buckets[l.SKU].Available
	if l.Quantity <= has {
		return
	}
	v.refuse(allocator.Result{Code: allocator.CodeInsufficientStock, SKU: l.SKU, Requested: l.Quantity, Available: has})
	v.short = append(v.short, allocator.Shortage{SKU: l.SKU, Requested: l.Quantity, Available: has, Known: true})
}

// take moves one line's units from available to reserved.
func (m *model) take(h *modelHold, l allocator.Line) {
	b := m.buckets[l.SKU]
	b.Available -= l.Quantity
	b.Reserved += l.Quantity
	h.counted[l.SKU] = h.buyer != (allocator.Buyer{}) && b.Policy.MaxPerBuyer > 0
	if h.counted[l.SKU] {
		m.bought[purchase{h.buyer, l.SKU}] += l.Quantity
	}
}

// choose turns the lines of a confirm or return into quantities per line of the
// reservation; none means all. The refusal names the first line that is too much.
func (h *modelHold) choose(lines []allocator.Line) (map[allocator.SKU]allocator.Quantity, *allocator.Result) {
	held := map[allocator.SKU]allocator.Quantity{}
	for _, l := range h.Lines {
		held[l.SKU] = l.Quantity
	}
	if len(lines) == 0 {
		return held, nil
	}
	chosen := map[allocator.SKU]allocator.Quantity{}
	for _, l := range lines {
		if l.Quantity > held[l.SKU] {
			r := about(h, allocator.CodeLinesExceedReservation)
			r.SKU, r.Requested, r.Available = l.SKU, l.Quantity, held[l.SKU]
			return nil, &r
		}
		chosen[l.SKU] = l.Quantity
	}
	return chosen, nil
}

func (m *model) confirm(c *allocator.Confirm) allocator.Result {
	h := m.hold(c.ID)
	switch {
	case h == nil:
		return allocator.Result{Code: allocator.CodeReservationNotFound}
	case h.Status == allocator.StatusCanceled:
		return about(h, allocator.CodeReservationCanceled)
	case h.Status == allocator.StatusConfirmed:
		return allocator.Result{Replayed: true, Reservation: h.view()}
	}
	sold, refusal := h.choose(c.Lines)
	if refusal != nil {
		return *refusal
	}
	if h.Status == allocator.StatusExpired {
		if refusal = m.retake(h, sold); refusal != nil {
			return *refusal
		}
	}
	for i, l := range h.Lines {
		b, qty := m.buckets[l.SKU], sold[l.SKU]
		b.Reserved -= l.Quantity
		b.Committed += qty
		b.Available += l.Quantity - qty
		m.uncount(h, l.SKU, l.Quantity-qty)
		h.Lines[i].Quantity = qty
	}
	m.end(h, allocator.StatusConfirmed)
	return allocator.Result{Reservation: h.view()}
}

// retake makes an expired reservation hold again what is to be sold of it.
func (m *model) retake(h *modelHold, sold map[allocator.SKU]allocator.Quantity) *allocator.Result {
	refusal := about(h, allocator.CodeReservationExpired)
	v := &verdict{}
	for _, l := range h.Lines {
		p := m.buckets[l.SKU].Policy
		if sold[l.SKU] == 0 {
			continue
		}
		if p.Paused || p.LateConfirm != allocator.LateConfirmRetake {
			return &refusal
		}
		want := allocator.Line{SKU: l.SKU, Quantity: sold[l.SKU]}
		m.judgeBuyer(v, h.buyer, want)
		m.judgeStock(v, want)
	}
	if v.Code == allocator.CodeInsufficientStock { // nothing comes before it: only units are missing
		refusal.Shortages = v.short
	}
	if v.Code != allocator.CodeOK {
		return &refusal
	}
	for i, l := range h.Lines {
		h.Lines[i].Quantity = sold[l.SKU]
		m.take(h, h.Lines[i])
	}
	m.stats.Retaken++
	return nil
}

func (m *model) cancel(c *allocator.Cancel) allocator.Result {
	h := m.hold(c.ID)
	switch {
	case h == nil:
		return allocator.Result{Code: allocator.CodeReservationNotFound}
	case h.Status == allocator.StatusConfirmed:
		return about(h, allocator.CodeReservationConfirmed)
	case h.Status != allocator.StatusReserved:
		return allocator.Result{Replayed: true, Reservation: h.view()}
	}
	m.release(h)
	m.end(h, allocator.StatusCanceled)
	return allocator.Result{Reservation: h.view()}
}

func (m *model) extend(c *allocator.Extend) allocator.Result {
	h := m.hold(c.ID)
	switch {
	case h == nil:
		return allocator.Result{Code: allocator.CodeReservationNotFound}
	case h.Status == allocator.StatusCanceled:
		return about(h, allocator.CodeReservationCanceled)
	case h.Status == allocator.StatusConfirmed:
		return about(h, allocator.CodeReservationConfirmed)
	case h.Status == allocator.StatusExpired:
		return about(h, allocator.CodeReservationExpired)
	}
	v := &verdict{}
	for _, l := range h.Lines {
		m.judgeTTL(v, l.SKU, c.TTL)
	}
	if v.Code != allocator.CodeOK {
		v.Reservation = h.view()
		return v.result()
	}
	h.Expires = max(h.Expires, m.now+c.TTL)
	return allocator.Result{Reservation: h.view()}
}

func (m *model) giveBack(c *allocator.Return) allocator.Result {
	h := m.hold(c.ID)
	switch {
	case h == nil:
		return allocator.Result{Code: allocator.CodeReservationNotFound}
	case h.Status != allocator.StatusConfirmed:
		return about(h, allocator.CodeReservationNotConfirmed)
	}
	back, refusal := h.choose(c.Lines)
	if refusal != nil {
		return *refusal
	}
	for i, l := range h.Lines {
		b, qty := m.buckets[l.SKU], back[l.SKU]
		b.Committed -= qty
		b.Available += qty
		m.uncount(h, l.SKU, qty)
		h.Lines[i].Quantity -= qty
	}
	return allocator.Result{Reservation: h.view()}
}
