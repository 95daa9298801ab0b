package dashboards

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	prometheusFiles = "../prometheus"
	docs            = "../../docs"
)

// ruleFile is a file of rules, as far as the tests look at it.
type ruleFile struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Record      string
			Expr        string
			Annotations map[string]string
		}
	}
	Tests []struct {
		Alerts []struct {
			Name     string `yaml:"alertname"`
			Expected []any  `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func readRules(t *testing.T, name string) (f ruleFile) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(prometheusFiles, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestAlertsHaveWhatTheyNeed: a summary, a description, a page that exists, and tests in
// which they fire and in which they do not.
func TestAlertsHaveWhatTheyNeed(t *testing.T) {
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, test := range readRules(t, "alerts_test.yml").Tests {
		for _, a := range test.Alerts {
			fires[a.Name] = fires[a.Name] || len(a.Expected) > 0
			quiet[a.Name] = quiet[a.Name] || len(a.Expected) == 0
		}
	}
	pages := make(map[string]bool)
	for _, g := range readRules(t, "alerts.yml").Groups {
		for _, r := range g.Rules {
			page := filepath.Join("../..", r.Annotations["runbook"])
			pages[filepath.Base(page)] = true
			if text, err := os.ReadFile(page); err != nil || !strings.HasPrefix(string(text), "# "+r.Alert+": "+r.Annotations["summary"]+"\n") {
				t.Errorf("%s: its page must begin with its name and summary (%v)", r.Alert, err)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !fires[r.Alert] || !quiet[r.Alert] {
				t.Errorf("%s needs a summary, a description, a test that fires and one that does not", r.Alert)
			}
		}
	}
	found, err := os.ReadDir(filepath.Join(docs, "runbooks"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !pages[f.Name()] {
			t.Errorf("docs/runbooks/%s is of no alert", f.Name())
		}
	}
}

var (
	metricName = regexp.MustCompile(`\bstockade[_:][a-zA-Z0-9_:]+`)
	metricEnd  = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// TestOnlyMetricsThatExist are used, by panels, rules and alerts.
func TestOnlyMetricsThatExist(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(docs, "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := metricName.FindAllString(string(page), -1)
	exprs := make(map[string]string)
	for _, name := range []string{"rules.yml", "alerts.yml"} {
		for _, g := range readRules(t, name).Groups {
			for _, r := range g.Rules {
				exprs[name+" "+r.Alert+r.Record] = r.Expr
				if r.Record != "" {
					known = append(known, r.Record)
				}
			}
		}
	}
	for _, d := range All() {
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				for _, q := range p.Queries {
					exprs[d.UID+" "+p.Title+" "+q.Legend] = q.Expr
				}
			}
		}
	}
	for where, expr := range exprs {
		for _, name := range metricName.FindAllString(expr, -1) {
			if !slices.Contains(known, name) && !slices.Contains(known, metricEnd.ReplaceAllString(name, "")) {
				t.Errorf("%s uses %s, which docs/metrics.md does not have", where, name)
			}
		}
	}
}
