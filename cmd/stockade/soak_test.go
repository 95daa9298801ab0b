package main_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	soakMinutes    = 0.15 // of one run of the tests; make soak asks for more
	soakMinutesEnv = "SOAK_MINUTES"

	// soakRetention is shorter than the first window of a soak, so that what is kept
	// for a retention has its full size before anything is compared.
	soakRetention = 5 * time.Minute
	soakWindow    = 10 * time.Minute
	soakSample    = 10 * time.Second
	perWindow     = int(soakWindow / soakSample)
	soakFlat      = 0.10 // how far the mean of a window may be from that of the second one

	// A long soak moves leaderships in its first window: each node is stopped for so
	// long, in turns. Raft keeps the connections of whoever has led, up to a bound of
	// two for a shard and a peer, and most are made at once this way instead of some
	// whenever the machine is so busy that a leader falls.
	soakMoves    = 9
	soakMovePace = 50 * time.Second
	soakStopped  = 3 * time.Second

	soakClients = 16
	soakPace    = 100 * time.Millisecond // between the lives that one client begins: a pace that also a busy machine keeps
	soakSKUs    = 20
	soakStock   = 2_000
)

// gauges are what must not grow while the load stays the same. Units: bytes, files and
// goroutines. A window is told by its mean; the disk, which comes and goes by whole segments
// of the log, by its least.
var gauges = []struct {
	name  string
	read  func(p *process) (float64, error)
	least bool
}{
	{"resident memory", residentMemory, false},
	{"disk", diskBytes, true},
	{"descriptors", descriptors, false},
	{"goroutines", goroutines, false},
}

// TestSoak lets reservations come and go at a steady pace, and watches what three real
// processes take of the machine. From the second ten minutes on it has to stay what it
// is; a run of less than half an hour only shows that everything adds up in the end.
func TestSoak(t *testing.T) {
	minutes := numberFrom(t, soakMinutesEnv, soakMinutes)
	s := &soak{t: t, nodes: startNodes(t, 3, "--shards", "3", "--retention", soakRetention.String())}
	s.stock()
	s.start()
	lasts := time.Duration(minutes * float64(time.Minute))
	if lasts > 2*soakWindow {
		s.clients.Go(s.moveLeaders)
	}
	s.watch(lasts)
	s.stop()
	s.report()
	s.verify()
}

// soak is one run. Samples are taken by one goroutine.
type soak struct {
	t       *testing.T
	nodes   []*process
	lives   atomic.Int64 // reservations that were made
	refused atomic.Int64
	late    atomic.Int64 // holds that ended before their client came again
	over    atomic.Bool
	clients sync.WaitGroup
	began   time.Time
	samples [][]float64 // by node and gauge: node*len(gauges)+gauge
}

// stock makes the SKUs. The first has so few units that many are refused or wait.
func (s *soak) stock() {
	for i := range soakSKUs {
		units := soakStock
		if i == 0 {
			units = soakClients
		}
		must(s.t, http.StatusCreated, http.MethodPut, s.nodes[0].Ops, "/v1/skus/"+soakSKU(i), "", map[string]any{"on_hand": units})
	}
}

func soakSKU(i int) string { return fmt.Sprintf("soak-%d", i) }

// start sends the clients out.
func (s *soak) start() {
	s.began = time.Now()
	for i := range soakClients {
		s.clients.Go(func() {
			c := &soakClient{s: s, number: i, rand: rand.New(rand.NewPCG(uint64(i), 1)), http: &http.Client{
				Timeout: caller.Timeout, Transport: &http.Transport{},
			}}
			pace := time.NewTicker(soakPace)
			defer pace.Stop()
			for n := 0; !s.over.Load() && !s.t.Failed(); n++ {
				<-pace.C
				if err := c.live(n); err != nil {
					s.t.Errorf("client %d: %v", i, err)
				}
				if n%500 == 499 {
					c.http.CloseIdleConnections()
				}
			}
			c.http.CloseIdleConnections()
		})
	}
}

