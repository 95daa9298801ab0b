package raftfsm

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

func TestClassify(t *testing.T) {
	disk := errors.New("write: no space left on device")
	for _, test := range []struct {
		err      error
		enqueued bool
		outcome  Outcome
		cause    Cause
	}{
		{nil, true, Applied, CauseNone},

		{raft.ErrEnqueueTimeout, true, NotApplied, CauseOverloaded},
		{raft.ErrNotLeader, true, NotApplied, CauseNotLeader},
		{raft.ErrLeadershipTransferInProgress, true, NotApplied, CauseNotLeader},

		{raft.ErrLeadershipLost, true, Unknown, CauseLeadershipLost},
		{raft.ErrAbortedByRestore, true, Unknown, CauseLeadershipLost},
		{raft.ErrRaftShutdown, true, Unknown, CauseStopping},
		{raft.ErrLogNotFound, true, Unknown, CauseStore},
		{disk, true, Unknown, CauseStore},
		// A store that wraps a refusal is a store that failed.
		{fmt.Errorf("append: %w", raft.ErrNotLeader), true, Unknown, CauseStore},
		{fmt.Errorf("append: %w", raft.ErrEnqueueTimeout), true, Unknown, CauseStore},

		{errDeadline, true, Unknown, CauseDeadline},
		{errStopping, true, Unknown, CauseStopping},
		{errNoResult, true, Unknown, CauseStopping},

		{raft.ErrNotLeader, false, NotApplied, CauseNotLeader},
		{errNotReady, false, NotApplied, CauseNotReady},
		{errOverloaded, false, NotApplied, CauseOverloaded},
		{errDeadline, false, NotApplied, CauseDeadline},
		{errStopping, false, NotApplied, CauseStopping},
		{errInvalid, false, NotApplied, CauseInvalid},
		{disk, false, NotApplied, CauseStore},
	} {
		got := classify(test.err, test.enqueued)
		if want := (verdict{test.outcome, test.cause}); got != want {
			t.Errorf("classify(%v, %v) = %v %v, want %v %v", test.err, test.enqueued,
				got.outcome, got.cause, want.outcome, want.cause)
		}
	}
}

// Only errors that are answered before an entry is appended may say that it was
// not applied: this list grows with a proof from Raft's source or not at all.
func TestClassifyCallsFewErrorsNotApplied(t *testing.T) {
	safe := map[error]bool{
		raft.ErrEnqueueTimeout:               true,
		raft.ErrNotLeader:                    true,
		raft.ErrLeadershipTransferInProgress: true,
	}
	for _, a := range answers {
		if a.outcome == NotApplied && !safe[a.err] {
			t.Errorf("%v is called not applied", a.err)
		}
		if a.outcome == Applied && a.err != nil {
			t.Errorf("%v is called applied", a.err)
		}
	}
}

// An upgrade of Raft that brings a new error must be looked at: every exported
// error of its source has a row in the table.
func TestClassifyKnowsEveryErrorOfRaft(t *testing.T) {
	known := map[string]bool{}
	for _, name := range exportedErrors(t, ".", "outcome.go", usedErrors) {
		known[name] = true
	}
	declared := exportedErrors(t, moduleDir(t, "github.com/hashicorp/raft"), "*.go", declaredErrors)
	if len(declared) < 10 {
		t.Fatalf("found only %d errors in Raft's source: %v", len(declared), declared)
	}
	for _, name := range declared {
		if !known[name] {
			t.Errorf("raft.%s has no row in the table of classify", name)
		}
	}
}

func TestOutcomesAndCausesHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for o := Applied; o < outcomeEnd; o++ {
		seen[o.String()] = true
	}
	for c := CauseNone; c < causeEnd; c++ {
		seen[c.String()] = true
	}
	if len(seen) != int(outcomeEnd-1)+int(causeEnd) || seen[""] {
		t.Errorf("names are missing or doubled: %v", seen)
	}
	if outcomeEnd.String() != "invalid_outcome" || causeEnd.String() != "invalid_cause" {
		t.Error("values beyond the enums have names")
	}
}

func TestRefusalsKeepTheirCause(t *testing.T) {
	for _, c := range []Cause{CauseNotLeader, CauseNotReady, CauseStopping} {
		if got := classify(refusal(c), false); got != (verdict{NotApplied, c}) {
			t.Errorf("stopped for %v, refused with %v %v", c, got.outcome, got.cause)
		}
	}
}

// moduleDir is where the module's source lies.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// exportedErrors parses the files of a directory and collects names from them.
func exportedErrors(t *testing.T, dir, pattern string, collect func(*ast.File) []string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, collect(file)...)
	}
	return names
}

// declaredErrors are the package-level variables Err….
func declaredErrors(file *ast.File) (names []string) {
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			for _, id := range spec.(*ast.ValueSpec).Names {
				if strings.HasPrefix(id.Name, "Err") {
					names = append(names, id.Name)
				}
			}
		}
	}
	return names
}

// usedErrors are the raft.Err… within the variable answers.
func usedErrors(file *ast.File) (names []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			return spec.Names[0].Name == "answers"
		}
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "raft" && strings.HasPrefix(sel.Sel.Name, "Err") {
			names = append(names, sel.Sel.Name)
		}
		return true
	})
	return names
}
