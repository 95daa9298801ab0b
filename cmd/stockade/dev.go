package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"stockade/router/api"
	"stockade/shard"
	"stockade/shard/shardrpc"
)

const (
	// devPortStep keeps the ports of dev's nodes apart and easy to tell: 8400,
	// 8410, 8420.
	devPortStep = 10
	// devSeedPause is the time between attempts to create a SKU, while a shard
	// elects its leader.
	devSeedPause = 100 * time.Millisecond
)

func newDevCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dev",
		Short:   "Run a whole cluster in this process, to try things out",
		GroupID: "run",
		Long: `Run a cluster of three nodes in this process, on loopback, with stock to sell, and
print curl commands to paste. Without --data-dir everything is in a temporary
directory that is removed at the end, or by the next dev if this one is killed.
The addresses given are those of the first node; the ports of the others are 10, 20
and so on above.
` + settingsHelp,
		Example: `  stockade dev
  stockade dev --seed shoes=20000 --seed socks=5 --shards 4
  stockade dev --data-dir ./stock --http 127.0.0.1:9000 --ops 127.0.0.1:9001`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := loadSettings(cmd.Flags(), forDev)
			if err != nil {
				return err
			}
			return runDev(cmd, loaded)
		},
	}
	addSettingFlags(cmd.Flags(), forDev)
	completeSettings(cmd, forDev)
	return cmd
}

// runDev runs a cluster until the command's context ends.
func runDev(cmd *cobra.Command, s settings) error {
	if err := checkReach(s, "http", "ops", "peer"); err != nil {
		return err
	}
	dir, err := openDevDir(s.text("data-dir"))
	if err != nil {
		return err
	}
	defer dir.close()
	d := &dev{supervisor: newSupervisor(s, cmd.ErrOrStderr()), dir: dir}
	if removed := removeLeftovers(); len(removed) > 0 {
		// A warning, for dev logs nothing less: something was deleted.
		d.log.Warn("removed the temporary directories of earlier runs that were killed", "directories", removed)
	}
	return d.run(cmd.Context(), d.start, func(ctx context.Context) error {
		if err := d.seed(ctx); err != nil {
			return err
		}
		return d.banner(cmd.OutOrStdout())
	})
}

// dev is a cluster in one process.
type dev struct {
	*supervisor
	dir    *devDir
	shards int
}

// start starts the nodes: first the listeners of all, because the list of the
// first nodes has all their addresses; then all nodes at once, because the
// first time they wait for each other.
func (d *dev) start(ctx context.Context) error {
	count, err := d.nodeCount()
	if err != nil {
		return err
	}
	var initial []shard.Peer
	for i := range count {
		talk, err := d.gossip(i)
		if err != nil {
			return err
		}
		wanted, err := devAddresses(d.settings, i)
		if err != nil {
			return err
		}
		s, err := newService(ctx, wanted, d.log, d.failures)
		if err != nil {
			return err
		}
		s.gossip = talk
		d.services = append(d.services, s)
		initial = append(initial, shard.Peer{ID: shardrpc.NodeID(devNodeID(i)), Addr: s.addrs.Peer})
	}
	if err := d.startNodes(ctx, initial); err != nil {
		return err
	}
	for _, s := range d.services[1:] {
		s.gossip.meet(d.services[0].addrs.Gossip)
	}
	return nil
}

// gossip is the part of node i in the gossip. The nodes of dev need none; it is there
// for routers, when an address is given.
func (d *dev) gossip(i int) (*gossip, error) {
	addr := d.settings.text("gossip")
	if addr == "" {
		return nil, nil
	}
	addr, err := stepped(addr, i)
	if err != nil {
		return nil, err
	}
	return gossipOf(d.settings.with("gossip", addr, "--gossip"), addr, anyPort)
}

func (d *dev) startNodes(ctx context.Context, initial []shard.Peer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(initial))
	var all sync.WaitGroup
	for i, s := range d.services {
		cfg, err := shardConfig(d.settings, d.nodeDir(i))
		if err != nil {
			return err
		}
		cfg.NodeID, cfg.Initial = initial[i].ID, initial
		d.shards = cfg.Shards
		all.Go(func() {
			if errs[i] = s.startNode(ctx, cfg); errs[i] != nil {
				cancel() // the others need not wait for this one
			}
		})
	}
	all.Wait()
	return firstCause(errs)
}

