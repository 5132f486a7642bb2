package conformance

// The tables in the documentation of the packages requirements.

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables into the documentation of the packages requirements")

// The only files of these packages, which are nothing but their documentation.
const (
	generated         = root + "/snat/requirements/requirements.go"
	generatedAzure    = root + "/overlay/requirements/requirements.go"
	generatedBalancer = root + "/lb/requirements/requirements.go"
)

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

const introductionAzure = `// Code generated from the register in internal/conformance; DO NOT EDIT.

// Package requirements is the list of what Azure does with %s, and
// what package %s makes of it. It is documentation only. The sections are those of
// the project's sheet of facts about Azure.
//
// The columns are the row's name; what is modelled of it; and the document:
//   - all: what the row says.
//   - partly: what the row says but for what its second sentence says.
//   - left out: nothing, for the reason that the second sentence gives.
//
// Each row that is not left out has tests, %s.
//
// The documents:
%s`

// tableAzure renders a register of Azure as a package comment.
func tableAzure(register []AzureGroup, what, room, tests string) string {
	var b, docs strings.Builder
	for _, d := range azureDocuments {
		if slices.ContainsFunc(register, func(g AzureGroup) bool {
			return slices.ContainsFunc(g.Rows, func(r AzureRow) bool { return r.Source == d.name })
		}) {
			fmt.Fprintf(&docs, "//   - %s: %s\n", d.name, d.title)
		}
	}
	fmt.Fprintf(&b, introductionAzure, what, room, tests, docs.String())
	for _, g := range register {
		fmt.Fprintf(&b, "//\n// %s %s:\n//\n", strings.ReplaceAll(g.Section, "_", "."), g.Title)
		for _, r := range g.Rows {
			text := strings.TrimSpace(r.Text + " (" + r.Source + ") " + r.Why)
			name := strings.TrimPrefix(r.ID, g.Section+"_")
			for i, line := range wrap(text, 68) {
				if i == 0 {
					fmt.Fprintf(&b, "//\t%-24s%-9s %s\n", name, r.Fit, line)
				} else {
					fmt.Fprintf(&b, "//\t%34s%s\n", "", line)
				}
			}
		}
	}
	b.WriteString("package requirements\n")
	return b.String()
}

// TestTable demands that the documentation shows the registers as they are.
func TestTable(t *testing.T) {
	for file, want := range map[string]string{
		generated: table(),
		generatedAzure: tableAzure(AzureRegister(), "the traffic of an AKS cluster", "overlay",
			"named TestAzureRow_<section>_<name>, as in\n// TestAzureRow_4_5_policyLocal; what is left out and could be asked for is refused"),
		generatedBalancer: tableAzure(BalancerRegister(), "load balancers and what is beside them", "lb",
			"some named TestAzureRow_<section>_<name>, and others\n// that the tests of the register list"),
	} {
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is stale: run go test ./internal/conformance -update", file)
		}
	}
}
