package line

import (
	"time"

	"stockade/allocator"
	"stockade/shard/rebalance"
)

// What a leader decides before the log: who joins a line, who is refused at once,
// and how much of what another shard asks for is given. A refusal costs no log
// entry. Nothing here sells anything.

// Course is what becomes of a reservation that has come in.
type Course uint8

// The courses.
const (
	// ToLog: there are units, or there is another reason against it, or its key was
	// used before; the log says which.
	ToLog Course = iota
	// ToLine: there are units, and others who came before.
	ToLine
	// Short: there are too few here. It is refused when SoldOut says so and it does
	// not wait for some to come back, else it joins the line.
	Short
	// ToAnchor: some SKU has no bucket here, and its anchor knows whether it exists.
	ToAnchor
)

// Receive tells the course of a reservation by what the log would say to it now,
// and whether there is a line for a SKU of it.
func Receive(o allocator.Outlook, lined bool) Course {
	switch {
	case o.Seen: // only the log has the first answer
		return ToLog
	case o.Code == allocator.CodeInsufficientStock:
		return Short
	case o.Code == allocator.CodeOK && lined:
		return ToLine
	case o.Code == allocator.CodeSKUUnknown, o.Code == allocator.CodeSKUNotFound:
		return ToAnchor
	}
	return ToLog
}

// OnlyShort tells whether nothing but a lack of units speaks against a command that the
// log would say o to, if it is a reservation. If not, the end of its wait is for the log
// to say: the first answer to its key, or a refusal that comes before this one. Nobody
// looks ahead for other commands, of which another attempt may have been done meanwhile:
// a late confirmation, a correction of the count.
func OnlyShort(o allocator.Outlook, reserve bool) bool {
	return reserve && !o.Seen && (o.Code == allocator.CodeInsufficientStock || o.Code == allocator.CodeSKUUnknown)
}

// Needs tells what a command needs in line that the log says is short, and whether some
// SKU has no bucket here. What takes units of several SKUs together needs all of them, not
// only what is short now: a reservation, and a late confirmation, which takes its units
// again. So all attempts of one stand in the same lines, and when one of them is refused
// no earlier one is left that might be served later.
func Needs(command []byte, short *allocator.Result) (needs []Need, blind bool) {
	for _, s := range short.Shortages {
		needs = append(needs, Need{s.SKU, s.Requested})
		blind = blind || !s.Known
	}
	if lines := linesOf(command, short); len(lines) > 0 {
		needs = NeedsFor(lines)
	}
	return needs, blind
}

// linesOf is what a command takes together; nil: it is about one SKU.
func linesOf(command []byte, short *allocator.Result) []allocator.Line {
	cmd, err := allocator.DecodeCommand(command)
	if err != nil {
		return nil
	}
	switch cmd := cmd.(type) {
	case *allocator.Reserve:
		return cmd.Lines
	case *allocator.Confirm:
		if len(cmd.Lines) > 0 {
			return cmd.Lines
		}
		return short.Reservation.Lines
	}
	return nil
}

// NeedsFor is what a reservation needs.
func NeedsFor(lines []allocator.Line) []Need {
	needs := make([]Need, len(lines))
	for i, l := range lines {
		needs[i] = Need(l)
	}
	return needs
}

// Levels is what a shard knows of the others without asking.
type Levels interface {
	// Cut gives the levels of all shards, if all are known, and the moment up to
	// which nothing is missing in them.
	Cut(sku allocator.SKU) (cut allocator.Cut, asOf time.Time, ok bool)
	// SoldOut tells whether it is known that there are fewer units for sale or on
	// their way, in all shards together.
	SoldOut(sku allocator.SKU, units allocator.Quantity) bool
}

// SoldOut finds a line of a reservation for which there are too few units in all
// shards together, and tells how many there are, fewer than it asks for. applied
// is how many commands the home had applied when it saw that the reservation is
// short.
func SoldOut(l Levels, lines []allocator.Line, home allocator.ShardID, applied uint64) (short allocator.Line, left allocator.Quantity, ok bool) {
	for _, want := range lines {
		if !l.SoldOut(want.SKU, want.Quantity) {
			continue
		}
		cut, _, known := l.Cut(want.SKU)
		if !known || !Current(cut, home, applied) {
			return short, 0, false
		}
		return want, min(cut.Units(), want.Quantity-1), true
	}
	return short, 0, false
}

// Current tells whether what a home has seen of itself after a number of commands
// is at least as new as what the levels know of it. If not, somebody else leads it
// by now, and a key that was not seen here may have been used there: who repeats it
// must not be refused.
func Current(cut allocator.Cut, home allocator.ShardID, applied uint64) bool {
	own := cut.Of(home)
	return own != nil && own.Applied <= applied
}

// Asked is what another shard asks for.
type Asked struct {
	SKU    allocator.SKU
	By     allocator.ShardID
	Open   bool // it has no bucket of the SKU, and needs one
	Claims []Claim
	// ByRate and Rate are how many units a second are asked for there and here.
	ByRate, Rate float64
}

// Give decides how much of what another shard asks for it gets; false: there is
// nothing to send, not even a bucket without units.
func (d *Desk) Give(a Asked) (units allocator.Quantity, ok bool) {
	have := d.local.Level(a.SKU)
	units, free := d.Yield(a.SKU, have.Available, a.By, a.Claims)
	if units > 0 && free > units {
		units = rebalance.Grant(rebalance.Asked{Need: units, Left: free, HomeRate: a.ByRate, GiverRate: a.Rate})
	}
	return min(units, allocator.MaxQuantity), have.Known && (units > 0 || a.Open)
}
