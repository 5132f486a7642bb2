package document_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// show writes a tree with its lines.
func show(n *document.Node) string {
	switch n.Kind {
	case document.List:
		var items []string
		for _, i := range n.Items {
			items = append(items, show(i))
		}
		return fmt.Sprintf("[%s]@%d", strings.Join(items, " "), n.Line)
	case document.Map:
		var fields []string
		for _, f := range n.Fields {
			fields = append(fields, fmt.Sprintf("%s@%d=%s", f.Name, f.Line, show(f.Value)))
		}
		return fmt.Sprintf("{%s}@%d", strings.Join(fields, " "), n.Line)
	}
	return fmt.Sprintf("%v@%d", n, n.Line)
}

func TestLines(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"JSON":          {"\ufeff {\n \"a\": [1,\n true, null],\n\"b\":\n \"x\\ny\"}\n", `{a@2=[1@2 true@3 null@3]@2 b@4="x\ny"@5}@1`},
		"JSON scalar":   {"\n7", "7@2"},
		"YAML":          {"# comment\na:\n- 1\n- yes\n- 'no'\nb: |\n  x\n  y\n", `{a@2=[1@3 yes@4 "no"@5]@3 b@6="x\ny\n"@6}@2`},
		"YAML 1.1":      {"[n, Off, !!str yes, oN, \"y\"]\n", `[n@1 Off@1 "yes"@1 "oN"@1 "y"@1]@1`},
		"flow YAML":     {"{a: 1,\n b: [x]}", `{a@1=1@1 b@2=["x"@2]@2}@1`},
		"aliases":       {"a: &x [1]\nb: *x\n", "{a@1=[1@1]@1 b@2=[1@1]@2}@1"},
		"merge":         {"a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\n", "{a@1={k@1=1@1 l@1=2@1}@1 b@2={k@4=3@4 l@1=2@1}@3}@1"},
		"no document":   {" \n", ""},
		"empty ones":    {"---\n---\n# nothing\n---\na: 1\n", "{a@5=1@5}@5"},
		"two documents": {"a: 1\n---\nb: 2\n", "{a@1=1@1}@1 {b@3=2@3}@3"},
	} {
		t.Run(name, func(t *testing.T) {
			docs, err := document.Parse([]byte(tt.text))
			require.NoError(t, err)
			var got []string
			for _, d := range docs {
				got = append(got, show(d))
			}
			assert.Equal(t, tt.want, strings.Join(got, " "))
		})
	}
}

func TestBroken(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 10))
	}
	for name, tt := range map[string]struct {
		text, want string
		line       int
	}{
		"JSON that ends":     {"{\"a\": 1,\n\"b\": [1,\n", "is no JSON: unexpected end", 3},
		"JSON with a comma":  {"{\"a\": 1,\n}\n/", "is no JSON: invalid character '}'", 2},
		"YAML":               {"a: 1\nb: [1\nc: 2\n", "is no YAML: did not find expected ',' or ']'", 2},
		"key twice":          {"a: 1\nb: 2\na: 3\n", `has the key "a" twice, first in line 1`, 3},
		"key twice in JSON":  {"{\"a\": 1,\n\"a\": 2}", `has the key "a" twice, first in line 1`, 2},
		"list as a key":      {"? [a]\n: 1\n", "has a map or list as a key", 1},
		"merge of a list":    {"a: 1\n<<: x\n", "merges (<<) what is no map", 2},
		"merge of a scalar":  {"a: 1\n<<: [x]\n", "merges (<<) what is no map", 2},
		"too deep":           {strings.Repeat("[", 200) + strings.Repeat("]", 200), "is nested more than 100 deep", 1},
		"too deep YAML":      {"a:\n  - " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "is nested more than 100 deep", 2},
		"itself":             {"a: &x [*x]\n", "is nested more than 100 deep", 1},
		"billions":           {bomb, "has aliases that stand for more than 100000 values", 1},
		"tag":                {"a:\n  b: !!bool foo\n", "has the tag !!bool: write the value without it", 2},
		"tag of a map":       {"a: !mine {b: 1}\n", "has the tag !mine: write the value without it", 1},
		"tag of a key":       {"!!binary YQ==: 1\n", "has the tag !!binary: write the value without it", 1},
		"unknown alias":      {"a: *x\n", "is no YAML: unknown anchor 'x'", 0},
		"tab in front":       {"a:\n\tb: 1\n", "is no YAML: ", 2},
		"templates of Helm":  {"a: {{ .Values.a }}\n", "", 1},
		"control characters": {"a: \x01\n", "is no YAML: control characters", 1},
		"no UTF-8":           {"é: 1\nb: \xff\n", "is no YAML: invalid leading UTF-8 octet", 2},
		"too large YAML":     {strings.Repeat("a: 1", document.MaxYAMLBytes/4) + "\n", "has 16777217 bytes of YAML, more than 16777216; JSON may have 67108864", 0},
		"too large":          {strings.Repeat(" ", document.MaxBytes+1), "has 67108865 bytes, more than 67108864", 0},
	} {
		t.Run(name, func(t *testing.T) {
			docs, err := document.Parse([]byte(tt.text))
			var broken *document.Error
			require.ErrorAs(t, err, &broken)
			assert.Contains(t, broken.Text, tt.want)
			assert.Equal(t, tt.line, broken.Line)
			assert.Empty(t, docs)
		})
	}
}

