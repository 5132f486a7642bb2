//go:build natplane_invariants

package heldsyn

import "fmt"

// check panics if held SYNs are too many, out of order or held twice. mu must be
// held.
func (h *Table) check() {
	if len(h.all) > h.max {
		panic(fmt.Sprintf("heldsyn: %d SYNs are held, at most %d may", len(h.all), h.max))
	}
	for i := range h.all {
		if i > 0 && h.all[i].due < h.all[i-1].due {
			panic(fmt.Sprintf("heldsyn: held SYN %d is due at %v, the one before at %v", i, h.all[i].due, h.all[i-1].due))
		}
		if at, _ := h.find(&h.all[i].connection); at != i {
			panic(fmt.Sprintf("heldsyn: SYN %d is held twice", i))
		}
	}
}
