package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// root is the module.
const root = "../.."

// Names of tests of rows: of what a NAT has to do, and of what Azure does.
var (
	named      = regexp.MustCompile(`^TestNAT_([A-Z]\d+[a-z]?)_([A-Z][A-Za-z]\w*)$`)
	anyTest    = regexp.MustCompile(`^(Test\w+)$`)
	namedAzure = regexp.MustCompile(`^TestAzureRow_(\d+(?:_\d+)?_[A-Za-z][A-Za-z0-9]*)(?:_\w+)?$`)
)

// proof is a test of a row.
type proof struct {
	name, at string
	body     *ast.BlockStmt
	dir      map[string]*ast.FuncDecl // functions of its directory by name
}

// proofs returns the tests of the module whose names begin with a prefix, by row. Those with
// a name that fits no row are under "".
func proofs(t *testing.T, prefix string, named *regexp.Regexp) map[string][]proof {
	t.Helper()
	fset := token.NewFileSet()
	dirs := map[string]map[string]*ast.FuncDecl{}
	var found []proof
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git") {
			return cmpErr(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path.Join(root, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if dirs[dir] == nil {
			dirs[dir] = map[string]*ast.FuncDecl{}
		}
		found = append(found, testsOf(fset, f, prefix, dirs[dir])...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return byRow(found, named)
}

// testsOf returns the functions of a file whose names begin with a prefix, and adds all of them to
// those of its directory.
func testsOf(fset *token.FileSet, f *ast.File, prefix string, dir map[string]*ast.FuncDecl) (tests []proof) {
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Recv != nil {
			continue
		}
		dir[fn.Name.Name] = fn
		if strings.HasPrefix(fn.Name.Name, prefix) {
			tests = append(tests, proof{fn.Name.Name, fset.Position(fn.Pos()).String(), fn.Body, dir})
		}
	}
	return tests
}

// byRow sorts tests by the row that their names say, "" if none.
func byRow(tests []proof, named *regexp.Regexp) map[string][]proof {
	rows := map[string][]proof{}
	for _, p := range tests {
		id := ""
		if m := named.FindStringSubmatch(p.name); m != nil {
			id = m[1]
		}
		rows[id] = append(rows[id], p)
	}
	return rows
}

// cmpErr is err, or the wish to skip a directory if there is none.
func cmpErr(err error) error {
	if err == nil {
		err = fs.SkipDir
	}
	return err
}

// skips reports whether the test does nothing but skip itself: it has a call of
// t.Skip among its outermost statements, or no statement at all.
func (p proof) skips() bool {
	return len(p.body.List) == 0 || slices.ContainsFunc(p.body.List, func(s ast.Stmt) bool {
		e, ok := s.(*ast.ExprStmt)
		if !ok {
			return false
		}
		call, ok := e.X.(*ast.CallExpr)
		if !ok {
			return false
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		return ok && strings.HasPrefix(sel.Sel.Name, "Skip")
	})
}

// says reports whether the name of a subtest, or a part of it, is written in the
// test or in a function of its package that it calls.
func (p proof) says(text string) bool {
	name, seen := regexp.MustCompile(`(^|[ /])`+text+`($|[ ,/])`), map[string]bool{}
	var in func(n ast.Node) bool
	in = func(n ast.Node) (found bool) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				s, err := strconv.Unquote(n.Value)
				found = found || n.Kind == token.STRING && err == nil && name.MatchString(s)
			case *ast.Ident:
				if fn := p.dir[n.Name]; fn != nil && fn.Body != nil && !seen[n.Name] {
					seen[n.Name] = true
					found = found || in(fn.Body)
				}
			}
			return !found
		})
		return found
	}
	return in(p.body)
}

