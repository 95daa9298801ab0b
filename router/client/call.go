package client

import (
	"context"
	"time"
)

// call is one call of a method, with what its attempts came to. It is used by one
// goroutine.
type call struct {
	c        *Client
	op       string
	key      string
	began    time.Time
	deadline time.Time
	ctx      context.Context
	end      context.CancelFunc

	attempts int
	unsure   bool // an attempt may have been done
	last     verdict
}

// begin begins a call. Whoever begins one must call its end.
func (c *Client) begin(ctx context.Context, op, key string) *call {
	k := &call{c: c, op: op, key: key, began: time.Now()}
	var limited bool
	if k.deadline, limited = ctx.Deadline(); !limited {
		k.deadline = k.began.Add(c.timeout)
	}
	k.ctx, k.end = context.WithDeadline(ctx, k.deadline)
	return k
}

// insist makes attempts until an answer stands or the call's time is over. The error is
// an *Error.
func (k *call) insist(attempt func(*call) verdict) error {
	k.c.budget.earn()
	for {
		if err := k.over(); err != nil {
			return k.fail(err)
		}
		v := attempt(k)
		k.attempts++
		k.last = v
		k.unsure = k.unsure || v.kind == unknown
		switch v.kind {
		case done:
			return nil
		case refused:
			return k.fail(nil)
		}
		now, wait := time.Now(), k.wait(v)
		if now.Add(wait).After(k.deadline) {
			return k.fail(context.DeadlineExceeded)
		}
		earned, ok := k.c.budget.take(now, k.deadline)
		if !ok {
			return k.fail(context.DeadlineExceeded)
		}
		if !pause(k.ctx, max(wait, earned)) {
			return k.fail(k.ctx.Err())
		}
	}
}

// over tells why no attempt is made any more.
func (k *call) over() error {
	if k.c.life.Err() != nil {
		return ErrClosed
	}
	return k.ctx.Err()
}

// wait is the pause before the next attempt.
func (k *call) wait(v verdict) time.Duration {
	switch {
	case v.retryAfter > 0:
		return later(v.retryAfter)
	case v.kind == elsewhere && k.attempts <= k.c.nodes.size():
		return 0
	default:
		return backoff(k.attempts - 1)
	}
}

// fail is the error that the call ends with.
func (k *call) fail(cause error) error {
	e := &Error{
		Op: k.op, Problem: k.last.problem, Unknown: k.unsure, Final: k.last.kind == refused, Key: k.key,
		Attempts: k.attempts, Took: time.Since(k.began), Err: cause,
	}
	if k.last.node != nil {
		e.Node = k.last.node.base
	}
	if k.last.err != nil && e.Problem == nil {
		e.Err = k.last.err
	}
	e.Unknown = e.Unknown && !e.Final
	return e
}

// left is how long the server may take for the next attempt.
func (k *call) left() time.Duration {
	return min(time.Until(k.deadline), k.c.attemptTimeout)
}

// once makes one attempt by a request of its own, and gives the body of its answer.
func (k *call) once(r *request) (verdict, []byte) {
	n := k.c.nodes.pick(time.Now(), k.last.node)
	a := k.c.send(k.ctx, n, r)
	return a.judge(n), a.body
}
