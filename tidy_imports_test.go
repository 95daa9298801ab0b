package stockade_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// module is the path that our packages' import paths begin with.
const module = "stockade"

// ban is something a package must not import, and why. A path stands for
// everything below it too.
type ban struct {
	path string
	why  string
	// deep bans it through other modules as well; else only our own packages on
	// the way are looked at, because the libraries we use import much.
	deep bool
}

// importRule says what a package, with everything below it that has no rule of
// its own, may import. It may always import what is below itself.
type importRule struct {
	ours []string // of our own packages; "*" for all
	std  []string // if not nil: the only packages of other origin
	bans []ban
	// testOurs are our packages that its tests may import besides.
	testOurs []string
}

var (
	noRaft       = ban{"github.com/hashicorp/raft", "consensus is the node's business; this package must work against any shardrpc.Node", true}
	noMemberlist = ban{"github.com/hashicorp/memberlist", "who is a member is found out in shard/membership only", true}
	noBolt       = ban{"go.etcd.io/bbolt", "only a node has a disk", true}
	noRaftBolt   = ban{"github.com/hashicorp/raft-boltdb", "only a node has a disk", true}
	noRaftWAL    = ban{"github.com/hashicorp/raft-wal", "only a node has a disk", true}
	noHTTP       = ban{"net/http", "HTTP is spoken at the edges only", false}
)

// noIO keeps a planner, or a step machine, pure: so it can be simulated.
var noIO = []ban{
	{"os", "a planner is pure: no files", false},
	{"net", "a planner is pure: no network", false},
	{"syscall", "a planner is pure: no system calls", false},
	{"log", "a planner is pure: its caller logs", false},
	{"github.com", "a planner is pure: no libraries", true},
	{"google.golang.org", "a planner is pure: no libraries", true},
}

// importRules has the rule of every package, by its path below the module.
var importRules = map[string]importRule{
	".": {ours: []string{}},
	"allocator": {
		ours: []string{},
		// Determinism by construction: what is not in this list can bring a
		// clock, chance, the outside world or concurrency into the state machine.
		std: []string{
			"bufio", "bytes", "cmp", "encoding/binary", "errors", "fmt", "hash", "hash/crc32", "io", "iter",
			"math", "math/bits", "slices", "sort", "strconv", "strings", "unicode/utf8", "unsafe",
		},
		testOurs: []string{"bench/fuzzing"},
	},
	"raftfsm":                    {ours: []string{"allocator"}, bans: []ban{noMemberlist, noHTTP, noBolt, noRaftBolt, noRaftWAL}, testOurs: []string{"bench/fuzzing", "shard/bubble"}},
	"shard":                      {ours: []string{"raftfsm", "allocator"}, testOurs: []string{"bench/fuzzing"}},
	"shard/line":                 {ours: []string{"shard/rebalance", "allocator"}, bans: noIO, testOurs: []string{"shard/delivery"}},
	"shard/delivery":             {ours: []string{"allocator"}, bans: noIO},
	"shard/rebalance":            {ours: []string{"allocator"}, bans: noIO},
	"shard/placement":            {ours: []string{}, bans: noIO},
	"shard/bubble":               {ours: []string{}, bans: []ban{noRaft, noMemberlist, noHTTP}},
	"shard/memnet":               {ours: []string{}, bans: []ban{noRaft}},
	"shard/simdisk":              {ours: []string{}, bans: []ban{noMemberlist, noHTTP}, testOurs: []string{"shard/bubble"}},
	"shard/recdisk":              {ours: []string{}, bans: []ban{noRaft, noMemberlist, noHTTP}},
	"shard/membership":           {ours: []string{"shard/placement"}, bans: []ban{noRaft}, testOurs: []string{"bench/fuzzing"}},
	"shard/shardrpc":             {ours: []string{"allocator"}, bans: []ban{noRaft, noMemberlist}, testOurs: []string{"bench/fuzzing", "shard/bubble"}},
	"router":                     {ours: []string{"shard/shardrpc", "allocator"}, bans: []ban{noRaft, noBolt, noRaftBolt, noRaftWAL}, testOurs: []string{"bench/fuzzing", "shard/bubble"}},
	"router/api":                 {ours: []string{}, bans: []ban{noRaft, noMemberlist, noHTTP}, testOurs: []string{"bench/fuzzing"}},
	"router/httpapi":             {ours: []string{"router", "router/api", "shard/shardrpc", "allocator"}, bans: []ban{noRaft, noMemberlist}, testOurs: []string{"bench/fuzzing"}},
	"router/httpapi/openapitest": {ours: []string{}},
	"router/console":             {ours: []string{"router"}, bans: []ban{noRaft, noMemberlist}},
	"router/client":              {ours: []string{"router/api"}, bans: []ban{noRaft, noMemberlist}, testOurs: []string{"bench/fuzzing", "shard/bubble"}},
	"bench":                      {ours: []string{"router/client", "router/api"}, bans: []ban{noRaft, noMemberlist}},
	"bench/report":               {ours: []string{"bench", "router/client", "router/api"}, bans: []ban{noRaft, noMemberlist}, testOurs: []string{"bench/fuzzing"}},
	"bench/history":              {ours: []string{}, bans: []ban{noRaft, noMemberlist}, testOurs: []string{"bench/fuzzing"}},
	"bench/clustersim":           {ours: []string{"*"}},
	"bench/fuzzing":              {ours: []string{}, std: []string{"runtime", "testing"}},
	"bench/hosts":                {ours: []string{}, bans: []ban{noRaft, noMemberlist}},
	"cmd":                        {ours: []string{"*"}, bans: []ban{{"github.com/santhosh-tekuri/jsonschema", "only tests hold answers against schemas", true}}},
	"deploy":                     {ours: []string{}},
}

