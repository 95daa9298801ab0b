package router

import (
	"context"
	"time"

	"stockade/allocator"
)

// ActionOp says what an Action does.
type ActionOp uint8

// The actions on a reservation.
const (
	ActionConfirm ActionOp = iota + 1
	ActionCancel
	ActionExtend
	ActionReturn
)

// Action is one thing to do with a reservation.
type Action struct {
	Op    ActionOp
	ID    allocator.ReservationID
	Lines []Line        // ActionConfirm, ActionReturn: only so much; empty: everything
	TTL   time.Duration // ActionExtend: from now, in whole milliseconds, at least one
	Key   string        // ActionReturn: makes it repeatable; "": it is not
}

// Confirm sells what a reservation holds, or only so much of it as lines say;
// the rest goes back. Doing it again gives the same answer.
func (r *Router) Confirm(ctx context.Context, id allocator.ReservationID, lines []Line) (Reserved, error) {
	return r.act(ctx, &Action{Op: ActionConfirm, ID: id, Lines: lines})
}

// Cancel gives back what a reservation holds. Doing it again gives the same
// answer.
func (r *Router) Cancel(ctx context.Context, id allocator.ReservationID) (Reserved, error) {
	return r.act(ctx, &Action{Op: ActionCancel, ID: id})
}

// Extend lets a reservation live for ttl from now, if that is later.
func (r *Router) Extend(ctx context.Context, id allocator.ReservationID, ttl time.Duration) (Reserved, error) {
	return r.act(ctx, &Action{Op: ActionExtend, ID: id, TTL: ttl})
}

// Return makes units of a confirmed reservation available again. With a key,
// doing it again gives the same answer.
func (r *Router) Return(ctx context.Context, id allocator.ReservationID, lines []Line, key string) (Reserved, error) {
	return r.act(ctx, &Action{Op: ActionReturn, ID: id, Lines: lines, Key: key})
}

func (r *Router) act(ctx context.Context, a *Action) (Reserved, error) {
	c, err := r.action(a)
	if err != nil {
		return Reserved{}, r.fail(c.op, err)
	}
	return r.finish(ctx, c)
}

// action encodes an action for the shard that its reservation names. The
// command has its operation even when there is an error: an *Invalid, or the
// refusal of an id that no shard of this cluster gave.
func (r *Router) action(a *Action) (command, error) {
	c := command{op: a.Op.operation(), shard: a.ID.Shard}
	lines, err := mergeLines(a.Lines)
	if err != nil {
		return c, err
	}
	if int(a.ID.Shard) >= r.shards || a.ID.Seq == 0 || a.ID.Seq > allocator.MaxSeq {
		return c, notFound()
	}
	switch a.Op {
	case ActionConfirm:
		c.cmd = &allocator.Confirm{ID: a.ID, Lines: lines}
	case ActionCancel:
		c.cmd = &allocator.Cancel{ID: a.ID}
	case ActionExtend:
		ttl, err := checkTTL(a.TTL, 1)
		if err != nil {
			return c, err
		}
		c.cmd = &allocator.Extend{ID: a.ID, TTL: ttl}
	case ActionReturn:
		c.cmd = &allocator.Return{
			Key:   r.hash.key(domainReturn, a.ID.String(), a.Key),
			Body:  r.hash.fingerprint(newBody(domainReturn).lines(lines)),
			ID:    a.ID,
			Lines: lines,
		}
	default:
		return c, &Invalid{Pointer: "/op", Detail: "must be confirm, cancel, extend or return"}
	}
	return c, nil
}

func (op ActionOp) operation() operation {
	switch op {
	case ActionCancel:
		return opCancel
	case ActionExtend:
		return opExtend
	case ActionReturn:
		return opReturn
	default:
		return opConfirm
	}
}
