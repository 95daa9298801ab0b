package shardrpc

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"stockade/allocator"
	"stockade/bench/fuzzing"
	"stockade/shard/shardrpc/internal/pb"
)

// The most that a frame may take: a request is six bytes at the least, and becomes a
// proposal, a function to answer it by, and its answer: that took 48 bytes for each.
const streamPerByte, streamAlways = 128, 64 << 10

// maxFuzzedFrame is few enough items that nothing waits for somebody to take the answers.
const maxFuzzedFrame = 64 << 10

// FuzzProposals serves frames that anybody may have sent. What is proposed is within the
// limits, and each item is answered once, in frames that can be read.
func FuzzProposals(f *testing.F) {
	items := requestItem{id: 7, shard: 2, aged: true, age: time.Second, timeout: time.Minute, wait: time.Second, claims: []Claim{{1, 2}}, command: []byte("abc")}.appendTo(nil)
	f.Add(marshal(f, &pb.Frame{Version: frameVersion, Items: items, Clock: 3_000_000}))
	f.Add(marshal(f, &pb.Frame{Version: frameVersion, Items: requestItem{}.appendTo(items), Clock: 1<<64 - 1}))
	f.Add(marshal(f, &pb.Frame{Version: frameVersion, Items: items[:len(items)-1]}))
	f.Add(marshal(f, &pb.Frame{Version: frameVersion}))
	f.Add(marshal(f, &pb.Frame{Version: frameVersion, Items: many(requestItem{timeout: time.Minute}), Clock: 60_000_000}))
	m := NewMetrics(nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzzedFrame {
			return
		}
		var made []*Proposal
		node := &fakeNode{propose: func(p *Proposal) {
			made = append(made, p)
			p.Done(Response{Outcome: Applied, Shard: p.Shard, Result: p.Command})
		}}
		s := &server{node: node, received: m.direction("request-received"), sent: m.direction("response-sent"), late: m.late}
		a := &answers{began: time.Now().Add(-time.Minute), wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
		fuzzing.InProportion(t, data, streamPerByte, streamAlways, func() {
			var frame pb.Frame
			if proto.Unmarshal(data, &frame) == nil {
				_ = s.frame(t.Context(), &frame, a) // a damaged frame ends the stream
			}
		})
		for _, p := range made {
			checkProposal(t, p)
		}
		checkAnswers(t, a)
	})
}

// many is a frame of so many items as short as can be.
func many(item requestItem) (frame []byte) {
	for range 2000 {
		frame = item.appendTo(frame)
	}
	return frame
}

// checkProposal checks what a node may rely on.
func checkProposal(t *testing.T, p *Proposal) {
	t.Helper()
	now := time.Now()
	switch {
	case p.Shard >= allocator.MaxShards, len(p.Command) > allocator.MaxCommandLen, len(p.Claims) > MaxClaims,
		p.Deadline.After(now.Add(MaxTimeout)), p.WaitUntil.After(now.Add(MaxTimeout)), p.Begun.After(now):
		t.Errorf("proposed %+v", p)
	}
	for _, c := range p.Claims {
		if c.Parked < 0 || c.Units < 0 || c.Units > allocator.MaxOnHand {
			t.Errorf("a claim of %+v", c)
		}
	}
}

// checkAnswers reads the answers as the other side does.
func checkAnswers(t *testing.T, a *answers) {
	t.Helper()
	read := 0
	for f, ok := a.take(); ok; f, ok = a.take() {
		r := reader{b: f.items}
		for ; r.more(); read++ {
			r.response(epoch)
		}
		if r.err != nil {
			t.Errorf("an answer can't be read: %v", r.err)
		}
	}
	if read != a.backlog || a.open != 0 {
		t.Errorf("%d answers, %d were counted, and %d items are open", read, a.backlog, a.open)
	}
}

// FuzzAnswers takes frames of answers that any node may have sent. Each proposal that is
// under way gets at most one, within the limits.
func FuzzAnswers(f *testing.F) {
	answer := func(id uint64, r Response) []byte { return toResponseItem(id, r, epoch).appendTo(nil) }
	good := answer(1, Response{Outcome: Applied, Shard: 1, Result: []byte("r")})
	f.Add(marshal(f, &pb.Frame{Version: frameVersion, Clock: 5, Items: good}))
	f.Add(marshal(f, &pb.Frame{Version: frameVersion, Items: append(good, good...)}))
	f.Add(marshal(f, &pb.Frame{Version: frameVersion, Items: answer(2, Response{Outcome: NotApplied, Reason: ReasonNotLeader, Leader: "n2", Since: epoch})}))
	f.Add(marshal(f, &pb.Frame{Version: frameVersion, Clock: 1<<64 - 1, Items: answer(1<<64-1, Response{Outcome: Unknown})}))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, s := &Client{}, &session{clock: startClock(time.Now())}
		s.pending = newPending[call](func() {})
		const under = 3
		for id := range uint64(under) {
			s.pending.add(id+1, time.Now().Add(time.Hour), call{p: &Proposal{}})
		}
		defer s.pending.clear()
		var batch []settled
		fuzzing.InProportion(t, data, framePerByte, frameAlways, func() {
			var frame pb.Frame
			if proto.Unmarshal(data, &frame) == nil && checkFrame(&frame) == nil {
				batch, _ = c.settle(s, &frame, nil) // what came before the damage counts
			}
		})
		if len(batch)+len(s.pending.entries) != under {
			t.Errorf("%d answers to %d proposals, and %d are under way still", len(batch), under, len(s.pending.entries))
		}
		for _, d := range batch {
			if !d.r.Outcome.valid() || d.r.Reason >= reasonEnd || len(d.r.Leader) > MaxNodeIDLen || len(d.r.Result) > MaxResultLen || d.r.Since.After(time.Now()) {
				t.Errorf("took %+v", d.r)
			}
		}
		if at := s.clock.at(time.Now()); at < 0 {
			t.Errorf("the server's clock says %v", at)
		}
	})
}