// moveLeaders stops one node after the other for a while.
func (s *soak) moveLeaders() {
	pace := time.NewTicker(soakMovePace)
	defer pace.Stop()
	for i := range soakMoves {
		<-pace.C
		victim := s.nodes[i%len(s.nodes)].cmd.Process
		if err := victim.Signal(syscall.SIGSTOP); err != nil {
			s.t.Error(err)
		}
		<-time.After(soakStopped)
		if err := victim.Signal(syscall.SIGCONT); err != nil {
			s.t.Error(err)
		}
	}
}

// soakClient sends one request after the other. It has connections of its own, one to
// each node, so that how many there are does not depend on how fast the machine is;
// they come and go as well.
type soakClient struct {
	s      *soak
	number int
	rand   *rand.Rand
	http   *http.Client
}

// live is the life of one reservation: it ends by a confirmation whose units are
// returned later, by a cancellation, or by itself.
func (c *soakClient) live(n int) error {
	id, err := c.reserve(n)
	if err != nil || id == "" {
		return err
	}
	steps := [][]string{{"confirm", "return"}, {"extend", "cancel"}, {}}[c.rand.IntN(3)]
	for _, step := range steps {
		var body any
		if step == "extend" {
			body = map[string]any{"ttl_seconds": 10}
		}
		a, err := c.insist(http.MethodPost, "/v1/reservations/"+id+"/"+step, "", body)
		if err == nil && a.status == http.StatusGone && expired(a.body) {
			c.s.late.Add(1) // the node asked first stood still for longer than the hold lasted
			return nil
		}
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.status, a.body)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", step, id, err)
		}
	}
	a, err := c.insist(http.MethodGet, "/v1/reservations/"+id, "", nil)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("read %s: %d %s", id, a.status, a.body)
	}
	return err
}

// expired tells whether an answer that a reservation has expired is right.
func expired(body []byte) bool {
	var p struct {
		Code        string
		Reservation struct {
			Expires time.Time `json:"expires_at"`
		}
	}
	return json.Unmarshal(body, &p) == nil && p.Code == "reservation-expired" &&
		!p.Reservation.Expires.IsZero() && time.Now().After(p.Reservation.Expires)
}

// reserve gives the id of a new reservation, none when units were short.
func (c *soakClient) reserve(n int) (string, error) {
	sku := c.rand.IntN(soakSKUs)
	body := map[string]any{"sku": soakSKU(sku), "quantity": 1 + c.rand.IntN(3), "ttl_seconds": 3 + c.rand.IntN(6)}
	if sku == 0 {
		body["wait_ms"] = 20
	}
	a, err := c.insist(http.MethodPost, "/v1/reservations", fmt.Sprintf("soak-%d-%d", c.number, n), body)
	switch {
	case err != nil:
		return "", err
	case a.status == http.StatusConflict:
		c.s.refused.Add(1)
		return "", nil
	case a.status != http.StatusCreated:
		return "", fmt.Errorf("reserve %v: %d %s", body, a.status, a.body)
	}
	c.s.lives.Add(1)
	match := reservationID.FindSubmatch(a.body)
	if match == nil {
		return "", fmt.Errorf("no id in %s", a.body)
	}
	return string(match[1]), nil
}

// insist sends a request until an answer stands, to any node first.
func (c *soakClient) insist(method, path, key string, body any) (answer, error) {
	return insist(c.s.nodes, c.rand.IntN(len(c.s.nodes)), startTimeout, func(p *process) (answer, error) {
		return callBy(c.http, method, p.HTTP, path, key, body)
	})
}

var reservationID = regexp.MustCompile(`"id": ?"([^"]+)"`)

// watch takes samples for so long, and tells about each window.
func (s *soak) watch(lasts time.Duration) {
	every := min(soakSample, lasts/4)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for end := time.Now().Add(lasts); time.Now().Before(end) && !s.t.Failed(); {
		<-tick.C
		row := make([]float64, 0, len(s.nodes)*len(gauges))
		for _, p := range s.nodes {
			for _, g := range gauges {
				v, err := g.read(p)
				if err != nil || v <= 0 {
					s.t.Fatalf("%s of %s: %v %v", g.name, p.id, v, err)
				}
				row = append(row, v)
			}
		}
		s.samples = append(s.samples, row)
		if len(s.samples)%perWindow == 0 {
			s.t.Logf("%v: %d reservations, %d refusals, %d too late, %.0f", time.Since(s.began).Round(time.Second), s.lives.Load(), s.refused.Load(), s.late.Load(), row)
		}
	}
}

