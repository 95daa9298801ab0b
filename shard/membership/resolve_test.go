package membership

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// names is where this process looks up names.
var names nameServer

// TestMain has names looked up at a server of ours. It must be known before anything
// that looks names up is started.
func TestMain(m *testing.M) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	names.conn = conn
	names.address.Store(&[4]byte{127, 0, 0, 9})
	go names.serve()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	m.Run()
}

// nameServer answers every question for the IPv4 address of a name under
// stockade.test with the present one, and all others with nothing.
type nameServer struct {
	conn    net.PacketConn
	address atomic.Pointer[[4]byte]
	asked   atomic.Int64
}

func (s *nameServer) serve() {
	b := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(b)
		if err != nil {
			return
		}
		var question dnsmessage.Message
		if question.Unpack(b[:n]) != nil || len(question.Questions) != 1 {
			continue
		}
		s.asked.Add(1)
		answer := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: question.ID, Response: true, Authoritative: true},
			Questions: question.Questions,
		}
		if q := question.Questions[0]; q.Type == dnsmessage.TypeA && strings.HasSuffix(q.Name.String(), ".stockade.test.") {
			answer.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: *s.address.Load()},
			}}
		}
		if packed, err := answer.Pack(); err == nil {
			_, _ = s.conn.WriteTo(packed, from)
		}
	}
}

// TestNamesAreLookedUpAgain, so that a member is found whose address was not right when
// this one began.
func TestNamesAreLookedUpAgain(t *testing.T) {
	names.address.Store(&[4]byte{127, 0, 0, 9}) // nobody is there
	a := begin(t, node("a"))
	_, port, err := net.SplitHostPort(a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	b := begin(t, node("b", net.JoinHostPort("members.stockade.test", port)))
	b.sees("itself", alive("b"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for before := names.asked.Load(); names.asked.Load() < before+4; { // it tries for the second time
		if !sleep(ctx, quick.Gossip) {
			t.Fatalf("the name is not looked up again; its log:\n%s", b.log)
		}
	}
	if !alive("b")(b.View()) {
		t.Fatalf("it sees %+v", b.View())
	}
	names.address.Store(&[4]byte{127, 0, 0, 1})
	b.sees("a", alive("a", "b"))
	a.sees("b", alive("a", "b"))
}
