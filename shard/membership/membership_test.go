package membership

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const cluster = "0123456789abcdef0123456789abcdef"

// quick is fast enough for tests and slow enough for a busy machine.
var quick = Timing{Probe: 200 * time.Millisecond, Gossip: 20 * time.Millisecond, Rejoin: 300 * time.Millisecond}

// patience bounds what is waited for; only a failure takes so long.
const patience = 30 * time.Second

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// party is a member with what a test looks at.
type party struct {
	*Membership
	t        *testing.T
	log      *logged
	registry *prometheus.Registry
}

// node is the configuration of a node of a cluster of a, b and c.
func node(id string, join ...string) Config {
	return Config{
		Facts: Facts{
			ID: id, Role: Node, Incarnation: "inc-" + id, Fingerprint: "3 shards",
			Peer: id + ":8402", HTTP: id + ":8400", Ops: id + ":8401", Zone: "z1", Version: "v1",
		},
		Cluster: cluster, Nodes: map[string]string{"a": "inc-a", "b": "inc-b", "c": "inc-c"},
		Listen: "127.0.0.1:0", Join: join, Timing: quick,
	}
}

// router is the configuration of a router.
func router(id string, join ...string) Config {
	return Config{Facts: Facts{ID: id, Role: Router, HTTP: id + ":8400"}, Cluster: cluster, Listen: "127.0.0.1:0", Join: join, Timing: quick}
}

func begin(t *testing.T, cfg Config) *party {
	t.Helper()
	p := &party{t: t, log: new(logged), registry: prometheus.NewRegistry()}
	cfg.Log = slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Metrics = p.registry
	m, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Membership = m
	t.Cleanup(p.vanish)
	return p
}

// vanish ends a member without a goodbye, as a crash does.
func (p *party) vanish() {
	p.stop()
	p.done.Wait()
	if err := p.list.Shutdown(); err != nil {
		p.t.Errorf("shut down: %v", err)
	}
}

// sees waits until the view is as wanted.
func (p *party) sees(what string, wanted func(*View) bool) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		changed := p.Changed()
		if wanted(p.View()) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			p.t.Fatalf("%s does not see %s; it sees %+v; its log:\n%s", p.name, what, p.View(), p.log)
		}
	}
}

// alive tells whether exactly these nodes and routers are there.
func alive(ids ...string) func(*View) bool {
	return func(v *View) bool {
		var got []string
		for _, m := range v.Members {
			if m.State == Alive {
				got = append(got, m.ID)
			}
		}
		slices.Sort(got)
		return slices.Equal(got, ids)
	}
}

// in tells whether a node is in a state.
func in(id string, s State) func(*View) bool {
	return func(v *View) bool { m, ok := v.Member(Node, id); return ok && m.State == s }
}

// three starts a cluster whose b and c know only a.
func three(t *testing.T) (a, b, c *party) {
	t.Helper()
	a = begin(t, node("a"))
	b, c = begin(t, node("b", a.Addr())), begin(t, node("c", a.Addr()))
	for _, p := range []*party{a, b, c} {
		p.sees("all three", alive("a", "b", "c"))
	}
	return a, b, c
}

