package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What tests ask of all that there is, by looking at every record.

// Check panics if the invariants of a shard do not hold against its sessions. It does
// nothing without the build tag natplane_invariants.
func (n *NAT) Check() {
	for _, sh := range n.all() {
		sh.Lock()
		defer sh.Unlock() // also where it panics, so that Close does not wait forever
		if !n.closed.Load() {
			sh.check()
		}
	}
	if !n.closed.Load() {
		n.ports.Check()
	}
	n.fragments.table.Check()
}

// FirstDue returns the time of the first thing that Advance has to do, exactly and the
// slow way, and what it is; ports.Never if there is none.
func (n *NAT) FirstDue() (first flow.Time, what string) {
	first = ports.Never
	due := func(at flow.Time, ok bool, of string) {
		if ok && at < first {
			first, what = at, of
		}
	}
	for _, sh := range n.all() {
		sh.Lock()
		for _, id := range sh.all() {
			at := sh.Deadline(sh.At(id))
			due(at, at >= 0, "session")
		}
		at, ok := sh.resets.NextDeadline()
		due(at, ok, "reset")
		due(sh.WakeAt, true, "resting port")
		sh.Unlock()
	}
	at, ok := n.fragments.table.NextDeadline()
	due(at, ok, "fragment")
	at, ok = n.held.NextDeadline()
	due(at, ok, "held SYN")
	at, ok = n.outbox.NextDeadline()
	due(at, ok, "packet made")
	return first, what
}
