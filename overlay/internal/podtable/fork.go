package podtable

import (
	"maps"
	"slices"
)

// Fork returns a copy of t.
func (t *Table) Fork() Table {
	to := Table{maps.Clone(t.byName), slices.Clone(t.blocks)}
	for i := range to.blocks {
		to.blocks[i].names = slices.Clone(to.blocks[i].names)
	}
	return to
}

// Fork returns a copy of b.
func (b *Bits) Fork() *Bits {
	to := new(Bits)
	for i := range b {
		to[i].Store(b[i].Load())
	}
	return to
}
