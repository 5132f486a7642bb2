package rejects

import (
	"maps"
	"slices"
)

// ForkTo makes to, which is zero but for its Notice, a copy of o.
func (o *Outbox) ForkTo(to *Outbox) {
	o.mu.Lock()
	defer o.mu.Unlock()
	to.queue, to.next, to.made, to.suppressed = slices.Clone(o.queue), maps.Clone(o.next), o.made, o.suppressed
	for i := range to.queue {
		to.queue[i].Packet = slices.Clone(o.queue[i].Packet)
	}
}
