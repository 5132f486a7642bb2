// Rules about what the text of any file may say, and how long it may be.

package tidy

import (
	"fmt"
	"regexp"
	"strings"
)

// maxLines is the length from which a file holds more than one concept.
const maxLines = 1200

// The patterns are put together so that this file does not match them.
var (
	unfinished  = regexp.MustCompile(`\b(` + "TO" + "DO|FIX" + "ME|X" + `XX)\b`)
	machinePath = regexp.MustCompile("(?:^|[\\s\"'`(=:])/(?:work|home|root|Us" + "ers)/")
	tracker     = regexp.MustCompile(`\b(?:[Ii]ss` + `ues? +#?|(?:PR|[Pp]ull request) *#)\d+\b|(?:^|[\s(])#\d+\b`)
)

var textRules = []rule{
	{"unfinished", "finish it, or write the limit as a fact with its cost and date", checkPattern(unfinished)},
	{"machine paths", "use a path relative to the module, or t.TempDir()", checkPattern(machinePath)},
	{"tracker numbers", "say what was decided and why; a reader of the code has no tracker", checkPattern(tracker)},
	{"file length", "split the file by concept (block.go, session.go), never part2.go", checkLength},
}

// checkPattern finds lines of text that match re.
func checkPattern(re *regexp.Regexp) func(*tree) []string {
	return func(tr *tree) (findings []string) {
		for _, name := range tr.sortedTexts() {
			text := tr.texts[name]
			if !re.MatchString(text) { // one scan for the many files without a match
				continue
			}
			for i, line := range strings.Split(text, "\n") {
				if m := re.FindString(line); m != "" {
					findings = append(findings, fmt.Sprintf("%s:%d: %q", name, i+1, strings.TrimSpace(m)))
				}
			}
		}
		return findings
	}
}

func checkLength(tr *tree) (findings []string) {
	for _, f := range tr.files {
		if n := strings.Count(tr.texts[f.path], "\n"); n > maxLines {
			findings = append(findings, fmt.Sprintf("%s: %d lines, limit %d", f.path, n, maxLines))
		}
	}
	return findings
}

var textCases = []biteCase{
	{"unfinished", "marks", map[string]string{
		"flow/a.go": "package flow\n// TO" + "DO: keys\n", "README.md": "FIX" + "ME\n", "lb/a.go": "package lb\n// todos of a mastodon: XXXX\n",
	}, []string{"README.md:1", "flow/a.go:2"}},
	{"machine paths", "homes", map[string]string{
		"flow/a.go": "package flow\nconst p = \"/wo" + "rk/main\"\n", ".ci/run": "cd /ro" + "ot/x\n",
		"README.md": "https://example.org/work/x and /usr/bin\n",
	}, []string{".ci/run:1", "flow/a.go:2"}},
	{"tracker numbers", "numbers", map[string]string{
		"flow/a.go": "package flow\n// See iss" + "ue 12, #" + "13.\n// https://go.dev/issue/123, RFC 5382 section 4, PR, pr1\n",
		"lb/a.go":   "package lb\n// fixed (#" + "7)\n",
		"README.md": "# 1 Heading\n## 2\n",
	}, []string{"flow/a.go:2", "lb/a.go:2"}},
	{"file length", "long", map[string]string{
		"flow/a.go": "package flow" + strings.Repeat("\n", maxLines+1), "flow/b.go": "package flow" + strings.Repeat("\n", maxLines),
	}, []string{"flow/a.go: 1201"}},
}
