package shardrpc

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"stockade/allocator"
	"stockade/shard/shardrpc/internal/pb"
)

var fullPolicy = allocator.Policy{
	Version: 7, SafetyStock: 1, MaxPerReservation: 2, MaxPerBuyer: 3, DefaultTTL: 4, MaxTTL: 5,
	SaleStarts: 6, SaleEnds: 8, LateConfirm: allocator.LateConfirmReject, Paused: true, Watch: true,
}

var fullReport = allocator.BucketReport{
	Shard: 3, SKU: "sku-1", Known: true, Anchor: true, Policy: fullPolicy, Created: 1, Updated: 2,
	Deposited: 3, Adjusted: -4, Available: 5, Reserved: 6, Committed: 7, Safety: 8,
	Flows:    []allocator.Flow{{Peer: 1, Sent: 2, Acked: 1, Received: 3}},
	Outbox:   []allocator.InTransit{{To: 1, Seq: 9, Quantity: 4}},
	Metadata: []byte(`{"a":1}`),
	Vector:   allocator.Vector{Sent: []uint64{1, 2, 0, 4}, Acked: []uint64{1, 1, 0, 4}, Received: []uint64{0, 5, 0, 6}},
	Stamp:    9, Applied: 10, Hash: 1 << 63, Shards: 4, Rate: 2.5,
}

var fullReservation = allocator.Reservation{
	ID: allocator.ReservationID{Shard: 3, Seq: 99}, Status: allocator.StatusConfirmed,
	Lines:   []allocator.Line{{SKU: "a", Quantity: 1}, {SKU: "b", Quantity: 0}},
	BuyerID: "buyer", Reference: "ref", Created: 1, Expires: 2, Ended: 3,
}

// overTheWire marshals and unmarshals m, as gRPC does.
func overTheWire[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestMessagesRoundTrip sends every message with all its fields set: one that is
// forgotten in a conversion comes back empty.
func TestMessagesRoundTrip(t *testing.T) {
	check := func(name string, want, got any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got  %+v (%v)\nwant %+v", name, got, err, want)
		}
	}
	exist := ExistRequest{Shard: 3, SKUs: []allocator.SKU{"a", "b"}}
	gotExist, err := existRequestFrom(overTheWire(t, existRequestTo(exist)))
	check("exist request", exist, gotExist, err)
	existing := ExistAnswer{Exist: []bool{true, false}, Reason: ReasonNotLeader, Leader: "n1"}
	gotExisting, err := existReplyFrom(overTheWire(t, existReplyTo(existing)))
	check("exist reply", existing, gotExisting, err)
	ask := LevelsRequest{Probe: 4, Add: []allocator.SKU{"a"}, Drop: []allocator.SKU{"b", "c"}}
	gotAsk, err := levelsRequestFrom(overTheWire(t, levelsRequestTo(ask)))
	check("levels request", ask, gotAsk, err)
	levels := fullLevels
	gotLevels, err := levelsReplyFrom(overTheWire(t, levelsReplyTo(levels)))
	check("levels reply", levels, gotLevels, err)
	buckets := BucketsRequest{SKU: "sku-1", Shards: []allocator.ShardID{0, 5}, Strong: true}
	gotBuckets, err := bucketsRequestFrom(overTheWire(t, bucketsRequestTo(buckets)))
	check("BucketsRequest", buckets, gotBuckets, err)

	answers := []BucketAnswer{{Shard: 3, Report: &fullReport, Waiting: 17}, {Shard: 4, Reason: ReasonNotLeader, Leader: "n2"}}
	gotAnswers, err := bucketsReplyFrom(overTheWire(t, bucketsReplyTo(answers)))
	check("BucketsReply", answers, gotAnswers, err)

	reservation := ReservationRequest{ID: fullReservation.ID}
	gotReservation, err := reservationRequestFrom(overTheWire(t, reservationRequestTo(reservation)))
	check("ReservationRequest", reservation, gotReservation, err)

	for _, answer := range []ReservationAnswer{{Found: true, Reservation: fullReservation}, {Reason: ReasonNotReady, Leader: "n3"}, {}} {
		got, err := reservationReplyFrom(overTheWire(t, reservationReplyTo(answer)))
		check("ReservationReply", answer, got, err)
	}

	list := SKUsRequest{Shard: 2, Prefix: "a", After: "ab", Limit: 50}
	gotList, err := skusRequestFrom(overTheWire(t, skusRequestTo(list)))
	check("SKUsRequest", list, gotList, err)

	page := SKUsAnswer{
		SKUs:   []allocator.SKUSummary{{SKU: "a", Policy: fullPolicy, Created: 1, Updated: 2, OnHand: 3}},
		Reason: ReasonNone, Leader: "n1",
	}
	gotPage, err := skusReplyFrom(overTheWire(t, skusReplyTo(page)))
	check("SKUsReply", page, gotPage, err)

	status := Status{
		Node: "n1", ClusterID: "c", Version: "v", HTTP: "h", Ops: "o", Peer: "p", WallClock: time.Unix(5, 6),
		Shards: []ShardStatus{{
			Shard: 1, Leader: "n2", LeaderSince: time.Unix(7, 8), Ready: true, Term: 3,
			CommitIndex: 4, AppliedIndex: 5, Voters: []NodeID{"n1", "n2"},
			LogTime: 9, Rebuilding: true, Commands: 10, StateHash: 11,
		}},
	}
	gotStatus, err := statusReplyFrom(overTheWire(t, statusReplyTo(status)))
	check("StatusReply", status, gotStatus, err)
}

