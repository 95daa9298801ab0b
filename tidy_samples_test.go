package stockade_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestCheckersFindBadSamples feeds each checker of Go sources something that is
// wrong, and the same thing mended: a checker that finds nothing, or always
// something, would be worth nothing.
func TestCheckersFindBadSamples(t *testing.T) {
	long := func(lines int) string {
		return "package p\n\nfunc f() {\n" + strings.Repeat("\tg()\n", lines-2) + "}\n"
	}
	samples := []struct {
		name      string
		check     func(*sourceFile) []string
		file      string
		bad, good string
	}{
		{"package comment", commentsOf, "p/p.go", "// About p.\npackage p\n", "// Package p is a sample.\npackage p\n"},
		{"command comment", commentsOf, "cmd/run/p.go", "// Package main runs.\npackage main\n", "// Command run runs.\npackage main\n"},
		{"function comment", checkExportedComments, "p/p.go", "package p\n\nfunc F() {}\n", "package p\n\n// F does.\nfunc F() {}\n\nfunc g() {}\n"},
		{"method comment", checkExportedComments, "p/p.go", "package p\n\nfunc (t *T) F() {}\n", "package p\n\nfunc (t *t) F() {}\n"},
		{"type comment", checkExportedComments, "p/p.go", "package p\n\ntype T int\n", "package p\n\n// T is.\ntype T int\n\ntype u int\n"},
		{"value comment", checkExportedComments, "p/p.go", "package p\n\nvar V int\n", "package p\n\nvar V int // is\n\n// Both are.\nconst (\n\tC = 1\n\tD = 2\n)\n"},
		{"file length", checkFileLength, "p/p.go", "package p\n" + strings.Repeat("\n", maxFileLines), "package p\n" + strings.Repeat("\n", maxFileLines-1)},
		{"function length", checkFunctions, "p/p.go", long(maxFunctionLines + 1), long(maxFunctionLines)},
		{"parameters", checkFunctions, "p/p.go", "package p\n\nfunc f(a, b, c int, d, e, g string) {}\n", "package p\n\nfunc f(a, b, c int, d, e string) {}\n"},
		{"many parameters", remarkParameters, "p/p.go", "package p\n\nfunc f(a, b, c int, d, e string) {}\n", "package p\n\nfunc f(a, b, c, d int) {}\n"},
		{"marker", checkMarkers, "p/p.go", "package p\n\n// TO" + "DO: later\n", "package p\n\nconst todo = 1\n"},
		{"print", checkPrints, "p/p.go", "package p\n\nfunc f() { fmt.Println(1) }\n", "package p\n\nfunc f() { fmt.Fprintln(w, 1) }\n"},
		{"builtin print", checkPrints, "p/p_test.go", "package p\n\nfunc f() { println(1) }\n", "package p\n\nfunc f() { t.Log(1) }\n"},
		{"skip", checkSkips, "p/p_test.go", "package p\n\nfunc f() { t.Skip() }\n", "package p\n\nfunc f() { t.Skip(\"needs a disk that can fail\") }\n"},
		{"skip now", checkSkips, "p/p_test.go", "package p\n\nfunc f() { t.SkipNow() }\n", "package p\n\nfunc f() { s.Skip(2) }\n"},
		{"sleep", checkSleeps, "p/p_test.go", "package p\n\nfunc f() { time.Sleep(1) }\n", "package p\n\nimport \"stockade/shard/bubble\"\n\nfunc f() { time.Sleep(1) }\n"},
		{"bubble", checkBubbles, "p/p_test.go", "package p\n\nfunc f() { synctest.Test(t, g) }\n", "package p\n\nfunc f() { bubble.Test(t, g) }\n"},
	}
	for _, sample := range samples {
		t.Run(sample.name, func(t *testing.T) {
			if found := sample.check(mustParse(t, sample.file, sample.bad)); len(found) != 1 {
				t.Errorf("bad sample: findings %q, want one", found)
			}
			if found := sample.check(mustParse(t, sample.file, sample.good)); len(found) != 0 {
				t.Errorf("good sample: findings %q, want none", found)
			}
		})
	}
}

func commentsOf(f *sourceFile) []string { return checkPackageComments([]*sourceFile{f}) }

func mustParse(t *testing.T, path, text string) *sourceFile {
	t.Helper()
	source, err := parseSource(path, []byte(text))
	if err != nil {
		t.Fatalf("the sample does not parse: %v", err)
	}
	return source
}

