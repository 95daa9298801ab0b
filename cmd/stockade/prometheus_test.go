package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"stockade/deploy/dashboards"
	"stockade/router/api"
	"stockade/router/client"
)

// deployedPrometheus is where the configuration is that users get.
const deployedPrometheus = "../../deploy/prometheus"

// TestPrometheus has a real Prometheus scrape a cluster that sells out while a leader is
// killed, and asks it everything that panels, rules and alerts ask. In the end the
// dashboard of the sale must say exactly what was sold.
func TestPrometheus(t *testing.T) {
	for _, tool := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: make deps installs it", tool)
		}
	}
	lasts := time.Duration(numberFrom(t, "PROMETHEUS_SECONDS", 20)) * time.Second
	stock := int(numberFrom(t, "PROMETHEUS_UNITS", 20_000))
	nodes, _ := gossiping(t)
	p := startPrometheus(t, nodes)
	must(t, http.StatusCreated, http.MethodPut, nodes[0].Ops, "/v1/skus/sale", "", map[string]any{"on_hand": stock, "watch": true})
	sold := sellOut(t, nodes, lasts, stock)
	if sold != stock {
		t.Errorf("%d of %d units were sold", sold, stock)
	}
	// Two scrapes later what they saw is what there is.
	for panel, want := range map[string]string{"Sold": fmt.Sprint(stock), "Left": "0", "Oversold": "0", "Stranded": "0"} {
		eventually(t, "the dashboard says "+panel+" "+want, startTimeout, func() error {
			got, err := p.ask(panelOf(t, "stockade-sale", panel).Queries[0].Expr)
			if err == nil && (len(got) != 1 || got[0] != want) {
				err = fmt.Errorf("it says %v", got)
			}
			return err
		})
	}
	got, err := p.ask(`sum(stockade_watched_units{sku="sale", state="reserved"})`)
	if err != nil || len(got) != 1 || got[0] != fmt.Sprint(stock) {
		t.Errorf("the series of the SKU says %v, %v", got, err)
	}
	askAll(t, p)
	checkPage(t, nodes[0])
}

// sellOut sells until there is nothing left and the time is over, with a leader killed in
// the middle. It gives the units sold.
func sellOut(t *testing.T, nodes []*process, lasts time.Duration, stock int) int {
	t.Helper()
	const callers = 64
	var known []string
	for _, p := range nodes {
		known = append(known, p.HTTP)
	}
	c, err := client.New(client.Config{Nodes: known, Timeout: startTimeout})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	end := time.Now().Add(lasts)
	var sold, asked atomic.Int64
	var sellers sync.WaitGroup
	for i := range callers {
		sellers.Go(func() {
			for n := 0; time.Now().Before(end) || int(sold.Load()) < stock; n++ {
				asked.Add(1)
				_, err := c.Reserve(t.Context(), fmt.Sprintf("prom-%d-%d", i, n), api.ReserveRequest{SKU: "sale", Quantity: 1, TTLSeconds: 3600})
				switch {
				case err == nil:
					sold.Add(1)
				case errors.Is(err, client.InsufficientStock):
				default:
					t.Errorf("caller %d: %v", i, err)
					return
				}
			}
		})
	}
	eventually(t, "half is sold", startTimeout, func() error {
		if n := int(sold.Load()); n < stock/2 {
			return fmt.Errorf("%d of %d", n, stock)
		}
		return nil
	})
	nodes[1].kill(t)
	nodes[1].start(t)
	nodes[1].ready(t)
	sellers.Wait()
	return int(sold.Load())
}

// panelOf finds a panel of a dashboard.
func panelOf(t *testing.T, uid, title string) dashboards.Panel {
	t.Helper()
	for _, d := range dashboards.All() {
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				if d.UID == uid && p.Title == title {
					return p
				}
			}
		}
	}
	t.Fatalf("dashboard %s has no panel %q", uid, title)
	return dashboards.Panel{}
}

// askAll asks every query of every panel and rule, each of which must have an answer, and
// of every alert, which must be understood.
func askAll(t *testing.T, p *prom) {
	t.Helper()
	asked := 0
	for _, d := range dashboards.All() {
		for _, r := range d.Rows {
			for _, panel := range r.Panels {
				for _, q := range panel.Queries {
					asked++
					if got, err := p.ask(q.Expr); err != nil || len(got) == 0 {
						t.Errorf("%s, %s: %s has no data (%v)", d.Title, panel.Title, q.Expr, err)
					}
				}
			}
		}
	}
	for _, name := range []string{"rules.yml", "alerts.yml"} {
		var file struct {
			Groups []struct {
				Rules []struct{ Alert, Record, Expr string }
			}
		}
		b, err := os.ReadFile(filepath.Join(deployedPrometheus, name))
		if err == nil {
			err = yaml.Unmarshal(b, &file)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				asked++
				got, err := p.ask(r.Expr)
				if err != nil || r.Record != "" && len(got) == 0 {
					t.Errorf("%s%s: %v, %v", r.Record, r.Alert, got, err)
				}
			}
		}
	}
	t.Logf("%d queries", asked)
}

// checkPage has promtool read what a node exposes.
func checkPage(t *testing.T, node *process) {
	t.Helper()
	resp, err := http.Get("http://" + node.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = resp.Body
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// prom is a running Prometheus.
type prom struct{ addr string }

// startPrometheus starts one with the configuration that users get, but for how often
// it scrapes and evaluates, and checks that with promtool.
func startPrometheus(t *testing.T, nodes []*process) *prom {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"prometheus.yml", "rules.yml", "alerts.yml", "alerts_test.yml"} {
		b, err := os.ReadFile(filepath.Join(deployedPrometheus, name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "_interval: 5s", "_interval: 1s")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var targets []string
	for _, p := range nodes {
		targets = append(targets, p.Ops)
	}
	list, err := json.Marshal([]map[string][]string{{"targets": targets}})
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, "targets"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "targets", "stockade.yml"), list, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command("promtool", check...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", check, err, out)
		}
	}
	p := &prom{addr: fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])}
	cmd := exec.Command("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+p.addr, "--log.level=warn")
	log := new(strings.Builder)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("Prometheus says:\n%s", log)
		}
	})
	eventually(t, "Prometheus is ready", startTimeout, func() error {
		resp, err := http.Get("http://" + p.addr + "/-/ready")
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	return p
}

// ask gives the values that a query has now.
func (p *prom) ask(expr string) ([]string, error) {
	resp, err := http.Get("http://" + p.addr + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct{ Value []any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	var values []string
	for _, r := range answer.Data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values, nil
}
