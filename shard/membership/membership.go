package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// leaveTimeout bounds how long a goodbye may take to get around.
const leaveTimeout = time.Second

// Membership is this process's part in the gossip. All methods are safe for concurrent
// use.
//
// Goroutines, from Start to Close: memberlist's own, one that looks at what comes in
// (transport.go), and one that looks for who is missing (rejoin.go).
type Membership struct {
	cfg     Config
	name    string
	list    *memberlist.Memberlist
	port    *transport
	queue   memberlist.TransmitLimitedQueue
	metrics *metrics
	log     *gossipLog
	stop    context.CancelFunc
	done    sync.WaitGroup

	view atomic.Pointer[View]
	mu   sync.Mutex // guards what follows, and who stores the view
	now  Facts      // as they are told
	meta []byte     // the same, encoded
	meet []string   // addresses at which to look for members
	news chan struct{}
}

// Start begins to take part, and to look for others in the background. It fails when
// the configuration makes no sense or the port can't be opened.
func Start(cfg Config) (*Membership, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Timing == (Timing{}) {
		cfg.Timing = DefaultTiming()
	}
	meta, err := cfg.Facts.encode()
	if err != nil {
		return nil, err
	}
	m := &Membership{cfg: cfg, name: memberName(cfg.Facts.Role, cfg.Facts.ID, time.Now().UnixNano()), now: cfg.Facts, meta: meta, meet: cfg.Join, news: make(chan struct{})}
	m.view.Store(new(View))
	m.metrics = newMetrics(cfg.Metrics, m.View)
	m.log = newGossipLog(cfg.Log, m.metrics)
	m.queue = memberlist.TransmitLimitedQueue{RetransmitMult: retransmits, NumNodes: m.living}
	if m.port, err = openTransport(&m.cfg, m.answer, m.log, m.metrics); err != nil {
		return nil, err
	}
	if m.list, err = memberlist.Create(m.settings()); err != nil {
		_ = m.port.Shutdown() // the reason is what led here
		return nil, fmt.Errorf("start the gossip at %s: %w", cfg.Listen, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	m.done.Go(func() { m.lookForOthers(ctx) })
	return m, nil
}

// retransmits is how many times, times the logarithm of the members, a message is passed on.
const retransmits = 4

// settings is the configuration of memberlist. What is not set is as for a local network.
func (m *Membership) settings() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label = m.name, m.cfg.Cluster
	c.Transport = m.port
	c.AdvertiseAddr, c.AdvertisePort = m.advertised()
	c.BindPort = m.port.boundPort()
	c.ProbeInterval, c.ProbeTimeout = m.cfg.Timing.Probe, m.cfg.Timing.Probe/2
	c.GossipInterval = m.cfg.Timing.Gossip
	c.TCPTimeout = joinTimeout
	c.EnableCompression = false // there is little to compress, and strangers could expand it
	c.Delegate, c.Events, c.Alive = (*delegate)(m), (*delegate)(m), (*delegate)(m)
	c.Logger = m.log.std()
	for _, p := range m.cfg.Allow {
		c.CIDRsAllowed = append(c.CIDRsAllowed, net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	if m.cfg.Keys != nil {
		c.Keyring = m.cfg.Keys.ring
	}
	return c
}

// advertised is the address that the others are told; "": memberlist finds one.
func (m *Membership) advertised() (ip string, port int) {
	if m.cfg.Advertise == "" {
		return "", m.port.boundPort()
	}
	addr := netip.MustParseAddrPort(m.cfg.Advertise) // it was validated
	return addr.Addr().String(), int(addr.Port())
}

// Close says goodbye and ends.
func (m *Membership) Close() error {
	m.stop()
	m.done.Wait()
	// memberlist does not tell the others' programs whether somebody left or died.
	left := m.Update(func(f *Facts) { f.Leaving = true })
	left = errors.Join(left, m.list.Leave(leaveTimeout))
	if err := m.list.Shutdown(); err != nil {
		return fmt.Errorf("end the gossip: %w", err)
	}
	if left != nil {
		m.cfg.Log.Debug("not everybody heard the goodbye", "error", left)
	}
	return nil
}

// Addr is the address that the gossip port is reached at.
func (m *Membership) Addr() string { return addressOf(m.list.LocalNode()) }

// View is the cluster as it is known now.
func (m *Membership) View() *View { return m.view.Load() }

// Changed gives a channel that is closed when View has changed. Take it before looking
// at the view.
func (m *Membership) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.news
}

// Update changes what the others are told of this member: not its id or role.
func (m *Membership) Update(change func(*Facts)) error {
	m.mu.Lock()
	facts := m.now
	change(&facts)
	meta, err := facts.encode()
	if err == nil {
		m.now, m.meta = facts, meta
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if err := m.list.UpdateNode(leaveTimeout); err != nil {
		return fmt.Errorf("tell the other members: %w", err)
	}
	return nil
}

// Meet adds addresses at which to look for members.
func (m *Membership) Meet(addrs ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.meet = append(slices.Clone(m.meet), addrs...)
}

// seeds are the addresses at which to look for members.
func (m *Membership) seeds() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meet
}

// Lead tells everybody that this node leads shards in their terms. That it no longer
// does is told by the next leader, whose term is higher.
func (m *Membership) Lead(claims ...Claim) {
	for i := range claims {
		claims[i].Node = m.cfg.Facts.ID
	}
	m.learn(claims)
}

// learn takes claims and passes on those that are news.
func (m *Membership) learn(claims []Claim) {
	m.mu.Lock()
	next, fresh := m.View().claimed(claims)
	m.publish(next)
	m.mu.Unlock()
	for _, c := range fresh {
		m.queue.QueueBroadcast(claimBroadcast{c, encodeClaims([]Claim{c})})
	}
}

// note takes what is heard of a member.
func (m *Membership) note(member Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.publish(m.View().with(member))
}

// publish makes a view the current one; nil changes nothing. The caller holds mu.
func (m *Membership) publish(v *View) {
	if v == nil {
		return
	}
	m.view.Store(v)
	close(m.news)
	m.news = make(chan struct{})
}

// living is the number of members that are there.
func (m *Membership) living() int {
	v := m.View()
	return len(v.Alive(Node)) + len(v.Alive(Router))
}

func addressOf(n *memberlist.Node) string {
	return net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
}
