package stockade_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The marks at which to stop and think. A function or file that is longer for a
// good reason goes into the exceptions, with the reason.
const (
	maxFunctionLines = 70  // a screen
	maxFileLines     = 500 // what one can keep in mind while reading
	maxParameters    = 5   // more want a struct; from usualParameters on it is remarked
	usualParameters  = 4
)

// sizeExceptions names what may be longer: "path" for a file, "path:function"
// for a function, each with the reason.
var sizeExceptions = map[string]string{
	"shard/snapshots.go:Create": "the signature is that of raft.SnapshotStore",
}

// checkPackageComments asks for one comment per package that begins as godoc
// wants it, so that a newcomer finds a first sentence about each.
func checkPackageComments(sources []*sourceFile) []string {
	commented := make(map[string]bool)
	for _, f := range sources {
		if f.isTest {
			continue
		}
		dir, name := path.Dir(f.path), f.tree.Name.Name
		start := "Package " + name + " "
		if name == "main" {
			start = "Command " + path.Base(dir) + " "
		}
		commented[dir] = commented[dir] || strings.HasPrefix(f.tree.Doc.Text(), start)
	}
	var findings []string
	for dir, ok := range commented {
		if !ok {
			findings = append(findings, dir+": no file has a package comment (\"Package name …\", for a program \"Command name …\")")
		}
	}
	slices.Sort(findings)
	return findings
}

// checkExportedComments asks for a comment on everything exported: on it, or for
// constants and variables on their group.
func checkExportedComments(f *sourceFile) []string {
	if f.isTest || f.generated || f.tree.Name.Name == "main" {
		return nil
	}
	var findings []string
	missing := func(n ast.Node, name string) {
		findings = append(findings, fmt.Sprintf("%s: %s is exported and has no comment", f.at(n), name))
	}
	for _, decl := range f.tree.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Doc == nil && decl.Name.IsExported() && exportedReceiver(decl) {
				missing(decl, decl.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				if name := bareExport(decl, spec); name != "" {
					missing(spec, name)
				}
			}
		}
	}
	return findings
}

// exportedReceiver tells whether a function is one that others can call: not a
// method of a type they can't name.
func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return true
	}
	t := fn.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if index, ok := t.(*ast.IndexExpr); ok {
		t = index.X
	}
	name, ok := t.(*ast.Ident)
	return ok && name.IsExported()
}

// bareExport is the exported name of a declaration that has no comment.
func bareExport(group *ast.GenDecl, spec ast.Spec) string {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && spec.Doc == nil && group.Doc == nil {
			return spec.Name.Name
		}
	case *ast.ValueSpec:
		name := spec.Names[0]
		if name.IsExported() && spec.Doc == nil && spec.Comment == nil && group.Doc == nil && !enumerated(group) {
			return name.Name
		}
	}
	return ""
}

// enumerated tells whether a group's constants follow on each other. The name of
// the first, or the type, then says enough for those whose names do.
func enumerated(group *ast.GenDecl) bool {
	first, ok := group.Specs[0].(*ast.ValueSpec)
	return ok && group.Tok == token.CONST && first.Type != nil && len(group.Specs) > 1
}

func checkFileLength(f *sourceFile) []string {
	lines := bytes.Count(f.text, []byte("\n"))
	if f.isTest || f.generated || lines <= maxFileLines || sizeExceptions[f.path] != "" {
		return nil
	}
	return []string{fmt.Sprintf("%s: %d lines, the mark is %d: split it by subject", f.path, lines, maxFileLines)}
}

// checkFunctions finds functions that are too long or take too much.
func checkFunctions(f *sourceFile) []string {
	var findings []string
	forFunctions(f, func(fn *ast.FuncDecl) {
		if sizeExceptions[f.path+":"+fn.Name.Name] != "" {
			return
		}
		lines := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
		if lines > maxFunctionLines {
			findings = append(findings, fmt.Sprintf("%s: %s has %d lines, the mark is %d", f.at(fn), fn.Name.Name, lines, maxFunctionLines))
		}
		if n := fn.Type.Params.NumFields(); n > maxParameters {
			findings = append(findings, fmt.Sprintf("%s: %s takes %d parameters, at most %d", f.at(fn), fn.Name.Name, n, maxParameters))
		}
	})
	return findings
}

