// Package decode fills Go values from documents, and says of everything that does not fit
// where it stands: file, line, field as it is written, value and rule.
//
// Terminology:
//   - Style: how the names of fields in a file belong to those of Go structs.
//   - Written path: a field as the file names it, such as "spec.ports[0].port".
//   - Go path: the same field as Go names it, such as "Spec.Ports[0].Port".
//   - Place: where a value stands, with its written path.
//
// A [Reader] reads one document for one goroutine. Nothing stops at the first problem: what
// is wrong is left as it was, and the rest is read.
package decode

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/document"
)

// Place is where a value stands.
type Place struct {
	File  string
	Line  int
	Field string // written path
}

// String returns "file:line: field", as far as these are known.
func (p Place) String() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, p.Line)
	}
	if p.Field != "" {
		s += ": " + p.Field
	}
	return s
}

// Reader decodes documents of one style.
type Reader struct {
	Style    Style
	File     string
	Problems *problems.List

	// Places, if not nil, gets the place of everything that has been read, by Go path.
	Places map[string]Place

	// Skipped is told of fields that the style knows and that are not modelled, with the
	// reason, where they say anything.
	Skipped func(at Place, value *document.Node, reason string)

	// Extend has, by type of elements, the lists that a file extends instead of replacing
	// them: which element of the list one of the file is about, or -1 if it is a new one.
	Extend map[reflect.Type]func(list reflect.Value, item *document.Node) int

	known map[reflect.Type]*fields // by struct
}

// fields returns the fields of a struct.
func (r *Reader) fields(t reflect.Type) *fields {
	f := r.known[t]
	if f == nil {
		if f = r.Style.of(t); r.known == nil {
			r.known = make(map[reflect.Type]*fields)
		}
		r.known[t] = f
	}
	return f
}

// path is a field in both ways.
type path struct{ written, golang string }

func (p path) field(written, golang string) path {
	return path{problems.Field(p.written, written), problems.Field(p.golang, golang)}
}

func (p path) index(i, j int) path {
	return path{problems.Index(p.written, i), problems.Index(p.golang, j)}
}

// Value decodes a document into what to points at. written is its own path, "" for a whole document.
func (r *Reader) Value(n *document.Node, to any, written string) {
	r.value(n, reflect.ValueOf(to).Elem(), path{written: written})
}

// bad notes a problem.
func (r *Reader) bad(n *document.Node, at path, kind error, rule string, args ...any) {
	r.Problems.Add(Place{r.File, n.Line, at.written}.String(), problems.Raw(n.String()), kind, rule, args...)
}

// value decodes a node. null leaves everything as it is.
func (r *Reader) value(n *document.Node, v reflect.Value, at path) {
	if r.Places != nil {
		r.Places[at.golang] = Place{r.File, n.Line, at.written}
	}
	if n.Kind == document.Null {
		return
	}
	if r.special(n, v, at) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			p.Elem().Set(v.Elem())
		}
		r.value(n, p.Elem(), at)
		v.Set(p)
	case reflect.Struct:
		r.structure(n, v, at)
	case reflect.Slice:
		r.list(n, v, at)
	case reflect.Map:
		r.table(n, v, at)
	case reflect.Interface:
		var any any
		if json.Unmarshal(n.AppendJSON(nil), &any) == nil && any != nil {
			v.Set(reflect.ValueOf(any))
		}
	default:
		r.scalar(n, v, at)
	}
}

var (
	durationType    = reflect.TypeFor[time.Duration]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textType        = reflect.TypeFor[encoding.TextUnmarshaler]()
	stringerType    = reflect.TypeFor[fmt.Stringer]()
	quantityType    = reflect.TypeFor[resource.Quantity]()
)

// bearable are the quantities that k8s.io/apimachinery reads in bearable time: of 1e-99999999
// it writes out all digits.
var bearable = regexp.MustCompile(`^[+-]?[0-9.]{1,60}([a-zA-Z]{0,2}|[eE][+-]?[0-9]{1,3})$`)

