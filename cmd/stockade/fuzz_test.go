package main

import (
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
