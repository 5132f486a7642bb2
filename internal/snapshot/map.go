package snapshot

import (
	"maps"
	"slices"
)

// maxName is the longest name that a map has.
const maxName = 4096

// Map writes the elements of a map by their names, in order, or reads one, of at most most: each does it
// with one element. A name that is there twice, or out of order, is refused.
func Map[E any](a *Archive, all *map[string]E, most int, each func(*E)) {
	names, was := slices.Sorted(maps.Keys(*all)), *all
	if !a.Writing() {
		*all = make(map[string]E)
	}
	last, first := "", true
	Slice(a, &names, most, func(name *string) {
		e := was[*name]
		if a.Text(name, maxName); !a.Check(first || *name > last, "%q comes after %q", *name, last) {
			return
		}
		last, first = *name, false
		if each(&e); !a.Writing() {
			(*all)[*name] = e
		}
	})
}
