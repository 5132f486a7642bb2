// Package owners finds addresses that belong to two owners. It refuses to know what owns them.
package owners

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Owned is an address or prefix and whose it is.
type Owned struct {
	Prefix netip.Prefix // without host bits
	Owner  string       // whoever has several may have them overlap
	Path   string       // of the field that says so
}

// Host returns the prefix of one address.
func Host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Check adds what belongs to two owners. Prefixes nest or are disjoint, so in sorted order,
// which all has afterwards, an overlap shows against the enclosing prefix.
func Check(l *problems.List, all []Owned) {
	slices.SortStableFunc(all, func(a, b Owned) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	for i, outer := 1, 0; i < len(all); i++ {
		o, c := all[outer], all[i]
		if !o.Prefix.Overlaps(c.Prefix) {
			outer = i
		} else if o.Owner != c.Owner {
			l.Add(c.Path, c.Prefix, flow.ErrOverlap, "with %s %v", o.Path, o.Prefix)
		}
	}
}
