package shardrpc

import (
	"errors"
	"fmt"
	"time"

	"stockade/allocator"
	"stockade/shard/shardrpc/internal/pb"
)

// errMessage is wrapped by every complaint about a message of another node.
var errMessage = errors.New("invalid message")

// checker collects the first complaint about a message's values. Protobuf has
// bounded the memory by the size of the message; this bounds the meaning.
type checker struct{ err error }

func (c *checker) require(ok bool, what string) {
	if !ok && c.err == nil {
		c.err = fmt.Errorf("%w: %s", errMessage, what)
	}
}

func (c *checker) shard(v uint32) allocator.ShardID {
	c.require(v < allocator.MaxShards, "shard out of range")
	return allocator.ShardID(v)
}

func (c *checker) sku(v string) allocator.SKU {
	c.require(allocator.ValidSKU(allocator.SKU(v)), "malformed SKU")
	return allocator.SKU(v)
}

func (c *checker) node(v string) NodeID {
	c.require(len(v) <= MaxNodeIDLen, "node id too long")
	return NodeID(v)
}

func (c *checker) reason(v uint32) Reason {
	c.require(v < uint32(reasonEnd), "unknown reason")
	return Reason(v)
}

func bucketsRequestTo(r BucketsRequest) *pb.BucketsRequest {
	return &pb.BucketsRequest{Sku: string(r.SKU), Shards: fromShards(r.Shards), Strong: r.Strong}
}

func bucketsRequestFrom(m *pb.BucketsRequest) (BucketsRequest, error) {
	var c checker
	r := BucketsRequest{SKU: c.sku(m.GetSku()), Strong: m.GetStrong()}
	c.require(len(m.GetShards()) <= MaxBucketsPerRequest, "too many shards at once")
	if c.err != nil {
		return r, c.err
	}
	for _, s := range m.GetShards() {
		r.Shards = append(r.Shards, c.shard(s))
	}
	return r, c.err
}

func fromShards(shards []allocator.ShardID) []uint32 {
	out := make([]uint32, len(shards))
	for i, s := range shards {
		out[i] = uint32(s)
	}
	return out
}

func bucketsReplyTo(answers []BucketAnswer) *pb.BucketsReply {
	m := &pb.BucketsReply{}
	for i := range answers {
		a := &answers[i]
		m.Answers = append(m.Answers, &pb.BucketAnswer{
			Shard:   uint32(a.Shard),
			Report:  reportTo(a.Report),
			Waiting: uint32(a.Waiting),
			Reason:  uint32(a.Reason),
			Leader:  string(a.Leader),
		})
	}
	return m
}

func bucketsReplyFrom(m *pb.BucketsReply) ([]BucketAnswer, error) {
	var c checker
	c.require(len(m.GetAnswers()) <= MaxBucketsPerRequest, "too many answers")
	if c.err != nil {
		return nil, c.err
	}
	answers := make([]BucketAnswer, 0, len(m.GetAnswers()))
	for _, a := range m.GetAnswers() {
		shard := c.shard(a.GetShard())
		answers = append(answers, BucketAnswer{
			Shard:   shard,
			Report:  c.report(shard, a.GetReport()),
			Waiting: int(a.GetWaiting()),
			Reason:  c.reason(a.GetReason()),
			Leader:  c.node(a.GetLeader()),
		})
	}
	return answers, c.err
}

func reportTo(r *allocator.BucketReport) *pb.BucketReport {
	if r == nil {
		return nil
	}
	return &pb.BucketReport{
		Sku: string(r.SKU), Known: r.Known, Anchor: r.Anchor, Policy: policyTo(r.Policy),
		Created: int64(r.Created), Updated: int64(r.Updated),
		Deposited: int64(r.Deposited), Adjusted: int64(r.Adjusted),
		Available: int64(r.Available), Reserved: int64(r.Reserved),
		Committed: int64(r.Committed), Safety: int64(r.Safety),
		Flows: flowsTo(r.Flows), Outbox: outboxTo(r.Outbox), Metadata: r.Metadata,
		Vector: &pb.Vector{Sent: r.Vector.Sent, Acked: r.Vector.Acked, Received: r.Vector.Received},
		Stamp:  int64(r.Stamp), Applied: r.Applied, Hash: r.Hash, Shards: uint32(r.Shards), Rate: float32(r.Rate),
	}
}

