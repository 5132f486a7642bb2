// The doors of an egress: which packets its translator carries, and which the gateway.

package lb

import (
	"iter"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Outbound takes a packet from a machine, or from behind one, and rewrites it in
// place. See [snat.NAT.Outbound].
func (e *Egress) Outbound(now flow.Time, pkt []byte) flow.Verdict {
	for {
		before := e.gateway.Load()
		v := e.nat.Outbound(now, pkt)
		if v.Action != flow.Bypass {
			return v
		}
		g := e.gateway.Load()
		if g.Gateway != nil {
			return g.Outbound(now, pkt)
		}
		if g == before {
			return v
		}
		// The gateway that the packet was passed on to has gone meanwhile.
	}
}

// Inbound takes a packet from the Internet and rewrites it in place. See
// [snat.NAT.Inbound].
func (e *Egress) Inbound(now flow.Time, pkt []byte) flow.Verdict {
	if g := e.gateway.Load(); g.owns(pkt) {
		return g.Inbound(now, pkt)
	}
	return e.nat.Inbound(now, pkt)
}

// OutboundBatch is Outbound for many packets at once. See [snat.NAT.OutboundBatch].
func (e *Egress) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	before := e.gateway.Load()
	e.nat.OutboundBatch(now, pkts, verdicts)
	g := e.gateway.Load()
	if g.Gateway == nil {
		for i := range pkts {
			if g != before && verdicts[i].Action == flow.Bypass {
				verdicts[i] = e.Outbound(now, pkts[i])
			}
		}
		return
	}
	part := parts.Get().(*part)
	for i := range pkts {
		if verdicts[i].Action == flow.Bypass {
			part.add(i, pkts, verdicts, now, g.OutboundBatch)
		}
	}
	part.flush(verdicts, now, g.OutboundBatch)
	parts.Put(part)
}

// InboundBatch is Inbound for many packets at once. See [snat.NAT.InboundBatch].
func (e *Egress) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	g := e.gateway.Load()
	if g.Gateway == nil {
		e.nat.InboundBatch(now, pkts, verdicts)
		return
	}
	ours, others := parts.Get().(*part), parts.Get().(*part)
	for i, pkt := range pkts {
		if g.owns(pkt) {
			ours.add(i, pkts, verdicts, now, g.InboundBatch)
		} else {
			others.add(i, pkts, verdicts, now, e.nat.InboundBatch)
		}
	}
	ours.flush(verdicts, now, g.InboundBatch)
	others.flush(verdicts, now, e.nat.InboundBatch)
	parts.Put(ours)
	parts.Put(others)
}

// Advance makes the probes that are due at now, and expires what is due; resets go to
// emit. See [snat.NAT.Advance].
func (e *Egress) Advance(now flow.Time, emit flow.Sink) {
	e.health.advance(now, e.nat)
	e.nat.Advance(now, e.before(emit))
	if g := e.Gateway(); g != nil {
		g.Advance(now, emit)
	}
}

// AdvanceStep does a bounded piece of what Advance does, and reports whether all is
// done. See [snat.NAT.AdvanceStep].
func (e *Egress) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	e.health.advance(now, e.nat)
	if !e.nat.AdvanceStep(now, e.before(emit)) {
		return false
	}
	g := e.Gateway()
	return g == nil || g.AdvanceStep(now, emit)
}

// NextDeadline returns when Advance is to be called next, and false if nothing is
// waiting. The first probes follow the first call of Advance. See
// [snat.NAT.NextDeadline].
func (e *Egress) NextDeadline() (flow.Time, bool) {
	at, ok := e.health.earlier(e.nat.NextDeadline())
	if g := e.Gateway(); g != nil {
		if d, waiting := g.NextDeadline(); waiting && (!ok || d < at) {
			return d, true
		}
	}
	return at, ok
}

// DeadlineMoved reports whether NextDeadline may answer an earlier time than it last
// did, because of packets since. See [snat.NAT.DeadlineMoved].
func (e *Egress) DeadlineMoved() bool {
	g := e.Gateway()
	return e.nat.DeadlineMoved() || g != nil && g.DeadlineMoved()
}

// Sessions iterates over copies of all sessions, those of the gateway last. See
// [snat.NAT.Sessions].
func (e *Egress) Sessions() iter.Seq[flow.Info] {
	return func(yield func(flow.Info) bool) {
		for s := range e.nat.Sessions() {
			if !yield(s) {
				return
			}
		}
		if g := e.Gateway(); g != nil {
			for s := range g.Sessions() {
				if !yield(s) {
					return
				}
			}
		}
	}
}