// What stands before and behind what cannot be read comes once, however late and by whom that is noticed.
func TestOthersComeOnce(t *testing.T) {
	const many = 3000 // more than a decoder reads ahead
	for name, tt := range map[string]struct {
		broken string
		line   int
		behind bool
	}{
		"a list without end": {"a: [1\n", 2 * many, true},
		"control characters": {"a: \x01\n", 2*many + 1, true},
		"no UTF-8":           {"a: \xff\n", 2*many + 1, true},
		"unknown alias":      {"a: *x\n", 0, false}, // nor is it known where to go on
	} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			for i := range many {
				fmt.Fprintf(&text, "n: %06d000000\n---\n", i)
			}
			docs, err := document.Parse([]byte(text.String() + tt.broken + "---\nbehind: 1\n"))
			errs := document.Errors(err)
			require.Len(t, errs, 1)
			assert.InDelta(t, tt.line, errs[0].Line, 1)
			names, seen, behind := 0, make(map[string]bool), false
			for _, d := range docs {
				behind = behind || d.Field("behind") != nil
				if n := d.Field("n"); n != nil {
					names++
					seen[n.Text] = true
				}
			}
			assert.Len(t, seen, names, "each once")
			assert.Greater(t, names, many/2)
			assert.Equal(t, tt.behind, behind)
		})
	}
}

// What is JSON is read as encoding/json reads it, except for keys that come twice.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e3,-0,null,true,"x\u00e9\ud83d\ude00"],"":{}}`, "[\n[]]", `"<&>"`, "1e400", `{"a":1,"a":2}`, "\ufeff1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := document.Parse(data)
		if err != nil {
			var broken *document.Error
			require.True(t, errors.As(err, &broken))
			require.LessOrEqual(t, broken.Line, 2+strings.Count(string(data), "\n")+strings.Count(string(data), "\r")+strings.Count(string(data), "\u0085")+strings.Count(string(data), "\u2028")+strings.Count(string(data), "\u2029"))
			return
		}
		if !json.Valid(data) {
			for _, d := range docs { // YAML: whatever it is, it can be written as JSON
				require.True(t, json.Valid(d.AppendJSON(nil)), "%s", d.AppendJSON(nil))
			}
			return
		}
		var want, got any
		require.NoError(t, decodeNumbers(data, &want))
		require.Len(t, docs, 1)
		require.NoError(t, decodeNumbers(docs[0].AppendJSON(nil), &got))
		require.Equal(t, want, got)
	})
}

// decodeNumbers reads JSON without rounding numbers.
func decodeNumbers(data []byte, to any) error {
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	return d.Decode(to)
}