// report reads a report. Quantities are taken as they are: the audit is there
// to find wrong ones, and must see them.
func (c *checker) report(shard allocator.ShardID, m *pb.BucketReport) *allocator.BucketReport {
	if m == nil {
		return nil
	}
	c.require(len(m.GetSku()) <= allocator.MaxSKULen, "SKU too long")
	c.require(len(m.GetMetadata()) <= allocator.MaxMetadataLen, "metadata too long")
	c.require(m.GetShards() <= allocator.MaxShards, "too many shards")
	return &allocator.BucketReport{
		Shard: shard, Shards: int(m.GetShards()), SKU: allocator.SKU(m.GetSku()), Known: m.GetKnown(), Anchor: m.GetAnchor(),
		Policy:  c.policy(m.GetPolicy()),
		Created: allocator.Millis(m.GetCreated()), Updated: allocator.Millis(m.GetUpdated()),
		Deposited: allocator.Quantity(m.GetDeposited()), Adjusted: allocator.Quantity(m.GetAdjusted()),
		Available: allocator.Quantity(m.GetAvailable()), Reserved: allocator.Quantity(m.GetReserved()),
		Committed: allocator.Quantity(m.GetCommitted()), Safety: allocator.Quantity(m.GetSafety()),
		Flows: c.flows(m.GetFlows()), Outbox: c.outbox(m.GetOutbox()), Metadata: m.GetMetadata(),
		Vector: c.vector(m.GetVector()),
		Stamp:  allocator.Millis(m.GetStamp()), Applied: m.GetApplied(), Hash: m.GetHash(), Rate: c.rate(m.GetRate()),
	}
}

// rate reads a rate, which the planner divides by.
func (c *checker) rate(v float32) float64 {
	c.require(v >= 0 && v <= maxRate, "rate out of range")
	return float64(v)
}

func (c *checker) vector(m *pb.Vector) allocator.Vector {
	for _, v := range [][]uint64{m.GetSent(), m.GetAcked(), m.GetReceived()} {
		c.require(len(v) <= allocator.MaxShards, "vector too long")
	}
	return allocator.Vector{Sent: m.GetSent(), Acked: m.GetAcked(), Received: m.GetReceived()}
}

func flowsTo(flows []allocator.Flow) []*pb.Flow {
	var out []*pb.Flow
	for _, f := range flows {
		out = append(out, &pb.Flow{Peer: uint32(f.Peer), Sent: int64(f.Sent), Acked: int64(f.Acked), Received: int64(f.Received)})
	}
	return out
}

func (c *checker) flows(flows []*pb.Flow) []allocator.Flow {
	c.require(len(flows) <= allocator.MaxShards, "too many flows")
	var out []allocator.Flow
	for _, f := range flows {
		out = append(out, allocator.Flow{
			Peer:     c.shard(f.GetPeer()),
			Sent:     allocator.Quantity(f.GetSent()),
			Acked:    allocator.Quantity(f.GetAcked()),
			Received: allocator.Quantity(f.GetReceived()),
		})
	}
	return out
}

func outboxTo(rows []allocator.InTransit) []*pb.InTransit {
	var out []*pb.InTransit
	for _, t := range rows {
		out = append(out, &pb.InTransit{To: uint32(t.To), Seq: t.Seq, Quantity: int64(t.Quantity)})
	}
	return out
}

func (c *checker) outbox(rows []*pb.InTransit) []allocator.InTransit {
	c.require(len(rows) <= maxOutboxRows, "too many messages in transit")
	var out []allocator.InTransit
	for _, t := range rows {
		out = append(out, allocator.InTransit{
			To: c.shard(t.GetTo()), Seq: t.GetSeq(), Quantity: allocator.Quantity(t.GetQuantity()),
		})
	}
	return out
}

func policyTo(p allocator.Policy) *pb.Policy {
	return &pb.Policy{
		Version:           p.Version,
		SafetyStock:       int64(p.SafetyStock),
		MaxPerReservation: int64(p.MaxPerReservation),
		MaxPerBuyer:       int64(p.MaxPerBuyer),
		DefaultTtl:        int64(p.DefaultTTL),
		MaxTtl:            int64(p.MaxTTL),
		SaleStarts:        int64(p.SaleStarts),
		SaleEnds:          int64(p.SaleEnds),
		LateConfirm:       uint32(p.LateConfirm),
		Paused:            p.Paused,
		Watch:             p.Watch,
	}
}

func (c *checker) policy(m *pb.Policy) allocator.Policy {
	c.require(m.GetLateConfirm() <= uint32(allocator.LateConfirmReject), "unknown late-confirm rule")
	return allocator.Policy{
		Version:           m.GetVersion(),
		SafetyStock:       allocator.Quantity(m.GetSafetyStock()),
		MaxPerReservation: allocator.Quantity(m.GetMaxPerReservation()),
		MaxPerBuyer:       allocator.Quantity(m.GetMaxPerBuyer()),
		DefaultTTL:        allocator.Millis(m.GetDefaultTtl()),
		MaxTTL:            allocator.Millis(m.GetMaxTtl()),
		SaleStarts:        allocator.Millis(m.GetSaleStarts()),
		SaleEnds:          allocator.Millis(m.GetSaleEnds()),
		LateConfirm:       allocator.LateConfirm(m.GetLateConfirm()),
		Paused:            m.GetPaused(),
		Watch:             m.GetWatch(),
	}
}

// nanos writes a moment; 0 stands for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
