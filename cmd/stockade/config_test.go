package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// result is what a run of the program left behind.
type result struct {
	code   int
	stdout string
	stderr string
}

// runArgs runs the program as main does, with args as they would be typed.
func runArgs(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// want checks the exit code, and that standard error is one line (two for
// usage errors) that holds all of parts; with no parts, that it is empty.
func (r result) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d; standard error: %s", r.code, code, r.stderr)
	}
	lines := strings.Count(r.stderr, "\n")
	if expected := map[int]int{exitOK: 0, exitError: 1, exitUsage: 2}[code]; lines != expected {
		t.Errorf("%d lines on standard error, want %d: %s", lines, expected, r.stderr)
	}
	for _, part := range parts {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("standard error %q does not say %q", r.stderr, part)
		}
	}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// printed is what `config print --origins` shows of one setting: value and origin.
func printed(t *testing.T, output, name string) (text, origin string) {
	t.Helper()
	for line := range strings.Lines(output) {
		if rest, ok := strings.CutPrefix(line, name+": "); ok {
			text, origin, _ = strings.Cut(strings.TrimSpace(rest), "#")
			return strings.TrimSpace(text), strings.TrimSpace(origin)
		}
	}
	t.Fatalf("no line for %s in:\n%s", name, output)
	return "", ""
}

// TestOrigins gives settings in all four ways and looks which one wins.
func TestOrigins(t *testing.T) {
	path := writeFile(t, "stockade.yaml", "shards: 5\nlog-level: warn\nhttp: 127.0.0.1:9400\nseed: [a=1, b=2]\ninsecure: true\n")
	t.Setenv("STOCKADE_LOG_LEVEL", "error")
	t.Setenv("STOCKADE_HTTP", "127.0.0.1:9401")
	r := runArgs(t, "config", "print", "--origins", "--config", path, "--http", "127.0.0.1:9402")
	r.want(t, exitOK)
	for _, tc := range []struct{ name, text, origin string }{
		{"http", `"127.0.0.1:9402"`, "flag --http"},
		{"log-level", `"error"`, "environment STOCKADE_LOG_LEVEL"},
		{"shards", `5`, "file " + path},
		{"seed", `"a=1,b=2"`, "file " + path},
		{"insecure", `true`, "file " + path},
		{"log-store", `"wal"`, "default"},
	} {
		if text, origin := printed(t, r.stdout, tc.name); text != tc.text || origin != tc.origin {
			t.Errorf("%s: %s from %q, want %s from %q", tc.name, text, origin, tc.text, tc.origin)
		}
	}
}

// TestConfigPrintIsAFile feeds what config print writes back as a file.
func TestConfigPrintIsAFile(t *testing.T) {
	first := runArgs(t, "config", "print", "--shards", "7", "--seed", "a=1", "--seed", "b=2", "--insecure")
	first.want(t, exitOK)
	path := writeFile(t, "printed.yaml", first.stdout)
	second := runArgs(t, "config", "print", "--config", path)
	second.want(t, exitOK)
	if first.stdout != second.stdout {
		t.Errorf("read back:\n%s\nwritten:\n%s", second.stdout, first.stdout)
	}
	if !strings.Contains(first.stdout, `seed: "a=1,b=2"`) {
		t.Errorf("a repeated flag adds up: %s", first.stdout)
	}
}

func TestConfigFileByEnvironment(t *testing.T) {
	t.Setenv("STOCKADE_CONFIG", writeFile(t, "stockade.yaml", "shards: 6\n"))
	r := runArgs(t, "config", "print")
	r.want(t, exitOK)
	if text, _ := printed(t, r.stdout, "shards"); text != "6" {
		t.Errorf("shards %s, want 6", text)
	}
}

func TestUnknownSettings(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		path := writeFile(t, "stockade.yaml", "shrads: 5\n")
		runArgs(t, "config", "print", "--config", path).want(t, exitError, `"shrads"`, path, `did you mean "shards"?`)
	})
	t.Run("nested in the file", func(t *testing.T) {
		path := writeFile(t, "stockade.yaml", "log:\n  format: json\n")
		runArgs(t, "config", "print", "--config", path).want(t, exitError, `"log.format"`, `did you mean "log-format"?`)
	})
	t.Run("the file names a file", func(t *testing.T) {
		path := writeFile(t, "stockade.yaml", "config: other.yaml\n")
		runArgs(t, "config", "print", "--config", path).want(t, exitError, `unknown setting "config"`)
	})
	t.Run("environment", func(t *testing.T) {
		t.Setenv("STOCKADE_DATADIR", "/tmp")
		runArgs(t, "config", "print").want(t, exitError, "STOCKADE_DATADIR", "did you mean STOCKADE_DATA_DIR?")
	})
	t.Run("flag", func(t *testing.T) {
		runArgs(t, "dev", "--shard", "2").want(t, exitUsage, "--shard", "did you mean --shards?", "Try: stockade dev --help")
	})
	t.Run("command", func(t *testing.T) {
		runArgs(t, "nod").want(t, exitUsage, `unknown command "nod"`, `did you mean "node"?`)
		runArgs(t, "sku", "gett", "demo").want(t, exitUsage, `unknown command "gett" of stockade sku`)
	})
}

