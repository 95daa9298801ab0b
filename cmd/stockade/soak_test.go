package main_test

import (
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
	"testing"
	"time"
)

const (
	soakMinutes    = 0.3 // of one run of the tests; make soak asks for more
	soakMinutesEnv = "SOAK_MINUTES"

	// soakRetention is shorter than the first window of a soak, so that what is kept
	// for a retention has its full size before anything is compared.
	soakRetention = 5 * time.Minute
	soakWindow    = 10 * time.Minute
	soakSample    = 10 * time.Second
	soakFlat      = 0.10 // how far the mean of a window may be from that of the first one that counts

	soakClients = 16
	soakPace    = 40 * time.Millisecond // between the lives that one client begins
	soakSKUs    = 20
	soakStock   = 2_000
)

// gauges are what must not grow while the load stays the same. Units: bytes, files and
// goroutines.
var gauges = []struct {
	name string
	read func(p *process) (float64, error)
}{
	{"resident memory", residentMemory},
	{"disk", diskBytes},
	{"descriptors", descriptors},
	{"goroutines", goroutines},
}

// TestSoak lets reservations come and go at a steady pace, and watches what three real
// processes take of the machine. From the second ten minutes on it has to stay what it
// is; a run of less than half an hour only shows that everything adds up in the end.
func TestSoak(t *testing.T) {
	minutes := soakMinutes
	if asked := os.Getenv(soakMinutesEnv); asked != "" {
		var err error
		if minutes, err = strconv.ParseFloat(asked, 64); err != nil {
			t.Fatalf("%s: %v", soakMinutesEnv, err)
		}
	}
	s := &soak{t: t, nodes: startNodes(t, 3, "--shards", "3", "--retention", soakRetention.String())}
	s.stock()
	s.start()
	s.watch(time.Duration(minutes * float64(time.Minute)))
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
			r := rand.New(rand.NewPCG(uint64(i), 1))
			pace := time.NewTicker(soakPace)
			defer pace.Stop()
			for n := 0; !s.over.Load() && !s.t.Failed(); n++ {
				<-pace.C
				if err := s.live(r, i, n); err != nil {
					s.t.Errorf("client %d: %v", i, err)
				}
				if n%500 == 499 { // connections come and go as well
					caller.CloseIdleConnections()
				}
			}
		})
	}
}

// live is the life of one reservation: it ends by a confirmation whose units are
// returned later, by a cancellation, or by itself.
func (s *soak) live(r *rand.Rand, client, n int) error {
	id, err := s.reserve(r, client, n)
	if err != nil || id == "" {
		return err
	}
	steps := [][]string{{"confirm", "return"}, {"extend", "cancel"}, {}}[r.IntN(3)]
	for _, step := range steps {
		var body any
		if step == "extend" {
			body = map[string]any{"ttl_seconds": 10}
		}
		a, err := persist(s.nodes, r.IntN(len(s.nodes)), "/v1/reservations/"+id+"/"+step, "", body, startTimeout)
		if err != nil || a.status != http.StatusOK {
			return fmt.Errorf("%s %s: %v %d %s", step, id, err, a.status, a.body)
		}
	}
	a, err := call(http.MethodGet, s.nodes[n%len(s.nodes)].HTTP, "/v1/reservations/"+id, "", nil)
	if err == nil && a.status != http.StatusOK && a.status < http.StatusInternalServerError {
		err = fmt.Errorf("read %s: %d %s", id, a.status, a.body)
	}
	return err
}

// reserve gives the id of a new reservation, none when units were short.
func (s *soak) reserve(r *rand.Rand, client, n int) (string, error) {
	sku := r.IntN(soakSKUs)
	body := map[string]any{"sku": soakSKU(sku), "quantity": 1 + r.IntN(3), "ttl_seconds": 3 + r.IntN(6)}
	if sku == 0 {
		body["wait_ms"] = 20
	}
	key := fmt.Sprintf("soak-%d-%d", client, n)
	a, err := persist(s.nodes, r.IntN(len(s.nodes)), "/v1/reservations", key, body, startTimeout)
	switch {
	case err != nil:
		return "", err
	case a.status == http.StatusConflict:
		s.refused.Add(1)
		return "", nil
	case a.status != http.StatusCreated:
		return "", fmt.Errorf("reserve %v: %d %s", body, a.status, a.body)
	}
	s.lives.Add(1)
	match := reservationID.FindSubmatch(a.body)
	if match == nil {
		return "", fmt.Errorf("no id in %s", a.body)
	}
	return string(match[1]), nil
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
		if len(s.samples)%int(soakWindow/soakSample) == 0 {
			s.t.Logf("%v: %d reservations, %d refusals, %.0f", time.Since(s.began).Round(time.Second), s.lives.Load(), s.refused.Load(), row)
		}
	}
}

// stop calls the clients back.
func (s *soak) stop() {
	s.over.Store(true)
	s.clients.Wait()
}

// report shows the means of all full windows. Each but the first must be near the
// second. Means, since the disk grows and shrinks by whole segments of the log.
func (s *soak) report() {
	perWindow := int(soakWindow / soakSample)
	windows := len(s.samples) / perWindow
	var table strings.Builder
	for i := range len(s.nodes) * len(gauges) {
		node, gauge := s.nodes[i/len(gauges)], gauges[i%len(gauges)]
		fmt.Fprintf(&table, "\n%s %-15s", node.id, gauge.name)
		var base float64
		for w := range windows {
			m := meanOf(column(s.samples[w*perWindow:(w+1)*perWindow], i))
			fmt.Fprintf(&table, " %12.0f", m)
			if w == 1 {
				base = m
			}
			if w > 1 && math.Abs(m-base) > soakFlat*base {
				s.t.Errorf("%s of %s: %.0f in the ten minutes from minute %d on, %.0f in those from minute 10 on",
					gauge.name, node.id, m, w*int(soakWindow/time.Minute), base)
			}
		}
		if windows == 0 {
			fmt.Fprintf(&table, " %12.0f", column(s.samples, i))
		}
	}
	s.t.Logf("%d reservations, %d refusals in %v (%.0f lives/s); means of ten minutes each:%s", s.lives.Load(), s.refused.Load(),
		time.Since(s.began).Round(time.Second), float64(s.lives.Load()+s.refused.Load())/time.Since(s.began).Seconds(), &table)
}

// column is one gauge of one node over time.
func column(samples [][]float64, i int) []float64 {
	c := make([]float64, len(samples))
	for n, row := range samples {
		c[n] = row[i]
	}
	return c
}

func meanOf(values []float64) (mean float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	return mean
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
