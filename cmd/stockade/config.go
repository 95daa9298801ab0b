package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// configKey names the configuration file itself: by --config or
// STOCKADE_CONFIG, never in the file.
const configKey = "config"

// defaultOrigin is the origin of what nobody set.
const defaultOrigin = "default"

// value is a setting's text and where it came from.
type value struct {
	text   string
	origin string
}

// settings holds every setting of a command by name, each checked. It does not
// change once loaded.
type settings map[string]value

// loadSettings collects settings from all sources: a flag wins over the
// environment, that over the file, that over the default. Every source is
// checked whole: a key that no command knows, or a value of the wrong form, is
// an error even where a stronger source hides it, because it is a mistake that
// would surface at the worst time.
func loadSettings(flags *pflag.FlagSet, s scope) (settings, error) {
	sources, err := readSources(flags, s)
	if err != nil {
		return nil, err
	}
	merged := make(settings)
	for _, src := range sources {
		if err := src.mergeInto(merged, s); err != nil {
			return nil, err
		}
	}
	return merged, nil
}

// source is one place that settings come from.
type source struct {
	*koanf.Koanf
	describe func(key string) string // where a key was given, for origins and errors
	unknown  func(key string) error  // the error for a key that no command knows
}

// readSources reads all sources, the weakest first.
func readSources(flags *pflag.FlagSet, s scope) ([]source, error) {
	environment, err := envSource()
	if err != nil {
		return nil, err
	}
	given, err := flagSource(flags)
	if err != nil {
		return nil, err
	}
	path, from := configPath(flags, environment)
	configured, err := fileSource(path, from)
	if err != nil {
		return nil, err
	}
	defaults, err := defaultSource(s)
	if err != nil {
		return nil, err
	}
	return []source{defaults, configured, environment, given}, nil
}

func defaultSource(s scope) (source, error) {
	values := make(map[string]any)
	for _, known := range inScope(s) {
		values[known.name] = known.defaultFor(s)
	}
	k := koanf.New(".")
	err := k.Load(confmap.Provider(values, ""), nil)
	return source{Koanf: k, describe: func(string) string { return defaultOrigin }}, err
}

// fileSource reads the YAML file at path; none when path is empty. from says
// who named the file.
func fileSource(path, from string) (source, error) {
	src := source{
		Koanf:    koanf.New("."),
		describe: func(string) string { return "file " + path },
		unknown: func(key string) error {
			return fmt.Errorf("unknown setting %q in %s: did you mean %q?", key, path, nearestSetting(key))
		},
	}
	if path == "" {
		return src, nil
	}
	err := src.Load(file.Provider(path), yaml.Parser())
	if errors.Is(err, fs.ErrNotExist) {
		return src, fmt.Errorf("the configuration file %s (from %s) does not exist: create it or leave %s out", path, from, from)
	}
	if err != nil {
		return src, fmt.Errorf("the configuration file %s (from %s) can't be read as YAML: %w", path, from, err)
	}
	return src, nil
}

func envSource() (source, error) {
	src := source{
		Koanf:    koanf.New("."),
		describe: func(key string) string { return "environment " + envName(key) },
		unknown: func(key string) error {
			return fmt.Errorf("unknown setting %s in the environment: did you mean %s?", envName(key), envName(nearestSetting(key)))
		},
	}
	err := src.Load(env.Provider(".", env.Opt{Prefix: envPrefix, TransformFunc: func(k, v string) (string, any) {
		return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(k, envPrefix)), "_", "-"), v
	}}), nil)
	return src, err
}

// envName is the environment variable for a key.
func envName(key string) string { return (&setting{name: key}).env() }

// flagSource holds the flags that were given; cobra has refused unknown ones.
func flagSource(flags *pflag.FlagSet) (source, error) {
	values := make(map[string]any)
	flags.Visit(func(f *pflag.Flag) {
		if settingNamed(f.Name) != nil || f.Name == configKey {
			values[f.Name] = f.Value.String()
		}
	})
	k := koanf.New(".")
	err := k.Load(confmap.Provider(values, ""), nil)
	return source{Koanf: k, describe: func(key string) string { return "flag --" + key }}, err
}

