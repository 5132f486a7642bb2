package snat

// ICMP errors about packets that are dropped for what they are, whatever flow they
// belong to. Read RFC 4443 section 3.4 and RFC 8200 sections 4.2 to 4.5 first.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// tellProblem tells the sender of a packet from a side that was dropped for a
// reason, if that is one to be told and the addresses are such that one may answer.
// No lock may be held. The packet is as it came: what is wrong with it was found
// before any translation.
func (n *NAT) tellProblem(r *routes, from flow.Side, now flow.Time, pkt []byte, reason flow.Reason) {
	switch reason {
	case flow.ReasonUnsupportedProto:
		if !n.icmp.ProtocolUnreachable {
			return
		}
	case flow.ReasonFragLength, flow.ReasonFragOverflow, flow.ReasonFragTiny, flow.ReasonRoutingHeader, flow.ReasonHopOption, flow.ReasonLinkLocal:
		if !n.icmp.Problems {
			return
		}
	default:
		return
	}
	l := lane{}
	p := &l.p
	wire.Parse(pkt, p)
	c, ok := problemOf(reason, p)
	if !ok || aboutError(p) {
		return
	}
	t := addresses(p, from)
	l.is6 = t.Family == 1
	l.key.Src, l.key.Dst = uint32(t.Remote[0]), uint32(t.Inside[0])
	l.key6.Src, l.key6.Dst = t.Remote, t.Inside
	switch packed, target := r.homeOf(&t), r.targetOf(&t); {
	case from == flow.Outside && isFrontend(target):
		if why := r.unsolicited(&l); why == flow.ReasonNoFlow || why == reason {
			n.complain(now, flow.Outside, publisher(target), p, t.Inside, &c)
		}
	case from == flow.Inside && packed != 0:
		if why := n.admit(r, &t); why == flow.ReasonNone || why == reason {
			index, _ := unpack(packed)
			n.complain(now, flow.Inside, index, p, n.routerOf(r.instances[index], t.Family), &c)
		}
	}
}

// problemOf returns what the sender of a packet, as far as the parser came with it,
// is told of the reason it is dropped for.
func problemOf(reason flow.Reason, p *wire.Packet) (c complaint, ok bool) {
	if reason == flow.ReasonUnsupportedProto {
		return complaint{reason: reason, typ: unreachable, code: [2]uint8{2, 4}}, p.B != nil && !isICMP(p.Proto)
	}
	if p.Flags&wire.V6 == 0 || p.B == nil {
		return c, false
	}
	c = complaint{reason: reason, typ: [2]uint8{0, wire.ICMPv6ParameterProblem}}
	switch reason {
	case flow.ReasonFragLength:
		c.pointer = 4 // the payload length
	case flow.ReasonFragOverflow, flow.ReasonRoutingHeader:
		c.pointer = uint32(p.L4) + 2 // the fragment offset, the routing type
	case flow.ReasonFragTiny:
		c.code[1] = 3
	case flow.ReasonHopOption:
		c.code[1] = 2
		c.pointer, ok = unknownOption(p)
		return c, ok
	case flow.ReasonLinkLocal:
		c.typ[1], c.code[1] = wire.ICMPv6Unreachable, 2
	}
	return c, true
}

// unknownOption returns the offset of the Hop-by-Hop option for which p is dropped,
// and whether it asks for an error: the two high bits of its type are 2, or 3 (which
// makes a difference for multicast destinations only, and those are not answered).
func unknownOption(p *wire.Packet) (at uint32, told bool) {
	const routerAlert = 5
	for i := int(p.L4) + 2; i < len(p.B); i += 2 + int(p.B[i+1]) {
		for p.B[i] == 0 { // Pad1
			i++
		}
		if kind := p.B[i]; kind>>6 != 0 && kind != routerAlert {
			return uint32(i), kind>>7 != 0
		}
	}
	panic("snat: no option to be dropped for")
}

// aboutError reports whether p, which may be malformed, is an ICMPv6 error or is cut
// off before it tells.
func aboutError(p *wire.Packet) bool {
	if p.Flags&wire.V6 == 0 {
		return false
	}
	q := quote{b: p.B}
	if q.read6() != flow.ReasonNone || q.proto != wire.ProtoICMPv6 {
		return false
	}
	b := q.b[min(q.l4, len(q.b)):]
	return len(b) < 2 || isICMPError(q.proto, b[0])
}

// homeOf returns the instance and shard of a tuple's inside address, packed, or 0.
func (r *routes) homeOf(t *ports.Tuple) uint32 {
	if t.Family == 0 {
		return r.inside4.Get(uint32(t.Inside[0]))
	}
	return r.inside6.Get(t.Inside)
}

// targetOf returns what a tuple's inside address is to the outside.
func (r *routes) targetOf(t *ports.Tuple) uint32 {
	if t.Family == 0 {
		return r.outside4.Get(uint32(t.Inside[0]))
	}
	return r.outside6.Get(t.Inside)
}

// publisher returns the instance whose public address a value of outside4 or outside6
// stands for, and 0 for a frontend, which may be that of many.
func publisher(target uint32) uint32 {
	if target--; target&publicFlag != 0 {
		return target &^ publicFlag
	}
	return 0
}
