// Package sums adds up and sorts statistics. All of it is pure functions; what the numbers mean
// they do not know.
package sums

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat"
)

// Of returns the sum of all numbers in a and b, field by field. It panics if there is a field of
// a kind that has no sum here.
func Of[T any](a, b T) T {
	add(reflect.ValueOf(&a).Elem(), reflect.ValueOf(b))
	return a
}

// add adds the numbers of b to those of a.
func add(a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			add(a.Field(i), b.Field(i))
		}
	case reflect.Array:
		for i := range a.Len() {
			add(a.Index(i), b.Index(i))
		}
	case reflect.Uint64:
		a.SetUint(a.Uint() + b.Uint())
	case reflect.Int:
		a.SetInt(a.Int() + b.Int())
	default:
		panic("sums: cannot add up " + a.Type().String())
	}
}

// Biggest returns the k biggest users, ties by name.
func Biggest(ports map[string]int, k int) []snat.PortUser {
	users := make([]snat.PortUser, 0, len(ports))
	for name, n := range ports {
		users = append(users, snat.PortUser{Name: name, Ports: n})
	}
	slices.SortFunc(users, func(a, b snat.PortUser) int {
		return cmp.Or(cmp.Compare(b.Ports, a.Ports), cmp.Compare(a.Name, b.Name))
	})
	return users[:max(0, min(k, len(users)))]
}

// Changes returns the report of both translators as one: a node's sessions are those of both,
// its ports those of the egress.
func Changes(egress, nodes snat.Change) snat.Change {
	at := make(map[string]int, len(egress.Instances))
	for i := range egress.Instances {
		at[egress.Instances[i].Name] = i
	}
	for _, n := range nodes.Instances {
		i, ok := at[n.Name]
		if !ok {
			egress.Instances = append(egress.Instances, n)
			continue
		}
		for cause, k := range n.Cut {
			egress.Instances[i].Cut[cause] += k
		}
	}
	return egress
}
