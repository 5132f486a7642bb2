package whatif_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// named checks the names of a type's fields, and of those within.
func named(t *testing.T, of reflect.Type, seen map[reflect.Type]bool) {
	for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || seen[of] || of == reflect.TypeFor[netip.Addr]() || of == reflect.TypeFor[netip.AddrPort]() {
		return
	}
	seen[of] = true
	for i := range of.NumField() {
		f := of.Field(i)
		name := f.Tag.Get("json")
		assert.Regexp(t, regexp.MustCompile(`^[a-z][A-Za-z0-9]*$`), name, "%v.%s", of, f.Name)
		assert.Equal(t, f.Type == reflect.TypeFor[time.Duration](), strings.HasSuffix(name, "Nanoseconds"), "%v.%s", of, f.Name)
		named(t, f.Type, seen)
	}
}

// All that a result says has a name in JSON, in one style: durations end in their unit, enumerations are words.
func TestResultInJSON(t *testing.T) {
	named(t, reflect.TypeFor[whatif.Result](), map[reflect.Type]bool{})
	n, hosts := newNAT(t, 8, snat.Policy{})
	s, err := whatif.New(whatif.Config{World: n, Hosts: hosts, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "load", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 1, Even: true},
	}}}})
	require.NoError(t, err)
	s.Advance(20 * time.Second)
	text, err := json.Marshal(s.Result())
	require.NoError(t, err)
	for _, part := range []string{`"refusals":[{"reason":"ports","packets":`, `"protocol":"TCP","allocated":8`, `"firstRefusedNanoseconds":9000000000`} {
		assert.Contains(t, string(text), part)
	}
}
