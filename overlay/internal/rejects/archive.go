package rejects

import (
	"maps"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// Archive writes o, or makes it, which is zero but for its Notice, what was written.
func (o *Outbox) Archive(a *snapshot.Archive) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a.Section("rejects")
	snapshot.Nums(a, &o.made, &o.suppressed)
	snapshot.Slice(a, &o.queue, maxWaiting, func(e *flow.Emission) {
		snapshot.Num(a, &e.At)
		snapshot.Num(a, &e.To)
		snapshot.Num(a, &e.Instance)
		a.Bytes(&e.Packet, maxBytes6)
		a.Check(e.To == flow.Inside || e.To == flow.Outside, "an answer to side %d", e.To)
	})
	nodes := slices.Sorted(maps.Keys(o.next))
	snapshot.Slice(a, &nodes, 1<<20, func(node *uint32) {
		next := o.next[*node]
		snapshot.Num(a, node)
		if snapshot.Num(a, &next); !a.Writing() && a.OK() {
			if o.next == nil {
				o.next = make(map[uint32]flow.Time)
			}
			o.next[*node] = next
		}
	})
}
