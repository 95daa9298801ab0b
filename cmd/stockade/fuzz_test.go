package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"stockade/bench/fuzzing"
	"stockade/bench/report"
)

// The most that loading settings may take: those of all sources, as texts and as values by
// their names, which took 43 KiB; and for each [ of a deep list an event and a node of the
// YAML parser, which took 590 bytes for each, and is most for a short file. What aliases
// repeat the parser gives up after some 250 KiB. A flag is only copied and cut into items,
// which took 25 bytes for each.
const (
	configPerByte, configAlways = 1536, 512 << 10
	flagPerByte                 = 64
)

// FuzzConfigFile reads a configuration file. What is taken can be used: the typed
// views of settings panic on what was not checked.
func FuzzConfigFile(f *testing.F) {
	f.Add("http: 127.0.0.1:0\nshards: 4\ninitial-cluster: [a=h:1, b=h:2]\n")
	f.Add("shards: 4.5\nstop-timeout: 1e9\n")
	f.Add("a: &a [*a]\n")
	f.Add("nodes: {x: 1}\nseed: [a=1, [b]]\n")
	f.Add("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n")
	f.Add("a: " + strings.Repeat("[", 5000))
	f.Add("seed: [" + strings.Repeat("a=1,", 2000) + "a=1]\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "stockade.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, s := range []scope{forNode, forDev, forRouter} {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			addSettingFlags(flags, s)
			if err := flags.Set(configKey, path); err != nil {
				t.Fatal(err)
			}
			var loaded settings
			var err error
			fuzzing.InProportion(t, []byte(text), configPerByte, configAlways, func() { loaded, err = loadSettings(flags, s) })
			if err == nil {
				useSettings(loaded)
			}
		}
	})
}

// useSettings reads every setting as the type it has.
func useSettings(s settings) {
	for name := range s {
		switch arg := settingNamed(name).kind.arg; {
		case arg == "N":
			s.number(name)
		case arg == "SPAN":
			s.span(name)
		case strings.HasPrefix(arg, "ID="):
			s.members(name)
		case strings.HasPrefix(arg, "SKU="):
			s.seeds(name)
		default:
			s.text(name)
		}
	}
}

// The most that showing an answer may take: a shard of nothing is three bytes, a struct in a
// list that grows, and a line of a table with a cell for each column: that took 254 bytes
// for each.
const showPerByte, showAlways = 512, 256 << 10

// FuzzServerDocument shows what a server has answered, which may be anything: commands
// also meet proxies, and other versions.
func FuzzServerDocument(f *testing.F) {
	f.Add([]byte(`{"sku":"a","on_hand":5,"as_of":"2026-01-01T00:00:00Z","buckets":[{"shard":1,"available":5}],"pending_shards":[1,2]}`))
	f.Add([]byte(`{"sku":"a","available":0,"sold_out":true,"shards":[{"shard":0,"applied":7}]}`))
	f.Add([]byte(`{"balanced":false,"problems":["x"],"shards":[{}]}`))
	f.Add([]byte(`{"code":"invalid-request","detail":"D.","errors":[{"pointer":"/a/b","detail":"x"},{"header":"If-Match"},{"parameter":"limit"},{}]}`))
	f.Add([]byte(`{"data":[{"sku":"a"}],"next_cursor":null}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"shards":[` + strings.Repeat("{},", 2000) + `{}],"buckets":[` + strings.Repeat("{},", 2000) + `{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, show := range map[string]func(io.Writer, []byte) error{
			"SKU": showSKU, "availability": showAvailability, "audit": showAudit,
		} {
			var out bytes.Buffer
			var err error
			fuzzing.InProportion(t, body, showPerByte, showAlways, func() { err = show(&out, body) })
			if err == nil && out.Len() == 0 {
				t.Errorf("%s: nothing was shown of %q", name, body)
			}
		}
		_ = checkBalanced(body) // what it says is for people
		err := problemError("502 Bad Gateway", body)
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.String("if-match", "", "")
		flags.Int("max-per-buyer", 0, "")
		var p *problem
		if errors.As(err, &p) && !strings.HasSuffix(vocabulary{flags: flags}.line(p), "(stockade explain "+p.Code+")") {
			t.Errorf("%q", vocabulary{flags: flags}.line(p))
		}
		if !json.Valid(document(&keyed{key: "k", err: err})) || !json.Valid(document(err)) {
			t.Errorf("no JSON: %s", document(&keyed{key: "k", err: err}))
		}
	})
}

// FuzzSettings gives one setting as a flag, which is also how the environment does. What is
// taken can be used.
func FuzzSettings(f *testing.F) {
	f.Add("initial-cluster", "a=h:1,b=h:2")
	f.Add("gossip-allow", "10.0.0.0/8, fd00::/8")
	f.Add("retention", "1h2m")
	f.Add("seed", "a=9223372036854775807")
	f.Add("http", "[::1%eth0]:65536")
	f.Add("join", strings.Repeat(",", 5000))
	f.Fuzz(func(t *testing.T, name, text string) {
		for _, s := range []scope{forNode, forDev, forRouter, forSKU} {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			addSettingFlags(flags, s)
			if name == configKey || flags.Set(name, text) != nil {
				continue // FuzzConfigFile has files
			}
			var loaded settings
			var err error
			fuzzing.InProportion(t, []byte(text), flagPerByte, configAlways, func() { loaded, err = loadSettings(flags, s) })
			if err == nil {
				useSettings(loaded)
			}
		}
	})
}

// someObjectives are about each part of a result that figures are worked out from.
const someObjectives = `objectives:
- {measure: reserve.accepted.share, at_least: 0.5}
- {measure: confirm.unknown.p99_ms, at_most: 5}
- {measure: windows.worst_p99_ms, at_most: 5}
- {measure: windows.least_accepted, at_least: 1}
- {measure: proof.holds, at_least: 1}
- {measure: driver.limited, at_most: 0}
`

// FuzzResultFile holds whatever claims to be the result of a benchmark against objectives.
// Of what is taken there is a verdict on each, in both forms.
func FuzzResultFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"operations":[{"name":"reserve","outcomes":[{"outcome":"accepted","count":9223372036854775807},{"count":1}]}],"windows":[{"seconds":1e308,"outcomes":{"accepted":-1},"p99_ms":-1e308}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"windows":[` + strings.Repeat("{},", 2000) + `{}]} and more`))
	objectives, err := report.ReadObjectives([]byte(someObjectives))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var lines, document bytes.Buffer
		var readErr, lineErr, documentErr error
		fuzzing.InProportion(t, data, showPerByte, showAlways, func() {
			r, err := readResult(bytes.NewReader(data), nil)
			if readErr = err; err == nil {
				lineErr, documentErr = checkResult(&lines, r, objectives, false), checkResult(&document, r, objectives, true)
			}
		})
		if readErr != nil {
			return
		}
		var verdicts []report.Verdict
		if err := json.Unmarshal(document.Bytes(), &verdicts); err != nil || !errors.Is(documentErr, lineErr) ||
			len(verdicts) != len(objectives.Objectives) || strings.Count(lines.String(), "\n") != len(verdicts) {
			t.Errorf("%q: %s (%v), %s (%v)", data, lines.String(), lineErr, document.String(), documentErr)
		}
	})
}

