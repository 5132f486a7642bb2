package manifest

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
)

var update = flag.Bool("update", false, "write what is expected anew")

// The package comment lists every field of a cluster file and of a workload file, and no other.
func TestDocumentationListsEveryField(t *testing.T) {
	listFields(t, reflect.TypeFor[clusterFile](), "name,")
	listFields(t, reflect.TypeFor[workloadFile](), "seed,")
}

// listFields compares the list of fields of a type in doc.go, whose third is given.
func listFields(t *testing.T, of reflect.Type, third string) {
	listed := regexp.MustCompile(`(?m)^//\tapiVersion, kind, ` + third + `.*\n(//\t.*\n)*(//\n// Constants, .*\n//\n(//\t.*\n)*)?`)
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	var structs []string // in order
	fields := make(map[string][]string)
	var constants strings.Builder
	decode.Fields(of, func(written string, typ reflect.Type, refused string) {
		if typ.Kind() == reflect.Uint8 && typ.Implements(reflect.TypeFor[fmt.Stringer]()) {
			fmt.Fprintf(&constants, "//\t%s: %s\n", written, strings.Join(decode.Names(typ), ", "))
		}
		at, name := "", written
		if i := strings.LastIndexByte(written, '.'); i >= 0 {
			at, name = written[:i], written[i+1:]
		}
		if refused != "" {
			return
		}
		if fields[at] == nil {
			structs = append(structs, at)
		}
		fields[at] = append(fields[at], name)
	})
	var want strings.Builder
	for _, s := range structs {
		line := "//	"
		if s != "" {
			line += s + ": "
		}
		for i, f := range fields[s] {
			if i > 0 {
				f = " " + f
			}
			if i+1 < len(fields[s]) {
				f += ","
			}
			if len(line)+len(f) > 96 {
				want.WriteString(line + "\n")
				line = "//	   "
			}
			line += f
		}
		want.WriteString(line + "\n")
	}
	if constants.Len() > 0 {
		want.WriteString("//\n// Constants, of which the first is the default:\n//\n" + constants.String())
	}
	if *update {
		text = listed.ReplaceAllLiteral(text, []byte(want.String()))
		require.NoError(t, os.WriteFile("doc.go", text, 0o644))
	}
	assert.True(t, strings.Contains(string(text), want.String()), "go test -run TestDocumentation . -update puts the fields that there are now into doc.go")
}
