package ports

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// What is remembered of ports names everything by index: a copy of the memory is a copy
// of the state, and what is written can be read elsewhere. So the types of the state
// hold values, slices of values, and memory of package slab, whose records are values
// because it refuses others. What ties a state to its surroundings is listed here, with
// the reason why a copy has to get its own.
func TestStateHoldsNoPointers(t *testing.T) {
	ties := map[string]string{
		"State.Shard":            "the sessions underneath, which copy themselves",
		"State.space":            "what all shards have in common",
		"State.owner":            "the translator that the shard is part of",
		"Shared.Frontends":       "the configuration, which a copy has as well",
		"Frontend.Addr":          "the configuration: a name",
		"Instance.Name":          "the configuration",
		"Instance.Deterministic": "the configuration",
		"Instance.mapping":       "follows from the configuration",
	}
	found := map[string]bool{}
	for _, root := range []reflect.Type{
		reflect.TypeFor[State](), reflect.TypeFor[Instance](), reflect.TypeFor[Frontend](), reflect.TypeFor[shared](),
	} {
		for _, at := range pointers(root, root.Name()) {
			if _, listed := ties[at]; assert.True(t, listed, "%s is not by index", at) {
				found[at] = true
			}
		}
	}
	for at := range ties {
		assert.True(t, found[at], "%s is listed for nothing", at)
	}
}

// pointers returns the fields of a type of ours, and of those within, that hold what
// cannot be copied as memory. at is the field that has the type.
func pointers(t reflect.Type, at string) (all []string) {
	ours := strings.HasPrefix(t.PkgPath(), reflect.TypeFor[State]().PkgPath())
	switch t.Kind() {
	case reflect.Struct:
		if strings.HasSuffix(t.PkgPath(), "internal/slab") || strings.HasSuffix(t.PkgPath(), "internal/index") {
			return nil // memory of values
		}
		for i := range t.NumField() {
			f := t.Field(i)
			in := at
			if ours {
				in = t.Name() + "." + f.Name
			}
			all = append(all, pointers(f.Type, in)...)
		}
	case reflect.Array:
		return pointers(t.Elem(), at)
	case reflect.Slice:
		if all = pointers(t.Elem(), at); len(all) == 0 && hasSlices(t.Elem()) {
			return []string{at}
		}
	case reflect.Pointer, reflect.UnsafePointer, reflect.Map, reflect.Chan, reflect.Func, reflect.Interface, reflect.String:
		return []string{at}
	}
	return all
}

// hasSlices reports whether a type without pointers holds slices.
func hasSlices(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice:
		return true
	case reflect.Array:
		return hasSlices(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasSlices(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// The walk notices what must not be there.
func TestPointersAreNoticed(t *testing.T) {
	type inner struct {
		Name string
		List []int
	}
	type outer struct {
		Numbers [2][]uint64
		Inner   []inner
		Deep    [][]int
		Lists   []struct{ List []int }
		From    *outer
		Ask     func()
		Memory  slab.Slab[resting]
	}
	require.Equal(t, []string{"inner.Name", "outer.Deep", "outer.Lists", "outer.From", "outer.Ask"}, pointers(reflect.TypeFor[outer](), ""))
}
