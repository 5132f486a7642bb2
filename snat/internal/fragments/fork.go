package fragments

import (
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Lock locks a table, for Fork.
func (t *Table) Lock() {
	if t != nil {
		t.mu.Lock()
	}
}

// Unlock is the inverse of Lock.
func (t *Table) Unlock() {
	if t != nil {
		t.mu.Unlock()
	}
}

// Fork returns a copy of t, which is locked, and whether there was memory. What ties it to its
// owner is that of c, whose Hasher is the same; Limits and Recall are those of t. Cost: that of
// copying it.
func (t *Table) Fork(c Config) (*Table, bool) {
	if t == nil {
		return nil, true
	}
	c.Limits, c.Recall = t.limits, t.recall
	to := unmade(c)
	to.lists, to.leaving, to.told, to.queued, to.unfound = t.lists, t.leaving, t.told, t.queued, t.unfound
	to.forwarded, to.bypassed = t.forwarded, t.bypassed
	for m := range t.ranks {
		to.ranks[m] = slab.Clone(t.ranks[m])
	}
	ok := t.datagrams.ForkTo(&to.datagrams, &to.mem) && t.byKey.ForkTo(&to.byKey, &to.mem) &&
		t.sources.ForkTo(&to.sources, &to.mem) && t.bySource.ForkTo(&to.bySource, &to.mem) &&
		t.owners.ForkTo(&to.owners, &to.mem) && t.byOwner.ForkTo(&to.byOwner, &to.mem) && t.byLeft.ForkTo(&to.byLeft, &to.mem) &&
		t.pieces.ForkTo(&to.pieces, &to.mem) && t.cells.ForkTo(&to.cells, &to.mem) && t.releases.ForkTo(&to.releases, &to.mem)
	if !ok {
		to.mem.Release()
	}
	return to, ok
}

// Fork returns a copy of g that hands out the same ones from then on. Cost: 4 KiB.
func (g *IDs) Fork() *IDs {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return &IDs{hasher: g.hasher, keys: g.keys, next4: g.next4, next6: g.next6}
}

// ForkTo makes to, which is zero, a copy. Others may count meanwhile.
func (c *Corrections) ForkTo(to *Corrections) {
	for side := range 2 {
		to.Reconsidered[side].Store(c.Reconsidered[side].Load())
		to.Lost[side].Store(c.Lost[side].Load())
	}
}
