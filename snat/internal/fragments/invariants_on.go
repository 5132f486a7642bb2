//go:build natplane_invariants

package fragments

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
)

// check recounts everything and panics if any counter, link or index entry disagrees. It is O(datagrams +
// pieces), and allocates nothing for a table without records.
func (t *Table) check() {
	records := t.datagrams.Len() + t.sources.Len() + t.owners.Len() + t.pieces.Len() + t.cells.Len() + t.releases.Len()
	listed := t.lists != [numLists]list{} || t.leaving != list{} || len(t.ranks[datagramLoad])+len(t.ranks[cellLoad]) > 0
	if records == 0 && !listed && t.queued == 0 {
		return
	}
	t.verify(func(format string, args ...any) { panic("fragments: " + fmt.Sprintf(format, args...)) })
	for _, l := range t.lists {
		for id := l.head; id != 0 && !t.unfound; id = t.datagrams.At(id).in[inStage].next {
			d := t.datagrams.At(id)
			if t.find(&d.key) != id || t.sourceOf(&d.key, t.owners.At(t.sources.At(d.source).owner).name) != d.source {
				panic(fmt.Sprintf("fragments: datagram %d is not found: %+v", id, *d))
			}
			if k := d.left(); d.action == flow.Forward && t.recall && t.findLeft(d.since, &k) == nil {
				panic(fmt.Sprintf("fragments: datagram %d is not found by what it left as: %+v", id, *d))
			}
		}
	}
}