// TestMembersFindEachOther from one address, with their facts, and a router finds them.
func TestMembersFindEachOther(t *testing.T) {
	a, b, c := three(t)
	if m, _ := c.View().Member(Node, "b"); m.Facts != b.facts() || m.Gossip != b.Addr() {
		t.Errorf("c knows of b %+v at %s, and b is %+v at %s", m.Facts, m.Gossip, b.facts(), b.Addr())
	}
	id, err := Discover(t.Context(), []string{b.Addr()})
	if err != nil || id != cluster {
		t.Fatalf("discovered %q, %v", id, err)
	}
	r := begin(t, router("r1", b.Addr()))
	for _, p := range []*party{a, b, c, r} {
		p.sees("the router", alive("a", "b", "c", "r1"))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	a.sees("that b said goodbye", in("b", Left))
	if err := testutil.GatherAndCompare(a.registry, strings.NewReader(`
# HELP stockade_gossip_members Members that the gossip knows, by role and state (alive, left: they said goodbye, dead: they do not answer).
# TYPE stockade_gossip_members gauge
stockade_gossip_members{role="node",state="alive"} 2
stockade_gossip_members{role="node",state="dead"} 0
stockade_gossip_members{role="node",state="left"} 1
stockade_gossip_members{role="router",state="alive"} 1
stockade_gossip_members{role="router",state="dead"} 0
stockade_gossip_members{role="router",state="left"} 0
`), "stockade_gossip_members"); err != nil {
		t.Error(err)
	}
}

// TestLeadersAreTold to everybody, also to who comes later, and the highest term counts.
func TestLeadersAreTold(t *testing.T) {
	a, b, c := three(t)
	a.Lead(Claim{Shard: 0, Term: 2}, Claim{Shard: 1, Term: 5})
	b.Lead(Claim{Shard: 1, Term: 4}) // it was once, and hears late that it is not
	c.Lead(Claim{Shard: 2, Term: 1})
	want := []Claim{{0, 2, "a"}, {1, 5, "a"}, {2, 1, "c"}}
	led := func(v *View) bool { return slices.Equal(v.Leaders, want) }
	late := begin(t, router("r", c.Addr()))
	for _, p := range []*party{a, b, c, late} {
		p.sees("who leads", led)
	}
	b.Lead(Claim{Shard: 1, Term: 6})
	want[1] = Claim{1, 6, "b"}
	for _, p := range []*party{a, b, c, late} {
		p.sees("the new leader", led)
	}
}

// TestDrainingIsTold to the others.
func TestDrainingIsTold(t *testing.T) {
	a, b, _ := three(t)
	if err := b.Update(func(f *Facts) { f.Draining = true }); err != nil {
		t.Fatal(err)
	}
	a.sees("that b is draining", func(v *View) bool { m, _ := v.Member(Node, "b"); return m.Draining && m.State == Alive })
}

// TestMovedNodeIsFound at its new addresses, before the old ones are given up.
func TestMovedNodeIsFound(t *testing.T) {
	a, b, c := three(t)
	old := c.Addr()
	c.vanish()
	moved := node("c", b.Addr())
	moved.Facts.Peer = "elsewhere:8402"
	again := begin(t, moved)
	for _, p := range []*party{a, b} {
		p.sees("c elsewhere", func(v *View) bool {
			m, _ := v.Member(Node, "c")
			return m.State == Alive && m.Peer == "elsewhere:8402" && m.Gossip == again.Addr() && m.Gossip != old
		})
	}
	a.sees("that all are there", alive("a", "b", "c"))
}

// TestDeadNodeIsTriedAgain by those who are left, and it knows nobody.
func TestDeadNodeIsTriedAgain(t *testing.T) {
	a, b, c := three(t)
	at := c.Addr()
	c.vanish()
	for _, p := range []*party{a, b} {
		p.sees("that c is gone", in("c", Dead))
	}
	cfg := node("c")
	cfg.Listen = at
	again := begin(t, cfg)
	for _, p := range []*party{a, b, again} {
		p.sees("c again", alive("a", "b", "c"))
	}
}

// TestStrangersAreRefused with a sentence that says what differs, and change nothing.
func TestStrangersAreRefused(t *testing.T) {
	a, b, c := three(t)
	twin := node("c", a.Addr())
	twin.Facts.Incarnation, twin.Nodes = "inc-x", nil
	other := node("b", a.Addr())
	other.Cluster = strings.Repeat("f", 32)
	unknown := node("d", a.Addr())
	unknown.Nodes = nil
	differs := node("b", a.Addr())
	differs.Facts.Fingerprint, differs.Nodes = "16 shards", nil
	sealed := node("b", a.Addr())
	sealed.Keys = keysOf(t, newKey())
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{twin, `node \"c\" of the cluster has the data directory inc-c…, and this one comes with inc-x…`},
		{other, "it belongs to cluster " + cluster + ", and you to cluster " + other.Cluster},
		{unknown, `node \"d\" is not one of the cluster's`},
		{differs, `node \"b\" has 16 shards, and the cluster has 3 shards`},
		{sealed, "give all members the same --gossip-key-file"},
	} {
		p := begin(t, tt.cfg)
		deadline := time.After(patience)
		tick := time.NewTicker(10 * time.Millisecond)
		for !strings.Contains(p.log.String(), tt.want) {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("nobody says %q:\n%s", tt.want, p.log)
			}
		}
		tick.Stop()
		if !alive(p.cfg.Facts.ID)(p.View()) {
			t.Errorf("%s: it sees %+v", tt.want, p.View())
		}
		p.vanish()
	}
	for _, p := range []*party{a, b, c} {
		if !alive("a", "b", "c")(p.View()) {
			t.Errorf("%s sees %+v", p.name, p.View())
		}
		for _, m := range p.View().Members {
			if m.Incarnation != "inc-"+m.ID || m.Fingerprint != "3 shards" {
				t.Errorf("%s took in %+v", p.name, m)
			}
		}
	}
}

