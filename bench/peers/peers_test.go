package peers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// connections are the numbers of callers that peers are measured with.
var connections = []int{64, 256}

// servers starts what a peer needs.
func servers(t testing.TB, which server) *Servers {
	t.Helper()
	dir, err := os.MkdirTemp("", "peers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := reachable(dir); err != nil {
		t.Fatal(err)
	}
	s, err := StartServers(context.Background(), dir, which)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// open starts a peer with its servers.
func open(t testing.TB, k Kind) Peer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := servers(t, k.needs)
	t.Cleanup(cancel)
	p, err := k.open(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// BenchmarkPeer has so many callers reserve one unit each again and again, of a SKU with
// plenty, every one for an order of its own.
func BenchmarkPeer(b *testing.B) {
	for _, k := range Kinds() {
		for _, callers := range connections {
			b.Run(fmt.Sprintf("%s/connections=%d", k.Name, callers), func(b *testing.B) {
				p := open(b, k)
				if err := p.Stock(b.Context(), b.N+callers); err != nil {
					b.Fatal(err)
				}
				var next atomic.Int64
				var wait sync.WaitGroup
				b.ResetTimer()
				for range callers {
					wait.Go(func() {
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							if o, err := p.Reserve(b.Context(), fmt.Sprint("order-", n)); err != nil || o == SoldOut {
								b.Errorf("order %d: %v %v", n, o, err)
								return
							}
						}
					})
				}
				wait.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reservations/s")
			})
		}
	}
}

// crash is a sale in which clients die in the middle.
type crash struct {
	sold, soldOut atomic.Int64 // orders that were told so in the end
	killed        atomic.Int64

	mu  sync.Mutex
	has map[string]bool // orders that were told they have a unit
}

const (
	crashStock   = 400
	crashOrders  = 800
	crashCallers = 32
	crashTries   = 20
)

// TestCrash sells 400 units to 800 orders whose clients are killed at random moments and
// start again with the same order, until they get an answer, as a user does who presses
// the button again. It shows what each peer makes of it. Nothing is asserted about
// peers, except that those which are known to be right are.
func TestCrash(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "%-16s %6s %6s %6s %6s %6s %6s\n", "peer", "killed", "sold", "over", "twice", "lost", "leaked")
	for _, k := range Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			p := open(t, k)
			if err := p.Stock(t.Context(), crashStock); err != nil {
				t.Fatal(err)
			}
			c := &crash{has: make(map[string]bool)}
			c.sell(t, p)
			f := c.findings(t, p)
			fmt.Fprintf(&table, "%-16s %6d %6d %6s %6s %6s %6s\n", k.Name, c.killed.Load(), f.sold, f.over, f.twice, f.lost, f.leaked)
			if right[k.Name] && (f.over != "0" || f.twice != "0" || f.lost != "0" || f.leaked != "0") {
				t.Errorf("%+v: the peer is not in its best form", f)
			}
		})
	}
	t.Logf("%d units, %d orders\n%s", crashStock, crashOrders, &table)
}

// right are the peers that survive clients that die.
var right = map[string]bool{
	"pg-order": true, "pg-for-update": true, "pg-skip-locked": true, "pg-cleanup": true, "redis-lua": true, "queue": true, "etcd-txn": true,
}

func (c *crash) sell(t *testing.T, p Peer) {
	t.Helper()
	orders := make(chan string, crashOrders)
	for n := range crashOrders {
		orders <- fmt.Sprint("order-", n)
	}
	close(orders)
	var wait sync.WaitGroup
	for i := range crashCallers {
		random := rand.New(rand.NewPCG(uint64(i), 1))
		wait.Go(func() {
			for order := range orders {
				c.buy(t, p, order, random)
			}
		})
	}
	wait.Wait()
}

// buy insists on an answer. The client is killed by the end of its context, which ends
// its connection too.
func (c *crash) buy(t *testing.T, p Peer, order string, random *rand.Rand) {
	for try := range crashTries {
		life := time.Duration(random.Int64N(int64(20 * time.Millisecond)))
		if try > 2 {
			life = 10 * time.Second
		}
		ctx, kill := context.WithTimeout(t.Context(), life)
		o, err := p.Reserve(ctx, order)
		kill()
		switch {
		case err != nil:
			c.killed.Add(1)
			continue
		case o == Sold:
			c.sold.Add(1)
			c.mu.Lock()
			c.has[order] = true
			c.mu.Unlock()
		case o == SoldOut:
			c.soldOut.Add(1)
		default:
			continue
		}
		return
	}
	t.Errorf("%s got no answer in %d tries", order, crashTries)
}

// findings are what went wrong; "?" where the peer does not know who has a unit.
type findings struct {
	sold   int    // orders that were told that they have a unit
	over   string // more of these than there are units
	twice  string // orders with more than one unit
	lost   string // orders that were told so and have none
	leaked string // units that are neither for sale nor anybody's
}

func (c *crash) findings(t *testing.T, p Peer) (f findings) {
	t.Helper()
	count := settled(t, p)
	f.sold = int(c.sold.Load())
	taken := crashStock - count.Left
	f.over = fmt.Sprint(max(0, f.sold-crashStock))
	if count.Orders == nil {
		f.twice, f.lost, f.leaked = "?", "?", fmt.Sprint(max(0, taken-f.sold))
		return f
	}
	twice, lost, held := 0, 0, 0
	for _, units := range count.Orders {
		held += units
		if units > 1 {
			twice++
		}
	}
	for order := range c.has {
		if count.Orders[order] == 0 {
			lost++
		}
	}
	f.twice, f.lost, f.leaked = fmt.Sprint(twice), fmt.Sprint(lost), fmt.Sprint(max(0, taken-held))
	return f
}

// settled counts until nothing has changed for a while: what a killed client began may
// still be under way in the server.
func settled(t *testing.T, p Peer) Count {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, same := Count{Left: -crashStock}, 0
	for {
		count, err := p.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if count.Left == last.Left && len(count.Orders) == len(last.Orders) {
			if same++; same == 10 {
				return count
			}
		} else {
			same = 0
		}
		last = count
		<-tick.C
	}
}
