package allocator

// DecodeCommand reads an encoded command. It is strict: it rejects everything
// that AppendTo would not write, everything beyond the limits, and lines that
// are not sorted. It fails with ErrCommand. Safe for concurrent use; the
// command shares no memory with b.
func DecodeCommand(b []byte) (Command, error) {
	var r request
	if err := r.parse(b, true); err != nil {
		return nil, err
	}
	return r.command(), nil
}

// command copies a request into the command it stands for.
func (r *request) command() Command {
	switch r.kind {
	case KindReserve:
		return r.reserve.command()
	case KindConfirm, KindCancel, KindExtend, KindReturn:
		return r.finish.command(r.kind)
	case KindPutSKU, KindSetPaused, KindRestock, KindAdjust:
		return r.sku.command(r.kind)
	case KindTransferOut, KindTransferIn, KindTransferAck:
		return r.transfer.command(r.kind)
	}
	audit := r.audit
	return &audit
}

func (v *reserveView) command() Command {
	return &Reserve{
		Key: v.key, Body: v.body, KeyTime: v.keyTime, TTL: v.ttl, Buyer: v.buyer,
		BuyerID: string(v.buyerID), Reference: string(v.reference),
		Lines: v.lines.copy(),
	}
}

func (v *finishView) command(kind Kind) Command {
	switch kind {
	case KindConfirm:
		return &Confirm{ID: v.id, Lines: v.lines.copy()}
	case KindCancel:
		return &Cancel{ID: v.id}
	case KindExtend:
		return &Extend{ID: v.id, TTL: v.ttl}
	}
	return &Return{Key: v.key, Body: v.body, ID: v.id, Lines: v.lines.copy()}
}

func (v *skuView) command(kind Kind) Command {
	sku := SKU(v.sku)
	switch kind {
	case KindSetPaused:
		return &SetPaused{SKU: sku, Paused: v.paused}
	case KindRestock:
		return &Restock{Key: v.key, Body: v.body, SKU: sku, Quantity: v.quantity, Reference: string(v.text)}
	case KindAdjust:
		return &Adjust{Key: v.key, Body: v.body, SKU: sku, Delta: v.quantity, Reason: string(v.text)}
	}
	return &PutSKU{
		Key: v.key, Body: v.body, SKU: sku, Policy: v.policy, HasOnHand: v.hasOnHand, OnHand: v.quantity,
		IfNoneMatch: v.ifNoneMatch, IfMatch: v.ifMatch, Metadata: append([]byte(nil), v.metadata...),
	}
}

func (v *transferView) command(kind Kind) Command {
	switch kind {
	case KindTransferOut:
		return &TransferOut{SKU: SKU(v.sku), To: v.peer, Quantity: v.quantity, Open: v.open}
	case KindTransferAck:
		return &TransferAck{To: v.peer, Through: v.seq}
	}
	in := &TransferIn{From: v.peer, First: v.seq, Messages: make([]Message, len(v.messages))}
	for i := range v.messages {
		m := &v.messages[i]
		in.Messages[i] = Message{Kind: m.kind, SKU: SKU(m.sku), Quantity: m.quantity, Policy: m.policy}
	}
	return in
}

func (l *lineList) copy() []Line { return copyLines(l.all()) }

// copyLines gives lines memory of their own; none stay nil.
func copyLines(views []lineView) []Line {
	if len(views) == 0 {
		return nil
	}
	lines := make([]Line, len(views))
	for i, v := range views {
		lines[i] = Line{SKU: SKU(v.sku), Quantity: v.quantity}
	}
	return lines
}
