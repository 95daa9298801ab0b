package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"time"

	"stockade/router/client"
)

const (
	// proofTimeout bounds the audits at the end, also of a run that was interrupted.
	proofTimeout = 30 * time.Second
	// settleTime is how much later than promised holds may have ended.
	settleTime = time.Second
)

// Live is what a run tells while it goes on.
type Live struct {
	Phase   string        // "warm-up" or "run"
	Elapsed time.Duration // of the phase
	Length  time.Duration
	Window  Window // the last second
}

// run is one call of Run.
type run struct {
	cfg      Config
	workload *Workload
	ops      *opsPort
	client   *client.Client
	live     func(Live)
	name     string // of its SKUs and keys
	result   Result
	skus     []string
	stock    int64
	books    *books
}

// Run puts a cluster under load. While it goes on it calls live once a second, unless
// that is nil. When ctx ends the run does, and the result says what there is so far. The
// error says why there could be no run.
func Run(ctx context.Context, cfg Config, version string, live func(Live)) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	workload, err := find(cfg.Workload)
	if err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, workload: workload, ops: newOpsPort(cfg.Ops), live: live, name: "bench-" + strconv.FormatUint(rand.Uint64(), 36)}
	defer r.ops.close()
	r.result = Result{Format: ResultFormat, Started: time.Now().UTC(), Machine: thisMachine(version)}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if r.client != nil {
		defer r.client.Close()
	}
	if cfg.Warmup > 0 {
		if err := r.warmUp(ctx); err != nil {
			return nil, err
		}
	}
	r.measure(ctx)
	r.prove()
	return &r.result, nil
}

// prepare finds out what the cluster is and makes the SKUs.
func (r *run) prepare(ctx context.Context) error {
	cluster, err := r.ops.cluster(ctx)
	if err != nil {
		return fmt.Errorf("can't ask the cluster what it is, at %s (is it running? --ops-url says where): %w", r.cfg.Ops, err)
	}
	r.result.Cluster = Cluster{ID: cluster.ClusterID, Nodes: len(cluster.Nodes), Shards: len(cluster.Shards)}
	var alive []string
	for _, n := range cluster.Nodes {
		if n.Alive {
			r.result.Cluster.Version = n.Version
			alive = append(alive, n.HTTP)
		}
	}
	if len(r.cfg.Nodes) == 0 {
		r.cfg.Nodes = alive
	}
	if len(r.cfg.Nodes) == 0 {
		return errors.New("no node of the cluster answers: say with --target where requests go")
	}
	r.settle()
	r.skus = r.names("")
	r.books = newBooks(len(r.skus))
	if err := r.ops.create(ctx, r.skus, r.stock); err != nil {
		return fmt.Errorf("make the SKUs of the run: %w", err)
	}
	if r.cfg.Client {
		r.client, err = client.New(client.Config{Nodes: r.cfg.Nodes, Timeout: r.cfg.Timeout, AttemptTimeout: r.cfg.Timeout, FixedNodes: true})
	}
	return err
}

// settle decides what the configuration leaves open.
func (r *run) settle() {
	c, w := &r.cfg, r.workload
	c.SKUs = cmp.Or(c.SKUs, w.skus)
	c.Batch = cmp.Or(c.Batch, w.batch, 1)
	c.Patience = cmp.Or(c.Patience, c.Timeout)
	if c.Client {
		c.Batch = 1
	}
	r.stock = c.Stock
	if r.stock == 0 {
		rate := c.Rate
		if c.Arrivals == Closed {
			rate = closedGuess
		}
		r.stock = w.stock(expected(rate, c.Duration, w.profile) * float64(c.Batch) / float64(c.SKUs))
	}
	r.result.Settings = Settings{
		Workload: w.Name, Arrivals: c.Arrivals, Rate: c.Rate, Connections: c.Connections, Duration: c.Duration.Seconds(),
		Warmup: c.Warmup.Seconds(), Timeout: c.Timeout.Seconds(), Patience: c.Patience.Seconds(), Stock: r.stock,
		SKUs: c.SKUs, Batch: c.Batch, Keyed: c.Keyed, Client: c.Client, Repeat: c.Repeat, Seed: c.Seed,
	}
}

// closedGuess is the rate that stock is made for when nobody says one, a second.
const closedGuess = 10_000

// names are those of the run's SKUs.
func (r *run) names(phase string) []string {
	names := make([]string, r.cfg.SKUs)
	for i := range names {
		names[i] = r.name + phase + "-" + strconv.Itoa(i)
	}
	return names
}

