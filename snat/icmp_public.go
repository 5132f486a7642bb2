package snat

// ICMP errors of instances with a public address, about their own flows. Read RFC
// 5508 sections 4.2 and 4.3 first (REQ-4, REQ-5). What they quote has the one address
// where the error itself has it, and gets the other one there too: else the sender of
// the quoted packet does not know it again, and the outside learns the inside address.
//
// No session says what the quote belongs to, and none is needed: ports stay. So of
// any protocol the quote may be, and end anywhere behind its IP header.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// quotes reports whether a packet, or the first fragment of one, is an ICMP message
// that quotes a packet. That of a redirect of IPv6 is an option, and never crosses a
// router.
func quotes(p *wire.Packet) bool {
	if !isICMP(p.Proto) || p.Flags&wire.NonFirst != 0 {
		return false
	}
	typ := p.B[p.L4]
	return isICMPError(p.Proto, typ) && !(p.Proto == wire.ProtoICMPv6 && typ == redirect6)
}

// exchangeQuoted exchanges an address of a message that comes from a side, and quotes
// a packet, for another: the source of one from inside, the destination of one from
// outside. It reports why the message must be dropped, if so; then nothing has changed.
func exchangeQuoted(p *wire.Packet, from flow.Side, old, addr [2]uint64) flow.Reason {
	if p.Flags&wire.Fragmented != 0 {
		return flow.ReasonFragment // never half translated
	}
	if !wire.VerifyL4(p) {
		return flow.ReasonICMPChecksum
	}
	var q quote
	switch reason := q.readHeader(p, from); {
	case reason == flow.ReasonICMPInnerFragment:
		q.l4 = len(q.b) // it has no transport header
	case reason != flow.ReasonNone:
		return reason
	case isICMP(q.proto) && q.l4 < len(q.b) && isICMPError(q.proto, q.b[q.l4]):
		return flow.ReasonICMPNested
	}
	if from == flow.Outside && q.src != old || from == flow.Inside && (q.dst != old || q.src != addresses(p, from).Remote) {
		return flow.ReasonICMPNoFlow // it would tell somebody else about the flow
	}
	q.readdress(p, from, addr, 0)
	return flow.ReasonNone
}
