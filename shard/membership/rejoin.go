package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

const (
	// joinTimeout bounds one connection to a member.
	joinTimeout = 3 * time.Second
	// eagerRejoin is the pause while nobody has been found yet.
	eagerRejoin = time.Second
	// forgetRouters is how long a router that is gone is remembered; nodes are for ever.
	forgetRouters = 10 * time.Minute
	// sayAgain is how often the same trouble is logged.
	sayAgain = time.Minute
)

// lookForOthers tries who is missing again and again, until ctx ends: memberlist forgets
// a member half a minute after it is thought dead, and after a long partition nobody
// would ever try again.
func (m *Membership) lookForOthers(ctx context.Context) {
	trouble := make(map[string]said)
	for {
		m.forget(time.Now().Add(-forgetRouters))
		for _, target := range m.missing() {
			m.try(ctx, target, trouble)
		}
		pause := m.cfg.Timing.Rejoin
		if m.living() <= 1 && len(m.seeds()) > 0 {
			pause = min(pause, eagerRejoin)
		}
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return
		}
	}
}

// missing gives the addresses at which somebody may be who is not there.
func (m *Membership) missing() []string {
	v := m.View()
	var targets []string
	for i := range v.Members {
		if v.Members[i].State == Dead {
			targets = append(targets, v.Members[i].Gossip)
		}
	}
	if len(targets) > 0 || m.living() <= 1 || len(v.Alive(Node)) < len(m.cfg.Nodes) {
		targets = append(targets, m.seeds()...)
	}
	return targets
}

// said is a trouble that was logged.
type said struct {
	what string
	when time.Time
}

// try joins whoever is at an address. A name may stand for several, and for others than
// the last time.
func (m *Membership) try(ctx context.Context, target string, trouble map[string]said) {
	err := m.join(ctx, target)
	if ctx.Err() != nil {
		return
	}
	m.metrics.joins.WithLabelValues(joinResult(err)).Inc()
	if err == nil {
		delete(trouble, target)
		return
	}
	if last := trouble[target]; last.what != err.Error() || time.Since(last.when) > sayAgain {
		trouble[target] = said{err.Error(), time.Now()}
		m.cfg.Log.Warn("can't join a member of the cluster", "address", target, "error", err)
	}
}

func (m *Membership) join(ctx context.Context, target string) error {
	addrs, err := resolve(ctx, target)
	if err != nil {
		return err
	}
	facts := m.facts()
	var errs []error
	for _, addr := range addrs {
		answer, err := greet(ctx, addr, hello{Cluster: m.cfg.Cluster, Name: m.name, Facts: &facts})
		switch {
		case err != nil:
		case answer.Name == m.name:
			return nil // that is us
		case answer.Refused != "":
			err = fmt.Errorf("the member at %s refuses this one: %s", addr, answer.Refused)
		default:
			if _, err = m.list.Join([]string{addr}); err == nil {
				return nil
			}
			err = fmt.Errorf("%s is of this cluster and does not understand us: give all members the same --gossip-key-file (%w)", addr, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (m *Membership) facts() Facts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// forget drops routers that are gone since before a moment.
func (m *Membership) forget(before time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.View()
	next := &View{Leaders: v.Leaders}
	for i := range v.Members {
		old := &v.Members[i]
		if old.Role != Router || old.State == Alive || old.Since.After(before) {
			next.Members = append(next.Members, *old)
		}
	}
	if len(next.Members) < len(v.Members) {
		m.publish(next)
	}
}

// resolve gives the addresses behind HOST:PORT.
func resolve(ctx context.Context, target string) ([]string, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = net.JoinHostPort(ip, port)
	}
	return addrs, nil
}

// Discover asks at addresses of members which cluster they are of, and gives its id. It
// fails when nobody answers, or when they are of different ones.
func Discover(ctx context.Context, join []string) (cluster string, err error) {
	var errs, where []string
	for _, target := range join {
		addrs, err := resolve(ctx, target)
		if err != nil {
			errs = append(errs, target+": "+err.Error())
			continue
		}
		for _, addr := range addrs {
			answer, err := greet(ctx, addr, hello{})
			if err != nil {
				errs = append(errs, addr+": "+err.Error())
				continue
			}
			if cluster != "" && answer.Cluster != cluster {
				return "", fmt.Errorf("the addresses are of different clusters: %s of %s, %s of %s", strings.Join(where, " and "), cluster, addr, answer.Cluster)
			}
			cluster = answer.Cluster
			where = append(where, addr)
		}
	}
	if cluster == "" {
		return "", fmt.Errorf("no member of a cluster answers: %s", strings.Join(errs, "; "))
	}
	return cluster, nil
}

// sleep waits; false: ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
