// Rules about documentation and names of what is exported, by the conventions of
// https://go.dev/doc/comment.

package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

var docRules = []rule{
	{"package comment", "write it in one file (doc.go) as \"Package name ...\"; leave a blank line between any other file's first comment and its package clause", checkPackageComment},
	{"doc comment", "begin the comment with the name: effect, unit, range, errors, concurrency; a group of constants or variables may share one", checkDocComments},
	{"field comment", "say at the field, above it or behind it, what it means: unit, range, what zero is", checkFieldComments},
	{"package name", "name the package by a noun for what it holds", checkPackageNames},
	{"internal types", "a type in a public signature lives in a public package: move it up, or hide it behind one", checkInternalTypes},
}

// packages groups the files by directory, without external tests, in order.
func (tr *tree) packages() (dirs []string, of map[string][]*file) {
	of = map[string][]*file{}
	for _, f := range tr.files {
		if strings.HasSuffix(f.Name.Name, "_test") {
			continue
		}
		if of[f.dir] == nil {
			dirs = append(dirs, f.dir)
		}
		of[f.dir] = append(of[f.dir], f)
	}
	return dirs, of
}

func checkPackageComment(tr *tree) (findings []string) {
	dirs, of := tr.packages()
	for _, dir := range dirs {
		var where []string
		for _, f := range of[dir] {
			if f.Doc == nil {
				continue
			}
			where = append(where, f.path)
			if name := f.Name.Name; name != "main" && !strings.HasPrefix(f.Doc.Text(), "Package "+name+" ") {
				findings = append(findings, fmt.Sprintf("%s: the package comment does not begin with %q", f.path, "Package "+name))
			}
		}
		if len(where) != 1 {
			findings = append(findings, fmt.Sprintf("%s: package comments in %d files %v, want one", dir, len(where), where))
		}
	}
	return findings
}

func checkPackageNames(tr *tree) (findings []string) {
	dirs, of := tr.packages()
	for _, dir := range dirs {
		switch name := of[dir][0].Name.Name; name {
		case "util", "utils", "helper", "helpers", "common", "misc", "base", "shared":
			findings = append(findings, fmt.Sprintf("%s: package %s", dir, name))
		}
	}
	return findings
}

// declared are the exported declarations of one file: each with its comment, and
// whether that has to begin with the name.
func declared(f *file, visit func(n ast.Node, name, doc string, begin bool)) {
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
				visit(d, d.Name.Name, d.Doc.Text(), true)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() {
						visit(s, s.Name.Name, s.Doc.Text()+alone(d), true)
					}
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if name.IsExported() {
							visit(s, name.Name, s.Doc.Text()+s.Comment.Text()+d.Doc.Text(), !d.Lparen.IsValid() && len(s.Names) == 1)
						}
					}
				}
			}
		}
	}
}

// alone is the comment of a declaration that is not a group.
func alone(d *ast.GenDecl) string {
	if d.Lparen.IsValid() {
		return ""
	}
	return d.Doc.Text()
}

// receiver returns the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func checkDocComments(tr *tree) (findings []string) {
	for _, f := range tr.files {
		if f.test || f.Name.Name == "main" {
			continue
		}
		declared(f, func(n ast.Node, name, doc string, begin bool) {
			if doc == "" {
				findings = append(findings, fmt.Sprintf("%s: %s has no comment", tr.at(n), name))
				return
			}
			words := strings.Fields(doc)
			if len(words) > 1 && slices.Contains([]string{"A", "An", "The"}, words[0]) {
				words = words[1:]
			}
			if begin && strings.TrimSuffix(strings.TrimRight(words[0], ",.:;"), "'s") != name {
				findings = append(findings, fmt.Sprintf("%s: the comment of %s begins with %q", tr.at(n), name, words[0]))
			}
		})
	}
	return findings
}

// checkFieldComments looks at the fields of structs that callers of a public package can
// see.
func checkFieldComments(tr *tree) (findings []string) {
	for _, f := range tr.core() {
		if isInternal(f.dir) || f.Name.Name == "main" {
			continue
		}
		f.publicTypes(func(name string, t ast.Node) {
			s, ok := t.(*ast.StructType)
			if !ok {
				return
			}
			for _, field := range s.Fields.List {
				if i := slices.IndexFunc(field.Names, (*ast.Ident).IsExported); i >= 0 && field.Doc.Text()+field.Comment.Text() == "" {
					findings = append(findings, fmt.Sprintf("%s: %s.%s has no comment", tr.at(field), name, field.Names[i].Name))
				}
			}
		})
	}
	return findings
}

func checkInternalTypes(tr *tree) (findings []string) {
	for _, f := range tr.core() {
		if isInternal(f.dir) {
			continue
		}
		f.publicTypes(func(name string, t ast.Node) {
			ast.Inspect(t, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Field: // a hidden field of a struct, or a hidden method, may be anything
					return len(n.Names) == 0 || slices.ContainsFunc(n.Names, (*ast.Ident).IsExported) || !inStruct(t, n)
				case *ast.SelectorExpr:
					pkg, ok := n.X.(*ast.Ident)
					if !ok {
						break
					}
					if dir, ok := ours(f.imports[pkg.Name]); ok && isInternal(dir) {
						findings = append(findings, fmt.Sprintf("%s: %s shows %s.%s", tr.at(n), name, pkg.Name, n.Sel.Name))
					}
				}
				return true
			})
		})
	}
	return findings
}

