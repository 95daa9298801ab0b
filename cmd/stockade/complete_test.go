package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// completions asks for what the shell would offer for the last of args.
func completions(t *testing.T, args ...string) (offered []string, directive string) {
	t.Helper()
	r := runArgs(t, append([]string{cobra.ShellCompNoDescRequestCmd}, args...)...)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if r.code != exitOK || len(lines) == 0 {
		t.Fatalf("%v: exit code %d, %q, %s", args, r.code, r.stdout, r.stderr)
	}
	return lines[:len(lines)-1], strings.TrimPrefix(lines[len(lines)-1], ":")
}

// What cobra calls its directives, as scripts see them.
const (
	files, noFiles, filesByExt, directories = "0", "4", "8", "16"
)

// TestCompletion looks at what is offered for values and arguments: the few there
// are, files where one is meant, and else nothing.
func TestCompletion(t *testing.T) {
	t.Setenv("STOCKADE_OPS_URL", "http://127.0.0.1:1") // nobody to ask
	for _, tc := range []struct {
		args      string // the last one, which is completed, may be empty
		directive string
		offered   []string
	}{
		{"node --log-store ", noFiles, []string{"wal", "bolt"}},
		{"router --log-format ", noFiles, []string{"text", "json"}},
		{"config print --log-level ", noFiles, []string{"debug", "info", "warn", "error"}},
		{"dev --insecure=", noFiles, []string{"true", "false"}},
		{"sku put demo --late-confirm ", noFiles, []string{"retake", "reject"}},
		{"sku put --late-confirm ", noFiles, []string{"retake", "reject"}},
		{"explain insufficient", noFiles, []string{"insufficient-stock"}},
		{"explain insufficient-stock ", noFiles, nil},
		{"completion ", noFiles, []string{"bash", "zsh", "fish", "powershell"}},
		{"node --data-dir ", directories, nil},
		{"dev --addr-file ", files, nil},
		{"sku get --config ", filesByExt, []string{"yaml", "yml"}},
		{"node --config ", filesByExt, []string{"yaml", "yml"}},
		{"dev --http ", noFiles, nil},
		{"dev --seed ", noFiles, nil},
		{"dev ", noFiles, nil},
		{"node ", noFiles, nil},
		{"version ", noFiles, nil},
		{"config print ", noFiles, nil},
		{"sku list ", noFiles, nil},
		{"sku list --prefix ", noFiles, nil},
		{"sku get ", noFiles, nil},
		{"sku get demo ", noFiles, nil},
		{"sku restock demo ", noFiles, nil},
		{"sku put demo --on-hand ", noFiles, nil},
	} {
		offered, directive := completions(t, strings.Split(tc.args, " ")...)
		slices.Sort(offered)
		want := slices.Sorted(slices.Values(tc.offered))
		if directive != tc.directive || !slices.Equal(offered, want) {
			t.Errorf("%q: %v and directive %s, want %v and %s", tc.args, offered, directive, want, tc.directive)
		}
	}
}

// checkSKUCompletion lets the shell complete SKUs of a running cluster, which has
// demo and shoes.
func checkSKUCompletion(t *testing.T) {
	t.Helper()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"sku", "get", ""}, "demo shoes"},
		{[]string{"sku", "audit", "sh"}, "shoes"},
		{[]string{"sku", "restock", "none"}, ""},
		{[]string{"sku", "restock", "--reference", "x", "d"}, "demo"},
		{[]string{"sku", "pause", "demo", ""}, ""},
		{[]string{"sku", "pause", "no such"}, ""},
	} {
		offered, directive := completions(t, tc.args...)
		if got := strings.Join(offered, " "); got != tc.want || directive != noFiles {
			t.Errorf("%v: %q and directive %s, want %q", tc.args, got, directive, tc.want)
		}
	}
}
