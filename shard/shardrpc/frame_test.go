package shardrpc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"stockade/allocator"
	"stockade/bench/fuzzing"
	"stockade/shard/shardrpc/internal/pb"
)

var claims = rapid.Custom(func(t *rapid.T) Claim {
	return Claim{
		Parked: allocator.Millis(rapid.Int64Range(0, maxMillis).Draw(t, "parked")),
		Units:  allocator.Quantity(rapid.Int64Range(0, int64(allocator.MaxOnHand)).Draw(t, "units")),
	}
})

var requestItems = rapid.Custom(func(t *rapid.T) requestItem {
	return requestItem{
		id:      rapid.Uint64().Draw(t, "id"),
		shard:   allocator.ShardID(rapid.IntRange(0, allocator.MaxShards-1).Draw(t, "shard")),
		final:   rapid.Bool().Draw(t, "final"),
		aged:    rapid.Bool().Draw(t, "aged"),
		age:     time.Duration(rapid.Int64Range(-int64(MaxTimeout/time.Microsecond), int64(MaxTimeout/time.Microsecond)).Draw(t, "age")) * time.Microsecond,
		timeout: time.Duration(rapid.Int64Range(0, int64(MaxTimeout/time.Millisecond)).Draw(t, "timeout")) * time.Millisecond,
		wait:    time.Duration(rapid.Int64Range(0, int64(MaxTimeout/time.Millisecond)).Draw(t, "wait")) * time.Millisecond,
		claims:  rapid.SliceOfN(claims, 0, MaxClaims).Draw(t, "claims"),
		command: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "command"),
	}
})

var responses = rapid.Custom(func(t *rapid.T) Response {
	r := Response{
		Outcome: Outcome(rapid.IntRange(int(Applied), int(Unknown)).Draw(t, "outcome")),
		Reason:  Reason(rapid.IntRange(0, int(reasonEnd)-1).Draw(t, "reason")),
		Leader:  NodeID(rapid.StringN(0, -1, MaxNodeIDLen).Draw(t, "leader")),
		Shard:   allocator.ShardID(rapid.IntRange(0, allocator.MaxShards-1).Draw(t, "shard")),
		Result:  rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "result"),
	}
	if rapid.Bool().Draw(t, "since known") {
		r.Since = epoch.Add(-time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "age")) * time.Millisecond)
	}
	return r
})

var epoch = time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)

func TestRequestsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(requestItems, 0, 20).Draw(t, "items")
		var frame []byte
		for _, item := range want {
			before := len(frame)
			frame = item.appendTo(frame)
			if n := len(frame) - before; n > item.size() {
				t.Fatalf("%d bytes, more than the %d announced", n, item.size())
			}
		}
		r := reader{b: frame}
		for i := range want {
			got := r.request()
			if r.err != nil || got.id != want[i].id || got.shard != want[i].shard || got.final != want[i].final ||
				got.aged != want[i].aged || got.aged && got.age != want[i].age || got.timeout != want[i].timeout || got.wait != want[i].wait || !slices.Equal(got.claims, want[i].claims) || !bytes.Equal(got.command, want[i].command) {
				t.Fatalf("item %d: got %+v (%v), want %+v", i, got, r.err, want[i])
			}
		}
		if r.more() {
			t.Fatalf("%d bytes left over", len(r.b))
		}
	})
}

func TestResponsesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(responses, 0, 20).Draw(t, "items")
		var frame []byte
		for i, w := range want {
			item := toResponseItem(uint64(i), w, epoch)
			before := len(frame)
			frame = item.appendTo(frame)
			if n := len(frame) - before; n > item.size() {
				t.Fatalf("%d bytes, more than the %d announced", n, item.size())
			}
		}
		r := reader{b: frame}
		for i := range want {
			got := r.response(epoch)
			if r.err != nil || got.id != uint64(i) || !sameResponse(got.Response, want[i]) {
				t.Fatalf("item %d: got %+v (%v), want %+v", i, got, r.err, want[i])
			}
		}
		if r.more() {
			t.Fatalf("%d bytes left over", len(r.b))
		}
	})
}

