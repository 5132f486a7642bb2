// Package arbitrary changes values of any type by a script of decisions, so that
// tests can try arbitrary configurations. It knows nothing of what is valid.
package arbitrary

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// Values are worth trying in fields of some types; none may be empty.
type Values struct {
	Numbers []int64         // as far as they fit: of integers of all sizes
	Times   []time.Duration // of durations
	Addrs   []netip.Addr    // of prefixes too
	Texts   []string        // of strings

	// Types are pointers to structs that fields of interface types may hold, if they
	// have them; none may hold anything else.
	Types []reflect.Type
}

// prefixLens are the lengths of prefixes, valid or not.
var prefixLens = []int{32, 128, 0, 7, 8, 24, 28, 31, 64, 96, 124, 127, 129, -1}

// Change changes something in v, which must be settable, to anything of its type:
// one exported field, or one element of a slice, or their number. next decides between n
// possibilities, at most 256. It panics if v holds a map, a channel or an
// interface that none of Types has.
func (c Values) Change(next func(n int) int, v reflect.Value) {
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(pick(next, c.Addrs)))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.PrefixFrom(pick(next, c.Addrs), pick(next, prefixLens))))
		return
	case time.Duration:
		v.Set(reflect.ValueOf(pick(next, c.Times)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		fields := reflect.VisibleFields(v.Type())
		fields = slices.DeleteFunc(fields, func(f reflect.StructField) bool { return len(f.Index) > 1 || !f.IsExported() })
		c.Change(next, v.FieldByIndex(fields[next(len(fields))].Index))
	case reflect.Array:
		c.Change(next, v.Index(next(v.Len())))
	case reflect.Slice:
		switch n := v.Len(); {
		case n == 0 || next(8) == 0:
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			c.Change(next, v.Index(n))
		case next(8) == 0:
			v.Set(reflect.Append(v, v.Index(next(min(n, 256)))))
		case next(8) == 0:
			v.SetLen(n - 1)
		default:
			c.Change(next, v.Index(next(min(n, 256))))
		}
	case reflect.Pointer:
		switch {
		case v.IsNil():
			v.Set(reflect.New(v.Type().Elem()))
		case next(8) == 0:
			v.SetZero()
		default:
			c.Change(next, v.Elem())
		}
	case reflect.Interface:
		if v.IsNil() || next(8) == 0 {
			may := slices.DeleteFunc(slices.Clone(c.Types), func(t reflect.Type) bool { return !t.Implements(v.Type()) })
			if next(8) == 0 {
				v.SetZero()
			} else {
				v.Set(reflect.New(pick(next, may).Elem()))
			}
			return
		}
		c.Change(next, v.Elem().Elem())
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(pick(next, c.Texts))
	case reflect.Int, reflect.Int64:
		v.SetInt(pick(next, c.Numbers))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(pick(next, c.Numbers)))
	case reflect.Func:
		v.SetZero()
	default:
		panic(fmt.Sprintf("a configuration with a %v", v.Type()))
	}
}

func pick[T any](next func(n int) int, values []T) T { return values[next(len(values))] }
