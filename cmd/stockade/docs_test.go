package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// update rewrites what is generated instead of comparing, for example
// go test ./cmd/stockade -run TestConfigurationPage -update
var update = flag.Bool("update", false, "rewrite what is generated: tables in docs, help texts")

const (
	docsDir    = "../../docs"
	tableBegin = "<!-- settings: generated, see the test TestConfigurationPage -->\n"
	tableEnd   = "<!-- end of settings -->\n"
)

// TestConfigurationPage holds the page's table of settings against the code.
func TestConfigurationPage(t *testing.T) {
	checkTable(t, "configuration.md", tableBegin, tableEnd, settingsTable())
}

// checkTable compares the generated part of a page, between two marks, or rewrites
// it.
func checkTable(t *testing.T, name, begin, end, table string) {
	t.Helper()
	path := filepath.Join(docsDir, name)
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	_, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s has no generated part", path)
	}
	want := before + begin + table + end + after
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the program has: run %s with -update and look at the difference", path, t.Name())
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// settingsTable is the page's table.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| flag, and name in the file | environment | default | for | what it is |\n|---|---|---|---|---|\n")
	for i := range allSettings {
		s := &allSettings[i]
		flagText := "--" + s.name
		if s.kind.arg != "" {
			flagText += " " + strings.ReplaceAll(s.kind.arg, "|", "\\|")
		}
		def := "none"
		if s.def != "" {
			def = "`" + s.def + "`"
		}
		if s.devDef != "" {
			def += ", for dev `" + s.devDef + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", flagText, s.env(), def, scopeNames(s.scope), s.help)
	}
	return b.String()
}

func scopeNames(s scope) string {
	var names []string
	for _, c := range []struct {
		scope scope
		name  string
	}{{forDev, "dev"}, {forNode, "node"}, {forRouter, "router"}, {forSKU, "sku"}} {
		if s&c.scope != 0 {
			names = append(names, c.name)
		}
	}
	return strings.Join(names, ", ")
}

// invocation matches a run of the program in a document, to the end of its line
// or its code span; a backslash continues the line.
var invocation = regexp.MustCompile("(?:stockade|\\./cmd/stockade|bin/stockade) ((?:[a-z]+ ?)+[^`\n]*(?:\\\\\n[^`\n]*)*)")

var flagName = regexp.MustCompile(`--([a-z][a-z-]*)`)

// TestDocumentedFlagsExist looks up every flag that a document mentions.
func TestDocumentedFlagsExist(t *testing.T) {
	known := make(map[string]bool)
	eachCommand(newRootCommand(), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	})
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range invocation.FindAllString(string(text), -1) {
			for _, name := range flagName.FindAllStringSubmatch(line, -1) {
				if !known[name[1]] && name[1] != "help" {
					t.Errorf("%s: %q: there is no flag --%s", path, strings.TrimSpace(line), name[1])
				}
			}
		}
	}
}

// TestDocumentedCommandsExist looks up every command that a document mentions
// in a code span or block.
func TestDocumentedCommandsExist(t *testing.T) {
	known := make(map[string]bool)
	for _, c := range newRootCommand().Commands() {
		known[c.Name()] = true
	}
	mention := regexp.MustCompile("(?m)(?:`|^|\"|run \\./cmd/)stockade ([a-z]+)")
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range mention.FindAllStringSubmatch(string(text), -1) {
			if !known[match[1]] {
				t.Errorf("%s: there is no command %q", path, match[1])
			}
		}
	}
}

func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(docsDir, "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no documents in %s: %v", docsDir, err)
	}
	return append(pages, "../../README.md", "../../CHANGELOG.md")
}

func eachCommand(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, visit)
	}
}

// TestHelp asks every command for its help: it must say what the command does,
// name its flags in sentences without a full stop, and fit a terminal.
func TestHelp(t *testing.T) {
	eachCommand(newRootCommand(), func(c *cobra.Command) {
		if slices.Contains(strings.Fields(c.CommandPath()), "completion") {
			return // cobra's own
		}
		r := runArgs(t, append(strings.Fields(c.CommandPath()), "--help")[1:]...)
		r.want(t, exitOK)
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the short help is %q", c.CommandPath(), c.Short)
		}
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if len(strings.TrimRight(line, "\n")) > 84 {
				t.Errorf("%s: a line of the help is too long: %s", c.CommandPath(), line)
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || !strings.Contains(r.stdout, "--"+f.Name) {
				t.Errorf("%s: --%s is not explained", c.CommandPath(), f.Name)
			}
		})
	})
}

// TestHelpOfDev compares a whole help text, as an example of all.
func TestHelpOfDev(t *testing.T) {
	r := runArgs(t, "dev", "--help")
	r.want(t, exitOK)
	path := filepath.Join("testdata", "dev-help.txt")
	if *update {
		if err := os.WriteFile(path, []byte(r.stdout), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.stdout != string(want) {
		t.Errorf("help of dev:\n%s\nwant (rewrite with -update):\n%s", r.stdout, want)
	}
}

func TestVersion(t *testing.T) {
	r := runArgs(t, "version")
	r.want(t, exitOK)
	if !strings.HasPrefix(r.stdout, "stockade ") || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("version prints %q", r.stdout)
	}
}

func TestExplain(t *testing.T) {
	for _, code := range problemCodes() {
		r := runArgs(t, "explain", code)
		r.want(t, exitOK)
		if !strings.HasPrefix(r.stdout, code+" ") {
			t.Errorf("explain %s prints %q", code, r.stdout)
		}
	}
	list := runArgs(t, "explain")
	list.want(t, exitOK)
	if got, want := strings.Count(list.stdout, "\n"), len(problemCodes()); got != want {
		t.Errorf("explain lists %d codes, want %d:\n%s", got, want, list.stdout)
	}
	runArgs(t, "explain", "/problems/not-ready").want(t, exitOK)
	runArgs(t, "explain", "insufficient-stok").want(t, exitError, `did you mean "insufficient-stock"?`)
}