// warmUp runs for a while and forgets it. It sells the run's own SKUs if there is plenty
// of them, so that their units are where they are sold.
func (r *run) warmUp(ctx context.Context) error {
	skus, books := r.skus, r.books
	if r.stock < plenty {
		skus, books = r.names("-w"), newBooks(len(r.skus))
		if err := r.ops.create(ctx, skus, plenty); err != nil {
			return fmt.Errorf("make the SKUs of the warm-up: %w", err)
		}
	}
	d := r.newDriver("warm", skus, books, r.cfg.Warmup, nil)
	watch := r.watch(d, "warm-up", r.cfg.Warmup)
	d.run(ctx)
	watch.stop()
	return nil
}

func (r *run) newDriver(phase string, skus []string, books *books, length time.Duration, p profile) *driver {
	d := &driver{
		cfg: &r.cfg, workload: r.workload, prefix: r.name + "-" + phase + "-", units: unitsOf(skus), batch: r.cfg.Batch,
		rec: newRecorder(), books: books, client: r.client, seed: r.cfg.Seed, began: time.Now(),
	}
	if r.cfg.Arrivals == Closed {
		d.schedule = &closedLoop{ends: length}
	} else {
		random := rand.New(rand.NewPCG(r.cfg.Seed, 0))
		d.schedule = newOpenLoop(random, r.cfg.Arrivals, r.cfg.Rate/float64(r.cfg.Batch), length, p)
	}
	return d
}

// measure makes the load that counts.
func (r *run) measure(ctx context.Context) {
	r.result.Started = time.Now().UTC()
	cpu := cpuSeconds()
	d := r.newDriver("run", r.skus, r.books, r.cfg.Duration, r.workload.profile)
	stopRestock := r.restockLater(d)
	watch := r.watch(d, "run", r.cfg.Duration)
	d.run(ctx)
	took := time.Since(d.began)
	watch.stop()
	stopRestock()
	r.result.Seconds = took.Seconds()
	r.result.Interrupted = ctx.Err() != nil
	r.result.Windows = watch.windows
	r.result.Operations = operationsOf(&watch.total)
	r.rates(d, watch)
	r.result.Driver = Driver{
		CPU: (cpuSeconds() - cpu) / took.Seconds(), CPUs: runtime.NumCPU(),
		WakeP99: ms(d.rec.wake.h.ValueAtPercentile(99)), Crowded: float64(d.rec.crowded.Load()*int64(d.batch)) / float64(max(1, d.rec.sent.Load())),
	}
	r.result.Driver.judge()
}

func (r *run) rates(d *driver, w *watch) {
	var answered int64
	for o := range outcomes {
		if o != Unknown && o != GaveUp {
			answered += w.total.reserved(o)
		}
	}
	seconds := r.result.Seconds
	r.result.Rates = Rates{
		Offered:  float64(d.rec.sent.Load()) / seconds,
		Answered: float64(answered) / seconds,
		Accepted: float64(w.total.reserved(Accepted)) / seconds,
	}
}

// restockLater fills the stock up in the middle of the run, if the workload says so. The
// function that it gives waits for that, or calls it off.
func (r *run) restockLater(d *driver) (stop func()) {
	if r.workload.restock == 0 {
		return func() {}
	}
	done := make(chan struct{})
	timer := time.AfterFunc(time.Duration(r.workload.restock*float64(r.cfg.Duration)), func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), opsTimeout)
		defer cancel()
		if err := r.ops.restock(ctx, r.skus, r.stock, r.name+"-restock"); err != nil {
			r.result.Proof.Failed = "restock: " + err.Error()
		}
		d.books.restocked(time.Now())
	})
	return func() {
		if !timer.Stop() {
			<-done
		}
	}
}

// prove compares what clients were told with what the cluster has.
func (r *run) prove() {
	ctx, cancel := context.WithTimeout(context.Background(), proofTimeout)
	defer cancel()
	if last := r.books.endsBy.Load(); last != 0 {
		time.Sleep(time.Until(time.Unix(0, last).Add(settleTime)))
	}
	p := &r.result.Proof
	audits, err := r.ops.audits(ctx, r.skus)
	if err != nil {
		p.Failed = err.Error()
		return
	}
	for i := range audits {
		p.add(&r.books.skus[i], &audits[i])
	}
	p.Repeats = r.books.repeats.Load()
	p.Duplicates += r.books.duplicates.Load()
	slices.Sort(p.Unbalanced)
}
