package allocator

// Scripts with recorded output: testdata/*.txt. A script is blocks of commands,
// a line of dashes, and what they print; blocks are separated by empty lines.
// After a change that is meant to change the output, record it again and read
// the difference:
//
//	go test ./allocator -run TestScripts -record
//
// A command is one line: a verb, and arguments of the form name=value or a bare
// word. "@2 " before it sends it to shard 2; without it goes to shard 0.
// Reservations are written #1 by their sequence number. scriptVerbs in
// script_verbs_test.go lists the verbs.

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var recordScripts = flag.Bool("record", false, "record the output of the scripts again")

func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { runScript(t, path) })
	}
}

func runScript(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sc := &script{shards: map[int]*State{}}
	var fresh []string
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		input, want, isCommands := strings.Cut(block, "\n----")
		if !isCommands {
			fresh = append(fresh, block) // a comment
			continue
		}
		got := sc.run(input)
		fresh = append(fresh, input+"\n----"+got)
		if got != want && !*recordScripts {
			t.Fatalf("%s:\n%s\n---- got:%s\n---- want:%s", path, input, got, want)
		}
	}
	if *recordScripts {
		if err := os.WriteFile(path, []byte(strings.Join(fresh, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// script is the state of a running script: a small cluster.
type script struct {
	shards map[int]*State
	n      int // shards
	on     int // the shard of the present line
}

// run runs the lines of a block and gives what they print, each line after a
// line break.
func (sc *script) run(input string) string {
	var out strings.Builder
	for _, line := range strings.Split(input, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, printed := range strings.Split(sc.line(line), "\n") {
			if printed != "" {
				out.WriteString("\n" + printed)
			}
		}
		for no, s := range sc.shards {
			if err := s.CheckInvariants(); err != nil {
				fmt.Fprintf(&out, "\nshard %d: %v", no, err)
			}
		}
	}
	return out.String()
}

func (sc *script) line(line string) string {
	words := strings.Fields(line)
	sc.on = 0
	if strings.HasPrefix(words[0], "@") {
		sc.on, _ = strconv.Atoi(words[0][1:])
		words = words[1:]
	}
	a := arguments{verb: words[0], named: map[string]string{}}
	for _, w := range words[1:] {
		if name, value, named := strings.Cut(w, "="); named {
			a.named[name] = value
			a.names = append(a.names, name)
		} else {
			a.bare = append(a.bare, w)
		}
	}
	run, known := scriptVerbs[a.verb]
	if !known {
		return "unknown verb " + a.verb
	}
	return run(sc, &a)
}

// arguments are what stands behind a verb.
type arguments struct {
	verb  string
	bare  []string
	named map[string]string
	names []string // in order
	used  []string
}

func (a *arguments) number(name string) int64 {
	a.used = append(a.used, name)
	n, _ := strconv.ParseInt(a.named[name], 10, 64)
	return n
}

func (a *arguments) text(name string) string {
	a.used = append(a.used, name)
	return a.named[name]
}

func (a *arguments) flag(name string) bool {
	for _, w := range a.bare {
		if w == name {
			return true
		}
	}
	return false
}

// lines takes every argument that nothing else has used as SKU=quantity.
func (a *arguments) lines() (lines []Line) {
	for _, name := range a.names {
		used := false
		for _, u := range a.used {
			used = used || u == name
		}
		if !used {
			lines = append(lines, Line{SKU(name), Quantity(a.number(name))})
		}
	}
	return lines
}

// id takes the bare word #n.
func (a *arguments) id(sc *script) ReservationID {
	for _, w := range a.bare {
		if seq, err := strconv.ParseUint(strings.TrimPrefix(w, "#"), 10, 64); err == nil {
			return ReservationID{ShardID(sc.on), seq}
		}
	}
	return ReservationID{}
}

// key makes a Key, Buyer or the like from a word; no word makes the zero one.
func key16(word string) (k [16]byte) {
	copy(k[:], word)
	return k
}