// sameResponse treats nil and empty results as the same.
func sameResponse(a, b Response) bool {
	sameResult := bytes.Equal(a.Result, b.Result)
	a.Result, b.Result = nil, nil
	sameSince := a.Since.Equal(b.Since)
	a.Since, b.Since = time.Time{}, time.Time{}
	return sameResult && sameSince && reflect.DeepEqual(a, b)
}

// TestFormatOfVersion2 holds the format against bytes written by version 2:
// nodes of different releases must understand each other.
func TestFormatOfVersion2(t *testing.T) {
	request := requestItem{id: 300, shard: 5, final: true, timeout: 2 * time.Second, command: []byte("cmd")}
	response := toResponseItem(300, Response{
		Outcome: NotApplied, Reason: ReasonNotLeader, Leader: "n2", Shard: 5, Since: epoch.Add(-time.Second), Result: []byte{7},
	}, epoch)
	aged := requestItem{id: 1, shard: 5, aged: true, age: -1500 * time.Nanosecond, timeout: time.Second, command: []byte("c")}
	waiting := requestItem{id: 1, shard: 5, timeout: time.Second, wait: 700 * time.Millisecond, claims: []Claim{{300, 2}}, command: []byte("c")}
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"waiting request", "010506e807bc0501ac02020163", waiting.appendTo(nil)},
		{"aged request", "01050801e8070163", aged.appendTo(nil)},
		{"request", "ac020501d00f03636d64", request.appendTo(nil)},
		{"response", "ac02020105026e32e9070107", response.appendTo(nil)},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestDamagedFramesAreRefused(t *testing.T) {
	good := requestItem{id: 1, shard: 2, timeout: time.Second, command: []byte("abc")}.appendTo(nil)
	answer := toResponseItem(1, Response{Outcome: Applied, Leader: "n1", Result: []byte("abc")}, epoch).appendTo(nil)
	for _, c := range []struct {
		name     string
		response bool
		frame    []byte
		want     error
	}{
		{"shard out of range", false, []byte{1, 0x80, 0x08, 0, 0, 0}, errNumber},
		{"unknown flag", false, []byte{1, 2, flagAge << 1, 0, 0}, errFlags},
		{"wait too long", false, []byte{1, 2, flagWait, 0, 0xff, 0xff, 0xff, 0x7f, 0}, errNumber},
		{"parked beyond all time", false, append(append([]byte{1, 2, flagClaims, 0, 1}, bytes.Repeat([]byte{0xff}, 8)...), 0x7f, 0), errNumber},
		{"too many claims", false, []byte{1, 2, flagClaims, 0, MaxClaims + 1, 0, 0, 0}, errNumber},
		{"age too long", false, append([]byte{1, 2, flagAge}, binary.AppendVarint(nil, int64(MaxTimeout/time.Microsecond)+1)...), errNumber},
		{"timeout too long", false, []byte{1, 2, 0, 0xff, 0xff, 0xff, 0x7f, 0}, errNumber},
		{"command longer than allowed", false, []byte{1, 2, 0, 0, 0x81, 0x80, 0x10}, errNumber},
		{"command longer than the frame", false, []byte{1, 2, 0, 0, 9, 'a'}, errTruncated},
		{"endless number", false, bytes.Repeat([]byte{0xff}, 12), errNumber},
		{"cut", false, good[:len(good)-1], errTruncated},
		{"no outcome", true, []byte{1, 0, 0, 0, 0, 0, 0}, errEnum},
		{"unknown reason", true, []byte{1, 1, 200, 0, 0, 0, 0}, errEnum},
		{"leader too long", true, append([]byte{1, 1, 0, 0, 200}, bytes.Repeat([]byte{'a'}, 220)...), errNumber},
		{"result longer than the frame", true, []byte{1, 1, 0, 0, 0, 0, 9, 'a'}, errTruncated},
		{"cut answer", true, answer[:len(answer)-1], errTruncated},
	} {
		r := reader{b: c.frame}
		if c.response {
			r.response(epoch)
		} else {
			r.request()
		}
		if !errors.Is(r.err, c.want) || !errors.Is(r.err, errFrame) {
			t.Errorf("%s: got %v, want %v", c.name, r.err, c.want)
		}
	}
}

func TestFrameHeaderIsChecked(t *testing.T) {
	if err := checkFrame(&pb.Frame{Version: frameVersion + 1}); !errors.Is(err, errVersion) {
		t.Errorf("another version: %v", err)
	}
	if err := checkFrame(&pb.Frame{Version: frameVersion, Items: make([]byte, maxStreamMessage+1)}); !errors.Is(err, errFrame) {
		t.Errorf("too long: %v", err)
	}
}

