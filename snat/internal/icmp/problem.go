package icmp

// Errors about packets that are dropped for what they are, whatever flow they
// belong to. Read RFC 4443 section 3.4 and RFC 8200 sections 4.2 to 4.5 first.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// ProblemOf returns what the sender of p, which has been parsed as far as the parser
// came with it, is told of the reason that p is dropped for, and whether it is told at
// all: only of a protocol that is not carried, of what ICMPv6 has a Parameter Problem
// for, and of a link-local address that would cross, and never about an error.
func ProblemOf(reason flow.Reason, p *wire.Packet) (r Report, ok bool) {
	v6 := p.Flags&wire.V6 != 0
	if p.B == nil || !v6 && reason != flow.ReasonUnsupportedProto {
		return r, false
	}
	ok, r = true, Report{Reason: reason, typ: [2]uint8{0, wire.ICMPv6ParameterProblem}}
	switch reason {
	case flow.ReasonUnsupportedProto:
		r.typ, r.code, ok = unreachable, [2]uint8{2, 4}, !wire.IsICMP(p.Proto)
	case flow.ReasonFragLength:
		r.pointer = 4 // the payload length
	case flow.ReasonFragOverflow, flow.ReasonRoutingHeader:
		r.pointer = uint32(p.L4) + 2 // the fragment offset, the routing type
	case flow.ReasonFragTiny:
		r.code[1] = 3
	case flow.ReasonHopOption:
		r.code[1] = 2
		r.pointer, ok = unknownOption(p)
	case flow.ReasonLinkLocal:
		r.typ[1], r.code[1] = wire.ICMPv6Unreachable, 2
	default:
		return r, false
	}
	return r, ok && !(v6 && aboutError(p))
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
	panic("icmp: no option to be dropped for")
}

// aboutError reports whether p, of IPv6 and perhaps malformed, is an ICMPv6 error or is cut
// off before it tells.
func aboutError(p *wire.Packet) bool {
	q := Quote{b: p.B}
	if q.read6() != flow.ReasonNone || q.Proto != wire.ProtoICMPv6 {
		return false
	}
	b := q.b[min(q.l4, len(q.b)):]
	return len(b) < 2 || isError(q.Proto, b[0])
}
