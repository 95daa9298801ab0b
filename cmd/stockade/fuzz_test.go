package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// FuzzConfigFile reads a configuration file. What is taken can be used: the typed
// views of settings panic on what was not checked.
func FuzzConfigFile(f *testing.F) {
	f.Add("http: 127.0.0.1:0\nshards: 4\ninitial-cluster: [a=h:1, b=h:2]\n")
	f.Add("shards: 4.5\nstop-timeout: 1e9\n")
	f.Add("a: &a [*a]\n")
	f.Add("nodes: {x: 1}\nseed: [a=1, [b]]\n")
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
			if loaded, err := loadSettings(flags, s); err == nil {
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

// FuzzServerDocument shows what a server has answered, which may be anything: commands
// also meet proxies, and other versions.
func FuzzServerDocument(f *testing.F) {
	f.Add([]byte(`{"sku":"a","on_hand":5,"as_of":"2026-01-01T00:00:00Z","buckets":[{"shard":1,"available":5}],"pending_shards":[1,2]}`))
	f.Add([]byte(`{"sku":"a","available":0,"sold_out":true,"shards":[{"shard":0,"applied":7}]}`))
	f.Add([]byte(`{"balanced":false,"problems":["x"],"shards":[{}]}`))
	f.Add([]byte(`{"code":"invalid-request","detail":"D.","errors":[{"pointer":"/a/b","detail":"x"},{"header":"If-Match"},{"parameter":"limit"},{}]}`))
	f.Add([]byte(`{"data":[{"sku":"a"}],"next_cursor":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, show := range map[string]func(io.Writer, []byte) error{
			"SKU": showSKU, "availability": showAvailability, "audit": showAudit,
		} {
			var out bytes.Buffer
			if err := show(&out, body); err == nil && out.Len() == 0 {
				t.Errorf("%s: nothing was shown of %q", name, body)
			}
		}
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
