package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxClaims bounds the claims of one message: as many as there can be shards.
const maxClaims = 1024

// maxClaimLen bounds one of them on average, and maxClaimNode its node's id: JSON writes
// some bytes as six.
const (
	maxClaimLen  = 512
	maxClaimNode = 64
)

// delegate is what memberlist calls. Nothing here blocks, or calls memberlist.
type delegate Membership

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate = (*delegate)(nil)
)

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.meta
}

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg(b []byte) { d.take(b) }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { d.take(b) }

func (d *delegate) take(b []byte) {
	if len(b) == 0 {
		return
	}
	var claims []Claim
	if len(b) > maxClaims*maxClaimLen || json.Unmarshal(b, &claims) != nil || len(claims) > maxClaims || slices.ContainsFunc(claims, Claim.odd) {
		d.metrics.refused.WithLabelValues(refusedClaims).Inc()
		return
	}
	(*Membership)(d).learn(claims)
}

// odd tells whether a claim is none that a member makes.
func (c Claim) odd() bool { return c.Shard >= maxClaims || len(c.Node) > maxClaimNode }

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte { return encodeClaims((*Membership)(d).View().Leaders) }

func encodeClaims(claims []Claim) []byte {
	b, _ := json.Marshal(claims) // it has no value that JSON does not
	return b
}

// claimBroadcast passes a claim on; a newer one for the same shard replaces it.
type claimBroadcast struct {
	claim   Claim
	encoded []byte
}

// Name implements memberlist.NamedBroadcast.
func (b claimBroadcast) Name() string { return strconv.Itoa(int(b.claim.Shard)) }

// Invalidates implements memberlist.Broadcast.
func (b claimBroadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(claimBroadcast)
	return ok && o.claim.Shard == b.claim.Shard
}

// Message implements memberlist.Broadcast.
func (b claimBroadcast) Message() []byte { return b.encoded }

// Finished implements memberlist.Broadcast.
func (b claimBroadcast) Finished() {}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.hear(n, Alive) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.hear(n, Alive) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.hear(n, Dead) }

func (d *delegate) hear(n *memberlist.Node, state State) {
	facts, err := decodeFacts(n.Meta)
	started, ok := startOf(n.Name)
	if err != nil || !ok {
		return // NotifyAlive has refused it
	}
	if state == Dead && facts.Leaving {
		state = Left
	}
	(*Membership)(d).note(Member{
		Facts: facts, Gossip: addressOf(n), State: state, Since: time.Now(), Started: time.Unix(0, started), name: n.Name,
	})
}

// NotifyAlive implements memberlist.AliveDelegate: a member that does not belong to the
// cluster is not taken in.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	facts, err := decodeFacts(n.Meta)
	if err == nil {
		if _, ok := startOf(n.Name); !ok {
			err = errors.New("its name is not one of a member")
		} else {
			err = d.cfg.admits(&facts)
		}
	}
	if err != nil {
		d.metrics.refused.WithLabelValues(refusedMember).Inc()
		return fmt.Errorf("%s at %s does not belong here: %w", n.Name, addressOf(n), err)
	}
	return nil
}

// admits tells whether a member with these facts belongs to the cluster.
func (c *Config) admits(f *Facts) error {
	switch {
	case f.Role != Node && f.Role != Router:
		return fmt.Errorf("it calls itself a %q", f.Role)
	case f.Role == Router:
		return nil
	case f.Fingerprint != "" && c.Facts.Fingerprint != "" && f.Fingerprint != c.Facts.Fingerprint:
		return fmt.Errorf("node %q has %s, and the cluster has %s", f.ID, f.Fingerprint, c.Facts.Fingerprint)
	case len(c.Nodes) == 0:
		return nil
	}
	incarnation, known := c.Nodes[f.ID]
	if !known {
		return fmt.Errorf("node %q is not one of the cluster's", f.ID)
	}
	if incarnation != f.Incarnation {
		return fmt.Errorf("node %q of the cluster has the data directory %s…, and this one comes with %s…: its data was lost or replaced, or the id is used twice", f.ID, incarnation, f.Incarnation)
	}
	return nil
}
