package bench

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Limits of a run. Load is bounded in count and time.
const (
	MaxConnections = 16_384
	MaxDuration    = 24 * time.Hour
	MaxRate        = 10_000_000 // requests a second
	MaxBatch       = 1_000      // what the API takes
)

// Arrivals is how requests come.
type Arrivals string

const (
	// Poisson has requests come at random, independently of each other, as many
	// buyers do.
	Poisson Arrivals = "poisson"
	// Constant has them come in equal distances.
	Constant Arrivals = "constant"
	// Closed has each connection send its next request when the last is answered.
	Closed Arrivals = "closed"
)

// Config is one run. It is copied by Run.
type Config struct {
	Nodes []string // addresses of data ports, HOST:PORT, between which connections are shared out; none: all that the cluster names
	Ops   string   // URL of an ops port, to make the SKUs and to count at the end

	Workload    string
	Arrivals    Arrivals
	Rate        float64       // requests a second in an open loop; of the peak when the workload's rate changes
	Connections int           // also how many requests are under way at the most
	Duration    time.Duration // that is measured
	Warmup      time.Duration // before that
	Timeout     time.Duration // the deadline of a request, from when it is due
	Patience    time.Duration // how long a request waits for a connection before it is given up; 0: until its deadline

	Stock  int64   // units of each SKU; 0: what the workload says
	SKUs   int     // 0: what the workload says
	Batch  int     // reservations a request; 0: what the workload says; 1: none
	Keyed  bool    // every request has an idempotency key
	Client bool    // calls of the Go client, which batches by itself, instead of requests
	Repeat float64 // the part of reservations that is asked for once more with the same key, 0 to 1
	Seed   uint64  // of everything that is drawn at random; 0: one at random
}

// Default is a run against a cluster on this machine.
func Default() Config {
	return Config{
		Ops:      "http://127.0.0.1:8401",
		Workload: "hot", Arrivals: Closed, Connections: 64,
		Duration: 10 * time.Second, Warmup: 2 * time.Second, Timeout: 2 * time.Second,
		Keyed: true, Repeat: 0.01,
	}
}

// Validate tells what is wrong with a configuration, in the words of its fields.
func (c *Config) Validate() error {
	w, err := find(c.Workload)
	switch {
	case err != nil:
		return err
	case c.Arrivals != Poisson && c.Arrivals != Constant && c.Arrivals != Closed:
		return fmt.Errorf("arrivals are %s, %s or %s, not %q", Poisson, Constant, Closed, c.Arrivals)
	case c.Arrivals != Closed && (c.Rate <= 0 || c.Rate > MaxRate):
		return fmt.Errorf("an open loop needs a rate above 0, at most %d requests a second", MaxRate)
	case c.Arrivals == Closed && c.Rate != 0:
		return errors.New("a closed loop has no rate: its connections send as fast as they are answered")
	case c.Arrivals == Closed && w.profile != nil:
		return fmt.Errorf("the workload %s is about how the rate changes: it needs an open loop", w.Name)
	case c.Connections < 1 || c.Connections > MaxConnections:
		return fmt.Errorf("a run has 1 to %d connections, not %d", MaxConnections, c.Connections)
	case c.Duration <= 0 || c.Warmup < 0 || c.Duration+c.Warmup > MaxDuration:
		return fmt.Errorf("a run lasts up to %v with its warm-up", MaxDuration)
	case c.Timeout < time.Millisecond || c.Timeout > 30*time.Second:
		return errors.New("a request's timeout is 1 ms to 30 s")
	case c.Patience < 0 || c.Patience > c.Timeout:
		return errors.New("a request waits for a connection for at most its timeout")
	case c.Repeat < 0 || c.Repeat > 1:
		return errors.New("the part that is repeated is 0 to 1")
	}
	for _, addr := range c.Nodes {
		if _, _, err := net.SplitHostPort(addr); err != nil || strings.Contains(addr, "/") {
			return fmt.Errorf("%q is not the address of a data port: it must be HOST:PORT", addr)
		}
	}
	return c.validateSizes(w)
}

func (c *Config) validateSizes(w *Workload) error {
	switch {
	case c.Repeat > 0 && !c.Keyed:
		return errors.New("requests without a key can't be repeated: set the repeated part to 0")
	case c.Batch < 0 || c.Batch > MaxBatch:
		return fmt.Errorf("a batch has 1 to %d reservations, not %d", MaxBatch, c.Batch)
	case c.Batch > 1 && w.followed:
		return fmt.Errorf("the workload %s is about what becomes of single reservations: it has no batches", w.Name)
	case c.Batch > 1 && c.Client:
		return errors.New("the client makes batches by itself: no batch size can be given with it")
	case c.Stock < 0 || c.Stock > maxUnits:
		return fmt.Errorf("a SKU has 1 to %d units", maxUnits)
	case c.SKUs < 0 || c.SKUs > maxSKUs:
		return fmt.Errorf("a run has 1 to %d SKUs", maxSKUs)
	}
	return nil
}
