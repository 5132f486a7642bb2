package snat

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// Instances with a public address of their own. Read RFC 3022 section 2.1 (Basic
// NAT) first: one address is exchanged for another, ports stay, nothing is
// remembered, so every protocol and every fragment can pass (RFC 1624 keeps the
// transport checksum true, which only the first fragment has).
//
// What is behind the instance shares its address, so that needs sessions: a node
// port instead of a frontend's, the public address instead of the instance's own.
// An inbound packet is first offered to those sessions.

// used reports whether there is anything to count.
func (d *direct) used() bool {
	return d.forwarded[0].Load()|d.forwarded[1].Load()|d.bypassed[0].Load()|d.bypassed[1].Load() != 0
}

// outboundUnusual decides on a packet whose source has a packed value that is 0
// or carries a flag. Its verdict is final (false), unless the packet may not
// be forwarded.
func (n *NAT) outboundUnusual(r *routes, l *lane, packed uint32, v *flow.Verdict) bool {
	if packed&lookFlag == lookFlag {
		if r.hairpin {
			return n.lookBack(r, l, packed, v)
		}
		return n.parseTarget(r, l, packed, v)
	}
	t := addresses(&l.p, flow.Inside)
	t.DestPort = remotePort(&l.p, flow.Inside)
	if packed == 0 {
		if r.forwards.Len() > 0 && n.parseFloating(r, l) {
			return true
		}
		return n.dropEarly(flow.Inside, r.stranger(&t), v)
	}
	index, _ := unpack(packed)
	inst := r.instances[index]
	if (inst.targeted || r.looks) && l.p.Flags&wire.Fragmented == 0 {
		switch ok := n.parseTarget(r, l, packed, v); {
		case !ok:
			return false
		case l.answer != noAnswer:
			return true
		}
	}
	*v = flow.Verdict{To: flow.Outside, Instance: index}
	if t.Inside == t.Remote { // whatever its route says
		return n.dropEarly(flow.Inside, flow.ReasonLand, v)
	}
	switch r.action(&t) {
	case NodeAddress, PassThrough: // it has the instance's own address already
		v.Action = flow.Bypass
		inst.direct.bypassed[flow.Inside].Add(1)
		return false
	case Blackhole:
		return n.dropEarly(flow.Inside, flow.ReasonRoute, v)
	}
	if reason := n.admit(r, &t); reason != flow.ReasonNone {
		return n.dropEarly(flow.Inside, reason, v)
	}
	if n.router.Unfit(&l.p) != nil {
		return l.detour(inst, &t)
	}
	public, delta := inst.Public[t.Family], inst.deltas[t.Family]
	if icmp.Quotes(&l.p) {
		switch reason := icmp.Exchange(&l.p, flow.Inside, t.Inside, public); {
		case reason == flow.ReasonICMPNoFlow && inst.Masquerades && n.messages.Errors:
			return l.detour(inst, &t) // it may be about a session of what is behind the instance
		case reason != flow.ReasonNone:
			return n.dropEarly(flow.Inside, reason, v)
		}
	} else {
		readdress(&l.p, ip4Src, ip6Src, public, delta)
	}
	inst.direct.forwarded[flow.Inside].Add(1)
	v.Action = flow.Forward
	return false
}

// outboundSessionless is outboundUnusual for a packet that no session can carry,
// for the reason given: it passes only from an address that is translated 1:1.
func (n *NAT) outboundSessionless(r *routes, l *lane, reason flow.Reason, v *flow.Verdict) bool {
	if n.lenient.tolerates(reason, &l.p) {
		return n.parseOutbound(r, l, wire.OK, v)
	}
	if n.router.Answers(reason) {
		return n.parseOutbound(r, l, wire.ParseHopless(l.p.B, &l.p), v)
	}
	if reason == flow.ReasonUnsupportedProto || reason == flow.ReasonFragment {
		t := addresses(&l.p, flow.Inside)
		packed := r.homeOf(&t)
		if isDirect(packed) {
			return n.outboundUnusual(r, l, packed, v)
		}
		if inst := n.leaves(r, &l.p); inst != nil {
			if t.Inside == t.Remote {
				return n.dropEarly(flow.Inside, flow.ReasonLand, v)
			}
			*v = inst.bypass(flow.Inside)
			return false
		}
	}
	if reason == flow.ReasonFragment {
		return n.refuseFragment(flow.Inside, v)
	}
	return n.dropEarly(flow.Inside, reason, v)
}