// answers is an API whose answer is set, but for the second page of a list: that is the
// last. It is for one command at a time.
type answers struct {
	status int
	body   []byte
}

// ServeHTTP implements http.Handler.
func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("cursor") {
		_, _ = io.WriteString(w, `{"data":[],"next_cursor":null}`) // who asks has got enough
		return
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // to some a status has no body
}

// asking are the commands that read an answer.
var asking = [][]string{
	{"sku", "get", "demo"}, {"sku", "list"}, {"sku", "availability", "demo"}, {"sku", "audit", "demo"}, {"sku", "restock", "demo", "1"},
	{"health"}, {"__complete", "sku", "get", "d"},
}

// The most that a command may take: the whole command line with its help, a connection and
// both its ends, which took 220 KiB; some copies of the answer, and what showing it takes.
const commandPerByte, commandAlways = 2 * showPerByte, 1 << 20

// FuzzCommands has commands get whatever answer, from the first byte of a connection to the
// last line that is printed. A command fails when its request did, and says why.
func FuzzCommands(f *testing.F) {
	f.Add(byte(0), false, http.StatusOK, []byte(`{"sku":"demo","as_of":"2026-01-01T00:00:00Z"}`))
	f.Add(byte(1), false, http.StatusOK, []byte(`{"data":[{"sku":"a"},{"sku":"b","available":1}],"next_cursor":"x"}`))
	f.Add(byte(1), true, http.StatusOK, []byte(`{"data":null}`))
	f.Add(byte(3), false, http.StatusOK, []byte(`{"balanced":false,"problems":["\u001b[2J"]}`))
	f.Add(byte(4), true, http.StatusGatewayTimeout, []byte(`{"code":"outcome-unknown","status":504,"detail":"D."}`))
	f.Add(byte(5), false, http.StatusServiceUnavailable, []byte(`{"code":"not-ready","detail":"a\nb"}`))
	f.Add(byte(6), false, http.StatusOK, []byte(`{"data":[{"sku":"d\n:9"}]}`))
	f.Add(byte(0), true, http.StatusBadGateway, []byte("<html>"))
	api := new(answers)
	server := httptest.NewServer(api)
	f.Cleanup(server.Close)
	f.Fuzz(func(t *testing.T, which byte, asJSON bool, status int, body []byte) {
		if api.status, api.body = status, body; status < 200 || status > 599 {
			return // no server can answer so
		}
		args := append(slices.Clone(asking[int(which)%len(asking)]), "--ops-url", server.URL)
		if asJSON && args[0] != "__complete" {
			args = append(args, "--json")
		}
		var stdout, stderr bytes.Buffer
		var code int
		fuzzing.InProportion(t, body, commandPerByte, commandAlways, func() { code = run(t.Context(), args, &stdout, &stderr) })
		if args[0] == "__complete" {
			return // without an answer there is nothing to offer
		}
		if code == exitUsage || code == exitOK && status/100 != 2 || code == exitError && stderr.Len() == 0 {
			t.Errorf("%v: answered %d with %q it ends with %d: %s", args, status, body, code, stderr.String())
		}
	})
}
