package permits

import "github.com/seed-a61be3fe/natplane/internal/slab"

// Lock locks all of a table, for ForkTo.
func (t *Table) Lock() {
	for i := range t.stripes {
		t.stripes[i].mu.Lock()
	}
}

// Unlock is the inverse of Lock.
func (t *Table) Unlock() {
	for i := range t.stripes {
		t.stripes[i].mu.Unlock()
	}
}

// ForkTo makes to, which is zero, a copy of t, which is locked.
func (t *Table) ForkTo(to *Table) {
	to.Key = t.Key
	for i := range t.stripes {
		if was := t.stripes[i].parts; was != nil {
			all := *was
			for k := range all {
				all[k].slots = slab.Clone(all[k].slots)
			}
			to.stripes[i].parts = &all
		}
	}
}