// inboundSessionless is outboundSessionless for the other direction.
func (n *NAT) inboundSessionless(r *routes, l *lane, reason flow.Reason, v *flow.Verdict) bool {
	if n.lenient.tolerates(reason, &l.p) {
		return n.parseInbound(r, l, wire.OK, v)
	}
	if n.router.Answers(reason) {
		return n.parseInbound(r, l, wire.ParseHopless(l.p.B, &l.p), v)
	}
	if reason == flow.ReasonUnsupportedProto || reason == flow.ReasonFragment {
		t := addresses(&l.p, flow.Outside)
		l.between(t.Remote, t.Inside)
		if inst := n.untranslated(r, l); inst != nil {
			*v = inst.bypass(flow.Outside)
			return false
		}
		inst := r.publicOf(l)
		shared := reason == flow.ReasonFragment && n.fragments.table != nil && inst != nil && inst.Masquerades
		if inst != nil && !shared { // else the fragment may belong to a session
			return n.inboundDirect(r, l, inst, v)
		}
	}
	if reason == flow.ReasonFragment {
		return n.refuseFragment(flow.Outside, v)
	}
	return n.dropEarly(flow.Outside, reason, v)
}

// inboundDirect is for a packet to a public address that needs no lock, because
// it cannot belong to a session. Its verdict is final (false), unless the packet
// may not be forwarded.
func (n *NAT) inboundDirect(r *routes, l *lane, inst *instance, v *flow.Verdict) bool {
	if reason := r.unsolicited(l); reason != flow.ReasonNoFlow {
		return n.dropEarly(flow.Outside, reason, v)
	}
	if n.router.Unfit(&l.p) != nil {
		l.inst, l.shard = inst.Index, uint8(inst.Shard)
		return true
	}
	if inst.receive(l, v); v.Action == flow.Drop {
		return n.dropEarly(flow.Outside, v.Reason, v)
	}
	return false
}

// firstInbound handles an inbound packet without a session: it is for the
// instance itself if it came to a public address.
func (sh *shard) firstInbound(m *moment, l *lane, v *flow.Verdict) {
	defer sh.spare(m, flow.Outside, 0, v)
	reason := m.routes.unsolicited(l)
	if reason == flow.ReasonNoFlow {
		public := m.routes.publicOf(l)
		inst, how := public, noEntry
		if public == nil {
			inst, how = m.routes.entryTo(l)
		}
		if sh.exceptionalInbound(m, l, inst, how, v) {
			*v = sh.count(flow.Outside, *v)
			return
		}
		if number := m.routes.forwardOf(l); number != 0 {
			if reason = sh.openForwarded(m, l, number, v); reason != flow.ReasonNone {
				*v = flow.Verdict{Action: flow.Drop, Reason: reason}
			}
			*v = sh.count(flow.Outside, *v)
			return
		}
		if public != nil {
			if public.receive(l, v); v.Action == flow.Drop {
				*v = sh.count(flow.Outside, *v)
			}
			return
		}
		if inst != nil {
			sh.letIn(m, l, inst, how, v)
			return
		}
		if reason = sh.openInbound(m, l, v); reason == flow.ReasonNone {
			*v = sh.count(flow.Outside, *v)
			return
		}
		if !l.hairpin && sh.nat.grants(m.routes, l) { // else nobody outside waits for an answer
			sh.nat.held.Hold(m.now, &l.p)
			sh.answerUnknown(m.now, flow.Outside, 0, &l.p)
		}
		if m.routes.outsideOf(l) == 0 {
			reason = flow.ReasonNotOurs // to an inside address, and no row lets it in
		}
	}
	*v = sh.count(flow.Outside, flow.Verdict{Action: flow.Drop, Reason: reason})
}

// receive translates a packet to the instance's public address back to its own, or
// says why it may not pass.
func (inst *instance) receive(l *lane, v *flow.Verdict) {
	f := l.p.Family()
	if !icmp.Quotes(&l.p) {
		readdress(&l.p, ip4Dst, ip6Dst, inst.Own(f), inst.deltas[f].Reverse())
	} else if reason := icmp.Exchange(&l.p, flow.Outside, inst.Public[f], inst.Own(f)); reason != flow.ReasonNone {
		*v = flow.Verdict{Action: flow.Drop, Reason: reason}
		return
	}
	inst.direct.forwarded[flow.Outside].Add(1)
	*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: inst.Index}
}

// readdress replaces the address at an offset, which depends on the family, and
// applies the delta to the checksums that cover it.
func readdress(p *wire.Packet, at4, at6 int, addr [2]uint64, d wire.Delta) {
	if p.Flags&wire.V6 == 0 {
		binary.BigEndian.PutUint32(p.B[at4:], uint32(addr[0]))
		p.IPv4().Adjust(d)
	} else {
		binary.BigEndian.PutUint64(p.B[at6:], addr[0])
		binary.BigEndian.PutUint64(p.B[at6+8:], addr[1])
	}
	if p.Flags&wire.NonFirst != 0 {
		return
	}
	switch p.Proto { // those whose checksum covers a pseudo-header
	case wire.ProtoTCP:
		p.TCP().Adjust(d)
	case wire.ProtoUDP:
		p.UDP().Adjust(d)
	case wire.ProtoICMPv6:
		p.ICMPv6().Adjust(d)
	}
}
