package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Advance brings the translator to now: sessions that have reached their idle
// timeout end, their ports become free, and with EnableTCPReset both ends of an
// established connection are sent a RST. Resets and answers that packets have
// caused since the last call come out as well, then the fragments whose first one
// they have waited for, then ICMP errors, those for held SYNs too, and what exceeded
// the MTU in parts. emit may be nil, which discards all these.
//
// Ends are processed in the order of their deadlines within a shard, and shard
// by shard. The lock is released after every 64 of them, so that packets never
// wait for long. now must not lie before that of an earlier call.
//
// Packets need no Advance to be judged correctly: a session that is over is
// never used, whether or not its timer has been processed. A packet that finds one,
// or begins a flow, first ends all that is due in its shard, and so does one that
// comes more than 12 days after the last that did. What packets become does not
// depend on how often Advance is called. How long such a packet takes does, and so
// does which of the connections that end in the same millisecond are reset, where
// Policy.ResetRate does not permit all. A packet may come a little out of order; a
// time that lies more than 12 days before the latest counts as 12 days before.
func (n *NAT) Advance(now flow.Time, emit flow.Sink) {
	if n.closed.Load() {
		return
	}
	n.renew(now)
	for n.logDaily(now) {
	}
	for i := range n.shards {
		for !n.step(&n.shards[i], now, emit) {
		}
	}
	for !n.advanceFragments(now, emit) {
	}
	n.held.Advance(now)
	n.outbox.Advance(emit)
}

// AdvanceStep is Advance for drivers that must not be away for long: it does a
// bounded piece of the work in each shard, 64 ends, 4,096 timers, 4,096 ports that
// have rested and 256 resets at most, or else 64 fragments, 2,048 that wait no longer,
// or 4 MiB of ICMP errors and parts of packets, and reports whether all is done. Only
// when a [Dataplane].ReclaimGrace ends is a piece as large as a [NAT.Reconfigure], and
// the parameters of deterministic mappings are told for a whole day.
func (n *NAT) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	if n.closed.Load() {
		return true
	}
	n.renew(now)
	if n.logDaily(now) {
		return false
	}
	for i := range n.shards {
		if !n.step(&n.shards[i], now, emit) {
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
// and whether there is any: never later than the first deadline. It is exact for a
// session that ends less than 256 ms after the last call of Advance, and for all that
// is no session; else it may be earlier, and calling Advance then brings the answer
// closer. See [flow.Shard.NextDeadline]. Cost: one lock per shard; [NAT.DeadlineMoved]
// says cheaply after which packets it is worth that.
func (n *NAT) NextDeadline() (at flow.Time, ok bool) {
	if n.closed.Load() {
		return 0, false
	}
	n.notice.Clear()
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		d, found := sh.NextDeadline()
		if at, waits := sh.resets.NextDeadline(); waits {
			d, found = at, true
		}
		wake := sh.WakeAt
		sh.Unlock()
		if found && (!ok || d < at) {
			at, ok = d, true
		}
		if wake != ports.Never && (!ok || wake < at) {
			at, ok = wake, true
		}
	}
	if d, found := n.fragments.table.NextDeadline(); found && (!ok || d < at) {
		at, ok = d, true
	}
	if d, found := n.held.NextDeadline(); found && (!ok || d < at) {
		at, ok = d, true
	}
	if d, found := n.outbox.NextDeadline(); found && (!ok || d < at) {
		at, ok = d, true
	}
	for _, due := range [...]flow.Time{n.routes.Load().until, flow.Time(n.recordAt.Load())} {
		if due >= 0 && due != ports.Never && (!ok || due < at) {
			at, ok = due, true
		}
	}
	return at, ok
}

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last
// did, because of packets since. It is true at times when the answer is the same, never
// false when it is earlier. What raises it: a timer that is armed before all that its
// shard had when it was last asked, and the first packet that waits for Advance, be it a
// reset, an ICMP error, a held SYN, a fragment, or that rests with a port. Cost: one
// read, no lock.
func (n *NAT) DeadlineMoved() bool { return n.notice.Raised() }

// HoldFree puts every port that has no session into quarantine, as if it had been
// freed at now: what a translator that has lost its state does before it carries
// traffic, because it does not know which ports were in use (RFC 6888 REQ-8). It
// respects MaxPorts, and does nothing without a Quarantine. now must not lie
// before that of an earlier call. Cost: O(ports), with one shard locked at a time.
func (n *NAT) HoldFree(now flow.Time) {
	n.renew(now)
	n.control.RLock()
	defer n.control.RUnlock()
	for _, inst := range n.order {
		sh := &n.shards[inst.Shard]
		sh.Lock()
		sh.expireAll(now)
		sh.HoldFree(now, &inst.Instance)
		sh.Unlock()
	}
}
