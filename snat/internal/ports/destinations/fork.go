package destinations

import "github.com/seed-a61be3fe/natplane/internal/slab"

// ForkTo makes to, which is zero, a copy of t in mem, in the place of Init. It reports whether
// there was memory. Cost: that of copying it.
func (t *Table) ForkTo(to *Table, mem *slab.Memory) bool {
	to.hasher, to.last, to.nodes, to.short, to.Spread, to.scratch = t.hasher, t.last, t.nodes, t.short, t.Spread, slab.Clone(t.scratch)
	return t.slab.ForkTo(&to.slab, mem) && t.runs.ForkTo(&to.runs, mem) && t.index.ForkTo(&to.index, mem)
}

// Fork returns a copy of k.
func (k *Sketch) Fork() Sketch { return Sketch{counts: slab.Clone(k.counts), total: k.total} }
