package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOperations runs what docs/operations.md tells an operator to do, in its order. A
// line "# on NAME" says on which machine the next ones are; each of these is an address
// of loopback here. What starts a server is left running, and systemctl is this test.
func TestOperations(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, root: t.TempDir(), path: filepath.Dir(program) + ":" + os.Getenv("PATH"), services: make(map[string]*process)}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	for _, block := range blocks {
		for _, line := range strings.Split(strings.TrimSpace(block[1]), "\n") {
			o.do(line)
		}
	}
	if len(o.services) != 5 || o.ran < 12 {
		t.Errorf("%d services and %d other commands: does the page still look like that?", len(o.services), o.ran)
	}
}

// operator follows the page.
type operator struct {
	t        *testing.T
	root     string // stands for the root of the machines
	path     string
	at       string // the machine
	services map[string]*process
	ran      int
}

var machine = regexp.MustCompile(`\b10\.0\.0\.(\d)\b`)

func (o *operator) do(line string) {
	o.t.Helper()
	text := machine.ReplaceAllString(line, "127.0.40.$1")
	text = strings.NewReplacer("/etc/stockade", o.root+"/etc", "/var/lib/stockade", o.root+"/data").Replace(text)
	switch {
	case strings.HasPrefix(line, "# on "):
		o.at = strings.TrimPrefix(line, "# on ")
	case strings.HasPrefix(line, "stockade node "), strings.HasPrefix(line, "stockade router "):
		p := &process{id: o.at, dir: filepath.Join(o.root, "at", o.at), args: strings.Fields(text)[1:]}
		if err := os.MkdirAll(p.dir, 0o700); err != nil {
			o.t.Fatal(err)
		}
		p.start(o.t)
		p.cleanup(o.t)
		o.services[o.at] = p
	case strings.HasPrefix(line, "systemctl "):
		o.systemctl(strings.Fields(line)[1:])
	default:
		o.ran++
		eventually(o.t, line, startTimeout, func() error {
			cmd := exec.Command("sh", "-c", text)
			cmd.Env = append(os.Environ(), "PATH="+o.path)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
}

func (o *operator) systemctl(args []string) {
	o.t.Helper()
	p := o.services[o.at]
	switch args[0] {
	case "restart":
		if code := p.stop(o.t); code != 0 {
			o.t.Errorf("%s ended with %d", p.id, code)
		}
		p.start(o.t)
	case "kill":
		p.kill(o.t)
	case "start":
		p.start(o.t)
	default:
		o.t.Fatalf("systemctl %v", args)
	}
}