// TestDiscoverSaysWhatIsWrong with the addresses.
func TestDiscoverSaysWhatIsWrong(t *testing.T) {
	a := begin(t, node("a"))
	cfg := node("b")
	cfg.Cluster = strings.Repeat("f", 32)
	b := begin(t, cfg)
	if _, err := Discover(t.Context(), []string{a.Addr(), b.Addr()}); err == nil || !strings.Contains(err.Error(), "of different clusters") {
		t.Errorf("two clusters: %v", err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		}
	}()
	for addr, want := range map[string]string{l.Addr().String(): "no gossip port answers there", "no-such-host.invalid:1": "no-such-host.invalid", "port": "missing port"} {
		if _, err := Discover(t.Context(), []string{addr}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// TestWhoHangsUpIsNoGossipPort also when it does so between two writes of a greeting,
// which happens in some of the rounds.
func TestWhoHangsUpIsNoGossipPort(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			_, _ = io.ReadFull(c, make([]byte, len(greetingMagic)))
			_ = c.(*net.TCPConn).SetLinger(0) // a reset: what is unread is thrown away
			_ = c.Close()
		}
	}()
	for range 500 {
		_, err := greet(t.Context(), l.Addr().String(), hello{})
		if err == nil || !strings.Contains(err.Error(), "no gossip port answers there") {
			t.Fatal(err)
		}
	}
}

// TestKeysRotate while everybody talks, and who has none is not heard.
func TestKeysRotate(t *testing.T) {
	first, second := newKey(), newKey()
	var all []*party
	for i, id := range []string{"a", "b", "c"} {
		cfg := node(id)
		if i > 0 {
			cfg.Join = []string{all[0].Addr()}
		}
		cfg.Keys = keysOf(t, first)
		all = append(all, begin(t, cfg))
	}
	for _, p := range all {
		p.sees("the others", alive("a", "b", "c"))
	}
	for _, step := range []func(*Keys) error{
		func(k *Keys) error { return k.Add(second) },
		func(k *Keys) error { return k.Use(second) },
		func(k *Keys) error { return k.Remove(first) },
	} {
		for _, p := range all {
			if err := step(p.cfg.Keys); err != nil {
				t.Fatal(err)
			}
		}
	}
	all[2].Lead(Claim{Shard: 7, Term: 1})
	all[0].sees("news under the new key", func(v *View) bool { return len(v.Leaders) == 1 })
	if err := all[0].cfg.Keys.Remove(second); err == nil {
		t.Error("the key in use was removed")
	}
	if err := all[0].cfg.Keys.Use(first); err == nil {
		t.Error("a key that nobody has is used")
	}
}

// TestGarbageIsCounted and does no harm, with and without a key.
func TestGarbageIsCounted(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprint("sealed=", sealed), func(t *testing.T) {
			cfg := node("a")
			if sealed {
				cfg.Keys = keysOf(t, newKey())
			}
			a := begin(t, cfg)
			cfg = node("b", a.Addr())
			cfg.Keys = a.cfg.Keys
			b := begin(t, cfg)
			a.sees("b", alive("a", "b"))
			throw(t, a.Addr())
			b.Lead(Claim{Shard: 1, Term: 1}) // still in touch, after all of it
			a.sees("what b says", func(v *View) bool { return len(v.Leaders) == 1 })
			if !alive("a", "b")(a.View()) {
				t.Errorf("it sees %+v", a.View())
			}
			if n := refusedOf(t, a); n < 50 {
				t.Errorf("%v were counted", n)
			}
			if n := testutil.ToFloat64(a.metrics.refused.WithLabelValues(refusedOversize)); n == 0 {
				t.Error("no packet counted as too large")
			}
		})
	}
}

