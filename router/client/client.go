package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"

	"stockade/router/api"
)

// Defaults and limits of a Config.
const (
	DefaultTimeout        = 10 * time.Second // outlives an election several times over
	DefaultAttemptTimeout = 2 * time.Second  // the server's own default
	DefaultMaxBatch       = 256
	DefaultBatches        = 2
	// MaxBatch bounds Config.MaxBatch: the largest items, so many, fit in the body
	// that the API takes.
	MaxBatch = 500
	// maxBatches bounds Config.Batches: more would be single requests.
	maxBatches = 1024
	// connsPerNode is how many idle connections to one node are kept: more than
	// batches of both kinds, for requests that wait in line.
	connsPerNode = 64
	dialTimeout  = time.Second
	// idleTimeout is below that of the server, so that no request meets a connection
	// which is just being closed.
	idleTimeout = 90 * time.Second
)

// Config configures a Client. It is copied by New. Nodes is required.
type Config struct {
	// Nodes are addresses of data ports: HOST:PORT, or a URL with http or https.
	Nodes []string
	// FixedNodes has the client use these addresses only, such as that of a load
	// balancer, and not ask which nodes there are.
	FixedNodes bool
	// Timeout bounds a call whose context has no deadline, all attempts together;
	// 0: DefaultTimeout.
	Timeout time.Duration
	// AttemptTimeout is how long a node has for one request, at most; 0:
	// DefaultAttemptTimeout. A request that waits in line has that much more.
	AttemptTimeout time.Duration
	// MaxBatch bounds the calls that share a request, 1 to MaxBatch; 0:
	// DefaultMaxBatch; 1 switches batches off.
	MaxBatch int
	// Batches is how many batches of reservations, and as many of actions, are on
	// their way at the same time; 0: DefaultBatches. More than MaxBatch × Batches
	// calls at a time wait for each other. With MaxBatch 1 it bounds the requests.
	Batches int
	// HTTP sends the requests; nil: a client of its own. Its Timeout should be 0.
	HTTP *http.Client
}

// Client makes requests of a cluster. All methods are safe for concurrent use. Close
// ends it.
type Client struct {
	timeout        time.Duration
	attemptTimeout time.Duration
	http           *http.Client
	nodes          *nodeList
	budget         *budget
	reserves       lane[api.ReserveBatchItem]
	actions        lane[api.Action]

	life     context.Context // ends with Close
	close    context.CancelFunc
	lost     chan struct{} // a node could not be reached
	followed chan struct{} // closed when follow has returned
}

// New makes a client. It waits for nobody, so it does not fail because nodes do: the
// error says what is wrong with the configuration.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	nodes, err := newNodeList(cfg.Nodes)
	if err != nil {
		return nil, err
	}
	c := &Client{
		timeout: cfg.Timeout, attemptTimeout: cfg.AttemptTimeout, http: cfg.HTTP,
		nodes: nodes, budget: newBudget(time.Now()),
		lost: make(chan struct{}, 1), followed: make(chan struct{}),
	}
	c.life, c.close = context.WithCancel(context.Background())
	c.reserves = lane[api.ReserveBatchItem]{c: c, kind: reserveLane{}, size: cfg.MaxBatch, most: cfg.Batches}
	c.actions = lane[api.Action]{c: c, kind: actionLane{}, size: cfg.MaxBatch, most: cfg.Batches}
	if cfg.FixedNodes {
		close(c.followed)
	} else {
		go c.follow(c.life)
	}
	return c, nil
}

// newHTTP is the HTTP client of a Client that was given none.
func newHTTP() *http.Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: connsPerNode,
		IdleConnTimeout:     idleTimeout,
	}}
}

// validate checks the configuration and fills in defaults.
func (c *Config) validate() error {
	switch {
	case c.Timeout < 0 || c.AttemptTimeout < 0:
		return errors.New("a client's timeouts can't be negative")
	case c.MaxBatch < 0 || c.MaxBatch > MaxBatch:
		return fmt.Errorf("a batch takes 1 to %d calls, not %d", MaxBatch, c.MaxBatch)
	case c.Batches < 0 || c.Batches > maxBatches:
		return fmt.Errorf("1 to %d batches can be on their way, not %d", maxBatches, c.Batches)
	}
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, DefaultAttemptTimeout)
	c.MaxBatch = cmp.Or(c.MaxBatch, DefaultMaxBatch)
	c.Batches = cmp.Or(c.Batches, DefaultBatches)
	if c.HTTP == nil {
		c.HTTP = newHTTP()
	}
	return nil
}

// Close ends the client. Calls under way end soon, as failed; what was sent may be done
// all the same.
func (c *Client) Close() {
	c.close()
	<-c.followed
	c.http.CloseIdleConnections()
}

// Nodes are the addresses that the client uses now.
func (c *Client) Nodes() []string { return c.nodes.bases() }

// wake has the nodes asked for soon.
func (c *Client) wake() {
	select {
	case c.lost <- struct{}{}:
	default:
	}
}

// NewKey makes an idempotency key that tells its age (UUIDv7), so that a cluster which
// has forgotten it refuses it instead of taking it for new.
func NewKey() string {
	id, err := uuid.NewV7()
	if err != nil {
		panic(err) // the system has no random numbers: nothing works then
	}
	return id.String()
}
