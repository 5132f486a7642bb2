// The rule about drop reasons: no drop without a reason, no reason without a code
// and a sentence. Unlike the other rules it asks the package itself.

package tidy

import (
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

var (
	reasonCode     = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	reasonSentence = regexp.MustCompile(`^[A-Z].*[^. ]\.$`)
)

func TestReasons(t *testing.T) {
	pkttest.OneGoroutine(t)
	const remedy = "give each flow.Reason a code (snake case) and a sentence of its own in reasonText"
	reasons := slices.Collect(flow.Reasons())
	codes, sentences := map[string]flow.Reason{}, map[string]flow.Reason{}
	for _, r := range append(reasons, flow.ReasonNone) {
		code, sentence := r.String(), r.Sentence()
		if !reasonCode.MatchString(code) {
			t.Errorf("reason %d has the code %q; %s", r, code, remedy)
		}
		if !reasonSentence.MatchString(sentence) {
			t.Errorf("reason %s has the sentence %q; %s", code, sentence, remedy)
		}
		if other, ok := codes[code]; ok {
			t.Errorf("reasons %d and %d have the same code %q; %s", other, r, code, remedy)
		}
		if other, ok := sentences[sentence]; ok {
			t.Errorf("reasons %s and %s have the same sentence %q; %s", other, code, sentence, remedy)
		}
		codes[code], sentences[sentence] = r, r
	}
	if declared := reasonConstants(t); len(declared) != len(codes) {
		t.Errorf("flow declares %d reasons, ReasonNone and Reasons make %d: %v; let Reasons yield them all", len(declared), len(codes), declared)
	}
}

// reasonConstants returns the names of the constants Reason... of package flow.
func reasonConstants(t *testing.T) (names []string) {
	tr, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tr.core() {
		if f.dir != "flow" {
			continue
		}
		declared(f, func(n ast.Node, name, _ string, _ bool) {
			if _, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(name, "Reason") {
				names = append(names, name)
			}
		})
	}
	return names
}
