// Package owners finds addresses that belong to two owners. It refuses to know what owns them.
package owners

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Owned is an address or prefix, whose it is, and which field says so.
type Owned struct {
	Prefix netip.Prefix // without host bits
	Owner  Owner        // whoever has several may have them overlap
	Field  string       // of the owner; empty if that is a list
	Index  int          // of the element of a list, or -1 if the field is none
}

// Owner is an element of a list of resources.
type Owner struct {
	Path  string // of what has the list
	List  string // its field; empty if the resource is at Path, which then is not empty
	Index int
	Part  string // field of the resource that is an owner for itself, or empty
}

// path returns the path of the field.
func (o *Owned) path() string {
	field := o.Field
	if o.Index >= 0 {
		field = problems.Index(field, o.Index)
	}
	owner := o.Owner.Path
	if o.Owner.List != "" {
		owner = problems.Field(owner, problems.Index(o.Owner.List, o.Owner.Index))
	}
	return problems.Field(problems.Field(owner, o.Owner.Part), field)
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
			l.Add(c.path(), c.Prefix, flow.ErrOverlap, "with %s %v", o.path(), o.Prefix)
		}
	}
}
