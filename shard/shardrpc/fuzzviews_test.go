package shardrpc

import (
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"stockade/bench/fuzzing"
	"stockade/shard/shardrpc/internal/pb"
)

// conversion reads a message of another node; ok is false when it is refused. again
// is what it is after a further way over the wire.
type conversion func(t *testing.T, data []byte) (first, again any, ok bool)

// converts makes a conversion of a pair of functions.
func converts[M proto.Message, V any](empty func() M, from func(M) (V, error), to func(V) M) conversion {
	return func(t *testing.T, data []byte) (any, any, bool) {
		var first V
		var err error
		fuzzing.InProportion(t, data, messagePerByte, messageAlways, func() {
			m := empty()
			if err = proto.Unmarshal(data, m); err == nil {
				first, err = from(m)
			}
		})
		if err != nil {
			return nil, nil, false
		}
		again, err := from(overTheWire(t, to(first)))
		if err != nil {
			t.Fatalf("%+v is refused the second time: %v", first, err)
		}
		return first, again, true
	}
}

var conversions = []conversion{
	converts(func() *pb.BucketsRequest { return new(pb.BucketsRequest) }, bucketsRequestFrom, bucketsRequestTo),
	converts(func() *pb.BucketsReply { return new(pb.BucketsReply) }, bucketsReplyFrom, bucketsReplyTo),
	converts(func() *pb.ReservationRequest { return new(pb.ReservationRequest) }, reservationRequestFrom, reservationRequestTo),
	converts(func() *pb.ReservationReply { return new(pb.ReservationReply) }, reservationReplyFrom, reservationReplyTo),
	converts(func() *pb.SKUsRequest { return new(pb.SKUsRequest) }, skusRequestFrom, skusRequestTo),
	converts(func() *pb.SKUsReply { return new(pb.SKUsReply) }, skusReplyFrom, skusReplyTo),
	converts(func() *pb.ExistRequest { return new(pb.ExistRequest) }, existRequestFrom, existRequestTo),
	converts(func() *pb.ExistReply { return new(pb.ExistReply) }, existReplyFrom, existReplyTo),
	converts(func() *pb.StatusReply { return new(pb.StatusReply) }, statusReplyFrom, statusReplyTo),
}

// FuzzMessages reads every message that another node may send beside levels and
// proposals. What is taken stays the same on a further way.
func FuzzMessages(f *testing.F) {
	for i, m := range []proto.Message{
		bucketsRequestTo(BucketsRequest{SKU: "a", Strong: true}),
		&pb.BucketsReply{Answers: []*pb.BucketAnswer{{Report: reportTo(&fullReport)}}},
		reservationRequestTo(ReservationRequest{}),
		&pb.ReservationReply{Found: true, Reservation: reservationTo(fullReservation)},
		skusRequestTo(SKUsRequest{Limit: 3}),
		&pb.SKUsReply{},
		&pb.ExistRequest{Skus: []string{"a", "b"}},
		&pb.ExistReply{Exist: []bool{true, false}},
		&pb.StatusReply{Node: "a", Shards: []*pb.ShardStatus{{Shard: 1, Voters: []string{"a"}}}},
	} {
		f.Add(byte(i), marshal(f, m))
	}
	// What takes more memory than it is long: messages without fields, and empty texts.
	for i, m := range []proto.Message{
		&pb.BucketsRequest{Shards: make([]uint32, 5000)},
		&pb.BucketsReply{Answers: slices.Repeat([]*pb.BucketAnswer{{Report: &pb.BucketReport{}}}, 5000)},
		&pb.ReservationRequest{},
		&pb.ReservationReply{Found: true, Reservation: &pb.Reservation{Status: 1, Lines: slices.Repeat([]*pb.Line{{}}, 5000)}},
		&pb.SKUsRequest{},
		&pb.SKUsReply{Skus: slices.Repeat([]*pb.SKUSummary{{Sku: "a", Policy: &pb.Policy{}}}, MaxSKUsPerRequest)},
		&pb.ExistRequest{Skus: make([]string, 5000)},
		&pb.ExistReply{Exist: make([]bool, 5000)},
		&pb.StatusReply{Shards: slices.Repeat([]*pb.ShardStatus{{Voters: make([]string, MaxVoters)}}, 100)},
		&pb.BucketsReply{Answers: []*pb.BucketAnswer{{Report: &pb.BucketReport{Vector: &pb.Vector{Sent: make([]uint64, 5000)}}}}},
	} {
		f.Add(byte(i), marshal(f, m))
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		first, again, ok := conversions[int(which)%len(conversions)](t, data)
		if ok && !reflect.DeepEqual(first, again) {
			t.Errorf("got %+v, want %+v", again, first)
		}
	})
}
