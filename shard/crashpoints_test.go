package shard

import (
	"slices"
	"testing"
	"time"

	"stockade/allocator"
	"stockade/shard/bubble"
	"stockade/shard/shardrpc"
)

// crashPoint is a moment of a transfer at which the world stands still.
type crashPoint struct {
	name string
	kind allocator.Kind // of the proposal that is stopped
	// stop is given that proposal, and forward to send it on.
	stop func(r *crashRig, p *shardrpc.Proposal, forward func(*shardrpc.Proposal))
	// What the shards have at the stop: units sent, received and acknowledged.
	sent, received allocator.Quantity
	repeats        bool // the destination must be given the message more than once
	cutsSource     bool // the stop itself costs the source its leader, n1
}

// unreachable is the answer for a message that got lost.
func unreachable(o shardrpc.Outcome) shardrpc.Response {
	return shardrpc.Response{Outcome: o, Reason: shardrpc.ReasonUnreachable, Shard: crashDest}
}

// onAnswer forwards a proposal and passes its answer to then.
func onAnswer(p *shardrpc.Proposal, forward func(*shardrpc.Proposal), then func(shardrpc.Response)) {
	q := *p
	q.Done = then
	forward(&q)
}

var crashPoints = []crashPoint{
	{
		name: "before TransferOut", kind: allocator.KindTransferOut,
		stop: func(r *crashRig, p *shardrpc.Proposal, forward func(*shardrpc.Proposal)) {
			r.hold(func() { forward(p) })
		},
	},
	{
		name: "applied and not sent", kind: allocator.KindTransferIn, sent: 10,
		stop: func(r *crashRig, p *shardrpc.Proposal, _ func(*shardrpc.Proposal)) {
			r.hold(func() { p.Done(unreachable(shardrpc.NotApplied)) })
		},
	},
	{
		name: "sent and lost", kind: allocator.KindTransferIn, sent: 10,
		stop: func(r *crashRig, p *shardrpc.Proposal, _ func(*shardrpc.Proposal)) {
			r.hold(func() { p.Done(unreachable(shardrpc.Unknown)) })
		},
	},
	{
		// Nobody ever answers, as when the destination's node stands still.
		name: "sent and lost without a word", kind: allocator.KindTransferIn, sent: 10,
		stop: func(r *crashRig, _ *shardrpc.Proposal, _ func(*shardrpc.Proposal)) {
			r.hold(func() {})
		},
	},
	{
		name: "sent and delayed", kind: allocator.KindTransferIn, sent: 10,
		stop: func(r *crashRig, p *shardrpc.Proposal, forward func(*shardrpc.Proposal)) {
			r.hold(func() { forward(p) })
		},
	},
	{
		name: "delivered out of order", kind: allocator.KindTransferIn, sent: 10,
		stop: func(r *crashRig, p *shardrpc.Proposal, forward func(*shardrpc.Proposal)) {
			cmd, _ := allocator.DecodeCommand(p.Command)
			in := *cmd.(*allocator.TransferIn)
			in.First++ // the second message comes before the first
			second := *p
			second.Command = in.AppendTo(nil)
			onAnswer(&second, forward, func(resp shardrpc.Response) {
				r.answered(resp)
				r.hold(func() { p.Done(resp) })
			})
		},
	},
	{
		name: "delivered twice", kind: allocator.KindTransferIn, sent: 10, received: 10, repeats: true,
		stop: func(r *crashRig, p *shardrpc.Proposal, forward func(*shardrpc.Proposal)) {
			onAnswer(p, forward, func(first shardrpc.Response) {
				r.answered(first)
				r.hold(func() { forward(p) })
			})
		},
	},
	{
		name: "delivered again much later", kind: allocator.KindTransferIn, sent: 10, received: 10,
		stop: func(r *crashRig, p *shardrpc.Proposal, forward func(*shardrpc.Proposal)) {
			r.mu.Lock()
			r.late = p.Command
			r.mu.Unlock()
			onAnswer(p, forward, func(resp shardrpc.Response) { r.hold(func() { p.Done(resp) }) })
		},
	},
	{
		name: "acknowledged and the acknowledgement lost", kind: allocator.KindTransferIn, sent: 10, received: 10, repeats: true,
		stop: func(r *crashRig, p *shardrpc.Proposal, forward func(*shardrpc.Proposal)) {
			onAnswer(p, forward, func(resp shardrpc.Response) {
				r.answered(resp)
				r.hold(func() { p.Done(unreachable(shardrpc.Unknown)) })
			})
		},
	},
	{
		// The leader of the source proposes the TransferAck when it is cut off: it
		// is in its log, and is overwritten by the next leader's.
		name: "TransferAck lost", kind: allocator.KindTransferIn, sent: 10, received: 10, repeats: true, cutsSource: true,
		stop: func(r *crashRig, p *shardrpc.Proposal, forward func(*shardrpc.Proposal)) {
			onAnswer(p, forward, func(resp shardrpc.Response) {
				r.cutOff(true, "n1")
				p.Done(resp)
				r.hold(func() {})
			})
		},
	},
}

// crashFault happens while the world stands still.
type crashFault struct {
	name   string
	strike func(r *crashRig)
	heal   func(r *crashRig)
	change func(*Config)
}

