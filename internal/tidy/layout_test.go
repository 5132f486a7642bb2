// Rules about the module's root: what lies in it and what it depends on.

package tidy

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// entries are all that the root may hold; true: must.
var entries = map[string]bool{
	"snat": false, "flow": false, "lb": false, "overlay": false, "internal": false, "bench": false, "examples": false,
	"go.mod": true, "go.sum": true, "README.md": true, "LICENSE": true, ".gitignore": true, ".ci": true, ".git": false,
}

// dependencies are the modules that the core may require directly; nested modules
// may require what they like.
var dependencies = []string{
	"github.com/google/gopacket",
	"github.com/cespare/xxhash/v2",
	"github.com/stretchr/testify",
	"golang.org/x/exp",
	"golang.org/x/sys",
}

var layoutRules = []rule{
	{"root entries", "put code into a room (snat flow lb overlay internal bench examples), prose into README.md, output outside of the module", checkEntries},
	{"dependencies", "do without, or move its user to a nested module; the core requires only " + strings.Join(dependencies, ", "), checkDependencies},
}

func checkEntries(tr *tree) (findings []string) {
	dir, err := fs.ReadDir(tr.fsys, ".")
	if err != nil {
		return []string{err.Error()}
	}
	present := map[string]bool{}
	ignored, _ := fs.ReadFile(tr.fsys, ".gitignore") // its absence is found below
	for _, e := range dir {
		present[e.Name()] = true
		if _, ok := entries[e.Name()]; !ok && !ignores(string(ignored), e.Name()) {
			findings = append(findings, e.Name()+": not an entry of the root")
		}
	}
	for name, must := range entries {
		if must && !present[name] {
			findings = append(findings, name+": missing from the root")
		}
	}
	slices.Sort(findings)
	return findings
}

// ignores reports whether a .gitignore has a pattern for an entry of its directory.
func ignores(patterns, name string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(p string) bool {
		ok, err := path.Match(strings.Trim(p, "/"), name)
		return ok && err == nil
	})
}

func checkDependencies(tr *tree) (findings []string) {
	block := ""
	for i, line := range strings.Split(tr.texts["go.mod"], "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		where := fmt.Sprintf("go.mod:%d: ", i+1)
		switch words[0] {
		case "require":
			if !strings.HasSuffix(line, "// indirect") && !slices.Contains(dependencies, words[1]) {
				findings = append(findings, where+"requires "+words[1])
			}
		case "replace", "exclude", "toolchain", "tool":
			findings = append(findings, where+words[0]+" directive: importers would not see it")
		}
	}
	return findings
}

var layoutCases = []biteCase{
	{"root entries", "stray and missing", map[string]string{
		"go.mod": "", "go.sum": "", "README.md": "", "LICENSE": "", ".gitignore": "*.prof\n/egress-out/\n",
		"flow/a.go": "package flow", "cpu.prof": "", "egress-out/x": "", "Makefile": "", "util/x.go": "package util",
	}, []string{".ci: missing", "Makefile: not", "util: not"}},
	{"dependencies", "unlisted", map[string]string{
		"go.mod":             "module x\n\ngo 1.26\n\nrequire golang.org/x/sys v1\nrequire (\n\tgithub.com/a/b v1\n\tgithub.com/c/d v1 // indirect\n\tgolang.org/x/exp v0\n)\n\nreplace golang.org/x/sys => ../sys\n",
		"bench/peers/go.mod": "module y\nrequire github.com/e/f v1\n",
	}, []string{"go.mod:7: requires github.com/a/b", "go.mod:12: replace"}},
}
