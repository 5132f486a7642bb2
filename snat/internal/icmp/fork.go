package icmp

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Lock locks an outbox, for ForkTo.
func (o *Outbox) Lock() { o.mu.Lock() }

// Unlock is the inverse of Lock.
func (o *Outbox) Unlock() { o.mu.Unlock() }

// ForkTo makes to, which is zero, a copy of o, which is locked, with a notice of its own; see
// Init, whose place it takes.
func (o *Outbox) ForkTo(to *Outbox, notice *flow.Notice) {
	to.notice, to.silent, to.rate = notice, o.silent, o.rate
	to.queue, to.bytes, to.errors, to.suppressed = slices.Clone(o.queue), o.bytes, o.errors, o.suppressed
	for i := range to.queue {
		to.queue[i].Packet = slices.Clone(o.queue[i].Packet)
	}
}