// stop calls the clients back.
func (s *soak) stop() {
	s.over.Store(true)
	s.clients.Wait()
}

// report shows all full windows, for each node and for all together. The latter must stay
// near the second window: for one node they change whenever another one becomes the leader
// of a shard.
func (s *soak) report() {
	var table strings.Builder
	for g, gauge := range gauges {
		all := make([]float64, len(s.samples)/perWindow)
		for n, node := range s.nodes {
			fmt.Fprintf(&table, "\n%-4s %-16s", node.id, gauge.name)
			for w, v := range s.windows(n*len(gauges)+g, gauge.least) {
				fmt.Fprintf(&table, " %12.0f", v)
				all[w] += v
			}
		}
		fmt.Fprintf(&table, "\nall  %-16s", gauge.name)
		for w, sum := range all {
			fmt.Fprintf(&table, " %12.0f", sum)
			if w > 1 && math.Abs(sum-all[1]) > soakFlat*all[1] {
				s.t.Errorf("%s: %.0f in the ten minutes from minute %.0f on, %.0f in those from minute %.0f on",
					gauge.name, sum, float64(w)*soakWindow.Minutes(), all[1], soakWindow.Minutes())
			}
		}
	}
	took := time.Since(s.began)
	s.t.Logf("%d reservations and %d refusals in %v (%.0f lives/s); %d samples, the last is %.0f; by ten minutes each:%s",
		s.lives.Load(), s.refused.Load(), took.Round(time.Second), float64(s.lives.Load()+s.refused.Load())/took.Seconds(),
		len(s.samples), s.samples[len(s.samples)-1], &table)
}

// windows are the means of one gauge of one node, or the least, by window.
func (s *soak) windows(i int, least bool) []float64 {
	all := make([]float64, len(s.samples)/perWindow)
	for w := range all {
		rows := s.samples[w*perWindow : (w+1)*perWindow]
		low := math.Inf(1)
		for _, row := range rows {
			all[w] += row[i] / float64(perWindow)
			low = min(low, row[i])
		}
		if least {
			all[w] = low
		}
	}
	return all
}

// verify wants every unit back: nothing was sold for good, and all holds end.
func (s *soak) verify() {
	if s.lives.Load() == 0 || s.refused.Load() == 0 {
		s.t.Errorf("%d reservations and %d refusals", s.lives.Load(), s.refused.Load())
	}
	for i := range soakSKUs {
		eventually(s.t, soakSKU(i)+" has all its units back", startTimeout, func() error {
			got := audit(s.t, s.nodes[0], soakSKU(i))
			if got.Available != got.OnHand || got.Reserved != 0 || got.Committed != 0 {
				return fmt.Errorf("%+v", got)
			}
			return nil
		})
	}
}

// residentMemory is what Linux counts as resident, in bytes.
func residentMemory(p *process) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return firstNumber(vmRSS, b, 1<<10)
}

// goroutines are read from the metrics.
func goroutines(p *process) (float64, error) {
	a, err := call(http.MethodGet, p.Ops, "/metrics", "", nil)
	if err != nil {
		return 0, err
	}
	return firstNumber(goGoroutines, a.body, 1)
}

var (
	vmRSS        = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)
	goGoroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)
)

func firstNumber(pattern *regexp.Regexp, text []byte, unit float64) (float64, error) {
	match := pattern.FindSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("nothing like %s in %.300q", pattern, text)
	}
	v, err := strconv.ParseFloat(string(match[1]), 64)
	return v * unit, err
}

// descriptors counts what the process has open.
func descriptors(p *process) (float64, error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return float64(len(open)), err
}

// diskBytes adds up the files of the data directory. One that is deleted meanwhile
// does not count.
func diskBytes(p *process) (sum float64, err error) {
	err = filepath.WalkDir(p.data(), func(_ string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += float64(info.Size())
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
	return sum, err
}
