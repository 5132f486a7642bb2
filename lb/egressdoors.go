// The doors of an egress: which packets its translator carries, and which the gateway.

package lb

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/internal/batch"
	"github.com/seed-a61be3fe/natplane/snat"
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
			v = g.Outbound(now, pkt)
		}
		if g.Gateway == nil && g == before || g.Gateway != nil && !e.ended(g, v) {
			return v
		}
	}
}

// ended reports whether a packet was passed on to a gateway that has gone meanwhile, and has no backends.
func (e *Egress) ended(g *attached, v flow.Verdict) bool {
	return v.Action == flow.Drop && v.Reason == flow.ReasonSpoof && e.gateway.Load().Gateway != g.Gateway
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
	part := batch.Get()
	for i := range pkts {
		if v := &verdicts[i]; v.Action == flow.Bypass {
			part.Add(i, pkts, verdicts, now, g.OutboundBatch)
		}
	}
	part.Flush(verdicts, now, g.OutboundBatch)
	part.Put()
	for i := range pkts {
		if e.ended(g, verdicts[i]) {
			verdicts[i] = e.Outbound(now, pkts[i])
		}
	}
}

// InboundBatch is Inbound for many packets at once. See [snat.NAT.InboundBatch].
func (e *Egress) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	g := e.gateway.Load()
	if g.Gateway == nil {
		e.nat.InboundBatch(now, pkts, verdicts)
		return
	}
	ours, others := batch.Get(), batch.Get()
	for i, pkt := range pkts {
		if g.owns(pkt) {
			ours.Add(i, pkts, verdicts, now, g.InboundBatch)
		} else {
			others.Add(i, pkts, verdicts, now, e.nat.InboundBatch)
		}
	}
	ours.Flush(verdicts, now, g.InboundBatch)
	others.Flush(verdicts, now, e.nat.InboundBatch)
	ours.Put()
	others.Put()
}

// AnswersPublicIP reports whether what belongs to a flow, as Admit would get it, and begins none, leaves by its
// machine's public IP although a gateway precedes that, or a route passes packets on, for the flow came
// there. Instance and From do not matter.
func (e *Egress) AnswersPublicIP(now flow.Time, f snat.NewFlow) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	i, ok := e.state.resolved.backends[f.Name]
	is6 := f.Inside.Addr().Is6()
	if !ok || !e.state.resolved.Backends[i].publicIP(is6).IsValid() || !e.nat.Entered(now, f) {
		return false
	}
	routes := slices.Clone(e.state.config.LoadBalancer.Routes)
	for i := range routes {
		if r := &routes[i]; r.Action == snat.PassThrough && !r.PassOn {
			r.Action = snat.NodeAddress // nobody else's, either
		}
	}
	switch snat.RouteTo(routes, snat.ProtocolOf(f.Protocol), f.Remote) {
	case snat.Translate:
		return e.state.config.NATGateway.serves(is6)
	case snat.PassThrough:
		return true
	}
	return false
}

// Advance makes the probes that are due by now, each at its time, and expires what is due; resets go
// to emit. The first call makes no probe from before its now, so begin at the start of the
// simulation. See [snat.NAT.Advance].
func (e *Egress) Advance(now flow.Time, emit flow.Sink) {
	e.health.Advance(now, e.nat)
	e.nat.Advance(now, e.before(emit))
	if g := e.Gateway(); g != nil {
		g.Advance(now, emit)
	}
}

// AdvanceStep does a bounded piece of what Advance does, and reports whether all is
// done. See [snat.NAT.AdvanceStep].
func (e *Egress) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	e.health.Advance(now, e.nat)
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
	at, ok := e.health.Earlier(e.nat.NextDeadline())
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

// ResetTo ends connections that backends have begun with hosts in remotes, those of the gateway included. See
// [snat.NAT.ResetTo].
func (e *Egress) ResetTo(now flow.Time, remotes []netip.Prefix) (ended int) {
	ended = e.nat.ResetTo(now, remotes)
	if g := e.Gateway(); g != nil {
		ended += g.ResetTo(now, remotes)
	}
	return ended
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
