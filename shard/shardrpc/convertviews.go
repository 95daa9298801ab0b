package shardrpc

import (
	"stockade/allocator"
	"stockade/shard/shardrpc/internal/pb"
)

func reservationRequestTo(r ReservationRequest) *pb.ReservationRequest {
	return &pb.ReservationRequest{Shard: uint32(r.ID.Shard), Seq: r.ID.Seq}
}

func reservationRequestFrom(m *pb.ReservationRequest) (ReservationRequest, error) {
	var c checker
	id := allocator.ReservationID{Shard: c.shard(m.GetShard()), Seq: m.GetSeq()}
	return ReservationRequest{ID: id}, c.err
}

func reservationReplyTo(a ReservationAnswer) *pb.ReservationReply {
	m := &pb.ReservationReply{Found: a.Found, Reason: uint32(a.Reason), Leader: string(a.Leader)}
	if a.Found {
		m.Reservation = reservationTo(a.Reservation)
	}
	return m
}

func reservationReplyFrom(m *pb.ReservationReply) (ReservationAnswer, error) {
	var c checker
	a := ReservationAnswer{Found: m.GetFound(), Reason: c.reason(m.GetReason()), Leader: c.node(m.GetLeader())}
	if a.Found {
		a.Reservation = c.reservation(m.GetReservation())
	}
	return a, c.err
}

func reservationTo(r allocator.Reservation) *pb.Reservation {
	m := &pb.Reservation{
		Shard: uint32(r.ID.Shard), Seq: r.ID.Seq, Status: uint32(r.Status),
		BuyerId: r.BuyerID, Reference: r.Reference,
		Created: int64(r.Created), Expires: int64(r.Expires), Ended: int64(r.Ended),
	}
	for _, l := range r.Lines {
		m.Lines = append(m.Lines, &pb.Line{Sku: string(l.SKU), Quantity: int64(l.Quantity)})
	}
	return m
}

func (c *checker) reservation(m *pb.Reservation) allocator.Reservation {
	status := m.GetStatus()
	c.require(status >= uint32(allocator.StatusReserved) && status <= uint32(allocator.StatusExpired), "unknown status")
	c.require(len(m.GetLines()) <= allocator.MaxLines, "too many lines")
	c.require(len(m.GetBuyerId()) <= allocator.MaxBuyerLen, "buyer id too long")
	c.require(len(m.GetReference()) <= allocator.MaxReferenceLen, "reference too long")
	r := allocator.Reservation{
		ID:     allocator.ReservationID{Shard: c.shard(m.GetShard()), Seq: m.GetSeq()},
		Status: allocator.Status(status), BuyerID: m.GetBuyerId(), Reference: m.GetReference(),
		Created: allocator.Millis(m.GetCreated()), Expires: allocator.Millis(m.GetExpires()), Ended: allocator.Millis(m.GetEnded()),
	}
	for _, l := range m.GetLines() {
		r.Lines = append(r.Lines, allocator.Line{SKU: c.sku(l.GetSku()), Quantity: allocator.Quantity(l.GetQuantity())})
	}
	return r
}

func skusRequestTo(r SKUsRequest) *pb.SKUsRequest {
	limit := min(max(r.Limit, 0), MaxSKUsPerRequest)
	return &pb.SKUsRequest{Shard: uint32(r.Shard), Prefix: r.Prefix, After: string(r.After), Limit: uint32(limit)}
}

func skusRequestFrom(m *pb.SKUsRequest) (SKUsRequest, error) {
	var c checker
	c.require(len(m.GetPrefix()) <= allocator.MaxSKULen, "prefix too long")
	c.require(len(m.GetAfter()) <= allocator.MaxSKULen, "position too long")
	c.require(m.GetLimit() <= MaxSKUsPerRequest, "too many rows at once")
	return SKUsRequest{
		Shard: c.shard(m.GetShard()), Prefix: m.GetPrefix(),
		After: allocator.SKU(m.GetAfter()), Limit: int(m.GetLimit()),
	}, c.err
}

func skusReplyTo(a SKUsAnswer) *pb.SKUsReply {
	m := &pb.SKUsReply{Reason: uint32(a.Reason), Leader: string(a.Leader)}
	for _, s := range a.SKUs {
		m.Skus = append(m.Skus, &pb.SKUSummary{
			Sku: string(s.SKU), Policy: policyTo(s.Policy),
			Created: int64(s.Created), Updated: int64(s.Updated), OnHand: int64(s.OnHand),
		})
	}
	return m
}

