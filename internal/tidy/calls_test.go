// Rules about calls: no clock, no chance beyond the seed, no goroutines, no
// output, in the packages that ship.

package tidy

import (
	"fmt"
	"go/ast"
	"strings"
)

const (
	useTime  = "take now flow.Time as an argument"
	useSeed  = "draw from the *rand.Rand seeded by the configuration"
	useEmit  = "tell the caller when to come back (NextDeadline, Advance)"
	useValue = "return the text, or append it to the caller's buffer"
)

// banned lists functions by import path, each with what to do instead.
var banned = map[string]map[string]string{
	"time": {
		"Now": useTime, "Since": useTime, "Until": useTime,
		"Sleep": useEmit, "After": useEmit, "AfterFunc": useEmit, "NewTimer": useEmit, "NewTicker": useEmit, "Tick": useEmit,
	},
	"fmt": {"Print": useValue, "Println": useValue, "Printf": useValue},
	"os":  {"Exit": "return an error, or panic on our own bug", "Stdout": useValue, "Stderr": useValue},
}

// seeded are the names of math/rand/v2 that do not draw from its global source.
var seeded = map[string]bool{
	"New": true, "NewPCG": true, "NewChaCha8": true, "NewZipf": true,
	"Rand": true, "Source": true, "PCG": true, "ChaCha8": true, "Zipf": true,
}

var callRules = []rule{
	{"banned calls", "do as the finding says; tests, bench and examples may call it", checkBanned},
	{"goroutines", "let the caller start goroutines: be safe for concurrent use instead", checkGoroutines},
}

func checkBanned(tr *tree) (findings []string) {
	for _, f := range tr.core() {
		if path := f.imports["."]; path != "" {
			findings = append(findings, f.path+": dot import of "+path+": name the package")
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			path := f.imports[pkg.Name]
			instead := banned[path][sel.Sel.Name]
			if path == "math/rand/v2" && !seeded[sel.Sel.Name] {
				instead = useSeed
			}
			if instead != "" {
				findings = append(findings, fmt.Sprintf("%s: %s.%s: %s", tr.at(sel), pkg.Name, sel.Sel.Name, instead))
			}
			return true
		})
	}
	return findings
}

// mayStart lists the files that may start goroutines, and why: what these do cannot be seen.
var mayStart = map[string]string{
	"internal/slab/ahead.go": "memory is touched ahead of use, and only the time that takes differs",
}

func checkGoroutines(tr *tree) (findings []string) {
	for _, f := range tr.core() {
		if mayStart[f.path] != "" {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				findings = append(findings, tr.at(n)+": go statement")
			}
			return true
		})
	}
	return findings
}

var callCases = []biteCase{
	{"banned calls", "clock and chance", map[string]string{
		"flow/a.go": strings.Join([]string{"package flow", `import ("time"; r "math/rand/v2"; "fmt")`,
			"var a = time.Now()", "var b = r.IntN(3)", "var c = r.New(r.NewPCG(1, 2)).IntN(3)", "var d = 3 * time.Second",
			"func e() { fmt.Println(time.Duration(1).String()) }"}, "\n"),
		"flow/a_test.go":       "package flow\nimport \"time\"\nvar t = time.Now()",
		"examples/egress/a.go": "package main\nimport \"time\"\nvar t = time.Now()",
	}, []string{"flow/a.go:3:9: time.Now: take now", "flow/a.go:4:9: r.IntN: draw", "flow/a.go:7:12: fmt.Println: return"}},
	{"banned calls", "without a name", map[string]string{"flow/a.go": "package flow\nimport . \"time\"\nvar a = Now()"}, []string{"dot import of time"}},
	{"banned calls", "other packages of that name", map[string]string{
		"flow/a.go": "package flow\nimport \"example.org/time\"\nvar a = time.Now()",
	}, nil},
	{"goroutines", "core", map[string]string{
		"snat/a.go":             "package snat\nfunc New() { go New() }",
		"snat/a_test.go":        "package snat\nfunc f() { go f() }",
		"internal/netlab/a.go":  "package netlab\nfunc f() { go f() }",
		"examples/gateway/a.go": "package main\nfunc main() { go main() }",
	}, []string{"snat/a.go:2:14"}},
}
