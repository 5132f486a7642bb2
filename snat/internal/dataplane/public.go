package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// Instances with a public address of their own. Read RFC 3022 section 2.1 (Basic
// NAT) first: one address is exchanged for another, ports stay, nothing of the exchange is
// remembered, so every protocol and every fragment can pass (RFC 1624 keeps the
// transport checksum true, which only the first fragment has). Where somebody decides which
// flows begin, or Config.RememberEntries says so, it is remembered which have (package permits).
//
// What is behind the instance shares its address, so that needs sessions: a node
// port instead of a frontend's, the public address instead of the instance's own.
// An inbound packet is first offered to those sessions.

// receive translates a packet to an instance's public address back to its own, or
// says why it may not pass.
func (n *NAT) receive(r *routes, now flow.Time, inst *instance, l *lane, v *flow.Verdict) {
	f := l.p.Family()
	if reason := n.admitsPublic(r, now, flow.Outside, inst, l, inst.Own(f)); reason != flow.ReasonNone {
		*v = flow.Verdict{Action: flow.Drop, Reason: reason}
		return
	}
	if !icmp.Quotes(&l.p) {
		l.p.Readdress(headers.IP4Dst, headers.IP6Dst, inst.Own(f), inst.Deltas[f].Reverse())
	} else if reason := icmp.Exchange(&l.p, flow.Outside, inst.Public[f], inst.Own(f)); reason != flow.ReasonNone {
		*v = flow.Verdict{Action: flow.Drop, Reason: reason}
		return
	}
	inst.Direct.Forwarded[flow.Outside].Add(1)
	*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: inst.Index}
}