// TestRegister demands of every row that it says what it has to.
func TestRegister(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range Register() {
		for _, r := range g.Rows {
			if seen[r.ID] {
				t.Errorf("%s: twice in the register", r.ID)
			}
			seen[r.ID] = true
			if !named.MatchString("TestNAT_" + r.ID + "_Slug") {
				t.Errorf("%s: no test can have this name", r.ID)
			}
			if r.ID[0] != g.Rows[0].ID[0] {
				t.Errorf("%s: not of the group %q", r.ID, g.Title)
			}
			if r.Source == "" || r.Text == "" || !strings.HasSuffix(r.Text, ".") {
				t.Errorf("%s: no source, or no sentence", r.ID)
			}
			if !slices.Contains([]Level{Must, MustNot, Should, ShouldNot, May, Rule, Ours}, r.Level) {
				t.Errorf("%s: level %q", r.ID, r.Level)
			}
			switch r.Fit {
			case All, Option:
				if r.Why != "" {
					t.Errorf("%s: why, if it is met?", r.ID)
				}
			case Deviates, OutOfScope:
				if !strings.HasSuffix(r.Why, ".") {
					t.Errorf("%s: no reason", r.ID)
				}
			default:
				t.Errorf("%s: fit %q", r.ID, r.Fit)
			}
		}
	}
}

// TestProven demands a test of every row but those that are left out.
func TestProven(t *testing.T) {
	pkttest.OneGoroutine(t)
	found := proofs(t, "TestNAT_", named)
	for _, p := range found[""] {
		t.Errorf("%s: %s names no row: TestNAT_<ID>_<Slug>", p.at, p.name)
	}
	delete(found, "")
	for _, g := range Register() {
		for _, r := range g.Rows {
			if err := judge(r, found[r.ID]); err != nil {
				t.Error(err)
			}
			delete(found, r.ID)
		}
	}
	for id, tests := range found {
		for _, p := range tests {
			t.Errorf("%s: %s: there is no row %s", p.at, p.name, id)
		}
	}
}

// judge tells what a row's tests leave to be desired.
func judge(r Row, tests []proof) error {
	for _, p := range tests {
		if p.skips() {
			return fmt.Errorf("%s: %s only skips", p.at, p.name)
		}
	}
	switch {
	case r.Fit == OutOfScope && len(tests) > 0:
		return fmt.Errorf("%s: %s tests %s, which is left out", tests[0].at, tests[0].name, r.ID)
	case r.Fit == OutOfScope:
		return nil
	case len(tests) == 0:
		return fmt.Errorf("%s: no test TestNAT_%s_<Slug>: %s", r.ID, r.ID, r.Text)
	case r.Fit == Deviates && !slices.ContainsFunc(tests, func(p proof) bool { return p.says("rfc") && p.says("azure") }):
		return fmt.Errorf("%s: no test has subtests rfc and azure: %s", r.ID, r.Why)
	}
	return nil
}

// TestJudge shows what is not taken for a proof.
func TestJudge(t *testing.T) {
	const source = `package p
func TestNAT_A1_Empty(t *testing.T) {}
func TestNAT_A1_Skips(t *testing.T) { t.Log("soon"); t.Skip("never") }
func TestNAT_A1_Sometimes(t *testing.T) { if testing.Short() { t.Skip() }; t.Run("rfc", f) }
func TestNAT_A1_Both(t *testing.T) { both(t) }
func both(t *testing.T) { t.Run("rfc", f); t.Run("azure", f); both(t) }
`
	all := parsed(t, source)
	tests := func(slugs ...string) (ps []proof) {
		for _, slug := range slugs {
			i := slices.IndexFunc(all, func(p proof) bool { return p.name == "TestNAT_A1_"+slug })
			ps = append(ps, all[i])
		}
		return ps
	}
	for _, tt := range []struct {
		fit  Fit
		ps   []proof
		want string
	}{
		{All, nil, "no test TestNAT_A1_"},
		{All, tests("Empty"), "only skips"},
		{All, tests("Both", "Skips"), "only skips"},
		{All, tests("Sometimes"), ""},
		{Deviates, tests("Sometimes"), "no test has subtests"},
		{Deviates, tests("Sometimes", "Both"), ""},
		{OutOfScope, nil, ""},
		{OutOfScope, tests("Both"), "left out"},
	} {
		got := fmt.Sprint(judge(Row{ID: "A1", Fit: tt.fit}, tt.ps))
		if tt.want == "" && got != "<nil>" || !strings.Contains(got, tt.want) {
			t.Errorf("%s with %d tests: %s, want %q", tt.fit, len(tt.ps), got, tt.want)
		}
	}
}

// parsed returns the tests of a file.
func parsed(t *testing.T, source string) []proof {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "a_test.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return testsOf(fset, f, "Test", map[string]*ast.FuncDecl{})
}
