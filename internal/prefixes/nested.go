package prefixes

import (
	"net/netip"
	"slices"
)

// Nested visits prefixes, given by their index, in the order of their addresses, wider
// ones first and equal ones as they stand. open are those that contain the one visited,
// outermost first: prefixes nest or are disjoint, so all that overlap it from before are
// among them. Cost: O(n log n), and the visits.
func Nested(n int, at func(i int) netip.Prefix, visit func(open []int, i int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return at(i).Masked().Compare(at(j).Masked()) })
	var open []int
	for _, i := range order {
		for len(open) > 0 && !at(open[len(open)-1]).Overlaps(at(i)) {
			open = open[:len(open)-1]
		}
		visit(open, i)
		open = append(open, i)
	}
}

// Names are the names of prefixes, such as what has them. The zero value has none.
type Names[T any] struct {
	of   map[netip.Prefix]T
	bits [129]bool // lengths of the prefixes
}

// Put names a prefix, unless it is not valid or has a name already.
func (n *Names[T]) Put(p netip.Prefix, name T) {
	if p = p.Masked(); !p.IsValid() {
		return
	}
	if n.of == nil {
		n.of = map[netip.Prefix]T{}
	}
	if _, known := n.of[p]; !known {
		n.of[p], n.bits[p.Bits()] = name, true
	}
}

// Of returns the name of the longest prefix that has an address, and false if none has.
func (n *Names[T]) Of(a netip.Addr) (name T, ok bool) {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if n.bits[bits] {
			if p, err := a.Prefix(bits); err == nil {
				if name, ok = n.of[p]; ok {
					return name, true
				}
			}
		}
	}
	return name, false
}