func TestAnswersThatDoNotFitBecomeUnknown(t *testing.T) {
	for name, r := range map[string]Response{
		"result too long": {Outcome: Applied, Result: make([]byte, MaxResultLen+1)},
		"no outcome":      {},
		"unknown reason":  {Outcome: NotApplied, Reason: reasonEnd},
	} {
		if got := toResponseItem(1, r, epoch); got.Outcome != Unknown || got.Reason != ReasonInvalid || got.Result != nil {
			t.Errorf("%s: got %+v", name, got.Response)
		}
	}
	long := Response{Outcome: NotApplied, Reason: ReasonNotLeader, Leader: NodeID(strings.Repeat("n", MaxNodeIDLen+1))}
	if got := toResponseItem(1, long, epoch); got.Outcome != NotApplied || got.Leader != "" {
		t.Errorf("a hint that is too long must be left out: %+v", got.Response)
	}
}

// The most that reading a frame may take: a claim is two bytes, and sixteen in a list that
// grows; a leader's name is copied. That took 13 bytes for each.
const framePerByte, frameAlways = 32, 32 << 10

// FuzzFrame feeds anything to both readers: they must not panic, and what they
// accept must survive another round.
func FuzzFrame(f *testing.F) {
	f.Add(requestItem{id: 1, shard: 2, final: true, timeout: time.Second, command: []byte("abc")}.appendTo(nil))
	f.Add(slices.Repeat(requestItem{claims: make([]Claim, MaxClaims)}.appendTo(nil), 100))
	f.Add(slices.Repeat([]byte{1, 1, 0, 0, 0, 0, 0}, 1000)) // answers, each as short as can be
	f.Add(toResponseItem(9, Response{Outcome: Unknown, Reason: ReasonStore, Leader: "n1", Since: epoch}, epoch).appendTo(nil))
	f.Fuzz(func(t *testing.T, frame []byte) {
		fuzzing.InProportion(t, frame, framePerByte, frameAlways, func() {
			for r := (reader{b: frame}); r.more(); r.request() {
			}
			for r := (reader{b: frame}); r.more(); r.response(epoch) {
			}
		})
		for r := (reader{b: frame}); r.more(); {
			if item := r.request(); r.err == nil {
				again := reader{b: item.appendTo(nil)}
				if got := again.request(); again.err != nil || !reflect.DeepEqual(got, item) {
					t.Fatalf("request changed: %+v, then %+v (%v)", item, got, again.err)
				}
			}
		}
		for r := (reader{b: frame}); r.more(); {
			if item := r.response(epoch); r.err == nil {
				again := reader{b: toResponseItem(item.id, item.Response, epoch).appendTo(nil)}
				if got := again.response(epoch); again.err != nil || !sameResponse(got.Response, item.Response) {
					t.Fatalf("response changed: %+v, then %+v (%v)", item, got, again.err)
				}
			}
		}
	})
}

func TestPackerNumbersAndBoundsFrames(t *testing.T) {
	var p packer
	item := requestItem{command: make([]byte, allocator.MaxCommandLen)}
	for i := range 8 { // three of the largest fit in a frame with their headers
		if got, want := pack(&p, item), uint64(i/3+1); got != want {
			t.Fatalf("item %d is in frame %d, want %d", i, got, want)
		}
	}
	for want := uint64(1); want <= 3; want++ {
		f, ok := p.take()
		if !ok || p.taken != want || len(f.items) > maxFrameLen {
			t.Fatalf("frame %d: %v, number %d, %d bytes", want, ok, p.taken, len(f.items))
		}
	}
	if got := pack(&p, requestItem{}); got != 4 {
		t.Errorf("after taking all, the next item is in frame %d, want 4", got)
	}
	p.probe()
	if f, _ := p.take(); f.count != 1 {
		t.Errorf("a probe must not add a frame to one that waits")
	}
	p.probe()
	if f, ok := p.take(); !ok || f.count != 0 || len(f.items) != 0 {
		t.Errorf("a probe with nothing else must be an empty frame: %v %+v", ok, f)
	}
}
