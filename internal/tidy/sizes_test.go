// Rules about sizes: what of a package, a file and a function can be read, and the
// exceptions, each with a reason. An exception that is larger than needed is a finding
// too, so that they shrink.

package tidy

import (
	"fmt"
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// The most lines of a package, of a file and of a function, tests apart, and of what
// go doc prints about a package.
const (
	maxPackage = 6000
	maxFile    = 500
	maxFunc    = 80
	maxDoc     = 300
)

// Exceptions to these, by directory, file, and file and function.
var (
	longFiles = map[string]string{
		"snat/requirements/requirements.go": "a register, without code",
	}
	longFuncs = map[string]string{
		"examples/egress/internal/story/story.go simulate": "the order in which a run is set up and told about",
		"examples/gateway/options.go parseOptions":         "one flag after the other",
		"snat/internal/ports/invariants_on.go Check":       "one invariant after the other",
		"snat/internal/ports/pick.go free":                 "one search with the cases of every choice",
	}
	longDocs = map[string]int{
		"snat/requirements": 525, // a register that is read as documentation
	}
)

var sizeRules = []rule{
	{"package size", "move a concept with state of its own into a package below", checkPackageSize},
	{"long files", "split the file by concept, or list it with a reason; take exceptions off that are no longer needed", checkLongFiles},
	{"long functions", "split the function by steps that have names, or list it with a reason; take exceptions off that are no longer needed", checkLongFuncs},
	{"inventories", "ask package snat/internal/ports; what kind of ports there are is its business", checkInventories},
}

// lines returns the number of lines of a file.
func (tr *tree) lines(f *file) int { return strings.Count(tr.texts[f.path], "\n") }

// exists reports whether the tree has a directory with Go files, or a file.
func (tr *tree) exists(name string) bool {
	return slices.ContainsFunc(tr.files, func(f *file) bool { return f.path == name || f.dir == name })
}

func checkPackageSize(tr *tree) (findings []string) {
	dirs, of := tr.packages()
	for _, dir := range dirs {
		n := 0
		for _, f := range of[dir] {
			if !f.test {
				n += tr.lines(f)
			}
		}
		if n > maxPackage {
			findings = append(findings, fmt.Sprintf("%s: %d lines, limit %d", dir, n, maxPackage))
		}
	}
	return findings
}

func checkLongFiles(tr *tree) (findings []string) {
	needed := map[string]bool{}
	for _, f := range tr.files {
		if n := tr.lines(f); !f.test && n > maxFile {
			needed[f.path] = true
			if longFiles[f.path] == "" {
				findings = append(findings, fmt.Sprintf("%s: %d lines, limit %d", f.path, n, maxFile))
			}
		}
	}
	return append(findings, tr.needless(longFiles, needed)...)
}

// needless finds exceptions that nothing needs, of files that there are.
func (tr *tree) needless(exceptions map[string]string, needed map[string]bool) (findings []string) {
	for name := range exceptions {
		if path, _, _ := strings.Cut(name, " "); !needed[name] && tr.exists(filepath.ToSlash(filepath.Dir(path))) {
			findings = append(findings, name+": an exception that nothing needs")
		}
	}
	slices.Sort(findings)
	return findings
}

func checkLongFuncs(tr *tree) (findings []string) {
	needed := map[string]bool{}
	for _, f := range tr.files {
		for _, decl := range f.Decls {
			d, ok := decl.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			name := f.path + " " + d.Name.Name
			if n := tr.fset.Position(d.End()).Line - tr.fset.Position(d.Pos()).Line + 1; n > maxFunc {
				needed[name] = true
				if longFuncs[name] == "" {
					findings = append(findings, fmt.Sprintf("%s: %d lines, limit %d", name, n, maxFunc))
				}
			}
		}
	}
	return append(findings, tr.needless(longFuncs, needed)...)
}

// checkInventories finds comparisons of an inventory with nil outside of the room that
// has it.
func checkInventories(tr *tree) (findings []string) {
	for _, f := range tr.core() {
		if f.dir == "snat/internal/ports" {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			cmp, ok := n.(*ast.BinaryExpr)
			if !ok {
				return true
			}
			if y, ok := cmp.Y.(*ast.Ident); !ok || y.Name != "nil" {
				return true
			}
			name := ""
			switch x := cmp.X.(type) {
			case *ast.Ident:
				name = x.Name
			case *ast.SelectorExpr:
				name = x.Sel.Name
			}
			if strings.EqualFold(name, "inventory") {
				findings = append(findings, tr.at(n)+": "+name+" compared with nil")
			}
			return true
		})
	}
	return findings
}