func TestMessagesOutOfBoundsAreRefused(t *testing.T) {
	long := strings.Repeat("x", 1000)
	report := func(change func(*pb.BucketReport)) *pb.BucketsReply {
		r := reportTo(&fullReport)
		change(r)
		return &pb.BucketsReply{Answers: []*pb.BucketAnswer{{Report: r}}}
	}
	reservation := func(change func(*pb.Reservation)) *pb.ReservationReply {
		r := reservationTo(fullReservation)
		change(r)
		return &pb.ReservationReply{Found: true, Reservation: r}
	}
	for name, err := range map[string]error{
		"malformed SKU":      second(bucketsRequestFrom(&pb.BucketsRequest{Sku: "ä"})),
		"too many shards":    second(bucketsRequestFrom(&pb.BucketsRequest{Sku: "a", Shards: make([]uint32, MaxBucketsPerRequest+1)})),
		"shard out of range": second(bucketsRequestFrom(&pb.BucketsRequest{Sku: "a", Shards: []uint32{allocator.MaxShards}})),
		"too many answers":   second(bucketsReplyFrom(&pb.BucketsReply{Answers: make([]*pb.BucketAnswer, MaxBucketsPerRequest+1)})),
		"unknown reason":     second(bucketsReplyFrom(&pb.BucketsReply{Answers: []*pb.BucketAnswer{{Reason: 250}}})),
		"leader too long":    second(bucketsReplyFrom(&pb.BucketsReply{Answers: []*pb.BucketAnswer{{Leader: long}}})),
		"vector too long": second(bucketsReplyFrom(report(func(r *pb.BucketReport) {
			r.Vector.Acked = make([]uint64, allocator.MaxShards+1)
		}))),
		"too many flows":     second(bucketsReplyFrom(report(func(r *pb.BucketReport) { r.Flows = make([]*pb.Flow, allocator.MaxShards+1) }))),
		"metadata too long":  second(bucketsReplyFrom(report(func(r *pb.BucketReport) { r.Metadata = make([]byte, allocator.MaxMetadataLen+1) }))),
		"unknown rule":       second(bucketsReplyFrom(report(func(r *pb.BucketReport) { r.Policy.LateConfirm = 9 }))),
		"unknown status":     second(reservationReplyFrom(reservation(func(r *pb.Reservation) { r.Status = 0 }))),
		"too many lines":     second(reservationReplyFrom(reservation(func(r *pb.Reservation) { r.Lines = make([]*pb.Line, allocator.MaxLines+1) }))),
		"buyer too long":     second(reservationReplyFrom(reservation(func(r *pb.Reservation) { r.BuyerId = long }))),
		"reference too long": second(reservationReplyFrom(reservation(func(r *pb.Reservation) { r.Reference = long }))),
		"too many rows":      second(skusRequestFrom(&pb.SKUsRequest{Limit: MaxSKUsPerRequest + 1})),
		"prefix too long":    second(skusRequestFrom(&pb.SKUsRequest{Prefix: long})),
		"page too long":      second(skusReplyFrom(&pb.SKUsReply{Skus: make([]*pb.SKUSummary, MaxSKUsPerRequest+1)})),
		"text too long":      second(statusReplyFrom(&pb.StatusReply{Version: long})),
		"too many replicas":  second(statusReplyFrom(&pb.StatusReply{Shards: make([]*pb.ShardStatus, allocator.MaxShards+1)})),
		"too many voters":    second(statusReplyFrom(&pb.StatusReply{Shards: []*pb.ShardStatus{{Voters: make([]string, MaxVoters+1)}}})),
	} {
		if !errors.Is(err, errMessage) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func second[V any](_ V, err error) error { return err }

func TestEveryReasonHasItsWords(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range Reasons() {
		if r.String() == "" || r.Phrase() == "" || seen[r.String()] {
			t.Errorf("reason %d: %q, %q", r, r.String(), r.Phrase())
		}
		seen[r.String()] = true
	}
	if reasonEnd.String() != "invalid" || Outcome(0).String() != "invalid" || Unknown.String() != "unknown" {
		t.Error("values beyond the enums must have names too")
	}
}
