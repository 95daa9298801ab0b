package membership

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"

	"stockade/bench/fuzzing"
)

// The most that reading facts or a greeting may take: they are short, and what is longer
// is not looked at. Up to 10 KiB were measured, most of it once for each type.
const shortPerByte, shortAlways = 16, 32 << 10

// FuzzFacts: what another member sent is read or refused, and is the same after a way
// there and back.
func FuzzFacts(f *testing.F) {
	f.Add([]byte(`{"i":"a","r":"node","n":"x","f":"3 shards","p":"h:1","z":"z","d":true}`))
	f.Add([]byte(`{"i":""}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(strings.Repeat("[", 2*MaxFacts)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var facts Facts
		var err error
		fuzzing.InProportion(t, b, shortPerByte, shortAlways, func() { facts, err = decodeFacts(b) })
		if err != nil {
			return
		}
		again, err := facts.encode()
		if err != nil {
			return // a text can take more room with its escapes
		}
		if got, err := decodeFacts(again); err != nil || got != facts {
			t.Errorf("%+v became %+v, %v", facts, got, err)
		}
	})
}

// FuzzGreeting: no bytes make more of a greeting than its limit.
func FuzzGreeting(f *testing.F) {
	f.Add([]byte("\x00\x02{}"))
	f.Add([]byte("\xff\xff{}"))
	f.Add([]byte{0, 20, '{'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h hello
		var err error
		fuzzing.InProportion(t, b, shortPerByte, shortAlways, func() { h, err = readHello(bytes.NewReader(b)) })
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := writeHello(&out, h); err != nil {
			return
		}
		if _, err := readHello(&out); err != nil {
			t.Errorf("%+v can't be read again: %v", h, err)
		}
	})
}

// alone is a member without a port: what it hears is what a test tells it.
func alone() *Membership {
	m := &Membership{cfg: node("a"), news: make(chan struct{})}
	m.view.Store(new(View))
	m.metrics = newMetrics(nil, m.View)
	m.queue.RetransmitMult, m.queue.NumNodes = retransmits, func() int { return len(m.cfg.Nodes) }
	return m
}

// The most that taking claims may take: an empty one is three bytes, and a struct in a
// list that grows; those that are news are encoded and queued one by one. That took 38
// bytes for each.
const claimsPerByte, claimsAlways = 128, 64 << 10

// FuzzClaims: what other members say of who leads is read or refused, and a member that
// hears it from this one knows the same.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`[{"s":1,"t":7,"n":"a"},{"s":1,"t":8,"n":"b"},{"s":65535,"t":18446744073709551615,"n":"<\u2028"}]`))
	f.Add([]byte(`[{"s":65536}]`))
	f.Add([]byte(`null`))
	f.Add([]byte("[" + strings.Repeat("{},", maxClaims-1) + "{}]"))
	all := make([]Claim, maxClaims)
	for i := range all {
		all[i] = Claim{Shard: uint16(i), Term: 1}
	}
	f.Add(encodeClaims(all))
	f.Add([]byte("[" + strings.Repeat("{},", 5*maxClaims) + "{}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, other := alone(), alone()
		fuzzing.InProportion(t, b, claimsPerByte, claimsAlways, func() { (*delegate)(m).NotifyMsg(b) })
		leaders := m.View().Leaders
		if !slices.IsSortedFunc(leaders, func(a, b Claim) int { return int(a.Shard) - int(b.Shard) }) || len(leaders) > maxClaims {
			t.Errorf("%q: %+v", b, leaders)
		}
		(*delegate)(other).MergeRemoteState((*delegate)(m).LocalState(false), false)
		if got := other.View().Leaders; len(got) != len(leaders) || len(got) > 0 && !reflect.DeepEqual(got, leaders) {
			t.Errorf("%+v is heard as %+v", leaders, got)
		}
	})
}

// FuzzMember: a member that says it is there is refused, or is in the view from then on.
func FuzzMember(f *testing.F) {
	f.Add("node/b@zik0zj", []byte(`{"i":"b","r":"node","n":"inc-b","f":"3 shards","p":"b:8402"}`))
	f.Add("router/r@-1", []byte(`{"i":"r","r":"router","l":true}`))
	f.Add("@", []byte(`{"i":"b","r":"node","n":"inc-c"}`))
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		m := alone()
		d, n := (*delegate)(m), &memberlist.Node{Name: name, Addr: net.IPv4(127, 0, 0, 1), Port: 8403, Meta: meta}
		var err error
		fuzzing.InProportion(t, slices.Concat([]byte(name), meta), shortPerByte, shortAlways, func() {
			if err = d.NotifyAlive(n); err == nil {
				d.NotifyJoin(n)
			}
		})
		if err != nil {
			return
		}
		members := m.View().Members
		if len(members) != 1 || members[0].State != Alive || members[0].name != name {
			t.Fatalf("%q with %q is known as %+v", name, meta, members)
		}
		d.NotifyLeave(n)
		if now, ok := m.View().Member(members[0].Role, members[0].ID); !ok || now.State == Alive {
			t.Errorf("%q has left: %+v", name, now)
		}
	})
}

// The most that reading keys may take: a file is copied, cut into lines and decoded; an
// empty line is one byte, and a string of sixteen. That took 20 bytes for each.
const keysPerByte, keysAlways = 64, 32 << 10

// FuzzKeys: whatever the file of gossip keys, there is an error that does not tell any, or
// keys that are the same when they are written and read again.
func FuzzKeys(f *testing.F) {
	const a, b = "AAAAAAAAAAAAAAAAAAAAAA==", "/////////////////////w=="
	f.Add([]byte(a + "\n"))
	f.Add([]byte("# two, and one again\n\n " + b + "\r\n" + a + "\n" + b))
	f.Add([]byte(a[:20]))
	f.Add([]byte("AAAA\rAAAAAAAAAAAAAAAAAA=="))
	f.Add(bytes.Repeat([]byte("\n"), 5000))
	f.Add([]byte(strings.Repeat("#\n"+a+"\n", 500)))
	f.Fuzz(func(t *testing.T, content []byte) {
		var keys *Keys
		var err error
		fuzzing.InProportion(t, content, keysPerByte, keysAlways, func() { keys, err = parseKeys(content) })
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "keys")
		if err := keys.Write(path); err != nil {
			t.Fatal(err)
		}
		again, err := ReadKeys(path)
		if err != nil || !reflect.DeepEqual(again.All(), keys.All()) {
			t.Fatalf("%q is read as %x, and written and read again as %+v (%v)", content, keys.All(), again, err)
		}
		checkReload(t, path, keys)
	})
}

// checkReload has a member with another key take over the keys of a file.
func checkReload(t *testing.T, path string, want *Keys) {
	t.Helper()
	old, err := NewKeys([]byte("sixteen bytes ..")[:16])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Reload(path); err != nil {
		t.Fatal(err)
	}
	byBytes := func(all [][]byte) [][]byte { return slices.SortedFunc(slices.Values(all), bytes.Compare) }
	if !bytes.Equal(old.All()[0], want.All()[0]) || !reflect.DeepEqual(byBytes(old.All()), byBytes(want.All())) {
		t.Errorf("took over %x, want %x", old.All(), want.All())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if changed, err := old.Reload(path); changed || err == nil || len(old.All()) != len(want.All()) {
		t.Errorf("without its file it has %x (%v)", old.All(), err)
	}
}