// special decodes types with a form of their own, and reports whether it is one.
func (r *Reader) special(n *document.Node, v reflect.Value, at path) bool {
	t, text, encoded := v.Type(), n.Text, n.AppendJSON
	if n.Kind == document.Number {
		text = n.Decimal()
		encoded = func(b []byte) []byte { return append(b, text...) }
	}
	switch p := reflect.PointerTo(t); {
	case t == durationType:
		d, err := time.ParseDuration(n.Text)
		if err != nil {
			r.bad(n, at, problems.ErrSyntax, "must be a duration such as 30m or 5s")
			return true
		}
		v.SetInt(int64(d))
	case t.Kind() == reflect.Pointer:
		return false
	case t == quantityType && !bearable.MatchString(text):
		r.bad(n, at, problems.ErrSyntax, "is no Quantity of at most 60 digits and a factor of at most three")
	case p.Implements(unmarshalerType), t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		if err := json.Unmarshal(encoded(nil), v.Addr().Interface()); err != nil {
			v.SetZero()
			r.bad(n, at, problems.ErrSyntax, "is no %s: %v", t.Name(), err)
		}
	case p.Implements(textType):
		r.text(n, v, at)
	case t.Kind() == reflect.Uint8 && t.Implements(stringerType):
		r.constant(n, v, at)
	default:
		return false
	}
	return true
}

// text decodes what has a text form: addresses and prefixes.
func (r *Reader) text(n *document.Node, v reflect.Value, at path) {
	kind, want := problems.ErrSyntax, "must be a "+v.Type().Name()
	switch v.Type().Name() {
	case "Addr":
		kind, want = problems.ErrAddress, "must be an address such as 10.0.0.1"
	case "AddrPort":
		kind, want = problems.ErrAddress, "must be an address and a port such as 10.0.0.1:443 or [fd00::1]:443"
	case "Prefix":
		kind, want = problems.ErrPrefix, "must be a prefix such as 10.0.0.0/16"
	}
	if n.Kind == document.List || n.Kind == document.Map || n.Text == "" {
		r.bad(n, at, kind, "%s", want)
		return
	}
	u := reflect.New(v.Type())
	if err := u.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Text)); err != nil {
		r.bad(n, at, kind, "%s", want)
		return
	}
	v.Set(u.Elem())
}

// constant decodes a value of an enumeration by its name.
func (r *Reader) constant(n *document.Node, v reflect.Value, at path) {
	names := Names(v.Type())
	for i, name := range names {
		if name == n.Text && n.Kind != document.List && n.Kind != document.Map {
			v.SetUint(uint64(i))
			return
		}
	}
	r.bad(n, at, problems.ErrOutOfRange, "must be one of %s", strings.Join(names, ", "))
}

// Names returns the names of an enumeration of 8 bits, whose first value is 0: those before
// the first one that has none, which its String shows by a bracket.
func Names(t reflect.Type) (names []string) {
	v := reflect.New(t).Elem()
	for i := range 256 {
		v.SetUint(uint64(i))
		name := v.Interface().(fmt.Stringer).String()
		if strings.Contains(name, "(") {
			break
		}
		names = append(names, name)
	}
	return names
}

// structure decodes a map into a struct.
func (r *Reader) structure(n *document.Node, v reflect.Value, at path) {
	if n.Kind != document.Map {
		r.bad(n, at, problems.ErrSyntax, "must be a map of fields")
		return
	}
	known := r.fields(v.Type())
	seen := make(map[string]int)
	for i := range n.Fields {
		f := &n.Fields[i]
		name := r.Style.fold(f.Name)
		where := at.field(f.Name, f.Name)
		k, ok := known.byName[name]
		line := *f.Value
		line.Line = f.Line
		if before, twice := seen[name]; twice {
			r.bad(&line, where, problems.ErrDuplicateName, "the field stands in line %d, too", before)
			continue
		}
		seen[name] = f.Line
		switch {
		case !ok && known.harmless[name]:
		case !ok && known.skipped[name] != "":
			if r.Skipped != nil && says(f.Value) {
				r.Skipped(Place{r.File, f.Line, where.written}, f.Value, known.skipped[name])
			}
		case !ok:
			r.bad(&line, where, problems.ErrUnknownName, "%s", known.unknown(f.Name))
		case k.refused != "":
			r.bad(&line, where, problems.ErrUnknownName, "%s", k.refused)
		default:
			r.value(f.Value, v.FieldByIndex(k.index), at.field(f.Name, k.golang))
		}
	}
}

// says reports whether a value says anything: null, false, 0, empty strings, lists and maps, and maps of such
// do not.
func says(n *document.Node) bool {
	switch n.Kind {
	case document.Null:
		return false
	case document.Bool:
		return n.IsTrue()
	case document.Number:
		return n.Text != "0"
	case document.String:
		return n.Text != ""
	case document.List:
		return len(n.Items) > 0
	}
	for _, f := range n.Fields {
		if says(f.Value) {
			return true
		}
	}
	return false
}