var crashFaults = []crashFault{
	{name: "no more"},
	{name: "source hands over", strike: func(r *crashRig) { r.handOver(crashSource) }},
	{name: "destination hands over", strike: func(r *crashRig) { r.handOver(crashDest) }},
	{name: "both hand over", strike: func(r *crashRig) { r.handOver(crashSource); r.handOver(crashDest) }},
	cutOffFault("source's leader is cut off", "n1"),
	cutOffFault("destination's leader is cut off", "n4"),
	cutOffFault("both leaders are cut off", "n1", "n4"),
	{name: "source comes from a snapshot", strike: func(r *crashRig) { r.snapshot(crashSource) }},
	{name: "destination comes from a snapshot", strike: func(r *crashRig) { r.snapshot(crashDest) }},
	goneFault("destination is gone for a minute", time.Minute, nil),
}

// goneFault takes the destination's majority away: n2 is left.
func goneFault(name string, long time.Duration, change func(*Config)) crashFault {
	return crashFault{
		name:   name,
		strike: func(r *crashRig) { r.cutOff(true, "n3", "n4") },
		heal: func(r *crashRig) {
			<-time.After(long)
			r.cutOff(false, "n3", "n4")
		},
		change: change,
	}
}

func cutOffFault(name string, nodes ...string) crashFault {
	return crashFault{
		name: name,
		strike: func(r *crashRig) {
			r.cutOff(true, nodes...)
			r.await(crashSource)
			r.await(crashDest)
		},
		heal: func(r *crashRig) { r.cutOff(false, nodes...) },
	}
}

// TestCrashPointsOfATransfer stops the world at each step of a transfer, on real
// nodes in virtual time, and lets a fault happen there. Afterwards nothing may be
// lost or doubled, the replicas are equal, and within a second of the end of the
// fault (the network is whole, both shards have leaders) nothing is in transit.
//
// These are the faults that hit most at once; TestSlowCrashPoints has them all.
func TestCrashPointsOfATransfer(t *testing.T) {
	for _, point := range crashPoints {
		for _, name := range []string{"no more", "both leaders are cut off", "destination comes from a snapshot"} {
			i := slices.IndexFunc(crashFaults, func(f crashFault) bool { return f.name == name })
			t.Run(point.name+", "+name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) { crash(t, point, crashFaults[i]) })
			})
		}
	}
}

// crash runs one cell of the matrix.
func crash(t *testing.T, point crashPoint, fault crashFault) {
	r := newCrashRig(t, fault.change)
	defer r.c.stopAll()
	before := r.cut()
	r.mu.Lock()
	r.armed, r.taken = &point, 0
	r.mu.Unlock()
	answer := r.transfer(10)
	<-r.stopped
	if point.cutsSource {
		r.await(crashSource) // another leader: what the first proposed is void
	} else {
		at := r.cut()
		sent := at[0].With(crashDest).Sent - before[0].With(crashDest).Sent
		received := at[1].With(crashSource).Received - before[1].With(crashSource).Received
		if sent != point.sent || received != point.received || len(at[0].Outbox) != int(sent/10) {
			t.Errorf("the world stands still with %d sent, %d received, outbox %v", sent, received, at[0].Outbox)
		}
	}
	if fault.strike != nil {
		fault.strike(r)
	}
	close(r.release)
	if fault.heal != nil {
		fault.heal(r)
	}
	r.cutOff(false, "n1")
	r.await(crashSource)
	r.await(crashDest)
	resp := <-answer
	if took := r.settle(); took > time.Second {
		t.Errorf("units were in transit for %v after the fault", took)
	}
	r.after(point, before, resp)
}

// after checks what has become of everything.
func (r *crashRig) after(point crashPoint, before allocator.Cut, resp shardrpc.Response) {
	r.t.Helper()
	cut := r.audit()
	moved := cut[0].With(crashDest).Sent - before[0].With(crashDest).Sent
	want := resp.Outcome == shardrpc.Applied && moved == 10 ||
		resp.Outcome == shardrpc.NotApplied && moved == 0 ||
		resp.Outcome == shardrpc.Unknown && (moved == 0 || moved == 10)
	if !want || point.sent > 0 && moved != 10 {
		r.t.Errorf("%d units were moved, the answer is %v %v", moved, resp.Outcome, resp.Reason)
	}
	if cut[0].Available != 50-moved || cut[1].Available != 50+moved {
		r.t.Errorf("%d units moved, but there are %d and %d", moved, cut[0].Available, cut[1].Available)
	}
	r.mu.Lock()
	taken, late, gap := r.taken, r.late, r.gap
	r.mu.Unlock()
	if point.repeats && taken < 2 {
		r.t.Errorf("the message was answered %d times, want it repeated", taken)
	}
	if gap != (point.name == "delivered out of order") {
		r.t.Errorf("a gap was refused: %v", gap)
	}
	// Transfers go on, and what comes much too late changes nothing.
	if next := <-r.transfer(5); next.Outcome != shardrpc.Applied {
		r.t.Fatalf("the next transfer: %v %v", next.Outcome, next.Reason)
	}
	if took := r.settle(); took > time.Second {
		r.t.Errorf("the next transfer took %v", took)
	}
	if late != nil {
		if res := r.c.apply(r.c.nodes["n2"], crashDest, late); res.Code != allocator.CodeOK {
			r.t.Errorf("a late delivery: %v", res.Code)
		}
	}
	if cut = r.audit(); cut[1].Available != 50+moved+5 {
		r.t.Errorf("after the next transfer there are %d and %d", cut[0].Available, cut[1].Available)
	}
}
