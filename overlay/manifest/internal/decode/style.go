// Styles: which names of a file are which fields of Go.

package decode

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Style says how a file names the fields of structs.
type Style uint8

const (
	// GoNames are those of Go in lower camel case, see [LowerCamel]. Embedded structs are
	// part of the struct around them.
	GoNames Style = iota
	// Kubernetes are the JSON tags of Go. Strings are strings only if they look so.
	Kubernetes
	// Azure are JSON tags without regard to case, for versions of the command line differ in
	// it. A struct may know further fields; see [Others].
	Azure
)

// Others is a struct that knows fields besides those that it has.
type Others interface {
	// Others returns the fields that change no packet, and those that are not modelled, with
	// the reason.
	Others() (harmless []string, skipped map[string]string)
}

// strict reports whether strings must look like strings.
func (s Style) strict() bool { return s == Kubernetes }

// fold returns a name as it is compared.
func (s Style) fold(name string) string {
	if s == Azure {
		return strings.ToLower(name)
	}
	return name
}

// field is a field of a struct that a file can set.
type field struct {
	name    string // in the file
	golang  string // path from the struct
	index   []int
	refused string // why it cannot be set; "" if it can
}

// fields are all of a struct.
type fields struct {
	typ      reflect.Type
	list     []field // in the order of Go
	byName   map[string]field
	harmless map[string]bool
	skipped  map[string]string
}

// of returns the fields of a struct.
func (s Style) of(t reflect.Type) *fields {
	f := &fields{typ: t, byName: make(map[string]field), harmless: make(map[string]bool), skipped: make(map[string]string)}
	s.collect(f, t, nil)
	for _, x := range f.list {
		f.byName[s.fold(x.name)] = x
	}
	if o, ok := reflect.Zero(t).Interface().(Others); ok {
		harmless, skipped := o.Others()
		for _, name := range harmless {
			f.harmless[s.fold(name)] = true
		}
		for name, why := range skipped {
			f.skipped[s.fold(name)] = why
		}
	}
	return f
}

// collect adds the fields of a struct, those of embedded ones included.
func (s Style) collect(f *fields, t reflect.Type, index []int) {
	for i := range t.NumField() {
		g := t.Field(i)
		at := append(slices.Clone(index), i)
		tag, options, _ := strings.Cut(g.Tag.Get("json"), ",")
		switch {
		case s == GoNames && g.Anonymous, s != GoNames && g.Anonymous && tag == "", s != GoNames && strings.Contains(options, "inline"):
			s.collect(f, g.Type, at)
			continue
		case !g.IsExported(), s != GoNames && tag == "-":
			continue
		case s == GoNames:
			tag = LowerCamel(g.Name)
		case tag == "":
			tag = g.Name
		}
		x := field{name: tag, golang: g.Name, index: at}
		if isCode(g.Type) {
			x.refused = "takes a function, which a file cannot give"
		}
		f.list = append(f.list, x)
	}
}

// isCode reports whether a type is a function or a struct of nothing else.
func isCode(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.NumField() == 0 {
		return t.Kind() == reflect.Func
	}
	for i := range t.NumField() {
		if t.Field(i).Type.Kind() != reflect.Func {
			return false
		}
	}
	return true
}

// unknown says what is wrong with a name.
func (f *fields) unknown(name string) string {
	best, least := "", 3
	for _, x := range f.list {
		d := distance(strings.ToLower(name), strings.ToLower(x.name), least)
		if d < least {
			best, least = x.name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "is no field here"
}

// distance returns how many letters have to be put in, taken out or exchanged to make b of a, or
// limit if more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := above
			if a[i] != b[j] {
				cost++
			}
			above = row[j+1]
			row[j+1] = min(cost, above+1, row[j]+1)
		}
	}
	return min(row[len(b)], limit)
}

// LowerCamel returns the name of a Go field as a file has it: its first word in small
// letters, as in podCIDRs, dnsServiceIP, natGatewayProfile, vnet and osSKU.
func LowerCamel(name string) string {
	if rest, ok := strings.CutPrefix(name, "VNet"); ok {
		return "vnet" + rest
	}
	if name == "OSSKU" { // two words
		return "osSKU"
	}
	upper := strings.IndexFunc(name, func(r rune) bool { return !unicode.IsUpper(r) })
	switch {
	case upper < 0 || name[upper:] == "s": // all of it, as IP and CIDRs
		return strings.ToLower(name)
	case upper > 1 && unicode.IsLetter(rune(name[upper])):
		upper--
	}
	return strings.ToLower(name[:upper]) + name[upper:]
}

// Fields calls visit for every field below a type that a GoNames file can set, in the order of Go: its
// written path, with [] behind lists, and its type. Structs come before their fields.
func Fields(t reflect.Type, visit func(written string, t reflect.Type, refused string)) {
	visitFields(t, "", visit)
}

func visitFields(t reflect.Type, at string, visit func(string, reflect.Type, string)) {
	for _, f := range GoNames.of(t).list {
		written := f.name
		if at != "" {
			written = at + "." + written
		}
		inner := t.FieldByIndex(f.index).Type
		visit(written, inner, f.refused)
		if f.refused != "" {
			continue
		}
		for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
			if inner.Kind() == reflect.Slice {
				written += "[]"
			}
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && !reflect.PointerTo(inner).Implements(textType) {
			visitFields(inner, written, visit)
		}
	}
}
