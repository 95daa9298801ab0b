package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"stockade/router/api"
)

const (
	followEvery   = 10 * time.Second // how often the nodes are asked for
	followTimeout = 2 * time.Second
	firstRest     = 100 * time.Millisecond // how long a node that failed is left alone
	longestRest   = 5 * time.Second        // the same for one that fails again and again
)

// node is one address that requests go to.
type node struct {
	base     string // scheme and authority
	failures int    // in a row
	rests    time.Time
}

// nodeList chooses where requests go. It is safe for concurrent use.
type nodeList struct {
	mu    sync.Mutex
	seeds []*node // as configured; used when no known node works
	known []*node // found; none until then
	next  int
}

func newNodeList(addresses []string) (*nodeList, error) {
	if len(addresses) == 0 {
		return nil, errors.New("a client needs the address of at least one node")
	}
	l := &nodeList{}
	for _, a := range addresses {
		base, err := baseURL(a)
		if err != nil {
			return nil, err
		}
		l.seeds = append(l.seeds, &node{base: base})
	}
	return l, nil
}

// baseURL reads an address: host and port, or a URL without a path.
func baseURL(address string) (string, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("the address of a node: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", fmt.Errorf("%q is not the address of a node: it must be HOST:PORT or http(s)://HOST:PORT", address)
	}
	return u.Scheme + "://" + u.Host, nil
}

// pick chooses the next node that is not resting; of those that all rest, the one
// whose rest is over first. It avoids a node if there is another.
func (l *nodeList) pick(now time.Time, avoid *node) *node {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	for _, list := range [][]*node{l.known, l.seeds} {
		for i := range list {
			n := list[(l.next+i)%len(list)]
			if n != avoid && !now.Before(n.rests) {
				return n
			}
		}
	}
	if avoid != nil && !now.Before(avoid.rests) {
		return avoid
	}
	all := slices.Concat(l.known, l.seeds)
	return slices.MinFunc(all, func(a, b *node) int { return a.rests.Compare(b.rests) })
}

// failed lets a node rest.
func (l *nodeList) failed(n *node, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := longestRest
	if n.failures < 6 {
		rest = min(rest, firstRest<<n.failures)
	}
	n.failures++
	n.rests = now.Add(rest)
}

// works notes that a node answers.
func (l *nodeList) works(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.failures, n.rests = 0, time.Time{}
}

// find gives the node with a base, if it is known.
func (l *nodeList) find(base string) *node {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range slices.Concat(l.known, l.seeds) {
		if n.base == base {
			return n
		}
	}
	return nil
}

// size is how many nodes there are to choose from.
func (l *nodeList) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(len(l.known), len(l.seeds))
}

// bases are the addresses in use.
func (l *nodeList) bases() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.known
	if len(list) == 0 {
		list = l.seeds
	}
	bases := make([]string, len(list))
	for i, n := range list {
		bases[i] = n.base
	}
	return bases
}

// replace sets the nodes that were found.
func (l *nodeList) replace(found []*node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = found
}

// follow asks again and again which nodes there are, until ctx ends; sooner when it is
// woken, because one could not be reached.
func (c *Client) follow(ctx context.Context) {
	defer close(c.followed)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		c.learnNodes(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.lost:
			if !pause(ctx, time.Second) { // not for each of a thousand calls
				return
			}
		}
	}
}

// learnNodes asks one node for all of them, and takes those that answer as the same
// cluster from here: an address may be good on the cluster's own network only. When
// none does, nothing changes.
func (c *Client) learnNodes(ctx context.Context) {
	from := c.nodes.pick(time.Now(), nil)
	list, err := c.askNodes(ctx, from)
	if err != nil {
		c.nodes.failed(from, time.Now()) // the next time another is asked
		return
	}
	var found []*node
	for _, n := range list.Nodes {
		base, err := reachable(from.base, n)
		if err != nil {
			continue
		}
		if known := c.nodes.find(base); known != nil {
			found = append(found, known)
			continue
		}
		fresh := &node{base: base}
		if its, err := c.askNodes(ctx, fresh); err == nil && its.ClusterID == list.ClusterID {
			found = append(found, fresh)
		}
	}
	if len(found) > 0 {
		c.nodes.replace(found)
	}
}

var errElsewhere = errors.New("not an address for this client")

// reachable gives the base of a node that another one told about.
func reachable(teller string, n api.NodeAddress) (string, error) {
	from, err := url.Parse(teller)
	if err != nil || !n.Alive {
		return "", errElsewhere
	}
	host, _, err := net.SplitHostPort(n.HTTP)
	ip := net.ParseIP(host)
	own := net.ParseIP(from.Hostname())
	local := from.Hostname() == "localhost" || own != nil && own.IsLoopback()
	if err != nil || ip != nil && (ip.IsUnspecified() || ip.IsLoopback() && !local) {
		return "", errElsewhere
	}
	return baseURL(from.Scheme + "://" + n.HTTP)
}

// askNodes asks a node which nodes there are.
func (c *Client) askNodes(ctx context.Context, n *node) (list api.NodeList, err error) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	// No call waits for this: an address that is no use from here wakes nobody.
	a := c.exchange(ctx, n, &request{method: http.MethodGet, path: "/v1/nodes", timeout: followTimeout})
	if a.status != http.StatusOK {
		return list, errElsewhere
	}
	return list, json.Unmarshal(a.body, &list)
}

// pause waits; false when ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
