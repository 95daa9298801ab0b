package allocator_test

// Determinism as a build rule: what the package may import, and the constructs
// that would make two replicas differ or that only a clock or scheduler needs.

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// pure are the imports allowed to the state machine: no clock, no randomness,
// no system, no goroutines. "maps" is missing because its iterators have no
// order, "hash/maphash" because its seed differs in every process.
var pure = map[string]bool{
	"bufio": true, "bytes": true, "cmp": true, "encoding/binary": true, "errors": true, "fmt": true,
	"hash": true, "hash/crc32": true, "hash/crc64": true, "hash/fnv": true, "io": true, "iter": true,
	"math": true, "math/bits": true, "slices": true, "sort": true, "strconv": true, "strings": true,
	"unicode/utf8": true,
}

// sources parses the package without its tests.
func sources(t *testing.T) (*token.FileSet, []*ast.File) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if len(files) < 5 {
		t.Fatalf("only %d source files found: is this the package's directory?", len(files))
	}
	return fset, files
}

func TestImportsArePure(t *testing.T) {
	fset, files := sources(t)
	for _, f := range files {
		for _, imp := range f.Imports {
			if path, err := strconv.Unquote(imp.Path.Value); err != nil || !pure[path] {
				t.Errorf("%v imports %s, which is not on the list of pure packages", fset.Position(imp.Pos()), imp.Path.Value)
			}
			if imp.Name != nil {
				t.Errorf("%v renames %s", fset.Position(imp.Pos()), imp.Path.Value)
			}
		}
	}
}

func TestNoOrderOrScheduleLeaksIn(t *testing.T) {
	fset, files := sources(t)
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	conf := types.Config{Importer: importer.Default()}
	if _, err := conf.Check("stockade/allocator", fset, files, info); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil {
				return true
			}
			if why := forbidden(n, info); why != "" {
				t.Errorf("%v: %s", fset.Position(n.Pos()), why)
			}
			return true
		})
	}
}

// forbidden says what is wrong with a node, if anything is.
func forbidden(n ast.Node, info *types.Info) string {
	switch n := n.(type) {
	case *ast.RangeStmt:
		if under, ok := info.TypeOf(n.X).Underlying().(*types.Map); ok {
			return fmt.Sprintf("a range over %v has no order", under)
		}
	case *ast.GoStmt:
		return "a goroutine in the state machine"
	case *ast.SelectStmt:
		return "a select in the state machine"
	case *ast.ChanType:
		return "a channel in the state machine"
	case *ast.Comment:
		if strings.HasPrefix(n.Text, "//go:linkname") {
			return "go:linkname reaches around the import list"
		}
	case *ast.FuncDecl:
		if n.Name.Name == "init" && n.Recv == nil {
			return "an init function: hidden order"
		}
	}
	return ""
}
