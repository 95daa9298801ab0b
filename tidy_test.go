package stockade_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// These tests check the repository instead of the program: what a reviewer
// would otherwise have to repeat. Every checker takes its material as an
// argument and returns what it found, so that TestCheckersFindBadSamples can
// show of each one that it does find something.

// sourceFile is one Go file, parsed.
type sourceFile struct {
	path      string // from the root, with slashes
	text      []byte
	fset      *token.FileSet
	tree      *ast.File
	isTest    bool
	generated bool
}

// textFile is any file a human wrote.
type textFile struct {
	path string
	text []byte
}

func parseSource(path string, text []byte) (*sourceFile, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, path, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &sourceFile{
		path: path, text: text, fset: fset, tree: tree,
		isTest:    strings.HasSuffix(path, "_test.go"),
		generated: ast.IsGenerated(tree),
	}, nil
}

// at gives a node's place as file:line.
func (f *sourceFile) at(n ast.Node) string {
	return f.fset.Position(n.Pos()).String()
}

// skippedDirs hold nothing that was written for this repository.
var skippedDirs = []string{".git", ".cache", "bin", "vendor"}

// maxTextSize skips files that nobody reads as text, such as recorded data.
const maxTextSize = 1 << 20

// repository reads every text file below the root.
func repository(t *testing.T) []textFile {
	t.Helper()
	var files []textFile
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(skippedDirs, entry.Name()) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil // .git is a file in a work tree beside the first
		}
		if entry.IsDir() {
			return nil
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxTextSize {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && !bytes.ContainsRune(text, 0) {
			files = append(files, textFile{filepath.ToSlash(path), text})
		}
		return err
	})
	if err != nil {
		t.Fatalf("read the repository: %v", err)
	}
	if len(files) == 0 {
		t.Fatal("no files found: the test must run in the root of the repository")
	}
	return files
}

// goSources parses the Go files among files.
func goSources(t *testing.T, files []textFile) []*sourceFile {
	t.Helper()
	var sources []*sourceFile
	for _, f := range files {
		if !strings.HasSuffix(f.path, ".go") || strings.Contains(f.path, "testdata/") {
			continue
		}
		source, err := parseSource(f.path, f.text)
		if err != nil {
			t.Errorf("parse: %v", err)
			continue
		}
		sources = append(sources, source)
	}
	return sources
}

func report(t *testing.T, findings []string) {
	t.Helper()
	for _, finding := range findings {
		t.Error(finding)
	}
}

func TestComments(t *testing.T) {
	sources := goSources(t, repository(t))
	report(t, checkPackageComments(sources))
	for _, source := range sources {
		report(t, checkExportedComments(source))
	}
}

func TestSizes(t *testing.T) {
	for _, source := range goSources(t, repository(t)) {
		report(t, checkFileLength(source))
		report(t, checkFunctions(source))
		for _, remark := range remarkParameters(source) {
			t.Log(remark)
		}
	}
}

func TestNoLeftovers(t *testing.T) {
	files := repository(t)
	for _, source := range goSources(t, files) {
		report(t, checkMarkers(source))
		report(t, checkPrints(source))
		report(t, checkSkips(source))
		report(t, checkSleeps(source))
		report(t, checkBubbles(source))
	}
	for _, f := range files {
		report(t, checkPlaces(f))
	}
}

func TestDocumentLinks(t *testing.T) {
	for _, f := range repository(t) {
		report(t, checkLinks(f, func(path string) bool {
			_, err := os.Stat(filepath.FromSlash(path))
			return err == nil
		}))
	}
}