// remarkParameters names functions that take more than usual and not too much.
func remarkParameters(f *sourceFile) []string {
	var remarks []string
	forFunctions(f, func(fn *ast.FuncDecl) {
		if n := fn.Type.Params.NumFields(); n > usualParameters && n <= maxParameters {
			remarks = append(remarks, fmt.Sprintf("%s: %s takes %d parameters: would a struct say more?", f.at(fn), fn.Name.Name, n))
		}
	})
	return remarks
}

// forFunctions visits the functions whose size matters: not those of tests,
// where a table may be long, and not generated ones.
func forFunctions(f *sourceFile, visit func(*ast.FuncDecl)) {
	if f.isTest || f.generated {
		return
	}
	for _, decl := range f.tree.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok {
			visit(fn)
		}
	}
}

// marker matches the words that mark unfinished work. They are put together
// here so that this file does not hold them.
var marker = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"}, "|") + `)\b`)

func checkMarkers(f *sourceFile) []string {
	if f.generated {
		return nil
	}
	var findings []string
	for _, group := range f.tree.Comments {
		if found := marker.FindString(group.Text()); found != "" {
			findings = append(findings, fmt.Sprintf("%s: %s: do it, or write an issue", f.at(group), found))
		}
	}
	return findings
}

// checkPrints finds output that goes round the logger and the writers that
// commands are given. Examples print by design.
func checkPrints(f *sourceFile) []string {
	if f.generated || f.isTest && strings.HasSuffix(f.path, "example_test.go") {
		return nil
	}
	var findings []string
	forCalls(f, func(call *ast.CallExpr) {
		switch name := calledName(call); name {
		case "fmt.Print", "fmt.Printf", "fmt.Println", "print", "println":
			findings = append(findings, fmt.Sprintf("%s: %s: log it, or write to the given writer", f.at(call), name))
		}
	})
	return findings
}

// checkSkips finds skipped tests that don't say why.
func checkSkips(f *sourceFile) []string {
	var findings []string
	forCalls(f, func(call *ast.CallExpr) {
		name := calledName(call)
		_, method, _ := strings.Cut(name, ".")
		if f.isTest && (method == "SkipNow" || method == "Skip" && len(call.Args) == 0) {
			findings = append(findings, f.at(call)+": a skipped test says why")
		}
	})
	return findings
}

// checkSleeps finds tests that wait by the clock. In a file that uses
// bubbles a sleep takes no time and is exact.
func checkSleeps(f *sourceFile) []string {
	if !f.isTest || imports(f, "testing/synctest") || imports(f, module+"/shard/bubble") {
		return nil
	}
	return forbidCall(f, "time.Sleep", "wait for the event, or use shard/bubble")
}

// checkBubbles finds bubbles in which the race detector may end the process.
func checkBubbles(f *sourceFile) []string {
	if !f.isTest {
		return nil
	}
	return forbidCall(f, "synctest.Test", "use shard/bubble, which says why")
}

func forbidCall(f *sourceFile, name, instead string) []string {
	var findings []string
	forCalls(f, func(call *ast.CallExpr) {
		if calledName(call) == name {
			findings = append(findings, f.at(call)+": "+instead)
		}
	})
	return findings
}

func imports(f *sourceFile, path string) bool {
	return slices.ContainsFunc(f.tree.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
}

func forCalls(f *sourceFile, visit func(*ast.CallExpr)) {
	ast.Inspect(f.tree, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			visit(call)
		}
		return true
	})
}

// calledName spells what a call calls, as far as it is a name or x.name.
func calledName(call *ast.CallExpr) string {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		return fn.Name
	case *ast.SelectorExpr:
		if x, ok := fn.X.(*ast.Ident); ok {
			return x.Name + "." + fn.Sel.Name
		}
	}
	return ""
}