// list decodes a list.
func (r *Reader) list(n *document.Node, v reflect.Value, at path) {
	if n.Kind != document.List {
		r.bad(n, at, problems.ErrSyntax, "must be a list")
		return
	}
	extend := r.Extend[v.Type().Elem()]
	list := reflect.MakeSlice(v.Type(), 0, len(n.Items))
	if extend != nil {
		list = reflect.AppendSlice(list, v)
	}
	for i, item := range n.Items {
		j := -1
		if extend != nil {
			j = extend(list.Slice(0, v.Len()), item) // not what this list itself has added
		}
		if j < 0 {
			j = list.Len()
			list = reflect.Append(list, reflect.Zero(v.Type().Elem()))
		}
		r.value(item, list.Index(j), at.index(i, j))
	}
	v.Set(list)
}

// table decodes a map whose keys are strings.
func (r *Reader) table(n *document.Node, v reflect.Value, at path) {
	if n.Kind != document.Map || v.Type().Key().Kind() != reflect.String {
		r.bad(n, at, problems.ErrSyntax, "must be a map")
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Fields))
	for _, f := range n.Fields {
		if i, err := strconv.Atoi(f.Name); r.Style.strict() && f.Kind != document.String && (err != nil || strconv.Itoa(i) != f.Name) {
			r.bad(&document.Node{Kind: f.Kind, Text: f.Name, Line: f.Line}, at, problems.ErrSyntax, "the key must be a string: put it in quotes")
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		r.value(f.Value, value, path{at.written + "[" + f.Name + "]", at.golang + "[" + f.Name + "]"})
		m.SetMapIndex(reflect.ValueOf(f.Name).Convert(v.Type().Key()), value)
	}
	v.Set(m)
}

// scalar decodes a text, a number or a truth value.
func (r *Reader) scalar(n *document.Node, v reflect.Value, at path) {
	switch k := v.Kind(); {
	case n.Kind == document.List || n.Kind == document.Map:
		r.bad(n, at, problems.ErrSyntax, "must be %s", thing(k))
	case k == reflect.String:
		if r.Style.strict() && n.Kind != document.String {
			r.bad(n, at, problems.ErrSyntax, "must be a string: put it in quotes")
			return
		}
		v.SetString(n.Text)
	case k == reflect.Bool:
		if n.Kind != document.Bool {
			r.bad(n, at, problems.ErrSyntax, "must be true or false")
			return
		}
		v.SetBool(n.IsTrue())
	case v.CanInt():
		i, ok := integer(n)
		if !ok {
			r.bad(n, at, problems.ErrSyntax, "must be a whole number")
		} else if v.OverflowInt(i) {
			r.bad(n, at, problems.ErrOutOfRange, "must fit %d bits", v.Type().Bits())
		} else {
			v.SetInt(i)
		}
	case v.CanUint():
		i, ok := integer(n)
		if u, err := strconv.ParseUint(n.Text, 10, 64); err == nil && n.Kind == document.Number && !v.OverflowUint(u) {
			v.SetUint(u)
		} else if !ok {
			r.bad(n, at, problems.ErrSyntax, "must be a whole number")
		} else if i < 0 || v.OverflowUint(uint64(i)) {
			r.bad(n, at, problems.ErrOutOfRange, "0..%d", uint64(math.MaxUint64)>>(64-v.Type().Bits()))
		} else {
			v.SetUint(uint64(i))
		}
	case v.CanFloat():
		f, err := strconv.ParseFloat(n.Text, 64)
		if err != nil || n.Kind != document.Number {
			r.bad(n, at, problems.ErrSyntax, "must be a number")
			return
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("decode: %s is a %s, which no file can set", at.golang, v.Type()))
	}
}

// thing says what a scalar of a kind is.
func thing(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	}
	return "a number"
}

// integer reads a whole number, also one that is written as 3.0 or 0x1f.
func integer(n *document.Node) (int64, bool) {
	if n.Kind != document.Number {
		return 0, false
	}
	if i, err := strconv.ParseInt(strings.ReplaceAll(n.Text, "_", ""), 0, 64); err == nil {
		return i, true
	}
	f, err := strconv.ParseFloat(n.Text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}
