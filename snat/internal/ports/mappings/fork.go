package mappings

import "github.com/seed-a61be3fe/natplane/internal/slab"

// ForkTo makes to, which is zero, a copy of t in mem, in the place of Init. It reports whether
// there was memory. Cost: that of copying it.
func (t *Table) ForkTo(to *Table, mem *slab.Memory) bool {
	to.hasher, to.apart = t.hasher, t.apart
	return t.narrow.ForkTo(&to.narrow, mem) && t.wide.ForkTo(&to.wide, mem) && t.byInside.ForkTo(&to.byInside, mem) &&
		t.claims.ForkTo(&to.claims, mem) && t.byScope.ForkTo(&to.byScope, mem)
}
