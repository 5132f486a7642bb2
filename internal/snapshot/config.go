package snapshot

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Config writes what a configuration is, or compares it with what was written: each difference is
// an error that wraps [ErrConfig] and names the field, or of a list the element, and all are told, up to
// the first 20. config is a struct, or a pointer to one. Fields that except names, at whatever depth,
// may differ, and so may functions, channels and fields that are not exported. A list that is nil
// is the same as one without elements.
//
// Written are digests, not values: the caller of Restore has the configuration. Cost: O(its size).
func (a *Archive) Config(config any, except ...string) {
	v := reflect.Indirect(reflect.ValueOf(config))
	var wrong []error
	for name, field := range parts(v, except) {
		if k := field.Kind(); k == reflect.Slice && composite(field.Type().Elem()) {
			n := field.Len()
			was := n
			if Num(a, &was); was != n {
				wrong = append(wrong, fmt.Errorf("%s has %d elements, and had %d", name, n, was))
			}
			for i := range was {
				if a.err != nil {
					return
				}
				d := uint64(0)
				if i < n {
					d = digestOf(field.Index(i), except)
				}
				if is := d; i < n {
					if a.digest(&d); d != is && len(wrong) < 20 {
						wrong = append(wrong, fmt.Errorf("%s[%d] is another one", name, i))
					}
				} else {
					a.digest(&d)
				}
			}
			continue
		}
		d := digestOf(field, except)
		is := d
		if a.digest(&d); d != is && len(wrong) < 20 {
			wrong = append(wrong, fmt.Errorf("%s is another one, not %s", name, shown(field)))
		}
	}
	if err := errors.Join(wrong...); err != nil && a.err == nil {
		a.fail(fmt.Errorf("%w: %w", ErrConfig, err))
	}
}

// digest writes or reads a digest, which no varint makes shorter.
func (a *Archive) digest(d *uint64) {
	lo, hi := uint32(*d), uint32(*d>>32)
	Nums(a, &lo, &hi)
	*d = uint64(hi)<<32 | uint64(lo)
}

// shown returns a value as an error shows it.
func shown(v reflect.Value) string {
	s := fmt.Sprintf("%+v", v)
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return s
}

// composite reports whether elements of a type are told apart in errors.
func composite(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() > 0 || t.Kind() == reflect.Pointer
}

// parts iterates over the fields that are compared, those of embedded structs in their place.
func parts(v reflect.Value, except []string) func(func(string, reflect.Value) bool) {
	return func(yield func(string, reflect.Value) bool) { eachPart(v, except, yield) }
}

func eachPart(v reflect.Value, except []string, yield func(string, reflect.Value) bool) bool {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case !f.IsExported() && !f.Anonymous || slices.Contains(except, f.Name) || silent(f.Type):
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			if !eachPart(v.Field(i), except, yield) {
				return false
			}
		case !f.IsExported():
		case !yield(f.Name, v.Field(i)):
			return false
		}
	}
	return true
}

// silent reports whether values of a type say nothing.
func silent(t reflect.Type) bool { return t.Kind() == reflect.Func || t.Kind() == reflect.Chan }

func digestOf(v reflect.Value, except []string) uint64 {
	d := digester{hash: xxhash.New(), except: except}
	d.value(v)
	return d.hash.Sum64()
}

type digester struct {
	hash   *xxhash.Digest
	except []string
	word   [8]byte
}

func (d *digester) number(n uint64) {
	binary.LittleEndian.PutUint64(d.word[:], n)
	d.hash.Write(d.word[:])
}

func (d *digester) text(s string) {
	d.number(uint64(len(s)))
	d.hash.WriteString(s)
}

// value takes in a value, so that no two that differ look the same.
func (d *digester) value(v reflect.Value) {
	if v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface && v.CanInterface() {
		if m, ok := v.Interface().(encoding.TextMarshaler); ok { // addresses and the like
			b, _ := m.MarshalText()
			d.text(string(b))
			return
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		n := uint64(0)
		if v.Bool() {
			n = 1
		}
		d.number(n)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		d.number(v.Uint())
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		d.text(fmt.Sprint(v))
	case reflect.String:
		d.text(v.String())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			d.number(0)
			return
		}
		if d.number(1); v.Kind() == reflect.Interface {
			d.text(v.Elem().Type().String())
		}
		d.value(v.Elem())
	case reflect.Slice, reflect.Array:
		d.number(uint64(v.Len()))
		for i := range v.Len() {
			d.value(v.Index(i))
		}
	case reflect.Map:
		d.number(uint64(v.Len()))
		sum := uint64(0)
		for k, e := range v.Seq2() {
			pair := digester{hash: xxhash.New(), except: d.except}
			pair.value(k)
			pair.value(e)
			sum += pair.hash.Sum64()
		}
		d.number(sum)
	case reflect.Struct:
		for _, field := range parts(v, d.except) {
			d.value(field)
		}
	}
}
