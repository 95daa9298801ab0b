package dashboards

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the dashboards instead of comparing")

// files is where Grafana finds them.
const files = "../grafana/dashboards"

// TestFiles holds the JSON in the repository against what the code makes.
func TestFiles(t *testing.T) {
	want := make(map[string]bool)
	for _, d := range All() {
		b, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(files, d.UID+".json")
		want[path] = true
		if *update {
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s is not what the code makes: run this test with -update (%v)", path, err)
		}
	}
	found, err := filepath.Glob(filepath.Join(files, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if !want[path] {
			t.Errorf("nothing makes %s", path)
		}
	}
}

// TestPanelsExplainThemselves: each has a title of its own, a description and a unit.
func TestPanelsExplainThemselves(t *testing.T) {
	for _, d := range All() {
		titles := make(map[string]bool)
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				if titles[p.Title] || len(p.Description) < 20 || p.Unit == "" || len(p.Queries) == 0 {
					t.Errorf("%s, %q: it needs a title of its own, a description, a unit and a query", d.Title, p.Title)
				}
				titles[p.Title] = true
			}
		}
	}
}
