package allocator

import "iter"

// Preview tells what a Reserve would meet if it were applied now, without
// applying it. It has the memory that this takes, and is for one goroutine at a
// time; several previews may look at one state side by side.
//
// A leader uses it for SKUs that are sold out or have a line: whoever would be
// refused for lack of units need not enter the log, but whoever repeats a key
// must, to get the first answer.
type Preview struct {
	request request
	plan    [MaxLines]planned
}

// Outlook is what a Preview says.
type Outlook struct {
	// Seen: the key was used before, so the answer is that of the first time.
	Seen bool
	// Code is what would be answered, by the shard alone, if the key is new.
	Code Code
}

// parse reads a Reserve; false: the command is another one, or none.
func (p *Preview) parse(cmd []byte) bool {
	return CommandKind(cmd) == KindReserve && p.request.parse(cmd, false) == nil
}

// Reserve previews an encoded command. It is false when the command is none, or
// no Reserve. It changes nothing.
func (p *Preview) Reserve(s *State, cmd []byte) (o Outlook, ok bool) {
	if !p.parse(cmd) {
		return o, false
	}
	v := &p.request.reserve
	if _, _, o.Seen = s.records.find(&v.key); o.Seen {
		return o, true
	}
	if v.keyTime != 0 && v.keyTime+s.cfg.Retention < s.clock.now {
		o.Code = CodeKeyExpired
		return o, true
	}
	lines := p.plan[:v.lines.n]
	for i := range lines {
		l := &lines[i]
		l.lineView, l.purchase = v.lines.store[i], 0
		l.bucket, l.known = s.stock.find(l.sku)
	}
	o.Code, _ = s.judgeAll(v, lines)
	return o, true
}

// Lines lists what a Reserve asks for; nil for other commands.
func (p *Preview) Lines(cmd []byte) []Line {
	if !p.parse(cmd) {
		return nil
	}
	lines := make([]Line, p.request.reserve.lines.n)
	for i, l := range p.request.reserve.lines.all() {
		lines[i] = Line{SKU: SKU(l.sku), Quantity: l.quantity}
	}
	return lines
}

// SKUs goes through what a Reserve asks for; other commands ask for nothing. The
// names it yields are parts of the command.
func (p *Preview) SKUs(cmd []byte) iter.Seq2[[]byte, Quantity] {
	return func(yield func([]byte, Quantity) bool) {
		if !p.parse(cmd) {
			return
		}
		for _, l := range p.request.reserve.lines.all() {
			if !yield(l.sku, l.quantity) {
				return
			}
		}
	}
}
