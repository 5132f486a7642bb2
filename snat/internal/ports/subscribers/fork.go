package subscribers

import "github.com/seed-a61be3fe/natplane/internal/slab"

// ForkTo makes to, which is zero, a copy of t in mem, in the place of Init. It reports whether
// there was memory. Cost: that of copying it.
func (t *Table) ForkTo(to *Table, mem *slab.Memory) bool {
	to.hasher, to.idle = t.hasher, slab.Clone(t.idle)
	return t.slab.ForkTo(&to.slab, mem) && t.index.ForkTo(&to.index, mem) && t.rings.ForkTo(&to.rings, mem)
}