// firstCause picks the error that the others follow from: those are about the
// context that it canceled.
func firstCause(errs []error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

func devNodeID(i int) string { return "n" + strconv.Itoa(i+1) }

func (d *dev) nodeDir(i int) string { return filepath.Join(d.dir.path, devNodeID(i)) }

// nodeCount is how many nodes to run: as many as the data directory has, if it
// has any.
func (d *dev) nodeCount() (int, error) {
	wanted, found := d.settings.number("nodes"), 0
	for i := range maxDevNodes {
		_, ok, err := shard.Inspect(d.nodeDir(i))
		if err != nil {
			return 0, err
		}
		if ok {
			found++
		}
	}
	if found != 0 && found != wanted {
		if d.settings.given("nodes") {
			return 0, fmt.Errorf("the data directory %s holds a cluster of %d nodes, and --nodes asks for %d: start with --nodes %d, or in another directory", d.dir.path, found, wanted, found)
		}
		return found, nil
	}
	return wanted, nil
}

// devAddresses are the addresses of node i: those of the settings, with the port
// moved up unless it is 0.
func devAddresses(s settings, i int) (addresses, error) {
	wanted := wantedAddresses(s)
	for _, addr := range []*string{&wanted.HTTP, &wanted.Ops, &wanted.Peer} {
		moved, err := stepped(*addr, i)
		if err != nil {
			return wanted, err
		}
		*addr = moved
	}
	return wanted, nil
}

// stepped is an address of node i, given that of the first.
func stepped(addr string, i int) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("read the address %s: %w", addr, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return "", fmt.Errorf("read the address %s: %w", addr, err)
	}
	if number != 0 {
		number += devPortStep * i
	}
	return net.JoinHostPort(host, strconv.Itoa(number)), nil
}

// seed creates the SKUs that do not exist yet, as any client would.
func (d *dev) seed(ctx context.Context) error {
	client := newOpsClient("http://" + d.services[0].addrs.Ops)
	for _, s := range d.settings.seeds("seed") {
		units := int64(s.units)
		put := opsRequest{
			method: http.MethodPut, path: skuPath(string(s.sku), ""),
			header: map[string]string{"If-None-Match": "*", "Idempotency-Key": newKey()},
			body:   api.PutSKURequest{OnHand: &units},
		}
		if err := persist(ctx, client, put); err != nil {
			return fmt.Errorf("create the SKU %s: %w", s.sku, err)
		}
	}
	return nil
}

// persist repeats a request until it is answered. That the SKU exists is fine:
// it was created by an earlier start.
func persist(ctx context.Context, client *opsClient, r opsRequest) error {
	for {
		_, err := client.do(ctx, r)
		var refused *problem
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &refused):
			return err
		case refused.Status == http.StatusPreconditionFailed || refused.Code == "sku-exists":
			return nil
		case !refused.Retryable:
			return err
		}
		select {
		case <-time.After(devSeedPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// banner tells where the cluster is and what to paste.
func (d *dev) banner(w io.Writer) error {
	first := d.services[0].addrs
	where := d.dir.path
	if d.dir.temporary {
		where += " (removed at the end)"
	}
	sku, create := "demo", fmt.Sprintf("  curl -sS -X PUT http://%s/v1/skus/demo -H 'Content-Type: application/json' -d '{\"on_hand\":1000}'\n", first.Ops)
	if seeds := d.settings.seeds("seed"); len(seeds) > 0 {
		sku, create = string(seeds[0].sku), ""
	}
	_, err := fmt.Fprintf(w, `Stockade %s: %d nodes, %d shards, data in %s

  selling         http://%s
  administration  http://%s

Try it: hold a unit, buy it, and look what is left.

%s%s
Stop it with Ctrl-C.
`, buildVersion(), len(d.services), d.shards, where, first.HTTP, first.Ops, create, curlLines(first.HTTP, sku))
	return err
}

// curlLines are three commands that work when pasted one after the other.
func curlLines(addr, sku string) string {
	return fmt.Sprintf(`  id=$(curl -sS http://%[1]s/v1/reservations -H 'Content-Type: application/json' -H "Idempotency-Key: $(date +%%s)" -d '{"sku":"%[2]s","quantity":1}' | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
  curl -sS -X POST "http://%[1]s/v1/reservations/$id/confirm"
  curl -sS http://%[1]s/v1/skus/%[2]s/availability
`, addr, sku)
}
