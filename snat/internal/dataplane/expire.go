package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Advance brings the translator to now: what is due ends, shard by shard, and what packets
// and ends have left to be sent comes out of emit, unless that is nil. The lock of a shard
// is released after every step.
func (n *NAT) Advance(now flow.Time, emit flow.Sink) {
	if n.closed.Load() {
		return
	}
	n.renew(now)
	for n.logDaily(now) {
	}
	for _, sh := range n.all() {
		for !n.step(sh, now, emit) {
		}
	}
	for !n.advanceFragments(now, emit) {
	}
	n.held.Advance(now)
	n.outbox.Advance(emit)
}

// AdvanceStep does a bounded piece of the work in each shard, or else of fragments, and
// reports whether all is done.
func (n *NAT) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	if n.closed.Load() {
		return true
	}
	n.renew(now)
	if n.logDaily(now) {
		return false
	}
	for _, sh := range n.all() {
		if !n.step(sh, now, emit) {
			return false
		}
	}
	if !n.advanceFragments(now, emit) {
		return false
	}
	n.held.Advance(now)
	n.outbox.Advance(emit)
	return true
}

// step does one piece of one shard's work.
func (n *NAT) step(sh *shard, now flow.Time, emit flow.Sink) (done bool) {
	sh.Lock()
	more := sh.work(now)
	resets, waiting := sh.resets.Take()
	if !more {
		sh.Tidy(now)
		sh.mem.Tidy(int64(now))
	}
	sh.audit.step(sh)
	sh.Unlock()
	if emit != nil {
		resets.Emit(emit)
	}
	if len(resets) > 0 && !waiting {
		sh.Lock()
		sh.resets.Reuse(resets)
		sh.Unlock()
	}
	return !more && !waiting
}

// advanceFragments does a bounded piece of what is due of fragments and emits some of
// those that have waited. It reports whether nothing is left.
func (n *NAT) advanceFragments(now flow.Time, emit flow.Sink) (done bool) {
	if emit == nil {
		return n.fragments.table.Advance(now, emitStep, nil)
	}
	return n.fragments.table.Advance(now, emitStep, func(d fragments.Departure) {
		v := d.Verdict
		if n.routed {
			n.hop(n.routes.Load(), d.From, d.At, d.Packet, &v)
		}
		if v.Action == flow.Forward || v.Action == flow.Bypass {
			emit(flow.Emission{At: d.At, To: v.To, Instance: v.Instance, Packet: d.Packet})
		}
	})
}

// emitStep is how many fragments leave in one step.
const emitStep = 64

// NextDeadline returns the earliest time at which Advance may have work to do,
// and whether there is any: never later than the first deadline.
func (n *NAT) NextDeadline() (at flow.Time, ok bool) {
	if n.closed.Load() {
		return 0, false
	}
	n.notice.Clear()
	earlier := func(d flow.Time, found bool) {
		if found && (!ok || d < at) {
			at, ok = d, true
		}
	}
	for _, sh := range n.all() {
		sh.Lock()
		earlier(sh.NextDeadline())
		earlier(sh.resets.NextDeadline())
		earlier(sh.WakeAt, sh.WakeAt != ports.Never)
		sh.Unlock()
	}
	earlier(n.fragments.table.NextDeadline())
	earlier(n.held.NextDeadline())
	earlier(n.outbox.NextDeadline())
	until := n.routes.Load().Until
	earlier(until, until != ports.Never)
	earlier(n.records.Next())
	return at, ok
}

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last did.
func (n *NAT) DeadlineMoved() bool { return n.notice.Raised() }

// HoldFree puts every port that has no session into quarantine, as if it had been
// freed at now.
func (n *NAT) HoldFree(now flow.Time) {
	n.renew(now)
	n.control.RLock()
	defer n.control.RUnlock()
	for _, inst := range n.order {
		sh := n.shards[inst.Shard]
		sh.Lock()
		sh.expireAll(now)
		sh.HoldFree(now, &inst.Instance)
		sh.Unlock()
	}
}