// docLines returns how many lines go doc prints about the package of a directory.
func docLines(t *testing.T, dir string) int {
	t.Helper()
	cmd := exec.Command("go", "doc", ".")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go doc in %s: %v", dir, err)
	}
	return strings.Count(string(out), "\n")
}

// judgeDoc says what is wrong with the length of a package's documentation.
func judgeDoc(dir string, n int) string {
	limit, excepted := longDocs[dir]
	if !excepted {
		limit = maxDoc
	}
	switch {
	case n > limit:
		return fmt.Sprintf("go doc of %s prints %d lines, limit %d", dir, n, limit)
	case excepted && n < limit*9/10:
		return fmt.Sprintf("go doc of %s prints %d lines, its exception of %d is larger than needed", dir, n, limit)
	}
	return ""
}

// TestDocumentationCanBeRead asks go doc about every public package.
func TestDocumentationCanBeRead(t *testing.T) {
	pkttest.OneGoroutine(t)
	tr, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	dirs, _ := tr.packages()
	for _, dir := range dirs {
		if floors[strings.Split(dir, "/")[0]] == top || strings.Contains("/"+dir+"/", "/internal/") {
			continue
		}
		if bad := judgeDoc(dir, docLines(t, filepath.Join("../..", dir))); bad != "" {
			t.Errorf("%s\n\tremedy: hide what users do without, or move it to a package of its own", bad)
		}
	}
}

// The rule about documentation bites.
func TestDocumentationRuleBites(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example.org/long\n\ngo 1.26\n")
	write("long.go", "// Package long says much.\n"+strings.Repeat("//\n// And more.\n", maxDoc)+"package long\n")
	n := docLines(t, dir)
	for _, tt := range []struct {
		dir  string
		n    int
		want string
	}{
		{"long", n, "limit 300"}, {"long", maxDoc, ""}, {"snat/requirements", 525, ""},
		{"snat/requirements", 526, "limit 525"}, {"snat/requirements", 200, "larger than needed"},
	} {
		if got := judgeDoc(tt.dir, tt.n); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s of %d lines: %q, want %q", tt.dir, tt.n, got, tt.want)
		}
	}
}

var sizeCases = []biteCase{
	{"package size", "too large, and just so", map[string]string{
		"flow/a.go": "package flow" + strings.Repeat("\n", maxPackage+1), "flow/a_test.go": "package flow" + strings.Repeat("\n", maxPackage),
		"lb/a.go": "package lb" + strings.Repeat("\n", maxPackage-1), "lb/b.go": "package lb\n",
	}, []string{"flow: 6001 lines"}},
	{"long files", "one that is, and one with a reason", map[string]string{
		"flow/a.go": "package flow" + strings.Repeat("\n", maxFile+1), "flow/b.go": "package flow" + strings.Repeat("\n", maxFile),
		"snat/requirements/requirements.go": "package requirements" + strings.Repeat("\n", maxFile+1),
	}, []string{"flow/a.go: 501 lines"}},
	{"long files", "a reason for nothing", map[string]string{
		"snat/requirements/a.go": "package requirements\n",
	}, []string{"requirements.go: an exception"}},
	{"long functions", "one that is, one with a reason, and a reason for nothing", map[string]string{
		"lb/a.go": "package lb\nfunc f() {" + strings.Repeat("\n", maxFunc) + "}\nfunc g() {" + strings.Repeat("\n", maxFunc-1) + "}",
		"examples/egress/internal/story/story.go": "package story\nfunc simulate() {" + strings.Repeat("\n", maxFunc) + "}",
		"examples/gateway/a.go":                   "package main",
	}, []string{"lb/a.go f: 81 lines", "options.go parseOptions: an exception"}},
	{"inventories", "asked for", map[string]string{
		"snat/a.go":                "package snat\nvar a = n.inventory != nil\nvar b = nil == 3\nvar c = n.other != nil",
		"snat/b.go":                "package snat\nfunc f() bool { return Inventory == nil }",
		"snat/internal/ports/a.go": "package ports\nvar a = n.inventory != nil",
	}, []string{"snat/a.go:2:9: inventory", "snat/b.go:2:24: Inventory"}},
}