// TestBadValues gives every kind of setting something it can't be.
func TestBadValues(t *testing.T) {
	for _, tc := range []struct{ flag, text, says string }{
		{"shards", "many", "must be a whole number from 1 to 1024"},
		{"shards", "0", "must be a whole number from 1 to 1024"},
		{"nodes", "99", "must be a whole number from 1 to 9"},
		{"http", "8400", "must be HOST:PORT"},
		{"http", "localhost:web", "must be HOST:PORT"},
		{"peer", "127.0.0.1:70000", "must be HOST:PORT"},
		{"log-store", "rocks", "must be wal or bolt"},
		{"log-format", "xml", "must be text or json"},
		{"log-level", "loud", "must be debug or info or warn or error"},
		{"insecure", "maybe", "must be true or false"},
		{"stop-timeout", "forever", "must be a span from 1s to 1m0s"},
		{"stop-timeout", "2h", "must be a span from 1s to 1m0s"},
		{"retention", "1s", "must be a span from 1m0s to 720h0m0s"},
		{"snapshot-entries", "5", "must be a whole number from 100 to 1000000"},
		{"id", "a b", "letters, digits, dashes or underscores"},
		{"initial-cluster", "a=127.0.0.1:1,a=127.0.0.1:2", "each id and each address once"},
		{"initial-cluster", "127.0.0.1:1", "must be a list of ID=HOST:PORT"},
		{"seed", "demo", "must be SKU=UNITS"},
		{"seed", "demo=-1", "must be SKU=UNITS"},
		{"seed", "de mo=1", "must be SKU=UNITS"},
		{"ops-url", "127.0.0.1:8401", "must be an http or https URL"},
	} {
		t.Run(tc.flag+"="+tc.text, func(t *testing.T) {
			r := runArgs(t, "config", "print", "--"+tc.flag+"="+tc.text)
			r.want(t, exitError, "setting "+tc.flag, tc.text, "(flag --"+tc.flag+")", tc.says)
		})
	}
}

// TestBadValuesInFiles gives values that flags can't have.
func TestBadValuesInFiles(t *testing.T) {
	for _, tc := range []struct{ name, text, says string }{
		{"null", "shards:\n", "setting shards is \"\" (file"},
		{"list", "shards: [1, 2]\n", "must be one plain value"},
		{"list of lists", "seed: [[a=1]]\n", "must be a plain value or a list of them"},
		{"another command's", "nodes: lots\n", "setting nodes"},
		{"hidden by a flag", "log-level: loud\n", "setting log-level is \"loud\" (file"},
		{"no YAML", "shards: [\n", "can't be read as YAML"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := writeFile(t, "stockade.yaml", tc.text)
			runArgs(t, "config", "print", "--log-level", "info", "--config", path).want(t, exitError, tc.says, path)
		})
	}
	runArgs(t, "config", "print", "--config", "no-such.yaml").want(t, exitError, "no-such.yaml", "--config", "does not exist")
}

func TestNearest(t *testing.T) {
	for _, tc := range []struct{ typed, want string }{
		{"htp", "http"}, {"data_dir", "data-dir"}, {"initialcluster", "initial-cluster"}, {"log-lvl", "log-level"},
		{"seeds", "seed"}, {"x", "id"}, {"", "id"},
	} {
		if got := nearestSetting(tc.typed); got != tc.want {
			t.Errorf("nearest to %q is %q, want %q", tc.typed, got, tc.want)
		}
	}
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0}} {
		if got := editDistance(tc.a, tc.b); got != tc.want {
			t.Errorf("distance of %q and %q is %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

// TestSettingsAreWellFormed checks the table itself.
func TestSettingsAreWellFormed(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range allSettings {
		if seen[s.name] {
			t.Errorf("%s is there twice", s.name)
		}
		seen[s.name] = true
		if err := s.kind.check(s.def); err != nil {
			t.Errorf("the default of %s is %q, but it %v", s.name, s.def, err)
		}
		if s.scope == 0 || s.help == "" || strings.HasSuffix(s.help, ".") {
			t.Errorf("%s needs a scope and a help text without a full stop", s.name)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"version", "more"}, {"sku", "get"}, {"sku", "restock", "demo", "many"}, {"explain", "a", "b"},
		{"sku", "adjust", "demo"}, {"sku", "put", "demo", "--sale-starts-at", "soon"}, {"node", "--shards"},
	} {
		runArgs(t, args...).want(t, exitUsage, "Try: stockade "+args[0])
	}
}

func TestReachIsRefused(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.7:0", "example.com:0"} {
		runArgs(t, "dev", "--http", addr).want(t, exitError, "--http "+addr, "--insecure", "127.0.0.1")
	}
	for addr, loopback := range map[string]bool{"127.0.0.1:1": true, "127.8.8.8:1": true, "[::1]:1": true, "localhost:1": true, "1.1.1.1:1": false} {
		if isLoopback(addr) != loopback {
			t.Errorf("isLoopback(%s) is %v", addr, !loopback)
		}
	}
}
