// The rule about the names of enumerations: a constant without a name does not
// compile.

package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
)

var enumRules = []rule{
	{"name lists", "say of a list of texts that stands for constants how long it must be: var _ = [1]struct{}{}[len(names)-int(count)]", checkNameLists},
	{"names of constants", "end the constants with an unexported count, keep the names in an array, and say var _ = [1]struct{}{}[len(names)-int(count)]", checkEnumNames},
}

// counts finds the constants of each type that begin with iota: the name of the
// type, and that of the last constant that counts on.
func counts(f *file, visit func(n ast.Node, enum, last string)) {
	for _, decl := range f.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			continue
		}
		enum, last := "", ""
		for _, spec := range d.Specs {
			switch s := spec.(*ast.ValueSpec); {
			case len(s.Values) == 0:
				last = s.Names[0].Name
			case isIota(s):
				if t, ok := s.Type.(*ast.Ident); ok {
					enum, last = t.Name, s.Names[0].Name
				}
			case enum != "":
				visit(d, enum, last)
				enum = ""
			}
		}
		if enum != "" {
			visit(d, enum, last)
		}
	}
}

func isIota(s *ast.ValueSpec) bool {
	v, ok := s.Values[0].(*ast.Ident)
	return ok && v.Name == "iota"
}

// asserted finds the lists that have to be as long as a count says: the name of the
// list, and that of the count.
func asserted(f *file, visit func(list, count string)) {
	ast.Inspect(f.File, func(n ast.Node) bool {
		index, ok := n.(*ast.IndexExpr)
		if !ok {
			return true
		}
		difference, ok := index.Index.(*ast.BinaryExpr)
		if _, isLit := index.X.(*ast.CompositeLit); !ok || !isLit || difference.Op != token.SUB {
			return true
		}
		of := func(e ast.Expr, function string) string {
			if call, ok := e.(*ast.CallExpr); ok && len(call.Args) == 1 {
				fun, isFun := call.Fun.(*ast.Ident)
				if arg, isArg := call.Args[0].(*ast.Ident); isFun && isArg && fun.Name == function {
					return arg.Name
				}
			}
			return ""
		}
		if list, count := of(difference.X, "len"), of(difference.Y, "int"); list != "" && count != "" {
			visit(list, count)
		}
		return true
	})
}

func checkEnumNames(tr *tree) (findings []string) {
	type name struct{ dir, name string }
	last, lists := map[name]string{}, map[name]string{}
	for _, f := range tr.core() {
		counts(f, func(_ ast.Node, enum, l string) { last[name{f.dir, enum}] = l })
		asserted(f, func(list, count string) { lists[name{f.dir, list}] = count })
	}
	for _, f := range tr.core() {
		for _, decl := range f.Decls {
			d, ok := decl.(*ast.FuncDecl)
			if !ok || d.Recv == nil || d.Name.Name != "String" {
				continue
			}
			enum := receiver(d)
			count, ok := last[name{f.dir, enum}]
			if !ok {
				continue
			}
			checked := false
			ast.Inspect(d.Body, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && lists[name{f.dir, id.Name}] == count {
					checked = true
				}
				return true
			})
			if !checked {
				findings = append(findings, fmt.Sprintf("%s: the names of %s are no list that must be as long as %s says", tr.at(d), enum, count))
			}
		}
	}
	return findings
}

// checkNameLists finds package-level lists of texts, [...]string, whose length nothing
// asserts.
func checkNameLists(tr *tree) (findings []string) {
	lists := map[[2]string]bool{} // directory and list
	for _, f := range tr.core() {
		asserted(f, func(list, _ string) { lists[[2]string{f.dir, list}] = true })
	}
	for _, f := range tr.core() {
		for _, decl := range f.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				s := spec.(*ast.ValueSpec)
				for i, v := range s.Values {
					if isTextList(v) && i < len(s.Names) && !lists[[2]string{f.dir, s.Names[i].Name}] {
						findings = append(findings, fmt.Sprintf("%s: nothing says how long %s must be", tr.at(s.Names[i]), s.Names[i].Name))
					}
				}
			}
		}
	}
	return findings
}

// isTextList reports whether an expression is a [...]string{..}.
func isTextList(e ast.Expr) bool {
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		return false
	}
	array, ok := lit.Type.(*ast.ArrayType)
	if !ok {
		return false
	}
	_, open := array.Len.(*ast.Ellipsis)
	elt, isIdent := array.Elt.(*ast.Ident)
	return open && isIdent && elt.Name == "string"
}

var enumCases = []biteCase{
	{"name lists", "one that nothing measures", map[string]string{
		"flow/a.go":      "package flow\nvar names = [...]string{\"a\"}\nvar ok = [...]string{\"b\"}\nvar _ = [1]struct{}{}[len(ok)-int(n)]\nvar other = []string{\"c\"}",
		"flow/a_test.go": "package flow\nvar t = [...]string{\"a\"}",
	}, []string{"flow/a.go:2:5: nothing says how long names must be"}},
	{"names of constants", "a list that may be too short", map[string]string{
		"flow/a.go": "package flow\ntype e uint8\nconst (\n\ta e = iota\n\tb\n\tnumE\n)\nvar names = [numE]string{\"a\"}\nfunc (x e) String() string { return names[x] }",
	}, []string{"flow/a.go:9:1: the names of e are no list that must be as long as numE"}},
	{"names of constants", "a switch", map[string]string{
		"flow/a.go": "package flow\ntype e uint8\nconst (\n\ta e = iota\n\tb\n)\nfunc (x e) String() string { if x == a { return \"a\" }; return \"b\" }",
	}, []string{"the names of e are no list that must be as long as b"}},
	{"names of constants", "a count that is not the last", map[string]string{
		"flow/a.go": "package flow\ntype e uint8\nconst (\n\ta e = iota\n\tnumE\n\tb\n)\n" + namedByList,
	}, []string{"as long as b says"}},
	{"names of constants", "as they should be", map[string]string{
		"flow/a.go": "package flow\ntype e uint8\nconst (\n\ta e = iota\n\tb\n\tnumE\n\n\tmask e = 7\n)\n" + namedByList,
		"flow/b.go": "package flow\ntype size int\nconst big size = 9\nfunc (s size) String() string { return \"\" }",
	}, nil},
}

const namedByList = "var names = [...]string{\"a\"}\nvar _ = [1]struct{}{}[len(names)-int(numE)]\nfunc (x e) String() string { return names[x] }"
