package membership

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how a member takes part. Facts, Cluster, Listen and Log are required.
type Config struct {
	Facts Facts
	// Cluster is the cluster's id. It labels all that is sent: what carries another one is
	// dropped.
	Cluster string
	// Nodes are the incarnations of the cluster's nodes, by id, as far as this member knows
	// them: a node that is not among them is refused. Empty: this member does not know.
	Nodes map[string]string

	// Listen is the address of the gossip port, TCP and UDP. Port 0 chooses a free one.
	Listen string
	// Advertise is the IP address and port at which the others reach the gossip port; empty:
	// where it listens, or with an unspecified address a private one of this machine.
	Advertise string
	// Join are addresses of any members, HOST:PORT. Names are resolved anew for each
	// attempt.
	Join []string
	// Keys encrypt what is sent, or nothing is.
	Keys *Keys
	// Allow are the networks that members may be in; empty: all.
	Allow []netip.Prefix

	Timing  Timing
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
}

// Timing says how fast things are found out.
type Timing struct {
	// Probe is how often a random member is probed; one that does not answer is given up
	// after some four to ten times that.
	Probe time.Duration
	// Gossip is how often news are passed on.
	Gossip time.Duration
	// Rejoin is how often members that are missing, and the addresses of Join, are tried.
	Rejoin time.Duration
}

// DefaultTiming is right within one region.
func DefaultTiming() Timing {
	return Timing{Probe: time.Second, Gossip: 200 * time.Millisecond, Rejoin: 10 * time.Second}
}

// validate tells what is wrong with the configuration.
func (c *Config) validate() error {
	switch {
	case c.Cluster == "" || len(c.Cluster) > maxLabel:
		return fmt.Errorf("gossip needs the id of the cluster, of 1 to %d bytes", maxLabel)
	case c.Facts.ID == "" || c.Facts.Role != Node && c.Facts.Role != Router:
		return errors.New("gossip needs the member's id and role")
	case c.Log == nil:
		return errors.New("gossip needs a log")
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("gossip address %q: %w", c.Listen, err)
	}
	if c.Advertise != "" {
		if _, err := netip.ParseAddrPort(c.Advertise); err != nil {
			return fmt.Errorf("advertised gossip address %q: it must be an IP address with a port: %w", c.Advertise, err)
		}
	}
	_, err := c.Facts.encode()
	return err
}

// maxLabel is what memberlist takes for a label.
const maxLabel = 255