// isInternal reports whether only this module, or a part of it, can import a directory.
func isInternal(dir string) bool { return slices.Contains(strings.Split(dir, "/"), "internal") }

// publicTypes calls visit for the type expressions that callers of the package
// can see.
func (f *file) publicTypes(visit func(name string, t ast.Node)) {
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
				visit(d.Name.Name, d.Type)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() {
						visit(s.Name.Name, s.Type)
					}
				case *ast.ValueSpec:
					if s.Type != nil && d.Tok == token.VAR && slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
						visit(s.Names[0].Name, s.Type)
					}
				}
			}
		}
	}
}

// inStruct reports whether field belongs to a struct within t.
func inStruct(t ast.Node, field *ast.Field) (found bool) {
	ast.Inspect(t, func(n ast.Node) bool {
		if s, ok := n.(*ast.StructType); ok {
			found = found || slices.Contains(s.Fields.List, field)
		}
		return !found
	})
	return found
}

var docCases = []biteCase{
	{"package comment", "none, two, misnamed", map[string]string{
		"flow/a.go":      "package flow",
		"lb/a.go":        "// Package lb balances.\npackage lb",
		"lb/b.go":        "// Package lb also does.\npackage lb",
		"snat/a.go":      "// This is snat.\npackage snat",
		"snat/a_test.go": "// Not a package comment.\n\npackage snat_test",
	}, []string{"flow: package comments in 0", "lb: package comments in 2", "snat/a.go: the package comment does not"}},
	{"package comment", "content", map[string]string{
		"flow/doc.go":          "// Package flow tracks.\npackage flow",
		"flow/key.go":          "// Keys.\n\npackage flow",
		"examples/egress/a.go": "// Egress sends.\npackage main",
		"bench/a_test.go":      "// Package bench measures.\npackage bench",
	}, nil},
	{"package name", "util", map[string]string{"internal/util/a.go": "package util", "internal/wire/a.go": "package wire"}, []string{"internal/util"}},
	{"doc comment", "missing", map[string]string{
		"flow/a.go": strings.Join([]string{"package flow", "type T int", "func (T) M() {}", "func F() {}", "const C = 1", "var (", "V = 1", ")"}, "\n"),
	}, []string{"T has no", "M has no", "F has no", "C has no", "V has no"}},
	{"doc comment", "misnamed", map[string]string{
		"flow/a.go": "package flow\n// Returns the answer.\nfunc F() {}\n// The answer.\nconst C = 42",
	}, []string{`F begins with "Returns"`, `C begins with "answer."`}},
	{"doc comment", "content", map[string]string{
		"flow/a.go": strings.Join([]string{"package flow",
			"// The limits.", "const (", "A = 1", "B = 2", ")", "const (", "C = 1 // one", ")",
			"// A Key names a flow.", "type Key[T any] struct{}", "// Reverse turns it.", "func (*Key[T]) Reverse() {}",
			"type hidden int", "func (hidden) Len() int { return 0 }", "func unexported() {}"}, "\n"),
		"flow/a_test.go":     "package flow\nfunc F() {}",
		"examples/one/a.go":  "package main\nfunc F() {}",
		"internal/wire/a.go": "package wire\n// F acts.\nfunc F() {}",
	}, nil},
	{"field comment", "missing", map[string]string{
		"flow/a.go": "package flow\ntype T struct {\n\t// A is one.\n\tA int\n\tB int\n\tc, D int\n}",
	}, []string{"T.B has no", "T.D has no"}},
	{"field comment", "content", map[string]string{
		"flow/a.go": "package flow\ntype T struct {\n\t// A is one.\n\tA int\n\tB, C int // of each\n\tU\n\thidden int\n}\n" +
			"type u struct { A int }\ntype F func(struct{ A int })",
		"flow/a_test.go":     "package flow\ntype V struct { A int }",
		"examples/one/a.go":  "package main\ntype T struct { A int }",
		"internal/wire/a.go": "package wire\ntype T struct { A int }",
	}, nil},
	{"internal types", "signatures and fields", map[string]string{
		"flow/a.go": strings.Join([]string{"package flow", `import "` + module + `/internal/slab"`,
			"func F(s *slab.Slab) {}", "type T struct { S slab.Slab; hidden slab.Slab }", "type A = slab.ID",
			"func f(s slab.Slab) {}", "func G() { var s slab.Slab; _ = s }", "type u struct { S slab.Slab }"}, "\n"),
		"snat/internal/room/a.go": "package room\nimport \"" + module + "/internal/slab\"\nfunc F(s slab.Slab) {}",
		"snat/a.go":               "package snat\nimport \"" + module + "/snat/internal/room\"\nfunc F(r room.R) {}",
	}, []string{"F shows slab.Slab", "T shows slab.Slab", "A shows slab.ID", "F shows room.R"}},
}