func skusReplyFrom(m *pb.SKUsReply) (SKUsAnswer, error) {
	var c checker
	c.require(len(m.GetSkus()) <= MaxSKUsPerRequest, "too many rows")
	a := SKUsAnswer{Reason: c.reason(m.GetReason()), Leader: c.node(m.GetLeader())}
	for _, s := range m.GetSkus() {
		a.SKUs = append(a.SKUs, allocator.SKUSummary{
			SKU: c.sku(s.GetSku()), Policy: c.policy(s.GetPolicy()),
			Created: allocator.Millis(s.GetCreated()), Updated: allocator.Millis(s.GetUpdated()),
			OnHand: allocator.Quantity(s.GetOnHand()),
		})
	}
	return a, c.err
}

func existRequestTo(r ExistRequest) *pb.ExistRequest {
	return &pb.ExistRequest{Shard: uint32(r.Shard), Skus: skuTexts(r.SKUs)}
}

func existRequestFrom(m *pb.ExistRequest) (ExistRequest, error) {
	var c checker
	r := ExistRequest{Shard: c.shard(m.GetShard()), SKUs: c.skus(m.GetSkus())}
	return r, c.err
}

func existReplyTo(a ExistAnswer) *pb.ExistReply {
	return &pb.ExistReply{Exist: a.Exist, Reason: uint32(a.Reason), Leader: string(a.Leader)}
}

func existReplyFrom(m *pb.ExistReply) (ExistAnswer, error) {
	var c checker
	c.require(len(m.GetExist()) <= MaxSKUsPerRequest, "too many rows")
	a := ExistAnswer{Exist: m.GetExist(), Reason: c.reason(m.GetReason()), Leader: c.node(m.GetLeader())}
	return a, c.err
}

func statusReplyTo(s Status) *pb.StatusReply {
	m := &pb.StatusReply{
		Node: string(s.Node), ClusterId: s.ClusterID, Version: s.Version,
		Http: s.HTTP, Ops: s.Ops, Peer: s.Peer, WallClock: nanos(s.WallClock),
	}
	for i := range s.Shards {
		m.Shards = append(m.Shards, shardStatusTo(&s.Shards[i]))
	}
	return m
}

func shardStatusTo(s *ShardStatus) *pb.ShardStatus {
	m := &pb.ShardStatus{
		Shard: uint32(s.Shard), Leader: string(s.Leader), LeaderSince: nanos(s.LeaderSince),
		Ready: s.Ready, Term: s.Term, CommitIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex,
		LogTime: int64(s.LogTime), Rebuilding: s.Rebuilding, Commands: s.Commands, StateHash: s.StateHash,
	}
	for _, v := range s.Voters {
		m.Voters = append(m.Voters, string(v))
	}
	return m
}

// maxStatusText bounds the free texts of a Status: versions and addresses.
const maxStatusText = 512

func statusReplyFrom(m *pb.StatusReply) (Status, error) {
	var c checker
	for _, text := range []string{m.GetClusterId(), m.GetVersion(), m.GetHttp(), m.GetOps(), m.GetPeer()} {
		c.require(len(text) <= maxStatusText, "text too long")
	}
	c.require(len(m.GetShards()) <= allocator.MaxShards, "too many shards")
	s := Status{
		Node: c.node(m.GetNode()), ClusterID: m.GetClusterId(), Version: m.GetVersion(),
		HTTP: m.GetHttp(), Ops: m.GetOps(), Peer: m.GetPeer(), WallClock: fromNanos(m.GetWallClock()),
	}
	for _, sh := range m.GetShards() {
		s.Shards = append(s.Shards, c.shardStatus(sh))
	}
	return s, c.err
}

func (c *checker) shardStatus(m *pb.ShardStatus) ShardStatus {
	c.require(len(m.GetVoters()) <= MaxVoters, "too many voters")
	s := ShardStatus{
		Shard: c.shard(m.GetShard()), Leader: c.node(m.GetLeader()), LeaderSince: fromNanos(m.GetLeaderSince()),
		Ready: m.GetReady(), Term: m.GetTerm(), CommitIndex: m.GetCommitIndex(), AppliedIndex: m.GetAppliedIndex(),
		LogTime: allocator.Millis(m.GetLogTime()), Rebuilding: m.GetRebuilding(),
		Commands: m.GetCommands(), StateHash: m.GetStateHash(),
	}
	for _, v := range m.GetVoters() {
		s.Voters = append(s.Voters, c.node(v))
	}
	return s
}