// configPath finds the configuration file's path and who gave it.
func configPath(flags *pflag.FlagSet, environment source) (path, from string) {
	if f := flags.Lookup(configKey); f != nil && f.Changed {
		return f.Value.String(), "--" + configKey
	}
	if environment.Exists(configKey) {
		return environment.String(configKey), envName(configKey)
	}
	return "", ""
}

// mergeInto checks what a source says and puts what is in scope into merged.
// Settings of other commands are checked and left out, so that one file can
// serve a whole cluster.
func (src source) mergeInto(merged settings, s scope) error {
	for _, key := range src.Keys() {
		if key == configKey && !strings.HasPrefix(src.describe(key), "file ") {
			continue // used already, to find the file
		}
		known := settingNamed(key)
		if known == nil {
			return src.unknown(key)
		}
		text, err := plainText(src.Get(key), known.list)
		if err == nil {
			err = known.kind.check(text)
		}
		if err != nil {
			return fmt.Errorf("setting %s is %q (%s): it %w", key, text, src.describe(key), err)
		}
		if known.scope&s != 0 {
			merged[key] = value{text, src.describe(key)}
		}
	}
	return nil
}

var (
	errNoValue  = errors.New("must have a value: give one or leave the key out")
	errNotPlain = errors.New("must be one plain value")
	errNotList  = errors.New("must be a plain value or a list of them")
)

// plainText turns a value as YAML reads it into the text a flag would have.
func plainText(v any, list bool) (string, error) {
	items, isList := v.([]any)
	if isList && list {
		texts := make([]string, len(items))
		for i, item := range items {
			text, err := plainText(item, false)
			if err != nil {
				return "", errNotList
			}
			texts[i] = text
		}
		return strings.Join(texts, ","), nil
	}
	switch v := v.(type) {
	case nil:
		return "", errNoValue
	case string:
		return v, nil
	case bool, int, int64, uint64:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return fmt.Sprint(v), errNotPlain
}

// The typed views below may assume that a value was checked, and panic on a
// setting that the command does not have: that is a mistake in this program.

func (s settings) text(name string) string {
	v, ok := s[name]
	if !ok {
		panic("stockade: no setting " + name)
	}
	return v.text
}

// with is the settings with another value for one of them.
func (s settings) with(name, text, origin string) settings {
	changed := maps.Clone(s)
	changed[name] = value{text, origin}
	return changed
}

// given tells whether a setting comes from anywhere but its default.
func (s settings) given(name string) bool { return s[name].origin != defaultOrigin }

func (s settings) number(name string) int {
	n, err := strconv.Atoi(s.text(name))
	mustBeChecked(name, err)
	return n
}

func (s settings) span(name string) time.Duration {
	d, err := time.ParseDuration(s.text(name))
	mustBeChecked(name, err)
	return d
}

func (s settings) yes(name string) bool { return s.text(name) == "true" }

func (s settings) members(name string) []member {
	m, err := parseMembers(s.text(name))
	mustBeChecked(name, err)
	return m
}

func (s settings) seeds(name string) []seed {
	list, err := parseSeeds(s.text(name))
	mustBeChecked(name, err)
	return list
}

func mustBeChecked(name string, err error) {
	if err != nil {
		panic("stockade: setting " + name + " was not checked: " + err.Error())
	}
}

// flagValue keeps a setting's flag as text: all sources are checked by the same
// rules, in the same words.
type flagValue struct {
	text  string
	arg   string
	list  bool
	given bool
}

// Set implements pflag.Value.
func (v *flagValue) Set(text string) error {
	if v.list && v.given {
		text = v.text + "," + text
	}
	v.text, v.given = text, true
	return nil
}

// String implements pflag.Value.
func (v *flagValue) String() string { return v.text }

// Type implements pflag.Value; help shows it as the placeholder, but for "bool".
func (v *flagValue) Type() string {
	if v.arg == "" {
		return "bool"
	}
	return v.arg
}

// addSettingFlags gives a flag set one flag per setting in scope, and --config.
func addSettingFlags(flags *pflag.FlagSet, s scope) {
	for _, known := range inScope(s) {
		v := &flagValue{text: known.defaultFor(s), arg: known.kind.arg, list: known.list}
		f := flags.VarPF(v, known.name, "", known.help)
		if known.kind.arg == "" {
			f.NoOptDefVal = "true" // --insecure alone means true
		}
	}
	flags.String(configKey, "", "YAML `FILE` with settings, by the same names as the flags")
}