func TestCheckPlacesFindsBadSamples(t *testing.T) {
	for _, bad := range []string{
		"see .." + "/shared/design.md", "cd /wo" + "rk/main", "`/ro" + "ot/go`", "/ho" + "me/ann/x",
		"(.lib" + "rary/search)", "GOPROXY=https://proxy." + "golang.org",
	} {
		if found := checkPlaces(textFile{"a.md", []byte("fine\n" + bad)}); len(found) != 1 || !strings.HasPrefix(found[0], "a.md:2:") {
			t.Errorf("%q: findings %q, want one in line 2", bad, found)
		}
	}
	for _, good := range []string{"the /readyz probe", "github.com/hashicorp/raft", "/v1/wo" + "rk/", "./shared", "a library"} {
		if found := checkPlaces(textFile{"a.md", []byte(good)}); len(found) != 0 {
			t.Errorf("%q: findings %q, want none", good, found)
		}
	}
}

func TestCheckLinksFindsBadSample(t *testing.T) {
	doc := textFile{"docs/a.md", []byte("[one](b.md#part) [two](../README.md) [three](https://example.com/x) [four](#here)")}
	all := func(string) bool { return true }
	onlyReadme := func(path string) bool { return path == "README.md" }
	if found := checkLinks(doc, all); len(found) != 0 {
		t.Errorf("all exist: findings %q, want none", found)
	}
	if found := checkLinks(doc, onlyReadme); len(found) != 1 || !strings.Contains(found[0], "b.md") {
		t.Errorf("b.md is missing: findings %q, want one", found)
	}
}

// TestCheckImportsFindsBadSamples runs the rules on made-up import graphs.
func TestCheckImportsFindsBadSamples(t *testing.T) {
	rules := map[string]importRule{
		"core":     {ours: []string{}, std: []string{"errors"}},
		"edge":     {ours: []string{"core"}, bans: []ban{{"net/http", "no HTTP here", false}, {"lib/raft", "no Raft here", true}}},
		"edge/sub": {ours: []string{"core"}, testOurs: []string{"edge"}},
	}
	pkg := func(name string, imports ...string) goPackage {
		return goPackage{ImportPath: module + "/" + name, Imports: imports, Deps: imports}
	}
	graphs := []struct {
		name     string
		packages []goPackage
		want     string // "" for no finding
	}{
		{"all allowed", []goPackage{pkg("core", "errors"), pkg("edge", "fmt", "stockade/core", "stockade/edge/sub")}, ""},
		{"ours not allowed", []goPackage{pkg("core", "stockade/edge")}, "core must not import edge"},
		{"beyond the allow-list", []goPackage{pkg("core", "time")}, "core must not import time"},
		{"without a rule", []goPackage{pkg("other")}, "no import rule"},
		{"banned", []goPackage{pkg("edge", "net/http")}, "no HTTP here"},
		{"banned in what is below", []goPackage{pkg("edge/deeper", "net/http")}, "no HTTP here"},
		{"banned through ours", []goPackage{pkg("edge", "stockade/edge/sub"), pkg("edge/sub", "net/http/httptest")}, "through edge/sub"},
		{"shallow ban through a library", []goPackage{{ImportPath: "stockade/edge", Deps: []string{"net/http"}}}, ""},
		{"deep ban through a library", []goPackage{{ImportPath: "stockade/edge", Deps: []string{"lib/raft/v2"}}}, "no Raft here"},
		{"tests of their own", []goPackage{{ImportPath: "stockade/core", TestImports: []string{"stockade/edge"}}}, "in tests"},
		{"tests outside", []goPackage{{ImportPath: "stockade/core", XTestImports: []string{"stockade/edge"}}}, "in tests"},
		{"allowed in tests", []goPackage{{ImportPath: "stockade/edge/sub", XTestImports: []string{"stockade/edge"}}}, ""},
	}
	for _, graph := range graphs {
		t.Run(graph.name, func(t *testing.T) {
			found := checkImports(graph.packages, rules)
			if graph.want == "" && len(found) != 0 {
				t.Errorf("findings %q, want none", found)
			}
			if graph.want != "" && (len(found) != 1 || !strings.Contains(fmt.Sprint(found), graph.want)) {
				t.Errorf("findings %q, want one with %q", found, graph.want)
			}
		})
	}
}