// throw sends what makes no sense, by packets and by connections.
func throw(t *testing.T, addr string) {
	t.Helper()
	var dialer net.Dialer
	udp, err := dialer.DialContext(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	label := append([]byte{244, byte(len(cluster))}, cluster...)
	for i := range 200 {
		b := make([]byte, 1+i*i) // up to 39 KiB
		_, _ = rand.Read(b)
		if i%2 == 0 {
			b = append(slices.Clone(label), b...)
		}
		_, _ = udp.Write(b)
	}
	for i := range 60 {
		c, err := dialer.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			continue
		}
		b := make([]byte, 1000)
		_, _ = rand.Read(b)
		switch i % 4 {
		case 0:
			b = append([]byte(greetingMagic), b...)
		case 1:
			b = append([]byte(greetingMagic), 0xff, 0xff) // a length that no greeting has
		case 2:
			b = append(slices.Clone(label), b...)
		}
		_, _ = c.Write(b)
		_ = c.Close()
	}
}

// refusedOf waits until nothing more is counted, and gives the count.
func refusedOf(t *testing.T, p *party) float64 {
	t.Helper()
	count := func() (n float64) {
		for _, reason := range refusals {
			n += testutil.ToFloat64(p.metrics.refused.WithLabelValues(reason))
		}
		return n
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n := count(); sleep(ctx, 200*time.Millisecond); {
		if next := count(); next > 0 && next == n {
			return n
		} else if n = next; ctx.Err() != nil {
			break
		}
	}
	return count()
}

// TestNetworksThatAreNotAllowed are not heard.
func TestNetworksThatAreNotAllowed(t *testing.T) {
	cfg := node("a")
	cfg.Allow = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	cfg.Advertise = "10.1.2.3:8403"
	a := begin(t, cfg)
	addr := fmt.Sprintf("127.0.0.1:%d", a.port.boundPort())
	if _, err := Discover(t.Context(), []string{addr}); err == nil {
		t.Error("it answers a greeting from elsewhere")
	}
	if n := testutil.ToFloat64(a.metrics.refused.WithLabelValues(refusedNetwork)); n == 0 {
		t.Error("nothing was counted")
	}
}

// TestConfigurationsThatMakeNoSense say so.
func TestConfigurationsThatMakeNoSense(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"id of the cluster":        func(c *Config) { c.Cluster = "" },
		"the member's id and role": func(c *Config) { c.Facts.Role = "king" },
		"gossip needs a log":       func(c *Config) { c.Log = nil },
		"gossip address":           func(c *Config) { c.Listen = "nowhere" },
		"must be an IP address":    func(c *Config) { c.Advertise = "host:1" },
		"and 512 are possible":     func(c *Config) { c.Facts.Zone = strings.Repeat("z", 500) },
	} {
		cfg := node("a")
		cfg.Log = slog.New(slog.DiscardHandler)
		change(&cfg)
		if _, err := Start(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func newKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return key
}

func keysOf(t *testing.T, keys ...[]byte) *Keys {
	t.Helper()
	text := "# for a test\n"
	for _, k := range keys {
		text += base64.StdEncoding.EncodeToString(k) + "\n"
	}
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyFiles that can't be used say what is wrong.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := base64.StdEncoding.EncodeToString(newKey())
	for want, path := range map[string]string{
		"no such file":             filepath.Join(dir, "missing"),
		"can be read by everybody": write("open", good, 0o644),
		"there is none":            write("empty", "\n# nothing\n", 0o600),
		"line 2: this is no key":   write("short", good+"\nYWJj\n", 0o600),
	} {
		if _, err := ReadKeys(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
