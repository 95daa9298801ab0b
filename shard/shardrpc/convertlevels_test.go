package shardrpc

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"stockade/allocator"
	"stockade/bench/fuzzing"
	"stockade/shard/shardrpc/internal/pb"
)

func TestLevelsOutOfBoundsAreRefused(t *testing.T) {
	reply := func(change func(*pb.LevelsReply)) error {
		m := levelsReplyTo(fullLevels)
		change(m)
		return second(levelsReplyFrom(m))
	}
	for name, err := range map[string]error{
		"malformed SKU": second(levelsRequestFrom(&pb.LevelsRequest{Add: []string{"a", "ä"}})),
		"no SKU":        second(levelsRequestFrom(&pb.LevelsRequest{Drop: []string{""}})),
		"too many SKUs": second(levelsRequestFrom(&pb.LevelsRequest{Drop: make([]string, MaxLevels+1)})),
		"shard":         reply(func(m *pb.LevelsReply) { m.Shards[0].Shard = allocator.MaxShards }),
		"shard of term": reply(func(m *pb.LevelsReply) { m.Terms[0].Shard = allocator.MaxShards }),
		"shards":        reply(func(m *pb.LevelsReply) { m.Shards = make([]*pb.ShardLevels, allocator.MaxShards+1) }),
		"terms":         reply(func(m *pb.LevelsReply) { m.Terms = make([]*pb.ShardTerm, allocator.MaxShards+1) }),
		"levels of a shard": reply(func(m *pb.LevelsReply) {
			for range MaxLevels {
				m.Shards[0].Changed = append(m.Shards[0].Changed, m.Shards[0].Changed[0])
			}
		}),
		"levels of no SKU": reply(func(m *pb.LevelsReply) { m.Shards[0].Changed[0].Sku = "" }),
		"flows": reply(func(m *pb.LevelsReply) {
			m.Shards[0].Changed[0].Flows = make([]*pb.Flow, allocator.MaxShards+1)
		}),
	} {
		if !errors.Is(err, errMessage) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

var fullLevels = LevelsReply{
	Probe:  4,
	Shards: []ShardLevels{{Shard: 3, AsOf: 2, Changed: []allocator.BucketReport{fullReport}}, {Shard: 5}},
	Terms:  []ShardTerm{{Shard: 3, Term: 8}},
}

// marshal is proto.Marshal of what is known to be well formed.
func marshal(f *testing.F, m proto.Message) []byte {
	f.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// The most that reading a message may take. A message in a message is two bytes when it
// has no fields, and a struct for protobuf: that took up to 98 bytes for each. A report of
// nothing is another large struct besides, in a list that grows: 892.
const (
	messagePerByte, messageAlways = 256, 64 << 10
	levelsPerByte                 = 1024
)

// FuzzLevelsRequest reads requests that anybody may have sent. What is taken
// stays the same on a further way.
func FuzzLevelsRequest(f *testing.F) {
	f.Add(marshal(f, levelsRequestTo(LevelsRequest{Probe: 1, Add: []allocator.SKU{"a", "b"}, Drop: []allocator.SKU{"c"}})))
	f.Add(marshal(f, &pb.LevelsRequest{Add: []string{""}}))
	f.Add(marshal(f, &pb.LevelsRequest{Add: slices.Repeat([]string{"a"}, MaxLevels), Drop: make([]string, 5*MaxLevels)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r LevelsRequest
		var err error
		fuzzing.InProportion(t, data, messagePerByte, messageAlways, func() {
			var m pb.LevelsRequest
			if err = proto.Unmarshal(data, &m); err == nil {
				r, err = levelsRequestFrom(&m)
			}
		})
		if err != nil {
			return
		}
		again, err := levelsRequestFrom(overTheWire(t, levelsRequestTo(r)))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("got %+v (%v), want %+v", again, err, r)
		}
		for _, sku := range append(r.Add, r.Drop...) {
			if !allocator.ValidSKU(sku) {
				t.Errorf("took %q", sku)
			}
		}
	})
}

// FuzzLevelsReply reads replies, and puts up on a board what is taken.
func FuzzLevelsReply(f *testing.F) {
	f.Add(marshal(f, levelsReplyTo(fullLevels)))
	f.Add(marshal(f, &pb.LevelsReply{Shards: []*pb.ShardLevels{
		{Shard: 0, AsOf: 1, Changed: []*pb.BucketReport{{Sku: "a", Shards: 2, Known: true, Flows: []*pb.Flow{{Peer: 900}, {Peer: 1, Sent: -1}}}}},
		{Shard: 1, AsOf: 1, Changed: []*pb.BucketReport{{Sku: "a", Shards: 2, Flows: []*pb.Flow{{Received: 7}}}}},
		{Shard: 1, AsOf: 1 << 63},
	}}))
	// What takes more memory than it is long: reports of nothing, and shards and flows.
	f.Add(marshal(f, &pb.LevelsReply{Shards: []*pb.ShardLevels{{Changed: slices.Repeat([]*pb.BucketReport{{}}, MaxLevels)}}}))
	f.Add(marshal(f, &pb.LevelsReply{Shards: slices.Repeat([]*pb.ShardLevels{{}}, 5000), Terms: slices.Repeat([]*pb.ShardTerm{{}}, 5000)}))
	f.Add(marshal(f, &pb.LevelsReply{Shards: []*pb.ShardLevels{{Changed: []*pb.BucketReport{{
		Flows: slices.Repeat([]*pb.Flow{{}}, allocator.MaxShards), Outbox: slices.Repeat([]*pb.InTransit{{}}, 5000),
	}}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r LevelsReply
		var err error
		fuzzing.InProportion(t, data, levelsPerByte, messageAlways, func() {
			var m pb.LevelsReply
			if err = proto.Unmarshal(data, &m); err == nil {
				r, err = levelsReplyFrom(&m)
			}
		})
		if err != nil {
			return
		}
		again, err := levelsReplyFrom(overTheWire(t, levelsReplyTo(r)))
		if err != nil || len(again.Shards) != len(r.Shards) || !reflect.DeepEqual(again.Terms, r.Terms) {
			t.Errorf("got %+v (%v), want %+v", again, err, r)
		}
		b := board{shards: make([]*shardBoard, 2)}
		w := &wanted{sku: "a"}
		s := newSource()
		s.subscription.skus["a"] = true
		s.next(5)
		b.take(s, r, func(sku allocator.SKU) *wanted {
			if sku == w.sku {
				return w
			}
			return nil
		})
		if at := b.asOf.Load(); at != 0 && at != 5 {
			t.Errorf("as of %d", at)
		}
		if v := b.view(w); v.cut != nil && !v.cut.Complete(2) {
			t.Errorf("a cut of %+v", v.cut)
		}
	})
}