// goPackage is what `go list` tells of a package.
type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	Standard     bool
}

// listPackages asks the go command for our packages.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps,Standard", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("read go list's answer: %v", err)
		}
		packages = append(packages, p)
	}
}

func TestImportRules(t *testing.T) {
	report(t, checkImports(listPackages(t), importRules))
}

// checkImports holds every package against its rule.
func checkImports(packages []goPackage, rules map[string]importRule) []string {
	byName := make(map[string]goPackage, len(packages))
	for _, p := range packages {
		byName[shortName(p.ImportPath)] = p
	}
	var findings []string
	for _, p := range packages {
		name := shortName(p.ImportPath)
		owner, rule, ok := ruleFor(name, rules)
		if !ok {
			findings = append(findings, name+": no import rule: decide what it may import, and add it to the table")
			continue
		}
		findings = append(findings, checkOurs(p, owner, rule)...)
		findings = append(findings, checkStd(p, rule)...)
		findings = append(findings, checkBans(name, rule, byName)...)
	}
	return findings
}

// ruleFor finds the rule of a package: its own, else that of the closest
// package above it.
func ruleFor(name string, rules map[string]importRule) (owner string, rule importRule, ok bool) {
	for owner = name; ; owner = owner[:strings.LastIndexByte(owner, '/')] {
		if rule, ok = rules[owner]; ok || !strings.Contains(owner, "/") {
			return owner, rule, ok
		}
	}
}

// checkOurs finds imports of our own packages that the rule does not allow.
func checkOurs(p goPackage, owner string, rule importRule) []string {
	var findings []string
	check := func(imported []string, allowed []string, where string) {
		for _, path := range imported {
			name, ours := ourName(path)
			if ours && !within(name, owner) && !slices.Contains(allowed, "*") && !slices.Contains(allowed, name) {
				findings = append(findings, fmt.Sprintf("%s must not import %s%s: of ours it may import %v", shortName(p.ImportPath), name, where, allowed))
			}
		}
	}
	check(p.Imports, rule.ours, "")
	inTests := slices.Concat(rule.ours, rule.testOurs)
	check(p.TestImports, inTests, " in tests")
	check(p.XTestImports, inTests, " in tests")
	return findings
}

// checkStd finds imports beyond an allow-list.
func checkStd(p goPackage, rule importRule) []string {
	if rule.std == nil {
		return nil
	}
	var findings []string
	for _, path := range p.Imports {
		if _, ours := ourName(path); !ours && !slices.Contains(rule.std, path) {
			findings = append(findings, fmt.Sprintf("%s must not import %s: only %v", shortName(p.ImportPath), path, rule.std))
		}
	}
	return findings
}

// checkBans finds banned packages among all that a package pulls in.
func checkBans(name string, rule importRule, byName map[string]goPackage) []string {
	var findings []string
	for _, b := range rule.bans {
		if path, via := reaches(name, b, byName); path != "" {
			findings = append(findings, fmt.Sprintf("%s must not import %s (through %s): %s", name, path, via, b.why))
		}
	}
	return findings
}

// reaches tells which banned package a package gets, and through what.
func reaches(name string, b ban, byName map[string]goPackage) (path, via string) {
	seen := map[string]bool{name: true}
	for queue := []string{name}; len(queue) > 0; queue = queue[1:] {
		for _, imported := range byName[queue[0]].Imports {
			if within(imported, b.path) {
				return imported, queue[0]
			}
			if ours, ok := ourName(imported); ok && !seen[ours] {
				seen[ours] = true
				queue = append(queue, ours)
			}
		}
	}
	if !b.deep {
		return "", ""
	}
	for _, dep := range byName[name].Deps {
		if within(dep, b.path) {
			return dep, "a library"
		}
	}
	return "", ""
}

// within tells whether path is at or below top. Another major version of a
// module (top/v2) is below it.
func within(path, top string) bool {
	return path == top || strings.HasPrefix(path, top+"/")
}

// shortName is a package's path below the module; "." for the root.
func shortName(path string) string {
	if name, ok := ourName(path); ok {
		return name
	}
	return path
}

// ourName tells whether an import path is ours, and its name below the module.
func ourName(path string) (name string, ours bool) {
	path = strings.TrimSuffix(path, "_test")
	if path == module {
		return ".", true
	}
	name, ours = strings.CutPrefix(path, module+"/")
	return name, ours
}
