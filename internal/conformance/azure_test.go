package conformance

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// TestAzureRegister demands of every row of Azure that it says what it has to.
func TestAzureRegister(t *testing.T) {
	known, seen := map[string]bool{}, map[string]bool{}
	for _, d := range azureDocuments {
		known[d.name] = true
	}
	for _, g := range slices.Concat(AzureRegister(), BalancerRegister()) {
		for _, r := range g.Rows {
			if m := namedAzure.FindStringSubmatch("TestAzureRow_" + r.ID + "_more"); m == nil || m[1] != r.ID || !strings.HasPrefix(r.ID, g.Section+"_") {
				t.Errorf("%s: no test of section %s can have this name", r.ID, g.Section)
			}
			if seen[r.ID] {
				t.Errorf("%s: twice in the register", r.ID)
			}
			seen[r.ID] = true
			if !known[r.Source] || !strings.HasSuffix(r.Text, ".") {
				t.Errorf("%s: no known source, or no sentence", r.ID)
			}
			if !slices.Contains([]Fit{All, Partly, OutOfScope}, r.Fit) {
				t.Errorf("%s: fit %q", r.ID, r.Fit)
			}
			if strings.HasSuffix(r.Why, ".") != (r.Fit != All) {
				t.Errorf("%s: a reason, and only where something is not modelled", r.ID)
			}
		}
	}
}

// TestAzureProven demands a test of every row of Azure that is not left out, and a row of every
// test that is named like one.
func TestAzureProven(t *testing.T) {
	pkttest.OneGoroutine(t)
	found := proofs(t, "TestAzureRow_", namedAzure)
	for _, err := range slices.Concat(cite(found, proofs(t, "Test", anyTest), azureProofs), judgeAzure(slices.Concat(AzureRegister(), BalancerRegister()), found)) {
		t.Error(err)
	}
}

// cite adds those of all tests that are cited for rows, as directories and names.
func cite(found, all map[string][]proof, cited map[string][]string) (problems []error) {
	for row, tests := range cited {
		for _, test := range tests {
			dir, name, _ := strings.Cut(test, " ")
			i := slices.IndexFunc(all[name], func(p proof) bool { return path.Dir(p.at) == path.Join(root, dir) })
			if i < 0 {
				problems = append(problems, fmt.Errorf("%s: there is no %s in %s", row, name, dir))
				continue
			}
			found[row] = append(found[row], all[name][i])
		}
	}
	return problems
}

// TestCite shows what is cited in vain.
func TestCite(t *testing.T) {
	all := map[string][]proof{"TestA": {{name: "TestA", at: root + "/a/a_test.go:1:1"}}}
	found := map[string][]proof{}
	problems := cite(found, all, map[string][]string{"1_a": {"a TestA"}, "1_b": {"b TestA"}, "1_c": {"a TestC"}})
	if len(found) != 1 || len(found["1_a"]) != 1 || len(problems) != 2 {
		t.Errorf("%v, %v", found, problems)
	}
}

// judgeAzure tells what the tests of rows leave to be desired.
func judgeAzure(register []AzureGroup, found map[string][]proof) (problems []error) {
	for _, g := range register {
		for _, r := range g.Rows {
			if len(found[r.ID]) == 0 && r.Fit != OutOfScope {
				problems = append(problems, fmt.Errorf("%s: no test TestAzureRow_%s: %s", r.ID, r.ID, r.Text))
			}
			for _, p := range found[r.ID] {
				if p.skips() {
					problems = append(problems, fmt.Errorf("%s: %s only skips", p.at, p.name))
				}
			}
			delete(found, r.ID)
		}
	}
	for _, tests := range found {
		for _, p := range tests {
			problems = append(problems, fmt.Errorf("%s: %s names no row", p.at, p.name))
		}
	}
	return problems
}

// TestJudgeAzure shows what is not taken for a proof.
func TestJudgeAzure(t *testing.T) {
	register := []AzureGroup{{"1", "", []AzureRow{{ID: "1_a", Fit: All}, {ID: "1_b", Fit: Partly}, {ID: "1_c", Fit: OutOfScope}}}}
	good := parsed(t, `package p
func TestAzureRow_1_a(t *testing.T) { t.Run("x", f) }
func TestAzureRow_1_b_more(t *testing.T) { t.Run("x", f) }`)
	for name, tt := range map[string]struct {
		source string
		want   string
	}{
		"nothing is wrong": {"", ""},
		"empty":            {`func TestAzureRow_1_a_too(t *testing.T) {}`, "only skips"},
		"no row":           {`func TestAzureRow_1_d(t *testing.T) { t.Run("x", f) }`, "names no row"},
		"no name of a row": {`func TestAzureRow_x(t *testing.T) { t.Run("x", f) }`, "names no row"},
	} {
		found := byRow(append(parsed(t, "package p\n"+tt.source), good...), namedAzure)
		got := fmt.Sprint(judgeAzure(register, found))
		if tt.want == "" && got != "[]" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s, want %q", name, got, tt.want)
		}
	}
	if got := fmt.Sprint(judgeAzure(register, byRow(good[1:], namedAzure))); !strings.Contains(got, "no test TestAzureRow_1_a") {
		t.Errorf("without a test: %s", got)
	}
}
