package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

const module = "github.com/seed-a61be3fe/natplane"

// tree is the module as the rules see it.
type tree struct {
	fsys  fs.FS
	fset  *token.FileSet
	texts map[string]string // every text file of the repository by path, Go files included
	files []*file           // every Go file of this module, sorted by path
}

// file is one Go file. Its room is the first element of its directory.
type file struct {
	path    string
	dir     string            // "." for the root
	room    string            // "internal", "flow", ...
	test    bool              // named *_test.go
	paths   []string          // imports, sorted
	imports map[string]string // name in this file -> import path
	*ast.File
}

// A rule finds what it forbids: one line each, beginning with where it is.
type rule struct {
	name   string
	remedy string // what to do about a finding
	check  func(*tree) []string
}

var rules = slices.Concat(importRules, callRules, docRules, enumRules, textRules, layoutRules, sizeRules)

// TestHouse applies every rule to this module.
func TestHouse(t *testing.T) {
	pkttest.OneGoroutine(t)
	tr, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) < 10 {
		t.Fatalf("found %d Go files: this is not the module's root", len(tr.files))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, finding := range r.check(tr) {
				t.Errorf("%s\n\tremedy: %s", finding, r.remedy)
			}
		})
	}
}

// TestRulesBite shows every rule sources that it must refuse, and such that it
// must not.
func TestRulesBite(t *testing.T) {
	tested := map[string]bool{}
	for _, tt := range slices.Concat(importCases, callCases, docCases, enumCases, textCases, layoutCases, sizeCases) {
		tested[tt.rule] = tested[tt.rule] || len(tt.want) > 0
		t.Run(tt.rule+"/"+tt.name, func(t *testing.T) {
			i := slices.IndexFunc(rules, func(r rule) bool { return r.name == tt.rule })
			if i < 0 {
				t.Fatalf("no rule %q", tt.rule)
			}
			fsys := fstest.MapFS{}
			for name, text := range tt.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			tr, err := load(fsys)
			if err != nil {
				t.Fatal(err)
			}
			got := rules[i].check(tr)
			if len(got) != len(tt.want) {
				t.Fatalf("findings %q, want %d", got, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("finding %q does not say %q", got[i], want)
				}
			}
		})
	}
	for _, r := range rules {
		if !tested[r.name] {
			t.Errorf("rule %q has no case that it refuses", r.name)
		}
	}
}

// biteCase is one module for one rule.
type biteCase struct {
	rule, name string
	files      map[string]string
	want       []string // a part of each finding, in order; none = the rule is content
}

// load reads and parses the module.
func load(fsys fs.FS) (*tree, error) {
	tr := &tree{fsys: fsys, fset: token.NewFileSet(), texts: map[string]string{}}
	nested := map[string]bool{} // directories of nested modules
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == ".git" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			if _, err := fs.Stat(fsys, path.Join(name, "go.mod")); err == nil && name != "." || nested[path.Dir(name)] {
				nested[name] = true
			}
			return nil
		}
		if !isText(name) || !d.Type().IsRegular() {
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		tr.texts[name] = string(text)
		if path.Ext(name) != ".go" || nested[path.Dir(name)] {
			return nil
		}
		f, err := tr.parse(name, text)
		tr.files = append(tr.files, f)
		return err
	})
	return tr, err
}

// isText reports whether the rules read a file: what people write, not data.
func isText(name string) bool {
	switch path.Ext(name) {
	case ".go", ".md", ".s", ".sh", ".mod":
		return true
	}
	return strings.HasPrefix(name, ".ci/")
}

func (tr *tree) parse(name string, text []byte) (*file, error) {
	parsed, err := parser.ParseFile(tr.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &file{path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), imports: map[string]string{}, File: parsed}
	f.room, _, _ = strings.Cut(f.dir, "/")
	for _, spec := range parsed.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		f.imports[importName(spec, to)] = to
		f.paths = append(f.paths, to)
	}
	slices.Sort(f.paths)
	return f, nil
}

// importName returns the name by which a file knows an import; where only the
// package could tell, the convention: the last element that is not a version.
func importName(spec *ast.ImportSpec, to string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	base := path.Base(to)
	if strings.HasPrefix(base, "v") && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(to))
	}
	return base
}

// at formats the position of a node.
func (tr *tree) at(n ast.Node) string { return tr.fset.Position(n.Pos()).String() }

// core yields the files that ship in the library: neither tests, nor bench and
// examples, nor the rooms that only tests use.
func (tr *tree) core() []*file {
	return slices.DeleteFunc(slices.Clone(tr.files), func(f *file) bool {
		return f.test || floors[f.room] == top || testRooms[f.dir] != ""
	})
}

// sortedTexts returns the paths of all text files in order.
func (tr *tree) sortedTexts() []string { return slices.Sorted(maps.Keys(tr.texts)) }
