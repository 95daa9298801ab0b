package membership

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A greeting is one question and one answer on a connection of its own: the magic, then
// each a length of two bytes and as much JSON. memberlist's own messages begin with a
// byte that says their kind, none of which is an S.
const (
	greetingMagic = "STKDGSP1"
	maxGreeting   = 2048
	greetTimeout  = 2 * time.Second
)

// hello is what is said on both sides.
type hello struct {
	Cluster string `json:"cluster,omitempty"` // empty: it wants to know
	Name    string `json:"name,omitempty"`
	Facts   *Facts `json:"facts,omitempty"` // of who asks
	Refused string `json:"refused,omitempty"`
}

// greet asks who is at an address.
func greet(ctx context.Context, addr string, question hello) (answer hello, err error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return answer, err
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if answer, err = ask(c, question); err != nil {
		return answer, fmt.Errorf("no gossip port answers there: %w", err)
	}
	return answer, nil
}

// ask asks on an open connection. Who is no gossip port may close it before, while or
// after it is asked: all of these are the same to the one who asks.
func ask(c io.ReadWriter, question hello) (answer hello, err error) {
	if _, err := io.WriteString(c, greetingMagic); err != nil {
		return answer, err
	}
	if err := writeHello(c, question); err != nil {
		return answer, err
	}
	return readHello(c)
}

// answer answers a greeting.
func (m *Membership) answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	question, err := readHello(c)
	if err != nil {
		m.metrics.refused.WithLabelValues(refusedGreeting).Inc()
		return
	}
	reply := hello{Cluster: m.cfg.Cluster, Name: m.name}
	if err := m.refusal(question); err != nil {
		reply.Refused = err.Error()
		m.metrics.refused.WithLabelValues(refusedMember).Inc()
	}
	_ = writeHello(c, reply) // who asked asks again
}

// refusal says why who says hello can't be a member.
func (m *Membership) refusal(question hello) error {
	if question.Cluster == "" {
		return nil
	}
	if question.Cluster != m.cfg.Cluster {
		return fmt.Errorf("it belongs to cluster %s, and you to cluster %s", m.cfg.Cluster, question.Cluster)
	}
	if question.Facts == nil {
		return errors.New("you did not say who you are")
	}
	return m.cfg.admits(question.Facts)
}

func writeHello(w io.Writer, h hello) error {
	b, err := json.Marshal(h)
	if err != nil || len(b) > maxGreeting {
		return fmt.Errorf("a greeting of %d bytes: %w", len(b), err)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func readHello(r io.Reader) (h hello, err error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return h, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxGreeting {
		return h, fmt.Errorf("a greeting of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}
