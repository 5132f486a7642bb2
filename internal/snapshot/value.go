package snapshot

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"unsafe"
)

// Value writes or reads all that a variable holds, field by field, fields that are not exported
// included: numbers, bools, texts, addresses, and arrays, structs and slices of such. Slices and texts
// have at most most elements. Fields that except names, at whatever depth, are left alone. It is for
// small state of many fields, and slower than what names each; it panics on a type that it cannot
// write, for that is a mistake in the program. The variable must not change meanwhile, except for
// atomic numbers.
//
// What is written has the order of the fields, and not their names: whoever adds a field makes another
// version of the snapshot.
func (a *Archive) Value(pointer any, most int, except ...string) {
	(&walker{a, most, except}).value(reflect.ValueOf(pointer).Elem())
}

type walker struct {
	a      *Archive
	most   int
	except []string
}

// open returns v as a value that may be read and set, whoever has its field.
func open(v reflect.Value) reflect.Value {
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
}

func (w *walker) value(v reflect.Value) {
	a := w.a
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		a.Addr(p)
		return
	case *atomic.Int64:
		n := p.Load()
		Num(a, &n)
		p.Store(n)
		return
	case *atomic.Uint64:
		n := p.Load()
		Num(a, &n)
		p.Store(n)
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		yes := v.Bool()
		a.Bool(&yes)
		v.SetBool(yes)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := v.Int()
		if Num(a, &n); a.Check(!v.OverflowInt(n), "the number %d is out of range", n) {
			v.SetInt(n)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n := v.Uint()
		if Num(a, &n); a.Check(!v.OverflowUint(n), "the number %d is out of range", n) {
			v.SetUint(n)
		}
	case reflect.String:
		s := v.String()
		a.Text(&s, w.most)
		v.SetString(s)
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			Array(a, v.Bytes())
			return
		}
		for i := range v.Len() {
			w.value(v.Index(i))
		}
	case reflect.Slice:
		w.slice(v)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name != "_" && !slices.Contains(w.except, f.Name) {
				w.value(open(v.Field(i)))
			}
		}
	default:
		panic(fmt.Sprintf("snapshot: a %v cannot be written", v.Type()))
	}
}

func (w *walker) slice(v reflect.Value) {
	if b, ok := v.Addr().Interface().(*[]byte); ok {
		w.a.Bytes(b, w.most)
		return
	}
	n := w.a.Len(v.Len(), w.most)
	if w.a.Writing() {
		for i := range n {
			w.value(v.Index(i))
		}
		return
	}
	v.SetZero()
	for range n {
		e := reflect.New(v.Type().Elem()).Elem()
		if w.value(e); !w.a.OK() {
			v.SetZero()
			return
		}
		v.Set(reflect.Append(v, e))
	}
}
