package conformance

// The table in the documentation of package requirements.

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table into the documentation of package requirements")

// generated is the only file of that package, which is nothing but its documentation.
const generated = root + "/snat/requirements/requirements.go"

const introduction = `// Code generated from the register in internal/conformance; DO NOT EDIT.

// Package requirements is the list of what RFCs demand of a NAT, and what package snat
// makes of it. It is documentation only.
//
// The columns are the row's name; how strongly it is demanded, where a rule follows
// from the definition of a protocol, and ours is a measure of quality; and who meets
// it:
//   - all: every configuration.
//   - option: configurations that ask for it.
//   - azure: configurations that ask for it; presets of Azure differ on purpose.
//   - left out: none.
//
// Each row that is not left out has tests, named TestNAT_<name>.
`

// table renders the register as a package comment.
func table() string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, g := range Register() {
		fmt.Fprintf(&b, "//\n// %s:\n//\n", g.Title)
		for _, r := range g.Rows {
			text := r.Text + " (" + r.Source + ")"
			if r.Why != "" {
				text += " " + r.Why
			}
			for i, line := range wrap(text, 72) {
				if i == 0 {
					fmt.Fprintf(&b, "//\t%-5s%-11s%-9s%s\n", r.ID, r.Level, r.Fit, line)
				} else {
					fmt.Fprintf(&b, "//\t%25s%s\n", "", line)
				}
			}
		}
	}
	b.WriteString("package requirements\n")
	return b.String()
}

// wrap breaks text into lines of at most width bytes, words permitting.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// TestTable demands that the documentation shows the register as it is.
func TestTable(t *testing.T) {
	if *update {
		if err := os.WriteFile(generated, []byte(table()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(generated)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != table() {
		t.Errorf("%s is stale: run go test ./internal/conformance -update", generated)
	}
}
