// Package likeness compares a copy with its original, for tests: whether all that the
// original has is in the copy too, and whether they share anything. It walks whatever is
// reachable, unexported fields included, so that a field which a copy forgets or shares is
// noticed as soon as it is used.
//
// It refuses to know which types it walks. What is the surroundings of both, and what never
// changes and may be shared, is listed by its caller.
package likeness

import (
	"fmt"
	"reflect"
	"strings"
)

// Compare returns how a copy differs from its original, both pointers to the same type, and
// what they share. Fields that same lists, as "Type.Field", are not looked at, nor is what is
// reachable only by them: the text says why. At most 20 differences are told, the first of
// each field.
func Compare(original, copied any, same map[string]string) []string {
	w := walk{same: same, seen: map[pair]bool{}, told: map[string]bool{}}
	w.values(reflect.ValueOf(original), reflect.ValueOf(copied), "", "")
	return w.found
}

type walk struct {
	same  map[string]string
	seen  map[pair]bool
	told  map[string]bool
	found []string
}

// pair is two places that have been compared.
type pair struct {
	a, b uintptr
	t    reflect.Type
}

// differ notes what is wrong with a field, where it has been reached by path.
func (w *walk) differ(field, path, format string, args ...any) {
	if !w.told[field] && len(w.found) < 20 {
		w.told[field] = true
		w.found = append(w.found, fmt.Sprintf("%s (%s): %s", field, path, fmt.Sprintf(format, args...)))
	}
}

// apart reports whether two places are not the same, and notes if they are.
func (w *walk) apart(a, b uintptr, field, path string) bool {
	if a == b && a != 0 && !static(a) {
		w.differ(field, path, "both share it")
	}
	return a != b
}

// values compares two values of one type. field is where they stand.
func (w *walk) values(a, b reflect.Value, field, path string) {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			if a.IsNil() != b.IsNil() {
				w.differ(field, path, "nil is %v in the original and %v in the copy", a.IsNil(), b.IsNil())
			}
		} else if w.apart(a.Pointer(), b.Pointer(), field, path) && w.first(a.Pointer(), b.Pointer(), a.Type()) {
			w.values(a.Elem(), b.Elem(), field, path)
		}
	case reflect.UnsafePointer:
		if x, y := a.Pointer(), b.Pointer(); (x == 0) != (y == 0) {
			w.differ(field, path, "%#x in the original and %#x in the copy", x, y)
		} else {
			w.apart(x, y, field, path)
		}
	case reflect.Struct:
		w.structs(a, b, path)
	case reflect.Array:
		w.elements(a, b, field, path)
	case reflect.Slice:
		if a.Len() != b.Len() {
			w.differ(field, path, "%d elements in the original and %d in the copy", a.Len(), b.Len())
		} else if a.Len() > 0 && w.apart(a.Pointer(), b.Pointer(), field, path) {
			w.elements(a, b, field, path)
		}
	case reflect.Map:
		w.maps(a, b, field, path)
	case reflect.Interface:
		if a.IsNil() || b.IsNil() || a.Elem().Type() != b.Elem().Type() {
			if a.IsNil() != b.IsNil() || !a.IsNil() {
				w.differ(field, path, "%v in the original and %v in the copy", a, b)
			}
		} else {
			w.values(a.Elem(), b.Elem(), field, path)
		}
	case reflect.Func, reflect.Chan:
		if a.IsNil() != b.IsNil() {
			w.differ(field, path, "nil is %v in the original and %v in the copy", a.IsNil(), b.IsNil())
		} else if !a.IsNil() {
			w.differ(field, path, "a %v ties it to something", a.Kind())
		}
	default:
		if !a.Equal(b) {
			w.differ(field, path, "%v in the original and %v in the copy", a, b)
		}
	}
}

// first reports whether two places have not been compared yet.
func (w *walk) first(a, b uintptr, t reflect.Type) bool {
	p := pair{a, b, t}
	known := w.seen[p]
	w.seen[p] = true
	return !known
}

// structs compares two structs, but for what is listed.
func (w *walk) structs(a, b reflect.Value, path string) {
	t := a.Type()
	name := t.Name()
	if i := strings.IndexByte(name, '['); i >= 0 {
		name = name[:i]
	}
	switch {
	case t.PkgPath() == "sync": // locks are nobody's state
		return
	case t.PkgPath() == "net/netip": // values, whatever they point to
		if !a.Equal(b) {
			w.differ(name, path, "%v in the original and %v in the copy", a, b)
		}
		return
	case t.PkgPath() == "sync/atomic" && name == "Pointer":
		w.atomics(a, b, path)
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		field := name + "." + f.Name
		if _, listed := w.same[field]; listed || f.Name == "_" {
			continue
		}
		w.values(a.Field(i), b.Field(i), field, path+"."+f.Name)
	}
}

// atomics compares what two atomic pointers point to. Their type stands in a field of them.
func (w *walk) atomics(a, b reflect.Value, path string) {
	t, at := a.Type(), 0
	to := t.Field(0).Type.Elem() // _ [0]*T
	for t.Field(at).Name != "v" {
		at++
	}
	x, y := a.Field(at).UnsafePointer(), b.Field(at).UnsafePointer()
	w.values(reflect.NewAt(to.Elem(), x), reflect.NewAt(to.Elem(), y), "atomic.Pointer["+to.Elem().Name()+"]", path)
}

// elements compares what arrays or slices of one length hold.
func (w *walk) elements(a, b reflect.Value, field, path string) {
	for i := range a.Len() {
		w.values(a.Index(i), b.Index(i), field, fmt.Sprintf("%s[%d]", path, i))
	}
}

// maps compares two maps. Keys that are pointers are those of one copy, so that only how many
// there are is compared then.
func (w *walk) maps(a, b reflect.Value, field, path string) {
	if a.Len() != b.Len() {
		w.differ(field, path, "%d entries in the original and %d in the copy", a.Len(), b.Len())
		return
	}
	if a.Len() == 0 || !w.apart(a.Pointer(), b.Pointer(), field, path) || a.Type().Key().Kind() == reflect.Pointer {
		return
	}
	for k, v := range a.Seq2() {
		if other := b.MapIndex(k); other.IsValid() {
			w.values(v, other, field, fmt.Sprintf("%s[%v]", path, k))
		} else {
			w.differ(field, path, "the copy has no %v", k)
		}
	}
}

// here is a variable of the program, as those are that never change.
var here [1]byte

// static reports whether a place is in the program and not on the heap: near to what is.
func static(p uintptr) bool {
	const size = 1 << 28
	return p-reflect.ValueOf(&here).Pointer()+size < 2*size
}
