package podtable

import (
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
)

const (
	maxName  = 1 << 12
	maxNodes = 1 << 20
)

// Archive writes t; or, if a is read, it gives t, which has no nodes, the pods that were written. room
// says how many pods a node has addresses for.
func (t *Table) Archive(a *snapshot.Archive, room func(node int) int) {
	a.Section("pods")
	for node := range a.Len(len(t.blocks), maxNodes) {
		if !a.OK() {
			return
		}
		t.Grow(node + 1)
		b := &t.blocks[node]
		a.Bool(&b.cordoned)
		snapshot.Num(a, &b.next)
		snapshot.Slice(a, &b.names, room(node), func(name *string) { a.Text(name, maxName) })
		if a.Writing() || !a.Check(b.next >= 0 && b.next <= max(room(node), 1), "the next pod of node %d is at %d", node, b.next) {
			continue
		}
		for i, name := range b.names {
			if name == "" {
				continue
			}
			if _, twice := t.byName[name]; !a.Check(!twice, "pod %q is there twice", name) {
				return
			}
			t.byName[name] = Place{node, addressing.FirstPodOffset + i}
			b.n++
		}
	}
}
